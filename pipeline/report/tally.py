"""Counts of a label directory, made in one pass over its part files."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from vocab import wordnet
from vocab.errors import FormatError
from vocab.store.label_shards import LabelShards
from vocab.taxonomy import rows_of


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of a label directory with S different synsets."""

    synsets: NDArray[np.int32]
    """[S] WordNet 3.0 noun offsets, most frequent first, ties by offset: a synset's index is its rank, from 0"""
    captions: NDArray[np.int64]
    """[S] rows that hold the synset"""
    rows_by_length: NDArray[np.int64]
    """[longest list + 1] number of rows by their number of synsets"""
    rows_by_best: NDArray[np.int64]
    """[S + 1] number of rows by the rank of their most frequent synset; last, rows without a synset"""
    reasons: dict[str, int]
    """number of rejected rows by reason, most frequent first"""

    @property
    def rows(self) -> int:
        """Rows in the part files: labelled + empty."""
        return int(self.rows_by_length.sum())

    @property
    def labels(self) -> int:
        """Sum of all rows' numbers of synsets."""
        return int(self.captions.sum())

    @property
    def labels_per_row(self) -> float:
        """Mean number of synsets per row; 0 without rows."""
        return self.labels / max(1, self.rows)

    @cached_property
    def _unlabelled_by_size(self) -> NDArray[np.int64]:
        """[S + 1] rows without any of the k most frequent synsets."""
        return self.rows - np.concatenate([[0], np.cumsum(self.rows_by_best[:-1])])

    def sizes(self, thresholds: ArrayLike) -> NDArray[np.int64]:
        """Number of synsets that at least `threshold` rows hold, for each threshold: vocabulary size at V_tau."""
        smaller = np.searchsorted(self.captions[::-1], np.asarray(thresholds), side="left")
        return len(self.captions) - smaller.astype(np.int64)

    def unlabelled(self, thresholds: ArrayLike) -> NDArray[np.int64]:
        """Exact number of rows that hold no synset of the vocabulary, for each threshold."""
        return self._unlabelled_by_size[self.sizes(thresholds)]


def tally_of(labels: LabelShards) -> Tally:
    """Read the synset lists of the part files once; memory does not grow with the corpus.

    Raises InputError for a synset that WordNet 3.0 does not have, and FormatError where the part files differ
    in rows or synsets from the manifest and counts.parquet.
    """
    counts = labels.counts()
    synsets = counts["synset"].to_numpy().astype(np.int32)
    captions = counts["captions"].to_numpy().astype(np.int64)
    rows_of(wordnet.load(), synsets)
    order = np.lexsort((synsets, -captions))
    synsets, captions = synsets[order], captions[order]

    # Rank + 1 by offset, 0 where counts.parquet lacks the synset. Sparse: memory is taken only where ranks are written.
    rank_after = np.zeros(int(synsets.max(initial=0)) + 1, dtype=np.int32)
    rank_after[synsets] = np.arange(1, len(synsets) + 1)
    by_length = np.zeros(1, dtype=np.int64)
    by_best = np.zeros(len(synsets) + 1, dtype=np.int64)
    for lists in labels.synset_lists():
        lengths = pc.list_value_length(lists).to_numpy()
        ranks = _ranks(lists.flatten().to_numpy(), rank_after, labels.location)
        more = np.bincount(lengths, minlength=len(by_length))
        more[: len(by_length)] += by_length
        by_length = more
        by_best += np.bincount(best_ranks(ranks, lengths, without=len(synsets)), minlength=len(synsets) + 1)
    tally = Tally(synsets, captions, by_length, by_best, reasons_of(labels))
    _require_account(labels, tally)
    return tally


def best_ranks(ranks: NDArray[np.int32], lengths: NDArray[np.int32], *, without: int) -> NDArray[np.int32]:
    """Least rank of each list, `without` for an empty one. [rows]

    The synset of least rank has the largest count, which decides the thresholds that leave the row a label. `ranks`
    [sum of lengths] holds the lists one after another. Equals

        [min(ranks[start:start + length], default=without) for start, length in ...]
    """
    best = np.full(len(lengths), without, dtype=np.int32)
    some = np.flatnonzero(lengths)
    if len(some):
        # Empty lists take no ranks, so each of the others ends where the next of them starts.
        starts = np.cumsum(lengths, dtype=np.int64)[some] - lengths[some]
        best[some] = np.minimum.reduceat(ranks, starts)
    return best


def reasons_of(labels: LabelShards) -> dict[str, int]:
    """Number of rejected rows by reason, most frequent first, ties by name."""
    found: collections.Counter[str] = collections.Counter()
    for batch in labels.reasons():
        for entry in pc.value_counts(pc.fill_null(batch.cast(pa.string()), "")).to_pylist():
            found[entry["values"]] += entry["counts"]
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _ranks(synsets: NDArray[np.int32], rank_after: NDArray[np.int32], where: str) -> NDArray[np.int32]:
    """Rank of each synset. Raises FormatError for a synset that counts.parquet lacks."""
    known = (synsets >= 0) & (synsets < len(rank_after))
    ranks = rank_after[synsets] - 1 if known.all() else np.full(len(synsets), -1, dtype=np.int32)
    if ranks.min(initial=0) < 0:
        raise _disagreement(where, "synsets in the part files that counts.parquet lacks", "every synset counted")
    return ranks


def _require_account(labels: LabelShards, tally: Tally) -> None:
    """Raise FormatError unless the part files, counts, rejects and manifest agree on the rows."""
    manifest = labels.manifest
    held = int((tally.rows_by_length * np.arange(len(tally.rows_by_length))).sum())
    rejected = sum(tally.reasons.values())
    if tally.captions.min(initial=1) < 1:
        raise _disagreement(
            labels.location, "a synset that no row holds in counts.parquet", "only those that were seen"
        )
    for what, found, wanted in (
        ("rows without a synset", int(tally.rows_by_length[0]), manifest.empty),
        ("rows with a synset", int(tally.rows_by_length[1:].sum()), manifest.labelled),
        ("rejected rows", rejected, manifest.rejected),
        ("synsets in all rows", held, tally.labels),
    ):
        if found != wanted:
            raise _disagreement(labels.location, f"{found:,} {what}", f"{wanted:,}, as its own account says")


def _disagreement(where: str, found: str, wanted: str) -> FormatError:
    return FormatError(where, found=found, wanted=wanted, remedy="Copy the directory again, or make the labels again.")
