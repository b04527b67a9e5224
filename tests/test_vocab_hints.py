"""Words listed for a sense, looked up for many nouns at once."""

from __future__ import annotations

import numpy as np

from vocab.hints import PAIR_BITS, build_hints

# Reading 0 has the senses 3 and 5 as candidates, reading 1 none, reading 2 the senses 5 and 4.
HINTS = build_hints(
    np.array([3 << PAIR_BITS | 7, 5 << PAIR_BITS | 7, 5 << PAIR_BITS | 9, 6 << PAIR_BITS | 1]),
    candidates=np.array([3, 5, 5, 4]),
    candidate_starts=np.array([0, 2, 2, 4]),
)


def found(*asked: tuple[int, int]) -> list[tuple[int, int]]:
    readings, rows = np.array(asked, dtype=np.int64).reshape(-1, 2).T
    number, candidate = HINTS.find(readings, rows)
    return list(zip(number.tolist(), candidate.tolist(), strict=True))


def test_a_word_listed_for_two_senses_of_a_lemma_speaks_for_both() -> None:
    assert found((0, 7)) == [(0, 0), (0, 1)]


def test_a_sense_of_two_readings_has_its_words_in_both() -> None:
    assert found((2, 9), (0, 9)) == [(0, 2), (1, 1)]


def test_words_that_are_not_listed_are_not_found() -> None:
    assert found((0, 8), (1, 7), (2, 1), (2, 7)) == [(3, 2)]
    assert found() == []
