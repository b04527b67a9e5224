"""Chance that is a pure function of a seed and a place in the data set.

Only `Random.random` is used: Python promises its values for a seed in every version, and promises nothing for `choice`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import Literal, TypeVar

T = TypeVar("T")

Purpose = Literal["words", "picture"]


def stream(seed: int, sample: int, purpose: Purpose) -> Random:
    """A fresh stream; words and picture have one each, so that captions can be written without painting."""
    return Random((seed << 48) | (sample << 1) | (purpose == "picture"))


def pick(chance: Random, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(chance.random() * len(options))]


def between(chance: Random, low: float, high: float) -> float:
    """A number from low to high."""
    return low + (high - low) * chance.random()


def cumulative(weights: Iterable[float]) -> list[float]:
    """The running sums of weights scaled to end at 1, which `pick_weighted` reads."""
    sums = list(accumulate(weights))
    return [value / sums[-1] for value in sums[:-1]] + [1.0]


def pick_weighted(chance: Random, options: Sequence[T], sums: Sequence[float]) -> T:
    """One of the options, as likely as its weight; sums come from `cumulative`."""
    return options[bisect_right(sums, chance.random())]
