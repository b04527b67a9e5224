"""Operations on whole arrays that NumPy lacks, or has in a slower form."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vocab.word_table import NONE

Int = TypeVar("Int", bound=np.integer[Any])


def sorted_unique(values: NDArray[Int]) -> NDArray[Int]:
    """`np.unique` by sorting, which is several times as fast as the hashing of NumPy 2.3 and later."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    unique: NDArray[Int] = ordered[first]
    return unique


def places_in(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """[len(wanted)] place of each number in the array, NONE for one that is not there.

    Searching for the numbers in ascending order takes a third of the time of any other, with the sort before it:
    the searches of neighbours read the same memory and take the same branches.
    """
    order = np.argsort(wanted)
    ordered = wanted.take(order)
    found = np.searchsorted(ascending, ordered)
    found[ascending.take(found, mode="clip") != ordered] = NONE
    places = np.empty_like(found)
    places[order] = found
    return places


def among(values: NDArray[np.uint8], members: tuple[int, ...]) -> NDArray[np.bool_]:
    """`np.isin(values, members)` in a tenth of the time or less, by translating bytes."""
    return np.frombuffer(values.tobytes().translate(_table_of(members)), dtype=bool)


@cache
def _table_of(members: tuple[int, ...]) -> bytes:
    """Table for `bytes.translate`: 1 at the members, 0 at the other bytes."""
    return bytes(byte in members for byte in range(256))


def ranges(begin: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """[sum of counts] begin[i], begin[i] + 1, ..., `counts[i]` numbers of each, one range after another."""
    return np.arange(counts.sum()) + np.repeat(begin - np.cumsum(counts) + counts, counts)
