"""The words of a batch of captions, each with its neighbours.

Every caption is followed and preceded by EMPTY empty places, so that code that looks at neighbours needs no thought of
where captions end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vocab.tokens import Gap, Shape, Tokens

T = TypeVar("T", bound=np.generic)

EMPTY = 4
"""empty places between captions: `senses.REACH`, the farthest that a step looks (the tagger's window reaches two)"""
END = len(Gap)
"""gap after a caption's last word"""
GAPS = len(Gap) + 1


class Case(IntEnum):
    """Capitalisation of a word, and what it says in its caption.

    In a *title*, most words have a capital; in a *sentence*, few have, and those are names or begin it.
    """

    UNTOLD = 0
    """a word of a caption without capitals"""
    LOWER = 1
    CAPITAL = 2
    UPPER = 3
    FIRST_CAPITAL = 4
    FIRST_UPPER = 5
    NUMBER = 6
    NONE = 7
    TITLE_LOWER = 8
    TITLE_CAPITAL = 9
    TITLE_UPPER = 10


CASES = len(Case)
SMALL = (Case.LOWER, Case.TITLE_LOWER)
CAPITALS = (Case.CAPITAL, Case.UPPER, Case.FIRST_CAPITAL, Case.FIRST_UPPER, Case.TITLE_CAPITAL, Case.TITLE_UPPER)


@dataclass(frozen=True, eq=False)
class Context:
    """Words with everything that features need; EMPTY empty places stand before and after each caption."""

    rows: NDArray[np.int64]
    """[places] row of the word in `Tagger.words`, that of PAD in empty places"""
    gaps: NDArray[np.uint8]
    """[places] `Gap` before the word, END in empty places"""
    cases: NDArray[np.uint8]
    """[places] `Case`, NONE in empty places"""
    at: NDArray[np.int64]
    """[T] place of each word"""
    caption_of: NDArray[np.int64]
    """[places] caption of the word; an empty place belongs to the caption before it"""
    caption_places: NDArray[np.int64]
    """[captions + 1] caption i has the places caption_places[i] up to caption_places[i + 1]"""


def context_of(tokens: Tokens, rows: NDArray[np.int64], pad: int) -> Context:
    """Spread the words of a batch, EMPTY empty places before, between and after captions."""
    captions = len(tokens.starts) - 1
    lengths = np.diff(tokens.starts)
    caption_of = np.repeat(np.arange(captions), lengths)
    at = EMPTY * caption_of + np.arange(EMPTY, EMPTY + len(rows))
    caption_places = tokens.starts + EMPTY * np.arange(1, captions + 2)
    places = len(rows) + EMPTY * (captions + 1)

    def spread(values: NDArray[T], empty: int) -> NDArray[T]:
        filled = np.full(places, empty, dtype=values.dtype)
        filled[at] = values
        return filled

    # The empty places before the first caption count as its own.
    places_of = lengths + EMPTY
    places_of[:1] += EMPTY
    return Context(
        rows=spread(rows, pad),
        gaps=spread(tokens.gaps, END),
        cases=spread(cases_of(tokens, caption_of), Case.NONE),
        at=at,
        caption_of=np.repeat(np.arange(captions), places_of),
        caption_places=caption_places,
    )


def cases_of(tokens: Tokens, caption_of: NDArray[np.int64]) -> NDArray[np.uint8]:
    """[T] `Case` of each word.

    A caption is a sentence if it has three words or more of which some, but no more than half, have capitals; with more
    capitals, or fewer words, a title.
    """
    numbers = tokens.shapes == Shape.NUMBER
    captions = len(tokens.starts) - 1
    letters = np.diff(tokens.starts) - _count(numbers, caption_of, captions)
    capitals = _count((tokens.shapes == Shape.CAPITAL) | (tokens.shapes == Shape.UPPER), caption_of, captions)
    is_sentence = (2 * capitals <= letters) & (letters >= 3)
    style = np.where(capitals == 0, Style.UNTOLD, np.where(is_sentence, Style.SENTENCE, Style.TITLE))
    codes = np.repeat((style * len(Gap) * len(Shape)).astype(np.uint8), np.diff(tokens.starts))
    codes += tokens.gaps * np.uint8(len(Shape)) + tokens.shapes
    return np.frombuffer(codes.tobytes().translate(CASE_OF), dtype=np.uint8)


def _count(mask: NDArray[np.bool_], caption_of: NDArray[np.int64], captions: int) -> NDArray[np.int64]:
    """[captions] how many words of each caption are in the mask."""
    counts: NDArray[np.int64] = np.bincount(caption_of.take(np.flatnonzero(mask)), minlength=captions)
    return counts


class Style(IntEnum):
    """How a caption uses capitals."""

    UNTOLD = 0
    """not at all"""
    SENTENCE = 1
    TITLE = 2


# The first word after one of these has cases of its own in a sentence.
FIRST_GAPS = (Gap.START, Gap.STOP, Gap.QUOTE)
CASES_OF_SHAPES = {
    Style.UNTOLD: (Case.UNTOLD, Case.UNTOLD, Case.UNTOLD, Case.NUMBER),
    Style.SENTENCE: (Case.LOWER, Case.CAPITAL, Case.UPPER, Case.NUMBER),
    Style.TITLE: (Case.TITLE_LOWER, Case.TITLE_CAPITAL, Case.TITLE_UPPER, Case.NUMBER),
}
FIRST_CASES = (Case.LOWER, Case.FIRST_CAPITAL, Case.FIRST_UPPER, Case.NUMBER)
CASE_OF = bytes(
    (FIRST_CASES if style == Style.SENTENCE and gap in FIRST_GAPS else CASES_OF_SHAPES[style])[shape]
    for style in Style
    for gap in Gap
    for shape in Shape
).ljust(256, b"\0")
"""`Case` by style, gap and shape, for `bytes.translate`"""
