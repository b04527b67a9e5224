"""A source: tars with their labels, in weighted pools, and the processing of a sample; and a position in it as JSON.

A source is small enough to be sent to every loader, which opens the groups of its order. The state of the data in a
checkpoint:

    {"step": 1200, "images": 1228800, "teams": 1, "digest": "9f...", "cursors": [[[3, 5120]]]}

`cursors` holds, for each team and each pool, the current group and how many of its samples are taken. Nothing in it
depends on how many processes or loaders read: a run may be resumed by other numbers of both, and sees the same samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int32

from trainer.config import DataConfig
from trainer.data.batch import Position
from trainer.data.group import Tar, TarGroup
from trainer.data.order import Cursor, Order
from trainer.data.tar_cache import TarCache
from trainer.data.tar_tables import TableInputs, TarTable, TarTables
from vocab.errors import FormatError, MismatchError
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


@dataclass(frozen=True)
class Source:
    """Tars with their labels, and the options for their samples."""

    tars: tuple[Tar, ...]
    labels: tuple[LabelShards, ...]
    vocabulary: Vocabulary
    cache: TarCache
    tables: TarTables
    pools: tuple[tuple[int, ...], ...] = ()
    """numbers of the tars of each pool; empty: one pool of all tars"""
    weights: tuple[float, ...] = (1.0,)
    """weight of each pool in the choice of samples, in any unit"""
    seed: int = 0
    train: bool = True
    """True: random order and crops, endless; False: every sample once, in order, centre-cropped"""
    options: DataConfig = field(default_factory=DataConfig)
    """how samples are shuffled, decoded and cropped, and which of them may be bad"""

    @property
    def pool_tars(self) -> tuple[tuple[int, ...], ...]:
        return self.pools or (tuple(range(len(self.tars))),)

    @cached_property
    def orders(self) -> tuple[Order, ...]:
        return tuple(
            Order(
                tuple(self.tars[tar].hash for tar in pool),
                # Pools of the same tars are met in different orders.
                seed=self.seed + (number << 32),
                group_size=self.options.shuffle_shards if self.train else 1,
                shuffled=self.train,
            )
            for number, pool in enumerate(self.pool_tars)
        )

    @cached_property
    def digest(self) -> str:
        """Checksum of everything that the order of samples depends on, except for steps and teams."""
        lines = [f"{tar.labels}\t{tar.shard}" for tar in self.tars]
        lines += [f"{self.seed} {self.options.shuffle_shards}", repr(self.pools), repr(self.weights)]
        # With --unlabelled drop, the vocabulary decides which samples there are.
        lines += [self.vocabulary.fingerprint if self.options.unlabelled == "drop" else ""]
        lines += [labels.counts_sha256 for labels in self.labels]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def open_group(self, pool: int, number: int, *, first: int = 0, teams: int = 1) -> TarGroup:
        """Fetch and open the tars of a group, beginning with tar number `first` of it.

        Loaders that begin with different tars share the work of fetching and indexing them. The tars of the group that
        the team takes next begin to be fetched. Raises InputError for a tar that is missing.
        """
        order = self.orders[pool]
        tars = [self.pool_tars[pool][tar] for tar in order.tars_of(number)]
        opened: dict[int, tuple[BinaryIO, TarTable]] = {}
        try:
            for step in range(len(tars)):
                tar = tars[(step + first) % len(tars)]
                opened[tar] = self.open_tar(tar)
        except BaseException:
            for file, _ in opened.values():
                file.close()
            raise
        following = number + teams
        if self.train or following < order.groups:
            self.cache.fetch_ahead([self.tars[self.pool_tars[pool][tar]].location for tar in order.tars_of(following)])
        return TarGroup(
            order,
            number,
            numbers=tars,
            tars=[self.tars[tar] for tar in tars],
            files=[opened[tar][0] for tar in tars],
            tables=[opened[tar][1] for tar in tars],
            drop_unlabelled=self.train and self.options.unlabelled == "drop",
        )

    def make_tables(self, pool: int, number: int) -> None:
        """Make the missing tables of a group's tars, the last one first."""
        order = self.orders[pool]
        for tar in reversed(order.tars_of(number)):
            self.table_of(self.pool_tars[pool][tar])

    def open_tar(self, tar: int) -> tuple[BinaryIO, TarTable]:
        """Fetch and open a tar, with its table. Raises InputError if it is missing or cannot be opened."""
        named, most = self.tars[tar], self.options.max_member_bytes
        of = TableInputs(named.location, named.shard, self.labels[named.labels], self.vocabulary, most)
        file = self.cache.open(named.location)
        try:
            table = self.tables.get(path_of(file), of)
        except BaseException:
            file.close()
            raise
        return file, table

    def table_of(self, tar: int) -> TarTable:
        """Fetch a tar and make its table. Raises as `open_tar`."""
        file, table = self.open_tar(tar)
        file.close()
        return table

    def sample_names(self, tars: Int32[np.ndarray, " images"], indices: Int32[np.ndarray, " images"]) -> list[str]:
        """Look up shard/key of some samples, by their tars and their indices there."""
        names = [""] * len(tars)
        for tar in np.unique(tars).tolist():
            table = self.table_of(tar)
            keys = dict(zip(table.indices.tolist(), table.keys, strict=True))
            for image in np.flatnonzero(tars == tar).tolist():
                names[image] = f"{self.tars[tar].shard}/{keys[int(indices[image])]}"
        return names


def path_of(file: BinaryIO) -> Path:
    """A path that leads to an open file while it is open, even if the cache removes its name."""
    return Path(f"/proc/self/fd/{file.fileno()}")


def to_state(positions: Iterable[Position], source: Source, *, teams: int) -> dict[str, Any]:
    """The state of the data after a step, from the positions of all ranks."""
    cursors: dict[int, tuple[Cursor, ...]] = {}
    step = images = 0
    for position in positions:
        step, images = position.step, position.images
        cursors |= position.cursors
    return {
        "step": step,
        "images": images,
        "teams": teams,
        "digest": source.digest,
        "cursors": [[list(cursor) for cursor in cursors[team]] for team in range(teams)],
    }


def from_state(state: Any, source: Source, *, teams: int) -> Position:
    """The position to resume from. Raises MismatchError for the state of other data, FormatError for a broken state."""
    try:
        found_teams, digest = int(state["teams"]), str(state["digest"])
        cursors = {
            team: tuple((int(group), int(taken)) for group, taken in pools)
            for team, pools in enumerate(state["cursors"])
        }
        position = Position(int(state["step"]), int(state["images"]), cursors)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            "checkpoint",
            found=f"no position in the data ({error!r})",
            wanted="step, images, teams, digest and cursors",
            remedy="Start a new run in another --out: this checkpoint was written by another release.",
        ) from error
    if digest != source.digest:
        raise MismatchError(
            "checkpoint",
            found="a run over other tars, labels, weights, or another seed",
            wanted=f"the {len(source.tars):,} tars that --images names now",
            remedy="Give the same --images, or start a new run in another --out.",
        )
    if found_teams != teams:
        raise MismatchError(
            "checkpoint",
            found=f"{found_teams} teams",
            wanted=f"the {teams} of --tar-teams",
            remedy=f"Resume with --tar-teams {found_teams}: the order of the data is dealt out to them.",
        )
    return position
