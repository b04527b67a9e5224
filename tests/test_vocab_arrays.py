"""Operations on whole arrays equal the plain code that they stand for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vocab.arrays import among, places_in, ranges, sorted_unique

numbers = st.lists(st.integers(-50, 50), max_size=40)


@given(numbers)
def test_sorted_unique_equals_a_sorted_set(values: list[int]) -> None:
    assert sorted_unique(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))


@given(numbers.filter(bool), numbers)
def test_places_in_an_ascending_array_are_those_of_a_dictionary(values: list[int], wanted: list[int]) -> None:
    ascending = sorted(set(values))
    places = places_in(np.array(ascending, dtype=np.int64), np.array(wanted, dtype=np.int64))
    assert places.tolist() == [{value: place for place, value in enumerate(ascending)}.get(w, -1) for w in wanted]


@given(st.binary(max_size=40), st.sets(st.integers(0, 255), max_size=5))
def test_bytes_are_among_the_members_as_in_a_set(values: bytes, members: set[int]) -> None:
    assert among(np.frombuffer(values, dtype=np.uint8), tuple(members)).tolist() == [byte in members for byte in values]


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 5)), max_size=40))
def test_ranges_follow_one_another(pairs: list[tuple[int, int]]) -> None:
    begin, counts = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    assert ranges(begin, counts).tolist() == [i for first, count in pairs for i in range(first, first + count)]
