"""The join of a tar with its labels: the classes of each sample, by (shard, key), and counts of what did not join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Int64

from vocab.errors import MismatchError
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class TarLabels:
    """The labels of one tar's samples: classes[ends[i] : ends[i + 1]] are those of sample i, ascending."""

    ends: Int64[np.ndarray, " samples_plus_1"]
    """from 0"""
    classes: Int32[np.ndarray, " positives"]
    matched: Bool[np.ndarray, " samples"]
    """True where the labels have a row for the sample; a sample without a row has no classes"""
    surplus: int
    """rows of the labels whose key the tar lacks"""

    @property
    def unmatched(self) -> int:
        return len(self.matched) - int(self.matched.sum())


def join(labels: LabelShards, vocabulary: Vocabulary, *, shard: str, keys: Sequence[str]) -> TarLabels:
    """Join the samples of a tar with the labels of `shard`. Only that shard's row groups are read.

    Synsets outside the vocabulary are dropped; a sample without any other is a negative of every class.
    """
    table = labels.read_shard(shard)
    rows = pc.index_in(pa.array(keys, pa.string()), value_set=table["key"].combine_chunks())
    matched = rows.is_valid().to_numpy(zero_copy_only=False)
    synsets = table["synsets"].combine_chunks().take(rows)
    lengths = pc.list_value_length(synsets).fill_null(0).to_numpy(zero_copy_only=False)
    samples = np.repeat(np.arange(len(keys)), lengths)
    classes = vocabulary.classes_of(synsets.flatten().to_numpy(zero_copy_only=False).astype(np.int32))
    samples, classes = samples[classes >= 0], classes[classes >= 0]
    # Sorted by sample, then by class: one sort of both in one number. Merged synsets give a sample a class twice.
    pairs = np.unique(samples << 32 | classes)
    return TarLabels(
        ends=np.concatenate([[0], np.cumsum(np.bincount(pairs >> 32, minlength=len(keys)))]).astype(np.int64),
        classes=(pairs & 0xFFFF_FFFF).astype(np.int32),
        matched=matched,
        surplus=len(table) - int(pc.count_distinct(rows).as_py()),
    )


def find_shards(labels: LabelShards, tars: Sequence[str]) -> dict[str, str]:
    """The shard name of each tar in the labels. `tars`: local paths or URLs.

    Raises MismatchError for a tar whose shard the labels lack, and for two tars that would get the same labels.
    """
    shards: dict[str, str] = {}
    owners: dict[str, str] = {}
    for tar in tars:
        shard = labels.find_shard(tar)
        if shard is None:
            raise MismatchError(
                tar,
                found=f"no shard of that name in {labels.location}",
                wanted=f"labels of shard {PurePosixPath(tar).stem!r}",
                remedy="Label this tar's captions (python -m pipeline label); give labels made by id the shards of "
                "the tars (python -m pipeline align); or leave the tar out of --images.",
            )
        if shard in owners:
            raise MismatchError(
                tar,
                found=f"shard {shard!r} of {labels.location}, which {owners[shard]} has as well",
                wanted="one tar for each shard",
                remedy="Label both folders in one job, so that their shards are told apart by path.",
            )
        owners[shard] = tar
        shards[tar] = shard
    return shards


def check_vocabulary(labels: LabelShards, vocabulary: Vocabulary, *, allow_foreign: bool) -> None:
    """Raise MismatchError for a vocabulary that was counted from other labels, unless `allow_foreign`."""
    if labels.counts_sha256 in vocabulary.sources or allow_foreign:
        return
    raise MismatchError(
        "vocabulary",
        found=f"one counted from other labels (counts {_short(vocabulary.sources)})",
        wanted=f"one counted from {labels.location} (counts {_short([labels.counts_sha256])})",
        remedy=f"Make one with: python -m pipeline prune --labels {labels.location}, "
        "or pass --allow-foreign-vocabulary.",
    )


Keys = Callable[[], tuple[Sequence[str], Sequence[str]]]
"""function that gives the keys of a tar, and those of its rows in the labels"""


def check_matched(
    accounts: Mapping[str, Mapping[str, int]], *, location: str, max_unmatched_share: float, keys: Keys | None = None
) -> None:
    """Raise MismatchError if more than `max_unmatched_share` of samples lack a row, or of rows lack a sample.

    Then the labels are of another corpus with the same names of shards and keys, or tars were cut short. `accounts`:
    by tar, the counts `samples`, `unmatched` and `surplus_labels` as in a `TarTable`. `location`: of the labels.
    `keys`: those of the first tar, for the message to show both spellings side by side.
    """
    samples = sum(account["samples"] for account in accounts.values())
    unmatched = sum(account["unmatched"] for account in accounts.values())
    if samples and unmatched / samples > max_unmatched_share:
        spellings, same = _spellings(*keys()) if keys is not None else ("", False)
        raise MismatchError(
            location,
            found=f"no row for {unmatched:,} of {samples:,} samples of {', '.join(accounts)}{spellings}",
            wanted=f"a row for at least {1 - max_unmatched_share:.0%} of them",
            remedy="The keys are spelt in two ways: label these tars themselves (python -m pipeline label), or make "
            "them with the labels' spelling of names (tar -C FOLDER leaves a folder out of them)."
            if same
            else "These labels are of other images: check --labels, or raise --max-unmatched-share.",
        )
    surplus = sum(account["surplus_labels"] for account in accounts.values())
    rows = surplus + samples - unmatched
    if rows and surplus / rows > max_unmatched_share:
        raise MismatchError(
            location,
            found=f"{surplus:,} of {rows:,} rows without a sample in {', '.join(accounts)}",
            wanted=f"a sample for at least {1 - max_unmatched_share:.0%} of them",
            remedy="These labels are of other images, or the tars were cut short: python -m pipeline check compares "
            "them; or raise --max-unmatched-share.",
        )


def _spellings(tar: Sequence[str], labels: Sequence[str]) -> tuple[str, bool]:
    """A key of a tar beside one of its labels, for a message; and True if they are two spellings of one key.

    Such are "00000/000000007" and "000000007", "7" and "000000007", "B.JPG" and "b": folders, extensions, leading
    zeros and capitals are ignored.
    """
    rows = {_bare(key): key for key in reversed(labels)}
    known = set(labels)
    ours = next((key for key in tar if key not in known and _bare(key) in rows), None)
    if ours is not None:
        return f" (key {ours!r} of the tar is {rows[_bare(ours)]!r} in the labels)", True
    first = [repr(keys[0]) if keys else "none" for keys in (tar, labels)]
    return f" (the first key of the tar is {first[0]}, and in the labels {first[1]})", False


def _bare(key: str) -> str:
    name = PurePosixPath(key).name
    return (name.partition(".")[0] or name).lstrip("0").casefold()


def _short(checksums: Sequence[str]) -> str:
    return ", ".join(checksum[:12] for checksum in checksums) or "unknown"
