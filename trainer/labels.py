"""The join: which classes each sample of a tar has, by (shard, key), from the label shards.

In: tars, label shards, a vocabulary. Out: per tar, for each sample the class indices, or None where the labels have no
row for it; and the account of what did not join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.shards import Sample
from vocab.errors import MismatchError
from vocab.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class TarLabels:
    """The labels of one tar's samples."""

    classes: list[Classes | None]
    """for each sample the classes of its caption, ascending; None where the labels have no row"""
    empty: list[bool]
    """for each sample whether its caption holds no synset at all, in the vocabulary or not"""
    surplus: int
    """rows of the labels whose key the tar lacks"""

    @property
    def unmatched(self) -> int:
        """Samples without a row."""
        return sum(classes is None for classes in self.classes)


def join(labels: LabelShards, vocabulary: Vocabulary, *, shard: str, samples: Sequence[Sample]) -> TarLabels:
    """Labels of the samples of the tar that the labels call `shard`. Only that shard's row groups are read.

    Synsets outside the vocabulary are dropped; a sample that keeps none is a negative of every class.
    """
    table = labels.read_shard(shard)
    keys = pa.array([sample.key for sample in samples], pa.string())
    rows = pc.index_in(keys, value_set=table["key"].combine_chunks())
    synsets = table["synsets"].combine_chunks()
    ends = np.concatenate([[0], np.cumsum(pc.list_value_length(synsets).to_numpy(zero_copy_only=False))])
    ids = vocabulary.classes_of(synsets.flatten().to_numpy().astype(np.int32)).astype(np.int64)

    def classes_of(row: int | None) -> Classes | None:
        if row is None:
            return None
        found = ids[int(ends[row]) : int(ends[row + 1])]
        return np.sort(found[found >= 0])

    places: list[int | None] = rows.to_pylist()
    return TarLabels(
        classes=[classes_of(row) for row in places],
        empty=[row is not None and bool(ends[row] == ends[row + 1]) for row in places],
        surplus=len(table) - len({row for row in places if row is not None}),
    )


def find_shards(labels: LabelShards, tars: Sequence[Path]) -> dict[Path, str]:
    """What the labels call each tar.

    Raises MismatchError for a tar whose shard the labels lack, and for two tars that would get the same labels.
    """
    shards: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    for tar in tars:
        shard = labels.find_shard(str(tar))
        if shard is None:
            raise MismatchError(
                tar,
                found=f"no shard of that name in {labels.place}",
                wanted=f"labels of shard {tar.stem!r}",
                remedy="Label this tar's captions (python -m pipeline label), or leave the tar out of --images.",
            )
        if shard in owners:
            raise MismatchError(
                tar,
                found=f"shard {shard!r} of {labels.place}, which {owners[shard]} has as well",
                wanted="one tar for each shard",
                remedy="Label both folders in one job, so that their shards are told apart by path.",
            )
        owners[shard] = tar
        shards[tar] = shard
    return shards


def check_vocabulary(labels: LabelShards, vocabulary: Vocabulary, *, allow_foreign: bool) -> None:
    """Raise MismatchError for a vocabulary counted from other labels, unless that is allowed."""
    if labels.counts_sha256 in vocabulary.sources or allow_foreign:
        return
    raise MismatchError(
        "vocabulary",
        found=f"one counted from other labels (counts {_short(vocabulary.sources)})",
        wanted=f"one counted from {labels.place} (counts {_short([labels.counts_sha256])})",
        remedy=f"Make one with: python -m pipeline prune --labels {labels.place}, or pass --allow-foreign-vocabulary.",
    )


def check_matched(matched: Mapping[Path, TarLabels], *, place: str, max_unmatched_share: float) -> None:
    """Raise MismatchError if more than `max_unmatched_share` of the samples have no row in the labels."""
    samples = sum(len(joined.classes) for joined in matched.values())
    unmatched = sum(joined.unmatched for joined in matched.values())
    if samples and unmatched / samples > max_unmatched_share:
        raise MismatchError(
            place,
            found=f"no row for {unmatched:,} of {samples:,} samples of {', '.join(str(tar) for tar in matched)}",
            wanted=f"a row for at least {1 - max_unmatched_share:.0%} of them",
            remedy="These labels are of other images: check --labels, or raise --max-unmatched-share.",
        )


def _short(checksums: Sequence[str]) -> str:
    return ", ".join(checksum[:12] for checksum in checksums) or "unknown"
