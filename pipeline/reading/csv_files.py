r"""Records of text with separators and quotes, read strictly: RFC 4180, or backslashes as Spark writes them.

In: the lines of a block that hold a quote. Out: the fields of their records, and which records cannot be read; also
lines that may be one record although no quotes enclose them, because a quote was lost or a line end is escaped.

    7,"a dog,\na ""cat"" "         RFC 4180: a quote in a field is doubled; separators and line ends stand in quotes
    7,"a dog,\na \"cat\" "         the same with backslashes
    7,a 12" cat                    neither: quotes that belong to the text, and a malformed record

    a cat               two columns; the first line has one: its text may go on in the second, which then
    on a table"\tk1     is no caption of k1

    a cat\              MySQL, Hadoop and csv.QUOTE_NONE with an escapechar write a line end in a field so
    on a table\tk1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.config import Quoting

Offsets = np.ndarray[tuple[int], np.dtype[np.int64]]
QUOTE = b'"'
ESCAPED = re.compile(rb"\\.", re.DOTALL)


class Fault(Enum):
    """Reasons why a line is not a record."""

    OPEN = "a quoted field that the line does not close"
    BROKEN = "a quoted field over several lines, and text right behind its end"
    STRAY = "quotes that do not enclose a whole field"
    UNOPENED = "a quote that closes a field and that nothing opened"


@dataclass(frozen=True)
class Dialect:
    """How the fields of a file are separated and quoted."""

    separator: bytes
    quoting: Quoting
    columns: int
    """number of fields in every record"""
    lenient: bool = False
    """quotes that fit no grammar belong to the text; only for TSV, which most programs write without quoting"""
    trusted: bool = False
    """the writer is known to quote, because the user says so or because it quoted text that needs quotes"""


class Block(NamedTuple):
    """Whole lines, without their ends, as byte ranges of one buffer."""

    data: bytes
    begins: Offsets
    ends: Offsets
    lines: pa.BinaryArray

    def text(self, first: int, last: int) -> bytes:
        """Lines from `first` to `last`, with the line ends between them."""
        return self.data[self.begins[first] : self.ends[last]]


class Enclosed(NamedTuple):
    """Lines whose every quote begins or ends a field, so that no field holds a quote."""

    lines: Offsets
    begins: Offsets
    """[lines, columns] first byte of each text, without the quote before it"""
    ends: Offsets

    def within(self, lines: range) -> Enclosed:
        """Keep only the lines of a range."""
        low, high = np.searchsorted(self.lines, [lines.start, lines.stop])
        return Enclosed(self.lines[low:high], self.begins[low:high], self.ends[low:high])


class CsvRecord(NamedTuple):
    """Record that begins in a line with quotes."""

    first: int
    last: int
    """last of the record's lines in the block"""
    fields: list[bytes] | Fault


class _Grammar(NamedTuple):
    field: re.Pattern[bytes]
    opened: re.Pattern[bytes]
    escape: re.Pattern[bytes]
    sign: bytes
    """first byte of an escape"""


@cache
def _grammar(separator: bytes, quoting: Quoting) -> _Grammar:
    inside, escape = {
        "rfc4180": (rb'(?:[^"]++|"")*+', rb'"(")'),
        "backslash": (rb'(?:[^"\\]++|\\.)*+', rb'\\(["\\])'),
        "none": (rb"(?!)", rb"(?!)"),
    }[quoting]
    sign = re.escape(separator)
    compiled = partial(re.compile, flags=re.DOTALL)
    return _Grammar(
        compiled(rb'(?:"(' + inside + rb')"|([^"\r' + sign + rb"]*+))(?:(" + sign + rb")|\Z)"),
        compiled(rb'"' + inside + rb"\\?\Z"),
        compiled(escape),
        b"\\" if quoting == "backslash" else QUOTE,
    )


def fields_of(text: bytes, dialect: Dialect) -> list[bytes] | Fault:
    """Fields of one record, or the Fault for which the text is not a record."""
    grammar = _grammar(dialect.separator, dialect.quoting)
    fields: list[bytes] = []
    at = 0
    while found := grammar.field.match(text, at):
        quoted, plain, ends = found.groups()
        if quoted is None:
            fields.append(plain)
        else:
            fields.append(grammar.escape.sub(rb"\1", quoted) if grammar.sign in quoted else quoted)
        at = found.end()
        if ends is None:
            return fields
    if grammar.opened.match(text, at):
        return Fault.OPEN
    if text.count(QUOTE) % 2:
        pieces = text.split(dialect.separator)
        if any(piece.endswith(QUOTE) and (piece == QUOTE or not piece.startswith(QUOTE)) for piece in pieces):
            return Fault.UNOPENED
    return Fault.STRAY


def quoted_lines(block: Block, dialect: Dialect) -> Offsets:
    """Lines that cannot be split at separators alone.

    They hold a quote, or in lenient text a quote that begins a field; in CSV, also a carriage return that ends no line.
    """
    lone_returns = not dialect.lenient and has_lone_returns(block)
    if QUOTE not in block.data and not lone_returns:
        return np.empty(0, dtype=np.int64)
    data = np.frombuffer(block.data, dtype=np.uint8)
    offsets = np.flatnonzero(data == ord(QUOTE))
    lines = np.searchsorted(block.begins, offsets, side="right") - 1
    if dialect.lenient:
        lines = lines[(block.begins[lines] == offsets) | (data[offsets - 1] == ord(dialect.separator))]
    if lone_returns:
        returns = np.flatnonzero((data[:-1] == ord("\r")) & (data[1:] != ord("\n")))
        lines = np.concatenate([lines, np.searchsorted(block.begins, returns, side="right") - 1])
    unique: Offsets = np.unique(lines)
    return unique


def has_lone_returns(block: Block) -> bool:
    """Tell whether some \\r ends no line."""
    return b"\r" in block.data and block.data.count(b"\r") > block.data.count(b"\r\n")


def enclosed_fields(block: Block, dialect: Dialect) -> Enclosed:
    """Split the quoted lines whose texts hold no quote, all at once; equals `fields_of` of each."""
    data, count = np.frombuffer(block.data, dtype=np.uint8), len(block.lines)
    quotes, signs = np.flatnonzero(data == ord(QUOTE)), np.flatnonzero(data == ord(dialect.separator))
    before = np.searchsorted(quotes, block.begins)
    fits = np.diff(np.append(before, len(quotes)))
    fits = (fits > 0) & (fits % 2 == 0)
    line = np.searchsorted(block.begins, quotes, side="right") - 1
    opens = (np.arange(len(quotes)) - before[line]) % 2 == 0
    at_start = (quotes == block.begins[line]) | (data[quotes - 1] == ord(dialect.separator))
    at_end = (quotes + 1 == block.ends[line]) | (data[(quotes + 1) % len(data)] == ord(dialect.separator))
    fits[line[np.where(opens, ~at_start, ~at_end)]] = False
    line = np.searchsorted(block.begins, signs, side="right") - 1
    is_between = fits[line] & ((np.searchsorted(quotes, signs) - before[line]) % 2 == 0)
    fits &= np.bincount(line[is_between], minlength=count) == dialect.columns - 1
    signs = signs[is_between & fits[line]].reshape(int(fits.sum()), dialect.columns - 1)
    begins = np.column_stack([block.begins[fits], signs + 1])
    ends = np.column_stack([signs, block.ends[fits]])
    is_quoted = (ends > begins) & (data[np.minimum(begins, len(data) - 1)] == ord(QUOTE))
    return Enclosed(np.flatnonzero(fits), begins + is_quoted, ends - is_quoted)


def slices(data: bytes, begins: Offsets, ends: Offsets) -> pa.BinaryArray:
    """Byte ranges of a buffer, in ascending order, as an array."""
    # An array of the ranges and the gaps between them, of which every second element is taken.
    edges = np.column_stack([begins, ends]).ravel()
    offsets = np.append(edges, edges[-1:] if len(edges) else [0]).astype(np.int32)
    pieces = pa.BinaryArray.from_buffers(pa.binary(), len(edges), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return pieces.take(pa.array(np.arange(0, len(edges), 2)))


def records(block: Block, lines: Offsets, dialect: Dialect) -> Iterator[CsvRecord]:
    """Yield the records that begin in the lines, in order. Fault.OPEN: no line of the block closes a field."""
    taken = -1
    begins, ends = block.begins[lines].tolist(), block.ends[lines].tolist()
    for first, begin, end in zip(lines.tolist(), begins, ends, strict=True):
        if first <= taken:
            continue
        fields, taken = fields_of(block.data[begin:end], dialect), first
        if fields is Fault.OPEN and (last := _closing_line(block, first, dialect)) is not None:
            fields = fields_of(block.text(first, last), dialect)
            if isinstance(fields, Fault):
                fields = Fault.BROKEN
            else:
                taken = last
        yield CsvRecord(first, taken, fields)


def _closing_line(block: Block, first: int, dialect: Dialect) -> int | None:
    """The line that closes the quote that line `first` leaves open: up to its end, the number of quotes is even."""
    is_open = True
    for line in range(first + 1, len(block.lines)):
        text = block.text(line, line)
        if QUOTE in text:
            if dialect.quoting == "backslash":
                text = ESCAPED.sub(b"", text)
            is_open ^= text.count(QUOTE) % 2 == 1
        if not is_open:
            return line
    return None


def is_of_lines(record: CsvRecord, block: Block, dialect: Dialect) -> bool:
    """Tell whether each line of a record would be a row by itself if quotes were ordinary characters."""
    return all(
        block.text(line, line).count(dialect.separator) + 1 == dialect.columns
        for line in range(record.first, record.last + 1)
    )


BACKSLASH = b"\\"


def closing_lines(block: Block, dialect: Dialect) -> Offsets:
    """Lines in which a quote ends a field that no quote begins."""
    data, sign = np.frombuffer(block.data, dtype=np.uint8), ord(dialect.separator)
    quotes = np.flatnonzero(data == ord(QUOTE))
    quotes = quotes[np.isin(data[(quotes + 1) % len(data)], [sign, *b"\r\n"]) | (quotes + 1 == len(data))]
    lines = np.searchsorted(block.begins, quotes, side="right") - 1
    ranges = zip(block.begins[lines].tolist(), quotes.tolist(), strict=True)
    found = [block.data.rfind(dialect.separator, begin, quote) + 1 or begin for begin, quote in ranges]
    begins = np.array(found, dtype=np.int64)
    unique: Offsets = np.unique(lines[(data[begins] != ord(QUOTE)) | (begins == quotes)])
    return unique


def torn_lines(block: Block, line: int, step: int, dialect: Dialect) -> range:
    """The line, and lines before it (step -1) or after it (step 1), that may be one record torn at its line ends.

    Empty if the line has all its separators and no line with fewer is next to it.
    """
    if dialect.columns == 1:
        return range(0)
    missing = dialect.columns - 1 - block.text(line, line).count(dialect.separator)
    is_torn, last = missing > 0, line
    for beside in range(line + step, len(block.lines) if step > 0 else -1, step):
        text = block.text(beside, beside)
        count = text.count(dialect.separator)
        if missing <= 0 and count:
            break
        is_torn |= bool(text)
        missing, last = missing - count, beside
    return range(min(line, last), max(line, last) + 1) if is_torn else range(0)


def escaped_line_ends(block: Block, dialect: Dialect) -> list[range]:
    """Neighbouring lines that end in a backslash, and the line after them, if they make one record.

    A range that goes beyond the block may or may not be a record: the block ends too early to tell.
    """
    # Looking for one byte first takes a tenth of the time.
    if BACKSLASH not in block.data:
        return []
    data = np.frombuffer(block.data, dtype=np.uint8)
    is_escaped = (block.ends > block.begins) & (data[block.ends - 1] == ord(BACKSLASH))
    candidates = np.flatnonzero(is_escaped).tolist()
    escaped = np.array([line for line in candidates if _ends_escaped(block.text(line, line))], dtype=np.int64)
    runs = np.split(escaped, np.flatnonzero(np.diff(escaped) > 1) + 1)
    found = [range(int(run[0]), int(run[-1]) + 2) for run in runs if len(run)]
    return [lines for lines in found if lines.stop > len(block.lines) or _is_one_record(block, lines, dialect)]


def _ends_escaped(text: bytes) -> bool:
    """Tell whether the last backslash is not itself escaped."""
    return (len(text) - len(text.rstrip(BACKSLASH))) % 2 == 1


def _is_one_record(block: Block, lines: range, dialect: Dialect) -> bool:
    """Tell whether the lines together have the fields of one record, and some line by itself has not."""

    def fits(first: int, last: int) -> bool:
        return ESCAPED.sub(b"", block.text(first, last)).count(dialect.separator) + 1 == dialect.columns

    return fits(lines[0], lines[-1]) and not all(fits(line, line) for line in lines)
