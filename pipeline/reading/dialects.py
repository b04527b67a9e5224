r"""Which separators, quotes and escapes a text table has, told from the options and from its first bytes.

In: a `Reading` and the head of a file. Out: a `Dialect`.

    caption,id                  CSV quotes as RFC 4180 has it, unless backslashes before quotes explain more lines
    "a \"big\" dog",7
    caption\tid  caption|id      TSV and text between bars have ordinary quotes, unless quoting explains more lines
    "a cat\non a table"\t7
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from pipeline.reading.csv_files import QUOTE, Block, Dialect, Fault, fields_of, is_of_lines, quoted_lines, records
from pipeline.reading.lines import BLOCK, first_line, has_returns_alone, split_lines
from pipeline.reading.rows import Reading


def dialect_of(head: bytes, reading: Reading) -> Dialect:
    """Tell the dialect of a file from the options and its head: its first BLOCK of bytes, or all."""
    dialect = Dialect(reading.separator, reading.quoting or "rfc4180", len(reading.columns))
    if reading.quoting is not None:
        return replace(dialect, trusted=True)
    # As TSV, text between bars is mostly written without quoting.
    is_csv = reading.format == "csv" and reading.separator != b"|"
    if QUOTE not in head:
        return replace(dialect, lenient=not is_csv)
    if has_returns_alone(head):
        head = head.replace(b"\r", b"\n")
    # What the end of the head cuts off is no fault.
    block = split_lines(head if len(head) < BLOCK else head[: head.rfind(b"\n") + 1])
    found = _survey(block, dialect)
    if b'\\"' in head and (found.faults or found.swallowed):
        escaped = replace(dialect, quoting="backslash")
        if (others := _survey(block, escaped)).faults < found.faults or found.swallowed:
            dialect, found = escaped, others
    if is_csv:
        return replace(dialect, trusted=found.needed)
    plain_faults = int(np.sum(_wrong_counts(block, dialect)))
    if found.faults < plain_faults or (found.needed and found.faults == plain_faults):
        return replace(dialect, trusted=True)
    names_are_quoted = first_line(head).startswith(QUOTE) and starts_with_header(head, reading)
    if names_are_quoted or found.quoted * 2 > len(block.lines) or found.escaped > found.stray:
        return replace(dialect, trusted=True)
    return replace(dialect, lenient=True, quoting="none" if found.ordinary else "rfc4180")


def spans_lines(head: bytes, reading: Reading) -> bool:
    """Tell whether a row of the file may have several lines."""
    dialect = dialect_of(head, reading)
    return dialect.quoting != "none" and not dialect.lenient


def starts_with_header(head: bytes, reading: Reading) -> bool:
    """Tell whether the first line names the columns, though their names may be given as well."""
    if reading.header:
        return True
    fields = fields_of(first_line(head), Dialect(reading.separator, "rfc4180", len(reading.columns)))
    return isinstance(fields, list) and [plain_name(text) for text in fields] == [
        plain_name(name.encode()) for name in reading.columns
    ]


def plain_name(name: bytes) -> str:
    """A column's name in small letters, without spaces and signs: "imageurl" for "Image_URL"."""
    text = name.decode("utf-8", "replace")
    return re.sub(r"[\W_]+", "", text).casefold() or text


class _Survey(NamedTuple):
    """Measures of how well a dialect fits some lines."""

    faults: int
    """records with stray quotes, or with another number of fields than columns"""
    stray: int
    """faults whose quotes fit no grammar, as when quotes are ordinary characters"""
    ordinary: int
    """stray faults outside of quoted fields: these lines and their neighbours have the right number of separators"""
    quoted: int
    """records with a quoted field that fit"""
    escaped: int
    """quoted records of one line that hold an escaped quote: almost only a writer that quotes makes them"""
    swallowed: bool
    """whether a record goes on over a line's end only because the quote before it does not count as escaped"""
    needed: bool
    """whether a field shows that its writer quotes: its content needs the quotes around it"""


def _survey(block: Block, dialect: Dialect) -> _Survey:
    stray, ordinary, opened, quoted, escaped, miscounted, swallowed, needed = 0, 0, 0, 0, 0, 0, False, False
    wrong = _wrong_counts(block, dialect)
    torn = wrong.copy()
    torn[1:] |= wrong[:-1]
    torn[:-1] |= wrong[1:]
    for record in records(block, quoted_lines(block, dialect), dialect):
        wrong[record.first : record.last + 1] = False
        if isinstance(record.fields, Fault):
            stray += record.fields is not Fault.OPEN
            ordinary += record.fields is not Fault.OPEN and not torn[record.first]
            # An open field is no fault where the head may have cut it off.
            opened += record.fields is Fault.OPEN and len(block.data) < BLOCK // 2
            continue
        if len(record.fields) != dialect.columns:
            miscounted += 1
            continue
        quoted += 1
        if record.first == record.last:
            escaped += any(QUOTE in text for text in record.fields)
        else:
            swallowed |= _ends_behind_backslash(block.text(record.first, record.first), dialect)
        if record.first == record.last or not is_of_lines(record, block, dialect):
            needed |= any(QUOTE in text or dialect.separator in text or b"\n" in text for text in record.fields)
    faults = stray + opened + miscounted + int(np.sum(wrong))
    return _Survey(faults, stray, ordinary, quoted, escaped, swallowed, needed)


def _ends_behind_backslash(line: bytes, dialect: Dialect) -> bool:
    """Tell a line that is a whole record where backslashes escape quotes."""
    fields = fields_of(line, replace(dialect, quoting="backslash")) if b'\\"' in line else Fault.OPEN
    return isinstance(fields, list) and len(fields) == dialect.columns


def _wrong_counts(block: Block, dialect: Dialect) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[lines] whether separators part a line into another number of fields than there are columns; blank ones never."""
    counts = np.diff(np.asarray(pc.split_pattern(block.lines, dialect.separator).offsets))
    wrong: np.ndarray[tuple[int], np.dtype[np.bool_]] = (counts != dialect.columns) & (block.ends > block.begins)
    return wrong
