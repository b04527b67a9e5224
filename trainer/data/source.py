"""What batches are made of: tars with their labels, in weighted pools, and what a sample becomes.

In: places of tars, label shards, a vocabulary. Out: a `Source`, small enough to be sent to every loader, and `Group`s
of its samples, open for reading.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Int64, UInt64

from trainer.data.draws import shard_hash
from trainer.data.order import Order
from trainer.data.tar_cache import TarCache
from trainer.data.tar_places import without_secrets
from trainer.data.tar_table import TarTable
from trainer.data.tar_tables import TarTables
from vocab.errors import InputError
from vocab.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


@dataclass(frozen=True)
class Tar:
    """One image tar."""

    place: str
    """path, URI or command"""
    shard: str
    """what its labels call it"""
    labels: int = 0
    """which of the source's label directories"""

    @property
    def hash(self) -> int:
        """What random choices about its samples depend on: its name and its labels, not where it lies."""
        return shard_hash(self.shard if self.labels == 0 else f"{self.labels}/{self.shard}")


@dataclass(frozen=True)
class Source:
    """Tars with their labels, and what a sample becomes."""

    tars: tuple[Tar, ...]
    labels: tuple[LabelShards, ...]
    vocabulary: Vocabulary
    cache: TarCache
    tables: TarTables
    pools: tuple[tuple[int, ...], ...] = ()
    """numbers of the tars of each pool; none stands for one pool of all tars"""
    weights: tuple[float, ...] = (1.0,)
    """share of the samples that each pool gives, in any unit"""
    seed: int = 0
    train: bool = True
    """random order and crop, without end; or every sample once, in order, centre-cropped"""
    min_crop_area: float = 0.08
    flip: bool = True
    eval_crop: float = 0.875
    unlabelled: Literal["keep", "drop", "weigh"] = "keep"
    unlabelled_weight: float = 0.1
    shuffle_shards: int = 16
    max_pixels: int = 89_478_485
    max_member_bytes: int = 64 << 20
    max_bad_share: float = 0.1

    @property
    def pool_tars(self) -> tuple[tuple[int, ...], ...]:
        """The tars of each pool."""
        return self.pools or (tuple(range(len(self.tars))),)

    @cached_property
    def orders(self) -> tuple[Order, ...]:
        """The order of each pool."""
        return tuple(
            Order(
                tuple(self.tars[tar].hash for tar in pool),
                # Pools of the same tars are met in different orders.
                seed=self.seed + (number << 32),
                group_size=self.shuffle_shards if self.train else 1,
                shuffled=self.train,
            )
            for number, pool in enumerate(self.pool_tars)
        )

    @cached_property
    def digest(self) -> str:
        """Checksum of everything that the order of samples depends on, steps and teams aside."""
        lines = [f"{tar.labels}\t{tar.shard}" for tar in self.tars]
        lines += [f"{self.seed} {self.shuffle_shards}", repr(self.pools), repr(self.weights)]
        # Only then does the vocabulary decide which samples there are.
        lines += [self.vocabulary.fingerprint if self.unlabelled == "drop" else ""]
        lines += [labels.counts_sha256 for labels in self.labels]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def open_group(self, pool: int, number: int, *, first: int = 0, teams: int = 1) -> Group:
        """The samples of a group, with its tars fetched and open; tar number `first` of it is asked for first.

        Loaders that start at different tars share the work of fetching and indexing them. The tars of the next group,
        which of several teams is the next but so many, begin to be fetched. Raises InputError for a tar that is not
        there.
        """
        order = self.orders[pool]
        tars = [self.pool_tars[pool][tar] for tar in order.tars_of(number)]
        opened: dict[int, tuple[BinaryIO, TarTable]] = {}
        try:
            for place in range(len(tars)):
                tar = tars[(place + first) % len(tars)]
                opened[tar] = self.open_tar(tar)
        except BaseException:
            for file, _ in opened.values():
                file.close()
            raise
        following = number + teams
        if self.train or following < order.groups:
            self.cache.fetch_ahead([self.tars[self.pool_tars[pool][tar]].place for tar in order.tars_of(following)])
        return Group(
            self,
            epoch=order.epoch_of(number),
            number=number,
            order=order,
            tars=tars,
            files=[opened[tar][0] for tar in tars],
            tables=[opened[tar][1] for tar in tars],
        )

    def make_tables(self, pool: int, number: int) -> None:
        """Make the tables of a group's tars where they are missing, the last one first."""
        order = self.orders[pool]
        for tar in reversed(order.tars_of(number)):
            file, _ = self.open_tar(self.pool_tars[pool][tar])
            file.close()

    def open_tar(self, tar: int) -> tuple[BinaryIO, TarTable]:
        """A tar, fetched and open, and its table. Raises InputError for one that is not there or cannot be opened."""
        named = self.tars[tar]
        try:
            file = self.cache.open(named.place)
        except OSError as error:
            raise _unopened(named.place, error) from error
        try:
            table = self.tables.get(
                path_of(file),
                place=named.place,
                shard=named.shard,
                labels=self.labels[named.labels],
                vocabulary=self.vocabulary,
                max_member_bytes=self.max_member_bytes,
            )
        except BaseException:
            file.close()
            raise
        return file, table


def _unopened(place: str, error: OSError) -> InputError:
    remedy = "Check --images; a run's tars must stay where they are."
    if error.errno == errno.EMFILE:
        remedy = "Raise `ulimit -n`, or lower --shuffle-shards: a loader has the tars of a group open."
    return InputError(
        without_secrets(place), found=f"{error.strerror}", wanted="a tar that can be opened", remedy=remedy
    )


def path_of(file: BinaryIO) -> Path:
    """A path that leads to an open file for as long as it is open, whatever the cache does with its name."""
    return Path(f"/proc/self/fd/{file.fileno()}")


@dataclass
class Group:
    """Samples of a few tars in the order in which they are taken; its files are closed when it is dropped."""

    source: Source
    epoch: int
    number: int
    order: Order
    tars: list[int]
    files: list[BinaryIO]
    tables: list[TarTable]
    tar_of: Int64[np.ndarray, " samples"] = field(init=False)
    """place of each sample's tar in `tars`"""
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
        if len(self) == 0:
            # Nothing is read of it, and of such groups there may be as many in a row as an epoch has.
            self._close()

    def _rows(self, table: TarTable) -> Int64[np.ndarray, " rows"]:
        if self.source.unlabelled != "drop":
            return np.arange(len(table.indices))
        return np.flatnonzero(np.diff(table.class_ends))

    @cached_property
    def hashes(self) -> UInt64[np.ndarray, " tars"]:
        """Hash of each tar."""
        return np.array([self.source.tars[tar].hash for tar in self.tars], np.uint64)

    def __len__(self) -> int:
        return len(self.tar_of)

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        for file in self.files:
            file.close()

    def read(self, place: int) -> bytes:
        """The image of the sample at a place of the order. Raises InputError if the tar has become shorter."""
        tar, row = int(self.tar_of[place]), int(self.row_of[place])
        table = self.tables[tar]
        offset, size = int(table.offsets[row]), int(table.sizes[row])
        content = os.pread(self.files[tar].fileno(), size, offset)
        if len(content) < size:
            raise InputError(
                without_secrets(self.source.tars[self.tars[tar]].place),
                found=f"{len(content)} of {size} bytes of sample {self.key(place)!r}",
                wanted="the tar as it was when its headers were read",
                remedy="Do not change image tars while a run reads them; start the same command again.",
            )
        return content

    def announce(self, places: Sequence[int]) -> None:
        """Let the system read these samples while others are decoded."""
        for place in places:
            tar, row = int(self.tar_of[place]), int(self.row_of[place])
            table = self.tables[tar]
            os.posix_fadvise(
                self.files[tar].fileno(), int(table.offsets[row]), int(table.sizes[row]), os.POSIX_FADV_WILLNEED
            )

    def key(self, place: int) -> str:
        """Key of the sample at a place of the order."""
        return self.tables[int(self.tar_of[place])].keys[int(self.row_of[place])]

    def shard(self, place: int) -> str:
        """Shard of the sample at a place of the order."""
        return self.source.tars[self.tars[int(self.tar_of[place])]].shard

    def classes(self, place: int) -> Int64[np.ndarray, " positives"]:
        """Classes of the sample at a place of the order."""
        tar, row = int(self.tar_of[place]), int(self.row_of[place])
        table = self.tables[tar]
        found: Int64[np.ndarray, " positives"] = table.classes[table.class_ends[row] : table.class_ends[row + 1]]
        return found

    @cached_property
    def left_out(self) -> Counter[str]:
        """What headers and labels leave out: samples, of them bad, unmatched, unlabelled; and surplus_labels."""
        total: Counter[str] = Counter()
        for table in self.tables:
            total.update({name: table.account[name] for name in ("bad", "unmatched", "surplus_labels")})
            if self.source.unlabelled == "drop":
                total["unlabelled"] += table.account["unlabelled"]
        total["samples"] = total["bad"] + total["unmatched"] + total["unlabelled"]
        return total

    def left_out_at(self, places: Int64[np.ndarray, " places"]) -> Counter[str]:
        """What is left out, dealt out evenly to the samples of the group: the share of those at some places.

        Counted so, bad samples are the same share of all samples at any time and on any rank. Counted when a group of
        a hundred thousand is entered, a few in a thousand would be more than a first batch holds.
        """
        count = len(self)
        return Counter(
            {
                name: int(((places + 1) * total // count - places * total // count).sum())
                for name, total in self.left_out.items()
            }
        )

    def faults(self) -> list[tuple[str, str, str]]:
        """(shard, key, reason) of the samples that headers show to be bad."""
        tars = (self.source.tars[tar] for tar in self.tars)
        return [
            (tar.shard, key, reason)
            for tar, table in zip(tars, self.tables, strict=True)
            for key, reason in table.faults
        ]


def weights_of(shares: Sequence[float], count: int) -> tuple[float, ...]:
    """Weights of `count` pools. Raises InputError unless there is a positive, finite one for each."""
    if len(shares) != count or any(not 0 < share < math.inf for share in shares):
        raise InputError(
            "--source-weights",
            found=f"{' '.join(map(str, shares))} for {count} --images",
            wanted="one number above 0 for each",
            remedy="Give as many weights as --images, in the same order, or none.",
        )
    total = sum(shares)
    return tuple(share / total for share in shares)
