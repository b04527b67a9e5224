"""A group: samples of a few tars, shuffled together, and open for reading.

A sample is known by its position in the order of the group, which stands for a row of one tar's table.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, UInt64

from trainer.data.draws import shard_hash
from trainer.data.order import Order
from trainer.data.tar_locations import shown_tar
from trainer.data.tar_tables import TarTable
from vocab.errors import InputError


@dataclass(frozen=True)
class Tar:
    """One image tar."""

    location: str
    """path, URI or command"""
    shard: str
    """name of the tar in the labels"""
    labels: int = 0
    """number of the label directory among those of the source"""

    @property
    def hash(self) -> int:
        """Hash that random choices about the samples depend on: of the tar's name and labels, not of its location."""
        return shard_hash(self.shard if self.labels == 0 else f"{self.labels}/{self.shard}")


@dataclass
class TarGroup:
    """Samples of a few tars in the order in which they are taken, and the open files."""

    order: Order
    number: int
    """number of the group in the order"""
    numbers: list[int]
    """number of each tar in the source"""
    tars: list[Tar]
    files: list[BinaryIO]
    tables: list[TarTable]
    drop_unlabelled: bool
    """leave out samples without a class"""
    tar_of: Int64[np.ndarray, " samples"] = field(init=False)
    """index of each sample's tar in `tars`"""
    row_of: Int64[np.ndarray, " samples"] = field(init=False)
    """row of each sample in its tar's table"""

    def __post_init__(self) -> None:
        rows = [self._rows(table) for table in self.tables]
        tar_of = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        row_of = np.concatenate([np.empty(0, np.int64), *rows])
        indices = np.concatenate(
            [np.empty(0, np.int64), *(table.indices[part] for table, part in zip(self.tables, rows, strict=True))]
        )
        shuffled = self.order.shuffle(self.number, shards=self.hashes[tar_of], indices=indices.astype(np.int64))
        self.tar_of, self.row_of = tar_of[shuffled], row_of[shuffled]

    def _rows(self, table: TarTable) -> Int64[np.ndarray, " rows"]:
        return np.flatnonzero(np.diff(table.class_ends)) if self.drop_unlabelled else np.arange(len(table.indices))

    @property
    def epoch(self) -> int:
        return self.order.epoch_of(self.number)

    @cached_property
    def hashes(self) -> UInt64[np.ndarray, " tars"]:
        return np.array([tar.hash for tar in self.tars], np.uint64)

    def __len__(self) -> int:
        return len(self.tar_of)

    def close(self) -> None:
        """Close the files; the tables stay."""
        for file in self.files:
            file.close()

    def read(self, tar: int, row: int) -> bytes:
        """Read the image of a sample. Raises InputError if the tar has become shorter."""
        table = self.tables[tar]
        offset, size = int(table.offsets[row]), int(table.sizes[row])
        content = os.pread(self.files[tar].fileno(), size, offset)
        if len(content) < size:
            raise InputError(
                shown_tar(self.tars[tar].location),
                found=f"{len(content)} of {size} bytes of sample {table.keys[row]!r}",
                wanted="the tar as it was when its headers were read",
                remedy="Do not change image tars while a run reads them; start the same command again.",
            )
        return content

    def announce(self, tar: int, row: int) -> None:
        """Have the system read a sample's image while others are decoded."""
        table = self.tables[tar]
        os.posix_fadvise(
            self.files[tar].fileno(), int(table.offsets[row]), int(table.sizes[row]), os.POSIX_FADV_WILLNEED
        )

    @cached_property
    def left_out(self) -> Counter[str]:
        """Counts of what headers and labels leave out: samples (bad, unmatched or unlabelled), and surplus_labels."""
        total: Counter[str] = Counter()
        for table in self.tables:
            total.update({name: table.account[name] for name in ("bad", "unmatched", "surplus_labels")})
            if self.drop_unlabelled:
                total["unlabelled"] += table.account["unlabelled"]
        total["samples"] = total["bad"] + total["unmatched"] + total["unlabelled"]
        return total

    def left_out_at(self, positions: Int64[np.ndarray, " positions"]) -> Counter[str]:
        """Share of `left_out` for the samples at some positions, dealt out evenly to all samples of the group.

        So bad samples are the same share of all samples at any time and on any rank. If all were counted when a group
        is entered, a few in a thousand of a hundred thousand samples would be more than the first batch holds.
        """
        count = len(self)
        return Counter(
            {
                name: int(((positions + 1) * total // count - positions * total // count).sum())
                for name, total in self.left_out.items()
            }
        )

    def faults(self) -> list[tuple[str, str, str]]:
        """Shard, key and reason of each sample that is bad by its headers."""
        return [
            (tar.shard, key, reason)
            for tar, table in zip(self.tars, self.tables, strict=True)
            for key, reason in table.faults
        ]
