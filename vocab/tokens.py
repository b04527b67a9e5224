"""Plain text to words: where each begins, the gap before it, its capitals.

Letters and digits make words; every other sign parts them and is remembered as the gap before the next word, so that
"dog, cat" and "dog-cat" are two words either way but not the same context.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab.cleaning import FOREIGN_LETTER, Cleaned
from vocab.word_table import PADDING


class Gap(IntEnum):
    """Gap between a word and the one before it, named by one of its signs: the last in this order."""

    SPACE = 0
    OTHER = 1
    HYPHEN = 2
    QUOTE = 3
    BRACKET = 4
    SLASH = 5
    COMMA = 6
    AND = 7
    STOP = 8
    POSSESSIVE = 9
    APOSTROPHE = 10
    START = 11


UNBROKEN = (Gap.SPACE, Gap.OTHER, Gap.HYPHEN, Gap.QUOTE, Gap.AND, Gap.STOP, Gap.POSSESSIVE, Gap.APOSTROPHE)
"""gaps allowed between the words of one noun: no comma, no bracket, no slash"""
ABBREVIATED = 2
"""most letters of a word before a full stop inside one noun: U.S., St. Bernard"""


class Shape(IntEnum):
    """Capitals of a word as written."""

    LOWER = 0
    CAPITAL = 1
    UPPER = 2
    NUMBER = 3


GAP_SIGNS = {
    Gap.HYPHEN: "-_~",
    Gap.QUOTE: '"`',
    Gap.BRACKET: "()[]{}<>",
    Gap.SLASH: "/|\\*",
    Gap.COMMA: ",",
    Gap.AND: "&+",
    Gap.STOP: ".!?:;",
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"

# Byte -> what it becomes in a word: lower case, every digit 0, and 0 for what parts words.
FOLD = np.zeros(256, dtype=np.uint8)
for _c in LETTERS + FOREIGN_LETTER:
    FOLD[ord(_c)] = FOLD[ord(_c.upper())] = ord(_c)
FOLD[[ord(_c) for _c in "0123456789"]] = ord("0")
FOLD_TABLE = FOLD.tobytes()
GAP_OF = np.full(256, Gap.OTHER, dtype=np.uint8)
GAP_OF[[ord(_c) for _c in " \t\n\r\v\f'"]] = Gap.SPACE
for _gap, _signs in GAP_SIGNS.items():
    GAP_OF[[ord(_c) for _c in _signs]] = _gap
CAPITAL = np.zeros(256, dtype=bool)
CAPITAL[ord("A") : ord("Z") + 1] = True
# Byte that a word begins with -> `Shape`, as far as one byte tells; for `bytes.translate`.
SHAPE_OF_FIRST = bytes(np.select([CAPITAL, ord("0") == FOLD], [Shape.CAPITAL, Shape.NUMBER], Shape.LOWER).tolist())
APOSTROPHE = ord("'")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Words of a batch of captions, one after another."""

    text: NDArray[np.uint8]
    """cleaned text, in the form to compare words in: lower case, digits as 0, the byte 0 between words; padded"""
    starts: NDArray[np.int64]
    """[captions + 1] caption i has words starts[i] up to starts[i + 1]"""
    gaps: NDArray[np.uint8]
    """[T] `Gap` before each word"""
    shapes: NDArray[np.uint8]
    """[T] `Shape`"""
    places: NDArray[np.int64]
    """[T] where each word begins in the cleaned text"""
    ends: NDArray[np.int64]
    """[T] where it ends"""

    @cached_property
    def words(self) -> pa.StringArray:
        """[T] the words."""
        inside = np.zeros(len(self.text) + 1, dtype=np.int8)
        inside[self.places] += 1
        np.subtract.at(inside, self.ends, 1)
        offsets = np.concatenate([[0], np.cumsum(self.ends - self.places)]).astype(np.int32)
        letters = self.text[np.cumsum(inside[:-1]) > 0]
        return pa.StringArray.from_buffers(len(self.places), pa.py_buffer(offsets), pa.py_buffer(letters))


def split_words(cleaned: Cleaned) -> Tokens:
    """Words of each caption.

    An apostrophe parts words (`don't` is `don` and `t`), and the s of a possessive is part of the gap: `dog's ball` is
    `dog`, POSSESSIVE, `ball`.
    """
    raw, caption_starts = cleaned.text, cleaned.starts
    text = np.zeros(len(raw) + PADDING, dtype=np.uint8)
    text[: len(raw)] = np.frombuffer(raw.tobytes().translate(FOLD_TABLE), dtype=np.uint8)
    word = text[: len(raw) + 1] != 0
    _drop_possessives(raw, text, word, caption_starts)
    # A byte of a word begins it if the byte before is none of a word; the first byte after it ends it.
    begins, closes = np.empty_like(word), np.empty_like(word)
    begins[0], closes[0] = word[0], False
    np.greater(word[1:], word[:-1], out=begins[1:])
    np.greater(word[:-1], word[1:], out=closes[1:])
    # Two captions may touch without a sign between them.
    inner = caption_starts[1:-1]
    inner = inner[(inner > 0) & (inner < len(raw))]
    touching = inner[word[inner] & word[inner - 1]]
    begins[touching] = closes[touching] = True
    places, ends = np.flatnonzero(begins), np.flatnonzero(closes)
    starts = np.searchsorted(places, caption_starts)
    return Tokens(text, starts, _gaps(raw, places, ends, starts), _shapes(raw, places, ends), places, ends)


def _drop_possessives(
    raw: NDArray[np.uint8], text: NDArray[np.uint8], word: NDArray[np.bool_], caption_starts: NDArray[np.int64]
) -> None:
    """Make the s of every 's a break, in place."""
    at = np.flatnonzero(raw == APOSTROPHE)
    at = at[(at > 0) & (at < len(raw) - 1)]
    at = at[word[at - 1] & (text[at + 1] == ord("s"))]
    if not len(at):
        return
    caption_end = caption_starts[np.searchsorted(caption_starts, at, side="right")]
    caption_start = caption_starts[np.searchsorted(caption_starts, at, side="right") - 1]
    last = (at + 2 >= caption_end) | ~word[np.minimum(at + 2, len(raw))]
    at = at[last & (at > caption_start) & (at + 1 < caption_end)]
    text[at + 1] = 0
    word[at + 1] = False


def _gaps(
    raw: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64], starts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """`Gap` before each word, from the first two and the last byte between it and the word before."""
    if not len(places):
        return np.zeros(0, dtype=np.uint8)
    gaps = np.zeros(len(places), dtype=np.uint8)
    before = np.empty_like(ends)
    before[0] = 0
    before[1:] = ends[:-1]
    # Most words are one space apart; only the others are looked at.
    odd = np.flatnonzero((places - before != 1) | (raw.take(before) != ord(" ")))
    first, last = before.take(odd), places.take(odd) - 1
    second = np.minimum(first + 1, last)
    signs = np.maximum(np.maximum(GAP_OF[raw[first]], GAP_OF[raw[second]]), GAP_OF[raw[last]])
    quoted = raw[first] == APOSTROPHE
    signs[quoted & (last == first)] = Gap.APOSTROPHE
    # Only a dropped s can stand inside a gap.
    follows = raw[np.minimum(first + 1, len(raw) - 1)] | 0x20
    signs[quoted & (last > first) & (follows == ord("s"))] = Gap.POSSESSIVE
    gaps[odd] = signs
    heads = starts[:-1][np.diff(starts) > 0]
    gaps[heads] = Gap.START
    return gaps


def _shapes(raw: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint8]:
    shapes = np.frombuffer(bytearray(raw.take(places).tobytes().translate(SHAPE_OF_FIRST)), dtype=np.uint8)
    capital = np.flatnonzero(shapes == Shape.CAPITAL)
    begin, end = places.take(capital), ends.take(capital)
    upper = np.flatnonzero(CAPITAL.take(raw.take(end - 1)) & (end - begin > 1))
    shapes[capital.take(upper)] = Shape.UPPER
    return shapes
