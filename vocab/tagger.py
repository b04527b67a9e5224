"""Parts of speech: the words of a caption that are nouns, judged by the two words on either side.

In: words and what stands around them (`context`). Out: for each word that is asked about, a score for each `Tag`
(`scorer`). A log-linear model over a window, without memory of its own decisions, so that every word of a batch is
scored by the same few gathers from tables. All scores are integers: sums come out the same in any order, on any
machine.

The score of a tag is a sum of one row for each feature. Everything that depends on one word alone (itself, its ending,
what WordNet knows of it) was added up into that word's *profile* when the model was fitted; what remains is looked up
by the *classes* of neighbouring words, of which there are a few hundred.
`vocab.fit.tagger_fit` fits the tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab import packing
from vocab.context import END, Case
from vocab.packing import Kind, ascii_list
from vocab.tokens import Gap
from vocab.word_table import NONE, WordTable, build_word_table, spread


class Tag(IntEnum):
    """Parts of speech that the tagger tells apart."""

    NOUN = 0
    """common noun"""
    NAME = 1
    """proper noun, or a word of one"""
    ADJECTIVE = 2
    OTHER = 3
    """verb or word of grammar"""


PACKED = Kind(
    file="tagger.npz",
    version=2,
    holds="the tagger's tables",
    made_by="python -m vocab fit-tagger --treebank en_ewt-ud-train.conllu --semcor semcor.jsonl "
    "--captions tagged_captions.jsonl --names lexical",
)
SCALE = 256
"""a score of 256 is one unit of log odds"""
WINDOW = (-2, -1, 0, 1, 2)
PROFILE_OF_CASE = {Case.CAPITAL: 5, Case.LOWER: 6, Case.TITLE_CAPITAL: 7}
"""places in a profile, after the five of the window, for a word in one of these cases"""
MAX_ENDING = 4
UNKNOWN = "*"
"""row of unknown words; `*tion` is the row of those with that ending"""

# Signs after which the next word does not continue the phrase: they stand in for the neighbour's class.
STRONG_GAPS = (Gap.BRACKET, Gap.SLASH, Gap.COMMA, Gap.STOP, Gap.START, END)


@dataclass(frozen=True, eq=False)
class Tagger:
    """The tables. W known words and endings, P profiles, K classes; a row of four int16 scores is kept as one int64."""

    words: pa.StringArray
    """[W] the last is the empty place"""
    profile_of: NDArray[np.int32]
    """[W]"""
    classes: Sequence[str]
    """[K] names of the classes, for readers; those of words of grammar begin with "word " """
    class_of: NDArray[np.int32]
    """[W]"""
    profiles: NDArray[np.int64]
    """[P, 8] what a word adds where it stands at each place of `WINDOW` around the word that is scored; then what it
    adds to its own scores in each case of `PROFILE_OF_CASE`"""
    before: NDArray[np.int64]
    """[K + gaps, K] class of the word before, or the strong gap before; own class"""
    after: NDArray[np.int64]
    """[K, K + gaps] own class; class of the word after, or the strong gap after"""
    around: NDArray[np.int64]
    """[K + gaps, K + gaps] classes before and after"""
    gap_before: NDArray[np.int64]
    """[gaps, K]"""
    gap_after: NDArray[np.int64]
    """[gaps, K]"""
    gaps: NDArray[np.int64]
    """[gaps, gaps]"""
    case: NDArray[np.int64]
    """[cases, K]"""
    cases: NDArray[np.int64]
    """[cases, cases, cases] own, before, after"""

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Word or ending -> row."""
        return {word: row for row, word in enumerate(ascii_list(self.words))}

    @cached_property
    def table(self) -> WordTable:
        """`row_of` for many words at once."""
        return build_word_table(self.words)

    @cached_property
    def endings(self) -> tuple[WordTable, NDArray[np.int64]]:
        """The known endings as a table, and the row of each."""
        rows = np.flatnonzero(np.asarray(pc.starts_with(self.words, UNKNOWN)))
        return build_word_table(pc.utf8_slice_codeunits(self.words.take(pa.array(rows)), len(UNKNOWN))), rows

    @property
    def pad(self) -> int:
        """Row of an empty place."""
        return len(self.words) - 1

    def rows(self, words: pa.StringArray) -> NDArray[np.int64]:
        """[len(words)] row of each word, as `rows_in` gives it."""
        return self.rows_in(*spread(words))

    def rows_in(self, text: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """[words] row of each word text[place:end]; an unknown word has the row of its longest known ending."""
        found = self.table.find(text, places, ends)
        unknown = np.flatnonzero(found == NONE)
        found[unknown] = self._rows_of_unknown(text, places[unknown], ends[unknown])
        return found

    def _rows_of_unknown(
        self, text: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """[words] row of the longest known ending of each word: `zorbification` -> that of `*tion`."""
        endings, rows = self.endings
        found = np.full(len(places), self._unknown, dtype=np.int64)
        left = np.arange(len(places))
        for length in range(MAX_ENDING, 0, -1):
            begin, end = ends[left] - length, ends[left]
            ending = endings.find(text, np.maximum(begin, places[left]), end)
            known = (ending != NONE) & (begin >= places[left])
            found[left[known]] = rows[ending[known]]
            left = left[~known]
        return found

    @cached_property
    def _unknown(self) -> int:
        """Row of unknown words."""
        row: int = self.words.index(UNKNOWN).as_py()
        return row

    def fingerprint(self) -> str:
        """sha256 of the tables."""
        digest = hashlib.sha256("\n".join(self.words.to_pylist()).encode())
        # Not vars(self), which also holds what was derived from the tables so far.
        for name, table in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if isinstance(table, np.ndarray):
                digest.update(name.encode() + table.astype(table.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


@cache
def load() -> Tagger:
    """The tables that come with the package, read once per process. Raises FormatError if they cannot be."""
    return unpack(packing.read(PACKED))


def pack(tables: Tagger, about: Mapping[str, str]) -> bytes:
    """The packed file's bytes; `about` names the training data and their licence."""
    arrays = {
        name: lanes(table).reshape(*table.shape, len(Tag)) if table.dtype == np.int64 else table
        for name, table in vars(tables).items()
        if isinstance(table, np.ndarray)
    }
    return packing.pack(
        PACKED, {**arrays, "words": tables.words, "classes": pa.array(tables.classes, pa.string())}, about
    )


def unpack(content: bytes) -> Tagger:
    """The inverse of `pack`. Raises FormatError for bytes that are not such a file, or another version of it."""
    arrays, _ = packing.unpack(PACKED, content)
    words, classes = arrays.pop("words"), arrays.pop("classes").to_pylist()
    tables: dict[str, Any] = {
        name: pack_lanes(table) if table.dtype == np.int16 else table for name, table in arrays.items()
    }
    return Tagger(words=words, classes=classes, **tables)


def lanes(rows: NDArray[np.int64]) -> NDArray[np.int16]:
    """[n] rows of a table as [n, 4] scores."""
    return rows.reshape(-1, 1).view(np.int16)


def pack_lanes(scores: NDArray[np.int16]) -> NDArray[np.int64]:
    """[..., 4] scores as [...] rows of a table; the inverse of `lanes`."""
    packed: NDArray[np.int64] = np.ascontiguousarray(scores).view(np.int64)[..., 0]
    return packed
