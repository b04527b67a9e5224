"""Vectors of words by the words that stand beside them: words that are used alike have vectors alike.

In: plain text. Out: a vector of length one for each word that occurs often enough. How much more often than by chance a
word stands after and before each of the most frequent words and signs, by the leading singular vectors of that table.
No chance is involved: the same text gives the same vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab.cleaning import clean_all
from vocab.fit.regression import require_scipy
from vocab.tokens import Gap, Tokens, split_words

DIMENSIONS = 100
NEIGHBOURS = 1000
"""most frequent words that count as neighbours, all others count as one"""
MIN_USES = 3
"""uses from which a word has a vector"""
CONTEXT_POWER = 0.75
"""exponent that dampens rare neighbours, which say less than their few uses make it seem"""
SMALLEST = 1e-9
"""part of the largest square of a singular value from which others are not zero by rounding"""
JOINING = (Gap.SPACE, Gap.HYPHEN)
"""signs across which the word beyond is the neighbour; other signs are neighbours themselves"""


@dataclass(frozen=True, eq=False)
class Vectors:
    """D dimensions, no more than DIMENSIONS."""

    words: list[str]
    """[V]"""
    vectors: NDArray[np.float32]
    """[V, D]"""

    def of(self, words: Sequence[str]) -> NDArray[np.float32]:
        """[len(words), D] the vector of each word, zero for a word without one."""
        row_of = {word: row for row, word in enumerate(self.words)}
        rows = np.array([row_of.get(word, len(self.words)) for word in words], dtype=np.int64)
        with_none: NDArray[np.float32] = np.vstack([self.vectors, np.zeros((1, self.vectors.shape[1]), np.float32)])
        return with_none[rows]


def word_vectors(texts: Sequence[str]) -> Vectors:
    """Vectors of the words of some texts. Raises MissingRequirementError without SciPy."""
    require_scipy()
    tokens = split_words(clean_all(pa.array(texts, pa.string())))
    encoded = tokens.words.dictionary_encode()
    word_of, words = np.asarray(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()
    uses = np.bincount(word_of, minlength=len(words))
    kept = np.flatnonzero(uses >= MIN_USES)
    counts = _neighbours(tokens, word_of, _frequent(words, uses))[kept]
    return Vectors([words[row] for row in kept], _leading(_surprise(counts)))


def _frequent(words: Sequence[str], uses: NDArray[np.int64]) -> NDArray[np.int64]:
    """[words] place of each word among the most frequent, from 0; NEIGHBOURS for all others."""
    order = np.lexsort((np.array(words, dtype=np.str_), -uses))
    place = np.full(len(words), NEIGHBOURS)
    place[order[:NEIGHBOURS]] = np.arange(min(NEIGHBOURS, len(words)))
    return place


def _neighbours(tokens: Tokens, word_of: NDArray[np.int64], place_of: NDArray[np.int64]) -> Any:
    """[words, what can stand before and after] csr_matrix of how many times it does."""
    from scipy import sparse

    places, end = place_of[word_of], len(Gap)
    gaps_after = np.append(tokens.gaps[1:], end)
    gaps_after[gaps_after == Gap.START] = end
    kinds = NEIGHBOURS + 1 + len(Gap) + 1
    before, after = (
        np.where(np.isin(gaps, JOINING), beside, NEIGHBOURS + 1 + gaps)
        for gaps, beside in (
            (tokens.gaps.astype(np.int64), np.append(NEIGHBOURS, places)[:-1]),
            (gaps_after.astype(np.int64), np.append(places, NEIGHBOURS)[1:]),
        )
    )
    columns = np.concatenate([before, kinds + after])
    ones = np.ones(len(columns))
    return sparse.csr_matrix((ones, (np.tile(word_of, 2), columns)), shape=(len(place_of), 2 * kinds))


def _surprise(counts: Any) -> Any:
    """[words, neighbours] csr_matrix: logarithm of how many times as often as by chance, where that is above zero."""
    from scipy import sparse

    cells = counts.tocoo()
    of_word, of_neighbour = np.asarray(counts.sum(axis=1)).ravel(), np.asarray(counts.sum(axis=0)).ravel()
    share = of_neighbour**CONTEXT_POWER
    values = np.log(cells.data / (of_word[cells.row] * (share / max(1.0, share.sum()))[cells.col]))
    more = values > 0
    return sparse.csr_matrix((values[more], (cells.row[more], cells.col[more])), shape=counts.shape)


def _leading(table: Any) -> NDArray[np.float32]:
    """[words, D] left singular vectors by the roots of their values, the largest first; each word's of length one."""
    # By the table's square, which is small and dense: methods for sparse tables start again from drawn vectors.
    table = table[:, np.unique(table.indices)]
    if not table.shape[1]:
        return np.zeros(table.shape, dtype=np.float32)
    squares, right = np.linalg.eigh((table.T @ table).toarray())
    kept = np.flatnonzero(squares > SMALLEST * squares.max(initial=0))[::-1][:DIMENSIONS]
    squares, right = squares[kept], right[:, kept]
    # Singular vectors are known but for their sign: the largest entry is to be above zero.
    right = right * np.sign(right[np.abs(right).argmax(axis=0), np.arange(len(kept))])
    vectors = table @ (right * squares**-0.25)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit
