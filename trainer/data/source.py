"""What batches are made of: tars with their labels, in weighted pools, and what a sample becomes.

In: places of tars, label shards, a vocabulary. Out: a `Source`, small enough to be sent to every loader, which opens
the groups of its order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from trainer.data import open_files
from trainer.data.group import Tar, TarGroup
from trainer.data.order import Order
from trainer.data.tar_cache import TarCache
from trainer.data.tar_places import without_secrets
from trainer.data.tar_table import TarTable
from trainer.data.tar_tables import TarTables
from vocab.errors import InputError
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


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
    take_truncated: bool = False
    """decode images that break off as far as they go"""

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

    def open_group(self, pool: int, number: int, *, first: int = 0, teams: int = 1) -> TarGroup:
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
        return TarGroup(
            order,
            number,
            numbers=tars,
            tars=[self.tars[tar] for tar in tars],
            files=[opened[tar][0] for tar in tars],
            tables=[opened[tar][1] for tar in tars],
            drop_unlabelled=self.unlabelled == "drop",
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
    remedy = open_files.remedy_of(error, "Check --images; a run's tars must stay where they are.")
    return InputError(
        without_secrets(place), found=f"{error.strerror}", wanted="a tar that can be opened", remedy=remedy
    )


def path_of(file: BinaryIO) -> Path:
    """A path that leads to an open file for as long as it is open, whatever the cache does with its name."""
    return Path(f"/proc/self/fd/{file.fileno()}")
