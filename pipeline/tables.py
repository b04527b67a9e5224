r"""Captions out of text with separators: TSV, CSV and their kin.

In: an open stream of bytes, and the first bytes of its file. Out: batches of `rows.ROWS`.

    a dog on a couch\thttps://example.org/1.jpg       TSV without quoting, as img2dataset, CC3M and LAION have it
    7,"a ""big"" dog"                                 CSV; pandas writes TSV so, too

Every record has as many fields as the file has columns. Any other is rejected as `malformed_record`, and so is a header
that stands between rows. Where quotes leave open which lines are one record, the job ends: every row behind them could
get the labels of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.csv_files import QUOTE, Block, Dialect, Fault, Record, fields_of, is_of_lines, quoted_lines, records
from pipeline.lines import BLOCK, Readable, decoded, first_line, has_returns_alone, split_lines, text_blocks
from pipeline.rows import BATCH_ROWS, Reading, batch_of, caption_lists, row_keys
from vocab.errors import InputError

MALFORMED = "malformed_record"


@dataclass
class Marks:
    """What quotes make of the lines of a block."""

    fields: dict[int, list[bytes]] = field(default_factory=dict)
    """fields of the record that begins in a line, where separators alone would tell others"""
    malformed: set[int] = field(default_factory=set)
    """lines that are a malformed record each"""
    inside: set[int] = field(default_factory=set)
    """lines that go on with the record before"""
    broken: set[int] = field(default_factory=set)
    """lines whose record is not UTF-8"""


@dataclass
class Seen:
    """What the quotes of a file have shown so far: with both, no row of it can be told from its neighbours."""

    path: str
    stray: bool = False
    """quotes that belong to the text, which a writer that quotes would have escaped"""
    spanning: bool = False
    """a quoted field with line ends in it"""


def read_table(stream: Readable, path: str, first: int, head: bytes, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of lines with separators. `first`: number of the first line, 0 where the stream begins with the file.

    Raises InputError where the quotes do not say which lines are one record.
    """
    dialect = dialect_of(head, reading)
    has_header = starts_with_header(head, reading)
    number = first - has_header if first else 0
    skip = has_header and first == 0
    line, held, seen = first, b"", Seen(path)
    for data, is_last in text_blocks(stream, path):
        block = split_lines(held + data)
        marks, end = _marked(block, seen, line, dialect, is_last=is_last)
        held = block.data[block.begins[end] :] if end < len(block.lines) else b""
        for start in range(0, end, BATCH_ROWS):
            rows = _rows(number, block, range(start + skip, min(start + BATCH_ROWS, end)), marks, reading, dialect)
            skip = False
            number += len(rows)
            if len(rows):
                yield rows
        line += end


def dialect_of(head: bytes, reading: Reading) -> Dialect:
    """How a file is written, from the options and from its first bytes."""
    dialect = Dialect(reading.separator, reading.quoting or "rfc4180", len(reading.columns))
    if reading.quoting is not None:
        return replace(dialect, trusted=True)
    if QUOTE not in head:
        return replace(dialect, lenient=reading.format == "tsv")
    if has_returns_alone(head):
        head = head.replace(b"\r", b"\n")
    # What the end of the head cuts off is no fault.
    block = split_lines(head if len(head) < BLOCK else head[: head.rfind(b"\n") + 1])
    found = _survey(block, dialect)
    if found.faults and b'\\"' in head:
        escaped = replace(dialect, quoting="backslash")
        if (others := _survey(block, escaped)).faults < found.faults:
            dialect, found = escaped, others
    if reading.format == "csv":
        return replace(dialect, trusted=found.needed)
    plain_faults = int(np.sum(_wrong_counts(block, dialect)))
    if found.faults < plain_faults or (found.needed and found.faults == plain_faults):
        return replace(dialect, trusted=True)
    names_are_quoted = first_line(head).startswith(QUOTE) and starts_with_header(head, reading)
    if names_are_quoted or found.quoted * 2 > len(block.lines):
        return replace(dialect, trusted=True)
    return replace(dialect, lenient=True, quoting="none" if found.stray else "rfc4180")


def spans_lines(head: bytes, reading: Reading) -> bool:
    """Whether a row of the file may have several lines."""
    dialect = dialect_of(head, reading)
    return dialect.quoting != "none" and not dialect.lenient


class Survey(NamedTuple):
    """How well a dialect fits some lines."""

    faults: int
    """records that are none, or of another number of fields"""
    stray: int
    """of them, those whose quotes fit no grammar, as where they are ordinary characters"""
    quoted: int
    """records with a quoted field that fit"""
    needed: bool
    """whether a field shows that its writer quotes: its content needs the quotes around it"""


def _survey(block: Block, dialect: Dialect) -> Survey:
    stray, opened, quoted, miscounted, needed = 0, 0, 0, 0, False
    wrong = _wrong_counts(block, dialect)
    for record in records(block, quoted_lines(block, dialect), dialect):
        wrong[record.first : record.last + 1] = False
        if isinstance(record.fields, Fault):
            stray += record.fields is not Fault.OPEN
            # An open field is no fault where the head may have cut it off.
            opened += record.fields is Fault.OPEN and len(block.data) < BLOCK // 2
            continue
        if len(record.fields) != dialect.columns:
            miscounted += 1
            continue
        quoted += 1
        if record.first == record.last or not is_of_lines(record, block, dialect):
            needed |= any(QUOTE in text or dialect.separator in text or b"\n" in text for text in record.fields)
    return Survey(stray + opened + miscounted + int(np.sum(wrong)), stray, quoted, needed)


def _wrong_counts(block: Block, dialect: Dialect) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[lines] whether separators part a line into another number of fields than there are columns; blank ones never."""
    counts = np.diff(np.asarray(pc.split_pattern(block.lines, dialect.separator).offsets))
    wrong: np.ndarray[tuple[int], np.dtype[np.bool_]] = (counts != dialect.columns) & (block.ends > block.begins)
    return wrong


def starts_with_header(head: bytes, reading: Reading) -> bool:
    """Whether the first line names the columns, though their names may be given as well."""
    if reading.header:
        return True
    fields = fields_of(first_line(head), Dialect(reading.separator, "rfc4180", len(reading.columns)))
    return isinstance(fields, list) and [_plain_name(text) for text in fields] == [
        _plain_name(name.encode()) for name in reading.columns
    ]


def _plain_name(name: bytes) -> str:
    return name.decode("utf-8", "replace").strip().casefold()


def _marked(block: Block, seen: Seen, line: int, dialect: Dialect, *, is_last: bool) -> tuple[Marks, int]:
    """What the quotes of a block say, and how many of its lines that covers: all but an open record at its end."""
    marks = Marks()
    if dialect.quoting == "none" and not dialect.lenient:
        return marks, len(block.lines)
    grammar = replace(dialect, quoting="rfc4180") if dialect.quoting == "none" else dialect
    for record in records(block, quoted_lines(block, dialect), grammar):
        if record.fields is Fault.OPEN and not is_last and len(block.data) - block.begins[record.first] < BLOCK:
            return marks, record.first
        (_mark_lenient if dialect.lenient else _mark_strict)(marks, record, block, dialect, (seen, line))
    return marks, len(block.lines)


def _mark_lenient(marks: Marks, record: Record, block: Block, dialect: Dialect, place: tuple[Seen, int]) -> None:
    """Of text that may not be quoted at all: its lines are records unless that is in doubt."""
    first, last, fields = record
    if isinstance(fields, Fault):
        # A quoted text whose end is missing would go on in the next line, which then is no row by itself.
        after = block.text(first + 1, first + 1) if first + 1 < len(block.lines) else b""
        own = block.text(first, first)
        if fields is Fault.OPEN and dialect.quoting != "none" and own.count(dialect.separator) + 1 != dialect.columns:
            raise _unclear_quotes(record, fields.value, place)
        if after and after.count(dialect.separator) + 1 != dialect.columns:
            marks.malformed.add(first)
    elif len(fields) == dialect.columns and first == last:
        if dialect.quoting != "none":
            marks.fields[first] = fields
    elif len(fields) == dialect.columns:
        if dialect.quoting != "none":
            raise _one_row_or_several(record, place)
        if not is_of_lines(record, block, dialect):
            marks.malformed.update(range(first, last + 1))


def _mark_strict(marks: Marks, record: Record, block: Block, dialect: Dialect, place: tuple[Seen, int]) -> None:
    """Of quoted text: a record may have several lines, and none begins where that is in doubt."""
    first, last, fields = record
    seen = place[0]
    seen.stray |= fields is Fault.STRAY
    seen.spanning |= first < last
    if fields is Fault.STRAY and not seen.spanning:
        marks.malformed.add(first)
        return
    if isinstance(fields, Fault) or (seen.stray and seen.spanning):
        what = (
            fields.value
            if isinstance(fields, Fault)
            else f"a field over several lines, and above it {Fault.STRAY.value}"
        )
        raise _unclear_quotes(record, what, place)
    fits = len(fields) == dialect.columns
    if (
        first < last
        and not dialect.trusted
        and (not fits or (dialect.columns > 1 and is_of_lines(record, block, dialect)))
    ):
        raise _one_row_or_several(record, place)
    marks.inside.update(range(first + 1, last + 1))
    if not fits:
        marks.malformed.add(first)
        return
    marks.fields[first] = fields
    if first < last and decoded(block.text(first, last)) is None:
        marks.broken.add(first)


def _unclear_quotes(record: Record, found: str, place: tuple[Seen, int]) -> InputError:
    return InputError(
        _where(record, place),
        found=found,
        wanted="quotes around whole fields, and those of a text doubled or behind backslashes throughout the file",
        remedy="Mend that line. If the file's quotes are ordinary characters, and every line is a row: "
        "--quoting none; if they stand behind backslashes: --quoting backslash.",
    )


def _where(record: Record, place: tuple[Seen, int]) -> str:
    seen, line = place
    return f"{seen.path}, line {line + record.first + 1:,}"


def _one_row_or_several(record: Record, place: tuple[Seen, int]) -> InputError:
    return InputError(
        _where(record, place),
        found=f"a quote that closes {record.last - record.first} lines below, in a file that shows not whether "
        "its writer quotes: that may be one row or several",
        wanted="a file of which every row can be told",
        remedy="--quoting rfc4180 if a quoted field may hold line ends; --quoting none if quotes are ordinary "
        "characters and every line is a row.",
    )


def _rows(number: int, block: Block, lines: range, marks: Marks, reading: Reading, dialect: Dialect) -> pa.RecordBatch:
    """The rows that begin in some lines of a block."""
    texts = block.lines[lines.start : lines.stop]
    parts = pc.split_pattern(texts, dialect.separator)
    begins, ends = np.asarray(parts.offsets[:-1]), np.asarray(parts.offsets[1:])
    special = [line for line in marks.fields if line in lines]
    inner = np.array([line - lines.start for line in special], dtype=np.int64)
    malformed = (ends - begins != dialect.columns) | np.asarray(pc.equal(texts, _header_line(reading)))
    malformed[inner] = [marks.fields[line] == [name.encode() for name in reading.columns] for line in special]
    malformed[[line - lines.start for line in marks.malformed if line in lines]] = True
    keep = np.ones(len(texts), dtype=bool)
    keep[[line - lines.start for line in marks.inside if line in lines]] = False
    if reading.format == "csv":
        keep &= block.ends[lines.start : lines.stop] > block.begins[lines.start : lines.stop]

    def column(name: str) -> pa.BinaryArray:
        place = reading.columns.index(name)
        places, values = begins + place, parts.values
        if special:
            places[inner] = np.arange(len(special)) + len(values)
            values = pa.concat_arrays([values, pa.array([marks.fields[line][place] for line in special], pa.binary())])
        return values.take(pa.array(places[keep], mask=malformed[keep]))

    valid = np.asarray(_valid_utf8(texts)).copy()
    valid[[line - lines.start for line in marks.broken if line in lines]] = False
    malformed_rows, valid_rows = pa.array(malformed[keep]), pa.array(valid[keep])
    count = int(np.sum(keep))
    return batch_of(
        _text(column(reading.key), valid_rows) if reading.key else row_keys(number, count),
        caption_lists([column(name) for name in reading.captions]),
        shards=_text(column(reading.shard), valid_rows) if reading.shard else None,
        reasons=pc.if_else(malformed_rows, MALFORMED, pc.if_else(valid_rows, pa.scalar(None, pa.string()), "not_utf8")),
    )


def _header_line(reading: Reading) -> bytes:
    return reading.separator.join(name.encode() for name in reading.columns)


def _valid_utf8(lines: pa.BinaryArray) -> pa.BooleanArray:
    """[lines] whether each is UTF-8; one check of all unless it fails."""
    try:
        lines.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([decoded(line) is not None for line in lines.to_pylist()])
    return pa.array(np.ones(len(lines), dtype=bool))


def _text(values: pa.BinaryArray, valid: pa.BooleanArray) -> pa.StringArray:
    """The values as text; U+FFFD in place of bytes that are not UTF-8."""
    if pc.all(valid).as_py() in (True, None):
        return values.cast(pa.string())
    return pa.array([None if v is None else v.decode("utf-8", "replace") for v in values.to_pylist()], pa.string())
