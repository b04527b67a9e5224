"""The order of samples: a pure function of seed and epoch, the same for any number of ranks and loaders.

It is an endless sequence of groups of tars, each with its samples shuffled; walks along it can begin anywhere.

    pool     tars that are drawn from together
    epoch    the pool's tars, shuffled and cut into groups
    group    a few tars whose samples are shuffled together; numbered through all epochs, 0, 1, 2, ...
    cursor   (group, how many of its samples are taken): the state of a walk; nothing else is needed to go on

Shuffling sorts by the samples' own random numbers (`draws.py`) and not by a library's permutation, which may
change between releases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt64

from trainer.data.draws import draws
from vocab.errors import InputError

Cursor = tuple[int, int]

# Streams of random numbers that must differ from those of the crops: counted from the far end of the seeds.
TAR_ORDER, SAMPLE_ORDER, POOL_CHOICE = (1 << 63) - 1, (1 << 63) - 2, (1 << 63) - 3


@dataclass(frozen=True)
class Order:
    """The order of one pool."""

    hashes: tuple[int, ...]
    """`shard_hash` of each tar, which its position in the order depends on"""
    seed: int
    group_size: int
    """tars whose samples are shuffled together"""
    shuffled: bool = True
    """False: everything as it lies, for one epoch, for evaluation"""

    @property
    def groups(self) -> int:
        """Groups in an epoch."""
        return -(-len(self.hashes) // self.group_size)

    def epoch_of(self, group: int) -> int:
        return group // self.groups

    def tars_of(self, group: int) -> list[int]:
        """The tars of a group, by their index in the pool."""
        epoch, number = divmod(group, self.groups)
        tars = _epoch_tars(self, epoch) if self.shuffled else range(len(self.hashes))
        return [int(tar) for tar in tars[number * self.group_size : (number + 1) * self.group_size]]

    def shuffle(
        self, group: int, *, shards: UInt64[np.ndarray, " samples"], indices: Int64[np.ndarray, " samples"]
    ) -> Int64[np.ndarray, " samples"]:
        """The order of a group's samples, given the hash of each sample's tar and its index there."""
        if not self.shuffled:
            return np.arange(len(shards))
        epoch = np.full(len(shards), self.epoch_of(group))
        keys = draws(seed=self.seed ^ SAMPLE_ORDER, epoch=epoch, shards=shards, indices=indices, count=1)
        return np.argsort(keys[:, 0], kind="stable")


@lru_cache(maxsize=8)
def _epoch_tars(order: Order, epoch: int) -> Int64[np.ndarray, " tars"]:
    count = len(order.hashes)
    keys = draws(
        seed=order.seed ^ TAR_ORDER,
        epoch=np.full(count, epoch),
        shards=np.array(order.hashes, np.uint64),
        indices=np.arange(count),
        count=1,
    )
    return np.argsort(keys[:, 0], kind="stable")


def choose_pools(
    weights: tuple[float, ...], *, seed: int, team: int, first: int, count: int
) -> Int64[np.ndarray, " count"]:
    """The pool that each of `count` samples is drawn from. `first`: samples that the team has drawn before."""
    if len(weights) == 1:
        return np.zeros(count, np.int64)
    numbers = draws(
        seed=seed ^ POOL_CHOICE,
        epoch=np.full(count, team),
        shards=np.zeros(count, np.uint64),
        indices=np.arange(first, first + count),
        count=1,
    )
    ends = np.cumsum(weights)
    return np.searchsorted(ends[:-1] / ends[-1], numbers[:, 0], side="right")


@runtime_checkable
class Closable(Protocol):
    """Samples that hold files open."""

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Close the files; may be called more than once."""


GroupT = TypeVar("GroupT", bound=Closable)


class Walk(Generic[GroupT]):
    """A team's walk along a pool: team t takes groups t, t + teams, t + 2 teams, ...

    `load` opens a group, whose `len` is its number of samples. The walk closes it: samples can be read until the next
    `take`.
    """

    def __init__(
        self, order: Order, load: Callable[[int], GroupT], *, team: int, teams: int, start: Cursor | None = None
    ) -> None:
        self.order = order
        self.entered: list[GroupT] = []
        """groups that the last `take` began, empty ones included"""
        self._load = load
        self._teams = teams
        self.cursor: Cursor = start if start is not None else (team, 0)
        self._group: tuple[int, GroupT] | None = None
        self._given: list[GroupT] = []

    @property
    def ended(self) -> bool:
        """True at the end of an order that is not shuffled."""
        return not self.order.shuffled and self.cursor[0] >= self.order.groups

    def take(self, count: int) -> list[tuple[GroupT, int, int]]:
        """Take the next `count` samples, as (group, from, to); fewer only at the end of an order that is not shuffled.

        Raises InputError if a whole epoch holds no sample.
        """
        self._close_given()
        self.entered = []
        return list(self._take(count))

    def close(self) -> None:
        at_hand, self._group = self._group, None
        if at_hand is not None:
            at_hand[1].close()
        self._close_given()
        self.entered = []

    def _close_given(self) -> None:
        """Close the groups of the last `take`, except for the current group."""
        for group in self._given:
            if self._group is None or group is not self._group[1]:
                group.close()
        self._given = []

    def _take(self, count: int) -> Iterator[tuple[GroupT, int, int]]:
        empty = 0
        while count > 0 and not self.ended:
            number, taken = self.cursor
            group = self._at(number)
            if taken == 0:
                self.entered.append(group)
            until = min(len(group), taken + count)
            if until > taken:
                self._given.append(group)
                yield group, taken, until
            count -= until - taken
            empty = 0 if len(group) else empty + 1
            self.cursor = (number, until) if until < len(group) else (number + self._teams, 0)
            if empty > self.order.groups:
                raise InputError(
                    "images",
                    found="no usable sample in a whole epoch",
                    wanted="at least one",
                    remedy="Are they tars, with images, and labelled? Are members of a sample neighbours, as in sorted "
                    "order? python -m pipeline check tells what each tar holds.",
                )

    def _at(self, number: int) -> GroupT:
        if self._group is None or self._group[0] != number:
            old, self._group = self._group, None
            if old is not None and not any(group is old[1] for group in self._given):
                # No sample of this step is in the old group: close its files before others are opened.
                old[1].close()
            self._group = (number, self._load(number))
        return self._group[1]
