"""Classes that a user chooses: what a picture can show, lists to keep and to leave out, near duplicates merged.

In: counts of label directories, and options. Out: counts of the chosen synsets, and which of them count for another.

    --depictable            price.n.02 goes, dog.n.01 stays
    --only, --without       lists (vocab/synset_lists.py); what both name goes
    --merge-duplicates      lass.n.01 counts for girl.n.01; a caption that says both counts once
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.config import Prune
from vocab import near_duplicates
from vocab.depictable import are_depictable
from vocab.errors import InputError
from vocab.pages.text import counted
from vocab.store.label_shards import LabelShards
from vocab.store.secrets import without_secrets
from vocab.synset_lists import SynsetList, read_list


@dataclass(frozen=True, eq=False)
class Chosen:
    """Counts of the chosen synsets."""

    counts: pa.Table
    """synset: int32, captions: int64"""
    merged: tuple[tuple[int, int], ...] = ()
    """pairs of a synset and the one that it counts for"""
    choice: tuple[str, ...] = ()
    """the options that chose, as the vocabulary records them"""
    remark: str = ""
    """how many synsets of --only no caption holds; "" where there are none"""


def choose(counts: pa.Table, options: Prune, corpora: Sequence[LabelShards]) -> Chosen:
    """Keep the chosen synsets of the counts, and merge duplicates among them.

    Merging reads the label shards once, since a caption may hold two synsets of a group. Raises InputError for a list
    that cannot be read, and if no synset is left.
    """
    only, without = ([read_list(source) for source in sources] for sources in (options.only, options.without))
    seen = counts["synset"].to_numpy().astype(np.int32)
    keep = np.ones(len(seen), dtype=bool)
    if only:
        keep &= np.isin(seen, _union(only))
        _require_some(keep, only, seen)
    if without:
        keep &= ~np.isin(seen, _union(without))
    if options.depictable:
        keep &= are_depictable(seen)
    if len(seen) and not keep.any():
        raise InputError(
            " ".join(_choice(options)),
            found=f"none of the {counted(len(seen), 'synset')} of the labels left",
            wanted="one or more",
            remedy="Leave one of these options out, or name other lists.",
        )
    kept = counts.filter(pa.array(keep))
    kept, merged = merge(kept, corpora) if options.merge_duplicates else (kept, ())
    absent = np.setdiff1d(_union(only), seen) if only else seen[:0]
    remark = f"{counted(len(absent), 'synset')} of --only in no caption" if len(absent) else ""
    return Chosen(kept, merged, _choice(options), remark)


def merge(counts: pa.Table, corpora: Sequence[LabelShards]) -> tuple[pa.Table, tuple[tuple[int, int], ...]]:
    """Join the synsets of each group of near duplicates to the one that most captions hold, ties to the lower offset.

    Its new count is the number of captions that hold any of them. One pass over the label shards.
    """
    held = dict(zip(counts["synset"].to_pylist(), counts["captions"].to_pylist(), strict=True))
    head_of: dict[int, int] = {}
    for group in near_duplicates.load():
        present = [synset for synset in group if synset in held]
        if len(present) > 1:
            head = min(present, key=lambda synset: (-held[synset], synset))
            head_of |= dict.fromkeys(present, head)
    if not head_of:
        return counts, ()
    for head, captions in _captions_of(head_of, corpora).items():
        held[head] = captions
    pairs = tuple(sorted((synset, head) for synset, head in head_of.items() if synset != head))
    for synset, _ in pairs:
        del held[synset]
    columns = [pa.array(list(held), pa.int32()), pa.array(list(held.values()), pa.int64())]
    return pa.table(columns, names=["synset", "captions"]), pairs


def _captions_of(head_of: dict[int, int], corpora: Sequence[LabelShards]) -> dict[int, int]:
    """Number of rows that hold any synset of each group, by the group's head."""
    synsets = np.array(sorted(head_of), dtype=np.int32)
    heads = np.array([head_of[synset] for synset in synsets.tolist()], dtype=np.int64)
    found: dict[int, int] = dict.fromkeys(head_of.values(), 0)
    for corpus in corpora:
        for lists in corpus.synset_lists():
            values = np.asarray(lists.flatten())
            rows = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)
            places = np.minimum(np.searchsorted(synsets, values), len(synsets) - 1)
            member = synsets[places] == values
            # A row that holds two synsets of a group counts once: unique pairs of row and head.
            pairs = np.unique(rows[member] << 32 | heads[places[member]])
            for head, captions in zip(*np.unique(pairs & 0xFFFF_FFFF, return_counts=True), strict=True):
                found[int(head)] += int(captions)
    return found


def _union(lists: Sequence[SynsetList]) -> NDArray[np.int32]:
    return np.unique(np.concatenate([each.synsets for each in lists]))


def _require_some(keep: NDArray[np.bool_], only: Sequence[SynsetList], seen: NDArray[np.int32]) -> None:
    """Raise InputError if the labels hold no synset of --only."""
    if len(seen) and not keep.any():
        raise InputError(
            f"--only {' '.join(each.name for each in only)}",
            found=f"none of its {counted(len(_union(only)), 'synset')} in the labels",
            wanted="synsets that captions of the corpus hold",
            remedy="See which synsets the labels hold: python -m pipeline report --labels LABELS --out report.html",
        )


def _choice(options: Prune) -> tuple[str, ...]:
    """The options that choose, as they were given but for secrets in their locations."""
    switches = [("--depictable", options.depictable), ("--merge-duplicates", options.merge_duplicates)]
    lists = [("--only", options.only), ("--without", options.without)]
    return (
        *(f"{name} {' '.join(map(without_secrets, sources))}" for name, sources in lists if sources),
        *(name for name, is_given in switches if is_given),
    )
