"""Hints: the candidates for a noun's sense that a word nearby is listed for, found for many nouns and words at once.

In: pairs of a sense and a word that is listed for it (from `vocab.fit.caption_senses`), and the candidates of each
reading of a lemma (from `vocab.senses`). Equals a dictionary from reading and word to candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocab.arrays import places_in, ranges
from vocab.word_table import NONE

PAIR_BITS = 20
"""bits of a word's row, below a sense or a reading"""


@dataclass(frozen=True, eq=False)
class Hints:
    """H pairs of a reading and a word that is listed for one of its candidates or several."""

    keys: NDArray[np.int64]
    """[H] reading << PAIR_BITS | row of the word, ascending"""
    starts: NDArray[np.int64]
    """[H + 1] where the candidates of each pair begin in `candidates`"""
    candidates: NDArray[np.int64]
    """places of candidates in the list of those of all readings"""

    def find(self, readings: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of an index i and a candidate of `readings[i]` that the word `rows[i]` is listed for, as two arrays."""
        places = places_in(self.keys, readings << PAIR_BITS | rows)
        listed = np.flatnonzero(places != NONE)
        begin = self.starts.take(places.take(listed))
        counts = self.starts.take(places.take(listed) + 1) - begin
        return np.repeat(listed, counts), self.candidates.take(ranges(begin, counts))


def build_hints(
    pair_keys: NDArray[np.int64], candidates: NDArray[np.int64], candidate_starts: NDArray[np.int64]
) -> Hints:
    """Hints from `pair_keys`, the ascending sense << PAIR_BITS | row of a word listed for it.

    `candidates` are the senses that are candidates, those of reading i from candidate_starts[i] on.
    """
    begin, end = (np.searchsorted(pair_keys, senses << PAIR_BITS) for senses in (candidates, candidates + 1))
    candidate_of = np.repeat(np.arange(len(candidates)), end - begin)
    reading_of = np.repeat(np.arange(len(candidate_starts) - 1), np.diff(candidate_starts))
    rows = pair_keys.take(ranges(begin, end - begin)) & ((1 << PAIR_BITS) - 1)
    keys = reading_of.take(candidate_of) << PAIR_BITS | rows
    order = np.argsort(keys, kind="stable")
    keys = keys.take(order)
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return Hints(keys.take(starts), np.append(starts, len(keys)), candidate_of.take(order))
