"""Words to rows, many at once: an exact hash table over the bytes of words.

No Python object is made for any word of up to LONGEST bytes: eight bytes are one number, and two numbers are a word.
Equals `{word: row for row, word in enumerate(words)}.get`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NONE = -1
LONGEST = 16
PADDING = LONGEST
"""bytes that must follow the last word of a text"""
# Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): the high bits of a product are well mixed.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SECOND_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)
SLOTS_PER_WORD = 4
MASKS = np.array([(1 << 8 * length) - 1 for length in range(9)], dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class Slots:
    """Open addressing with steps of one. S slots, a power of two; a word is one or two numbers."""

    rows: NDArray[np.int32]
    """[S] row of the word in the slot, NONE for an empty one"""
    keys: tuple[NDArray[np.uint64], ...]
    """[S] each: the word's first eight bytes, then the next eight if this is for longer words"""

    def find(self, *keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """[words] row of each word, NONE for unknown ones."""
        slots = self.first_slots(*keys)
        rows = self.rows.take(slots)
        other = ~self._are(slots, keys)
        found = rows.astype(np.int64)
        found[np.flatnonzero(other)] = NONE
        going = np.flatnonzero(other & (rows != NONE))
        # A word steps on until it meets itself or an empty slot; clusters are short.
        slots, keys = slots.take(going), tuple(key.take(going) for key in keys)
        while len(going):
            slots = (slots + 1) & (len(self.rows) - 1)
            rows = self.rows.take(slots)
            other = ~self._are(slots, keys)
            met = np.flatnonzero(~other)
            found[going.take(met)] = rows.take(met)
            left = np.flatnonzero(other & (rows != NONE))
            going, slots, keys = going.take(left), slots.take(left), tuple(key.take(left) for key in keys)
        return found

    def first_slots(self, *keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """[words] where to look first."""
        mixed = keys[0] if len(keys) == 1 else keys[0] ^ (keys[1] * SECOND_MULTIPLIER)
        bits = np.uint64(64 - (len(self.rows) - 1).bit_length())
        return ((mixed * MULTIPLIER) >> bits).view(np.int64)

    def _are(self, slots: NDArray[np.int64], keys: tuple[NDArray[np.uint64], ...]) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.keys[0].take(slots) == keys[0]
        if len(keys) > 1:
            same &= self.keys[1].take(slots) == keys[1]
        return same


@dataclass(frozen=True, eq=False)
class WordTable:
    """One table for words of up to eight bytes, one for words of up to sixteen, a dictionary for the rest."""

    short: Slots
    long: Slots
    longer: dict[bytes, int]

    def find(self, text: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """[words] row of each word text[place:end], NONE for unknown and empty words.

        PADDING bytes must follow the last word.
        """
        lengths = ends - places
        eights = eight_bytes(text)
        first = eights[places] & MASKS.take(lengths, mode="clip")
        found = self.short.find(first)
        long = np.flatnonzero(lengths > 8)
        second = eights[places.take(long) + 8] & MASKS.take(lengths.take(long) - 8, mode="clip")
        found[long] = self.long.find(first.take(long), second)
        for word in np.flatnonzero(lengths > LONGEST).tolist():
            found[word] = self.longer.get(text[places[word] : ends[word]].tobytes(), NONE)
        return found


def build_word_table(words: pa.StringArray) -> WordTable:
    """Table of distinct words without NUL bytes; the empty word has no place in it."""
    text, places, ends = spread(words)
    lengths = ends - places
    eights = eight_bytes(text)
    first = eights[places] & MASKS[np.minimum(lengths, 8)]
    # Of several words for one slot the last gets it: the shortest, because short words are the frequent ones.
    order = np.argsort(-lengths, kind="stable")
    short = order[(lengths[order] > 0) & (lengths[order] <= 8)]
    long = order[(lengths[order] > 8) & (lengths[order] <= LONGEST)]
    second = eights[places[long] + 8] & MASKS[lengths[long] - 8]
    longer = {text[places[row] : ends[row]].tobytes(): row for row in np.flatnonzero(lengths > LONGEST).tolist()}
    return WordTable(_fill(short, first[short]), _fill(long, first[long], second), longer)


def _fill(rows: NDArray[np.int64], *keys: NDArray[np.uint64]) -> Slots:
    """Slots for words by their keys. All try at once; of several for one slot one gets it, the others step on."""
    size = 1 << (SLOTS_PER_WORD * len(rows) + 1).bit_length()
    table = Slots(np.full(size, NONE, dtype=np.int32), tuple(np.zeros(size, dtype=np.uint64) for _ in keys))
    slots = table.first_slots(*keys)
    while len(rows):
        free = table.rows[slots] == NONE
        table.rows[slots[free]] = rows[free]
        got = table.rows[slots] == rows
        for column, key in zip(table.keys, keys, strict=True):
            column[slots[got]] = key[got]
        rows, keys, slots = rows[~got], tuple(key[~got] for key in keys), slots[~got]
        slots = (slots + 1) & (size - 1)
    return table


def bytes_of(texts: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of all texts of an array without nulls, in place, and where each begins; last, where the last ends."""
    if len(texts) == 0:
        return np.zeros(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, dtype=width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    text = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8)
    return text[starts[0] : starts[-1]], starts - starts[0]


def spread(words: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The text of a string array without nulls, with padding, and where its words begin and end."""
    text, edges = bytes_of(words)
    return np.concatenate([text, np.zeros(PADDING, dtype=np.uint8)]), edges[:-1], edges[1:]


def eight_bytes(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """[bytes - 7] the eight bytes from each place on as one number, the first byte lowest; a view, no copy."""
    return np.ndarray((len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))
