"""The hierarchy of WordNet's nouns: what lies above a synset and below it, and how near two synsets lie to each other.

Every function takes hypernyms (dog -> canine) and instance hypernyms (Paris -> national capital) alike as one step up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocab.arrays import ranges, sorted_unique
from vocab.errors import FormatError, InputError
from vocab.wordnet import WordNet

# Distances are kept as uint8: two ways up of at most MAX_DEPTH steps stay below FAR, and FAR + 1 is still a uint8.
MAX_DEPTH = 126
FAR = 254
# Columns worked on at once: one byte for each of them and each synset, so at most 84 MB for all of WordNet's nouns.
COLUMNS = 1024


def path_similarity(wordnet: WordNet, ours: NDArray[np.integer], theirs: NDArray[np.integer]) -> NDArray[np.float32]:
    """Similarity of each of our synsets with each of theirs: [len(ours), len(theirs)], in 0..1, 1 for the same synset.

    1 / (1 + steps of the shortest path that leads up to a common hypernym and down again): the measure `path` of
    WordNet::Similarity (Pedersen et al. 2004) and NLTK's `Synset.path_similarity`. 0 where no hypernym is common; in
    WordNet 3.0 all nouns lie below entity.n.01. `ours` and `theirs` are offsets in data.noun, in any order; the same
    may come twice. Equals

        1 / (1 + min(up(a)[h] + up(b)[h] for h in up(a).keys() & up(b).keys()))    for a in ours for b in theirs

    where up(s) maps s to 0 and each synset above s to the fewest steps that lead there. The fast way: all of `ours` at
    once go up, each hypernym taking the minimum of its hyponyms plus one, deepest first; then all come down, each
    synset taking the minimum of its hypernyms plus one, the root first. Raises InputError for an unknown synset.
    """
    our_rows, their_rows = rows_of(wordnet, ours), rows_of(wordnet, theirs)
    depth = depths(wordnet)
    children, parents = hypernym_edges(wordnet)
    down = np.flatnonzero(_members(wordnet, ancestors(wordnet, their_rows))[children])
    similarity_of = np.zeros(FAR + 1, dtype=np.float32)
    similarity_of[:FAR] = 1 / (1 + np.arange(FAR))
    similarity = np.empty((len(our_rows), len(their_rows)), dtype=np.float32)
    rows = ancestors(wordnet, np.concatenate([our_rows, their_rows]))
    place = np.searchsorted(rows, np.arange(len(wordnet.synsets)))
    for start in range(0, len(our_rows), COLUMNS):
        some = our_rows[start : start + COLUMNS]
        up = np.flatnonzero(_members(wordnet, ancestors(wordnet, some))[children])
        distance = np.full((len(rows), len(some)), FAR, dtype=np.uint8)
        distance[place[some], np.arange(len(some))] = 0
        _step(distance, place[parents[up]], place[children[up]], -depth[parents[up]])
        _step(distance, place[children[down]], place[parents[down]], depth[children[down]])
        similarity[start : start + COLUMNS] = similarity_of[distance[place[their_rows]].T]
    return similarity


def hyponyms_in(wordnet: WordNet, synsets: NDArray[np.integer], among: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """For each of `synsets`, the places in `among` of its hyponyms at any depth, ascending; without the synset itself.

    Both are offsets in data.noun. Equals, for each s of `synsets`,

        [place for place, synset in enumerate(among) if s != synset and s in all that lies above synset]

    All of `among` go up at once, a step at a time, and each way is kept once. Raises InputError for an unknown synset.
    """
    wanted, rows = rows_of(wordnet, synsets), rows_of(wordnet, among)
    children, parents = hypernym_edges(wordnet)
    starts = np.searchsorted(children, np.arange(len(wordnet.synsets) + 1))
    size = len(wordnet.synsets)
    seen = new = np.arange(len(rows)) * size + rows  # pairs of a place in `among` and a row at or above it
    while len(new):
        places, below = np.divmod(new, size)
        counts = starts[below + 1] - starts[below]
        edges = ranges(starts[below], counts)
        reached = sorted_unique(np.repeat(places, counts) * size + parents[edges])
        new = reached[seen[np.searchsorted(seen, reached).clip(max=len(seen) - 1)] != reached]
        seen = np.sort(np.concatenate([seen, new]))
    places, above = np.divmod(seen, size)
    places, above = places[rows[places] != above], above[rows[places] != above]
    order = np.lexsort((places, above))
    places, above = places[order], above[order]
    first, last = np.searchsorted(above, wanted), np.searchsorted(above, wanted, side="right")
    return [places[start:end] for start, end in zip(first.tolist(), last.tolist(), strict=True)]


def rows_of(wordnet: WordNet, synsets: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows [len(synsets)] of synset offsets: `WordNet.row_of` for many.

    Raises InputError for the first offset that is no noun of WordNet 3.0, and for what is no list of integers.
    """
    offsets = np.asarray(synsets)
    if offsets.ndim != 1 or (offsets.dtype.kind not in "iu" and len(offsets)):
        raise InputError(
            "synsets",
            found=f"an array {list(offsets.shape)} of {offsets.dtype}",
            wanted="a one-dimensional array of integers",
            remedy="Write synsets as offsets: dog is 2084071.",
        )
    rows: NDArray[np.int64] = np.searchsorted(wordnet.synsets, offsets).astype(np.int64)
    unknown = np.flatnonzero(wordnet.synsets[np.minimum(rows, len(wordnet.synsets) - 1)] != offsets)
    if len(unknown):
        wordnet.row_of(int(offsets[unknown[0]]))  # raises the error that names it
    return rows


def hypernym_edges(wordnet: WordNet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of each synset and of what lies one step above it: children [E], ascending, and parents [E]."""
    every = np.arange(len(wordnet.synsets), dtype=np.int64)
    kinds = np.repeat(every, np.diff(wordnet.hypernym_starts))
    instances = np.repeat(every, np.diff(wordnet.instance_starts))
    children = np.concatenate([kinds, instances])
    parents = np.concatenate([wordnet.hypernyms, wordnet.instance_hypernyms]).astype(np.int64)
    order = np.argsort(children, kind="stable")
    return children[order], parents[order]


def ancestors(wordnet: WordNet, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows of the given synsets and of all that lie above one of them, unique and ascending."""
    children, parents = hypernym_edges(wordnet)
    found = _members(wordnet, rows)
    while True:
        new = parents[found[children] & ~found[parents]]
        if not len(new):
            return np.flatnonzero(found).astype(np.int64)
        found[new] = True


def descendants(wordnet: WordNet, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows of the given synsets and of all that lie below one of them, unique and ascending."""
    children, parents = hypernym_edges(wordnet)
    found = _members(wordnet, rows)
    while True:
        new = children[found[parents] & ~found[children]]
        if not len(new):
            return np.flatnonzero(found).astype(np.int64)
        found[new] = True


def depths(wordnet: WordNet) -> NDArray[np.int64]:
    """[S] steps of the longest way up from each synset, 0 at the root; NLTK's `Synset.max_depth`.

    Every synset lies deeper than all of its hypernyms. Raises FormatError for hypernyms that run in a circle.
    """
    children, parents = hypernym_edges(wordnet)
    depth = np.zeros(len(wordnet.synsets), dtype=np.int64)
    for _ in range(MAX_DEPTH + 1):
        deeper = depth.copy()
        np.maximum.at(deeper, children, depth[parents] + 1)
        if np.array_equal(deeper, depth):
            return depth
        depth = deeper
    raise FormatError(
        "WordNet's noun hierarchy",
        found=f"a chain of more than {MAX_DEPTH} hypernyms",
        wanted="chains that end at a root",
        remedy="The hypernyms of this WordNet run in a circle; install the project again.",
    )


def _members(wordnet: WordNet, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """[S] true for the synsets in `rows`."""
    members = np.zeros(len(wordnet.synsets), dtype=bool)
    members[rows] = True
    return members


def _step(
    distance: NDArray[np.uint8], into: NDArray[np.int64], out_of: NDArray[np.int64], when: NDArray[np.int64]
) -> None:
    """In place, edge by edge in ascending `when`: distance[into] = min(distance[into], distance[out_of] + 1).

    An edge must come after all that lead to where it starts. Edges of the same `when` are taken together.
    """
    order = np.lexsort((into, when))
    into, out_of, when = into[order], out_of[order], when[order]
    for edges in np.split(np.arange(len(order)), np.flatnonzero(np.diff(when)) + 1):
        targets, firsts, counts = np.unique(into[edges], return_index=True, return_counts=True)
        sources = out_of[edges]
        # The n-th edge of every target that has so many: few rounds, each over whole arrays.
        for n in range(counts.max(initial=0)):
            more = counts > n
            nearest = np.minimum(distance[targets[more]], distance[sources[firsts[more] + n]] + np.uint8(1))
            distance[targets[more]] = nearest
