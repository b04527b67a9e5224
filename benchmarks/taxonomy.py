"""Speed of path similarity, and how many class names of downstream datasets give synsets.

    python -m benchmarks.taxonomy [--theirs 24000]

In: `lists/` of the folder with real data (CATLIP_DATA): ImageNet-1k's synsets, Places365's category names. Where the
former are absent, random synsets stand in for them, and the result says so. Out: the median of three runs, the time of
the peer, and one JSON object. The peer, in the same run, is NLTK on a sample of the same pairs where it and WordNet's
own files are installed, and otherwise the definition: two dictionaries of steps up, and the least sum over their
common keys.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.measuring.setting import DATA
from vocab import class_names, taxonomy, wordnet
from vocab.errors import run_cli

IMAGENET = "imagenet_synsets.txt"
PLACES = "places365_categories.txt"
RUNS = 3


@dataclass(frozen=True)
class Taxonomy:
    """Speed of path similarity, and how many class names give synsets."""

    data: Path = DATA
    """folder with lists/"""
    wordnet: Path = Path("/usr/share/wordnet")
    """WordNet 3.0's own files, for NLTK"""
    theirs: int = 24_000
    """synsets to compare ImageNet's 1,000 with"""
    pairs: int = 2_000
    """sample of the pairs that the peer is timed on"""
    seed: int = 1
    """seed of the drawn synsets and pairs"""


def measure(options: Taxonomy) -> dict[str, object]:
    """Time both on the same pairs, compare what they give, then count the names that are found."""
    nouns = wordnet.load()
    generator = np.random.default_rng(options.seed)
    listed = options.data / "lists" / IMAGENET
    if listed.is_file():
        ours = np.array([wordnet.synset_of_wnid(line) for line in listed.read_text().split()])
    else:
        ours = generator.choice(nouns.synsets, 1_000, replace=False)
    theirs = generator.choice(nouns.synsets, options.theirs, replace=False)

    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        similarity = taxonomy.path_similarity(nouns, ours, theirs)
        seconds.append(time.perf_counter() - start)
    ours_per_pair = statistics.median(seconds) / similarity.size
    sample = generator.integers(similarity.size, size=options.pairs)
    pairs = [(int(ours[n // len(theirs)]), int(theirs[n % len(theirs)])) for n in sample]
    with tempfile.TemporaryDirectory() as folder:
        peer, peer_name = peer_of(options, nouns, Path(folder))
        expected = [peer(a, b) for a, b in pairs]  # not timed: NLTK parses a line for each synset that it first meets
        start = time.perf_counter()
        for a, b in pairs:
            peer(a, b)
        peer_per_pair = (time.perf_counter() - start) / len(pairs)
    return {
        "ours": IMAGENET if listed.is_file() else "random synsets",
        "pairs": similarity.size,
        "seconds": round(statistics.median(seconds), 3),
        "peer": peer_name,
        "peer_microseconds_per_pair": round(peer_per_pair * 1e6, 2),
        "times_faster_than_peer": round(peer_per_pair / ours_per_pair),
        "pairs_compared": len(pairs),
        "pairs_that_differ": int(np.sum(similarity.ravel()[sample] != np.array(expected, dtype=np.float32))),
        **names_found(options, nouns, ours if listed.is_file() else None),
    }


def names_found(options: Taxonomy, nouns: wordnet.WordNet, imagenet: NDArray[np.integer] | None) -> dict[str, object]:
    """How many class names give a synset, and how many of ImageNet's give their own."""
    found: dict[str, object] = {}
    listed = options.data / "lists" / PLACES
    if listed.is_file():
        places = [line.split()[0] for line in listed.read_text().splitlines() if line]
        synsets = class_names.synsets_of_class_names(places)
        missed = [place for place, s in zip(places, synsets, strict=True) if not s]
        sys.stdout.write(f"Places365 without a synset: {' '.join(missed) or 'none'}\n")
        found |= {"places365": len(places), "places365_found": sum(map(bool, synsets))}
        found["places365_found_as_one_noun"] = sum(len(s) == 1 for s in synsets)
    if imagenet is not None:
        names = [", ".join(nouns.words_of(nouns.row_of(s))).replace("_", " ") for s in imagenet.tolist()]
        start = time.perf_counter()
        synsets = class_names.synsets_of_class_names(names)
        found["imagenet_names_seconds"] = round(time.perf_counter() - start, 3)
        own = [s == [synset] for s, synset in zip(synsets, imagenet.tolist(), strict=True)]
        other = [name for name, right in zip(names, own, strict=True) if not right]
        sys.stdout.write(f"ImageNet with another synset: {'; '.join(other) or 'none'}\n")
        found |= {"imagenet": len(names), "imagenet_found": sum(map(bool, synsets)), "imagenet_own_synset": sum(own)}
    return found


def peer_of(options: Taxonomy, nouns: wordnet.WordNet, folder: Path) -> tuple[Callable[[int, int], float], str]:
    """Similarity of two offsets as the peer finds it, and the peer's name; `folder` is for its files."""
    if importlib.util.find_spec("nltk") is None or not (options.wordnet / "data.noun").is_file():
        return lambda a, b: by_definition(nouns, nouns.row_of(a), nouns.row_of(b)), "definition"
    reader = nltk_nouns(options.wordnet, folder)
    synset = functools.partial(reader.synset_from_pos_and_offset, "n")
    return lambda a, b: synset(a).path_similarity(synset(b)), "nltk"


def nltk_nouns(database: Path, folder: Path) -> Any:
    """NLTK's reader of WordNet's own files in `database`, by way of copies in `folder`.

    Debian's package leaves out `lexnames`, without which NLTK reads nothing, and NLTK opens only what lies below a
    folder of `nltk.data.path`, to which this adds `folder`.
    """
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    for file in database.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    # The names are never asked for; there must be as many as there are lexicographer files.
    (folder / "lexnames").write_text("".join(f"{n:02d}\tnoun.Tops\t1\n" for n in range(45)))
    nltk.data.path.append(str(folder))

    class Nouns(WordNetCorpusReader):  # type: ignore[misc]
        def map_wn(self, version: str = "wordnet") -> None:
            """The mapping from other versions of WordNet, which would look for NLTK's own copy."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other languages are not there
        return Nouns(str(folder), None)


def by_definition(nouns: wordnet.WordNet, ours: int, theirs: int) -> float:
    """Path similarity of two rows."""
    up, other = steps_up(nouns, ours), steps_up(nouns, theirs)
    return 1 / (1 + min(up[row] + other[row] for row in up.keys() & other.keys()))


def steps_up(nouns: wordnet.WordNet, row: int) -> dict[int, int]:
    """Each synset at or above a row -> the fewest steps that lead there."""
    steps = {row: 0}
    queue = [row]
    for below in queue:
        kinds = nouns.hypernyms[nouns.hypernym_starts[below] : nouns.hypernym_starts[below + 1]]
        instances = nouns.instance_hypernyms[nouns.instance_starts[below] : nouns.instance_starts[below + 1]]
        for above in (*kinds.tolist(), *instances.tolist()):
            if above not in steps:
                steps[above] = steps[below] + 1
                queue.append(above)
    return steps


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(Taxonomy))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run_cli(main)
