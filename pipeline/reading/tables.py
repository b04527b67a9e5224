r"""Captions in text with separators, such as TSV and CSV.

    a dog on a couch\thttps://example.org/1.jpg       TSV without quoting, as img2dataset, CC3M and LAION have it
    7,"a ""big"" dog"                                 CSV; pandas writes TSV like this too

Every record has as many fields as the file has columns. Any other record is rejected as `malformed_record`, and so is a
header between rows. If quotes, or backslashes before line ends, leave open which lines are one record, the job ends:
every row after them could get the labels of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reading.csv_files import (
    QUOTE,
    Block,
    CsvRecord,
    Dialect,
    Enclosed,
    Fault,
    closing_lines,
    enclosed_fields,
    escaped_line_ends,
    has_lone_returns,
    is_of_lines,
    quoted_lines,
    records,
    slices,
    torn_lines,
)
from pipeline.reading.dialects import dialect_of, starts_with_header
from pipeline.reading.lines import BLOCK, Readable, decoded, is_utf8, split_lines, text_blocks, utf8_text, valid_utf8
from pipeline.reading.rows import BATCH_ROWS, ReadOptions, batch_of, caption_lists, captionless, row_keys
from pipeline.reject_reasons import MALFORMED_RECORD, NOT_UTF8
from vocab.errors import InputError

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass
class Seen:
    """Findings about a file so far. If both are true, its rows cannot be told apart."""

    path: str
    stray: bool = False
    """the text has quotes that a writer that quotes would have escaped"""
    spanning: bool = False
    """a quoted field has line ends in it"""


@dataclass
class Marks:
    """Findings about the lines of a block, from its quotes and backslashes."""

    block: Block
    line: int
    """lines of the file before the block"""
    is_last: bool
    """the file ends with the block"""
    dialect: Dialect
    seen: Seen
    is_utf8: bool
    """the whole block is UTF-8, so that its lines need no check"""
    fields: dict[int, list[bytes]] = field(default_factory=dict)
    """fields of the record that begins in a line, if splitting at separators would give others"""
    malformed: set[int] = field(default_factory=set)
    """lines, each of which is a malformed record"""
    inside: set[int] = field(default_factory=set)
    """lines that continue the record of the line before"""
    broken: set[int] = field(default_factory=set)
    """lines whose record is not UTF-8"""
    enclosed: Enclosed | None = None
    """lines, each of which is a record with quotes only around whole fields"""

    def mark_quoted(self) -> int:
        """Mark the lines by their quotes; count them too, without the lines of an open record at the end."""
        block, dialect = self.block, self.dialect
        if (QUOTE not in block.data) if dialect.lenient else dialect.quoting == "none":
            return len(block.lines)
        grammar = replace(dialect, quoting="rfc4180") if dialect.quoting == "none" else dialect
        lines = quoted_lines(block, dialect)
        if dialect.lenient:
            for unopened in reversed(closing_lines(block, dialect).tolist()):
                self._mark_torn(unopened, -1, Fault.UNOPENED)
        if len(lines) and dialect.quoting == "rfc4180" and not dialect.lenient and not has_lone_returns(block):
            self.enclosed = enclosed_fields(block, dialect)
            lines = np.setdiff1d(lines, self.enclosed.lines, assume_unique=True)
        for record in records(block, lines, grammar):
            if record.fields is Fault.OPEN and self._may_go_on(record.first):
                return record.first
            fields = record.fields
            if record.first == record.last and isinstance(fields, list) and len(fields) == dialect.columns:
                if dialect.quoting != "none":
                    self.fields[record.first] = fields
            elif dialect.lenient:
                self._mark_lenient(record)
            else:
                self._mark_strict(record)
        return len(block.lines)

    def _may_go_on(self, line: int) -> bool:
        """Tell whether a record that begins in a line may go on beyond the block."""
        return not self.is_last and len(self.block.data) - self.block.begins[line] < BLOCK

    def _mark_lenient(self, record: CsvRecord) -> None:
        """Mark a record of text that may not be quoted at all: every line is a row, unless that is in doubt."""
        first, last, fields = record
        if isinstance(fields, Fault):
            # A quoted text whose end is missing would go on in the next line, which then is not a row by itself.
            self._mark_torn(first, 1, fields)
        elif len(fields) == self.dialect.columns:
            if self.dialect.quoting != "none":
                raise self._one_row_or_several(record)
            if not is_of_lines(record, self.block, self.dialect):
                self.malformed.update(range(first, last + 1))

    def _mark_torn(self, line: int, step: int, fault: Fault) -> None:
        """Mark the lines of a record that may be torn. Raises InputError unless quotes are known to be ordinary."""
        lines = range(0) if line in self.malformed else torn_lines(self.block, line, step, self.dialect)
        if lines and self.dialect.quoting != "none":
            raise self._unclear_quotes(line, fault.value)
        self.malformed.update(lines)

    def _mark_strict(self, record: CsvRecord) -> None:
        """Mark a record of quoted text, maybe of several lines; if none is, stray quotes cost only their row."""
        first, last, fields = record
        self.seen.stray |= fields is Fault.STRAY
        self.seen.spanning |= first < last
        if fields is Fault.STRAY and not self.seen.spanning:
            self.malformed.add(first)
            return
        if isinstance(fields, Fault):
            raise self._unclear_quotes(first, fields.value)
        if self.seen.stray and self.seen.spanning:
            raise self._unclear_quotes(first, f"a field over several lines, and above it {Fault.STRAY.value}")
        columns, fits = self.dialect.columns, len(fields) == self.dialect.columns
        is_doubtful = not fits or (columns > 1 and is_of_lines(record, self.block, self.dialect))
        if first < last and not self.dialect.trusted and is_doubtful:
            raise self._one_row_or_several(record)
        self.inside.update(range(first + 1, last + 1))
        if not fits:
            self.malformed.add(first)
            return
        self.fields[first] = fields
        if first < last and decoded(self.block.text(first, last)) is None:
            self.broken.add(first)

    def mark_escaped(self) -> int:
        """Mark the lines of records whose line ends are escaped; count the lines before one that the block cuts off.

        Raises InputError for such a record, unless the user says that every line is a row.
        """
        enclosed = () if self.enclosed is None else self.enclosed.lines
        for lines in escaped_line_ends(self.block, self.dialect):
            if lines.stop > len(self.block.lines):
                return lines.start if self._may_go_on(lines.start) else len(self.block.lines)
            is_read = not self.inside.isdisjoint(lines) or not self.fields.keys().isdisjoint(lines)
            if not is_read and not np.isin(lines, enclosed).any():
                if not (self.dialect.trusted and self.dialect.quoting == "none"):
                    raise self._escaped_line_end(lines)
                self.malformed.update(lines)
        return len(self.block.lines)

    def _where(self, line: int) -> str:
        return f"{self.seen.path}, line {self.line + line + 1:,}"

    def _unclear_quotes(self, line: int, found: str) -> InputError:
        return InputError(
            self._where(line),
            found=found,
            wanted="quotes around whole fields; quotes inside a field doubled, or behind backslashes, in the whole "
            "file",
            remedy="Mend that line. If the file's quotes are ordinary characters, and every line is a row: "
            "--quoting none; if a backslash stands before each quote in a field: --quoting backslash.",
        )

    def _escaped_line_end(self, lines: range) -> InputError:
        return InputError(
            self._where(lines[0]),
            found=f"a backslash at the end of the line, and its last field in line {self.line + lines[-1] + 1:,}",
            wanted="a record a line, or quotes around a field that holds a line end",
            remedy="Write the file anew with quotes, as with pandas: "
            f"read_csv(FILE, sep={self.dialect.separator.decode()!r}, quoting=3, escapechar='\\\\').to_csv(...). "
            "To have every line taken for a row and the lines of such records rejected: --quoting none.",
        )

    def _one_row_or_several(self, record: CsvRecord) -> InputError:
        return InputError(
            self._where(record.first),
            found=f"a quote that closes {record.last - record.first} lines below, in a file that does not show "
            "whether its writer quotes: one row or several",
            wanted="a file whose rows are unambiguous",
            remedy="--quoting rfc4180 if a quoted field may hold line ends; --quoting none if quotes are ordinary "
            "characters and every line is a row.",
        )


def read_table(stream: Readable, path: str, first: int, head: bytes, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Rows of lines with separators. `first`: number of the first line; 0 if the stream begins with the file.

    Raises InputError if quotes, or backslashes before line ends, leave open which lines are one record.
    """
    dialect = dialect_of(head, reading)
    has_header = starts_with_header(head, reading)
    number = first - has_header if first else 0
    skip = has_header and first == 0
    line, held, seen = first, b"", Seen(path)
    for data, is_last in text_blocks(stream, path):
        block = split_lines(held + data)
        marks = Marks(block, line, is_last, dialect, seen, is_utf8(block.data))
        end = marks.mark_quoted()
        end = min(end, marks.mark_escaped())
        held = block.data[block.begins[end] :] if end < len(block.lines) else b""
        for start in range(0, end, BATCH_ROWS):
            rows = _rows(number, range(start + skip, min(start + BATCH_ROWS, end)), marks, reading)
            skip = False
            number += len(rows)
            if len(rows):
                yield rows
        line += end


def _rows(number: int, lines: range, marks: Marks, reading: ReadOptions) -> pa.RecordBatch:
    """Rows that begin in some lines of a block."""
    block, dialect = marks.block, marks.dialect
    texts = block.lines[lines.start : lines.stop]
    parts = pc.split_pattern(texts, dialect.separator)
    begins = np.asarray(parts.offsets[:-1])
    special = [line for line in marks.fields if line in lines]
    inner = np.array([line - lines.start for line in special], dtype=np.int64)
    enclosed = None if marks.enclosed is None else marks.enclosed.within(lines)
    malformed = (np.diff(np.asarray(parts.offsets)) != dialect.columns) & ~_have_fields(lines, marks, enclosed)
    malformed |= _repeat_header(lines, marks, enclosed, [name.encode() for name in reading.columns])
    malformed[[line - lines.start for line in marks.malformed if line in lines]] = True
    keep = np.ones(len(texts), dtype=bool)
    keep[[line - lines.start for line in marks.inside if line in lines]] = False
    if reading.format == "csv":
        keep &= block.ends[lines.start : lines.stop] > block.begins[lines.start : lines.stop]
    count = int(np.sum(keep))

    def column(name: str) -> pa.BinaryArray:
        if name not in reading.columns:
            return pa.nulls(count, pa.binary())
        at = reading.columns.index(name)
        indices, values = begins + at, parts.values
        if enclosed is not None:
            indices[enclosed.lines - lines.start] = np.arange(len(enclosed.lines)) + len(values)
            values = pa.concat_arrays([values, slices(block.data, enclosed.begins[:, at], enclosed.ends[:, at])])
        if special:
            indices[inner] = np.arange(len(special)) + len(values)
            values = pa.concat_arrays([values, pa.array([marks.fields[line][at] for line in special], pa.binary())])
        return values.take(pa.array(indices[keep], mask=malformed[keep]))

    valid = np.ones(len(texts), dtype=bool) if marks.is_utf8 else np.asarray(valid_utf8(texts)).copy()
    valid[[line - lines.start for line in marks.broken if line in lines]] = False
    malformed_rows, valid_rows = pa.array(malformed[keep]), pa.array(valid[keep])
    batch = batch_of(
        utf8_text(column(reading.key), valid_rows) if reading.key else row_keys(number, count),
        caption_lists([column(name) for name in reading.captions], count),
        named=caption_lists([column(name) for name in reading.synsets], count) if reading.synsets else None,
        shards=utf8_text(column(reading.shard), valid_rows) if reading.shard else None,
        reasons=pc.if_else(
            malformed_rows, MALFORMED_RECORD, pc.if_else(valid_rows, pa.scalar(None, pa.string()), NOT_UTF8)
        ),
    )
    return batch if reading.texts else captionless(batch)


def _have_fields(lines: range, marks: Marks, enclosed: Enclosed | None) -> Mask:
    """Mask [lines] of lines whose fields are divided by quotes, not by separators alone."""
    have = np.zeros(len(lines), dtype=bool)
    have[[line - lines.start for line in marks.fields if line in lines]] = True
    if enclosed is not None:
        have[enclosed.lines - lines.start] = True
    return have


def _repeat_header(lines: range, marks: Marks, enclosed: Enclosed | None, names: list[bytes]) -> Mask:
    """Mask [lines] of records whose fields are the names of the columns."""
    header = marks.dialect.separator.join(names)
    repeats = np.asarray(pc.equal(marks.block.lines[lines.start : lines.stop], header)).copy()
    if enclosed is not None:
        repeats[enclosed.lines - lines.start] = _are_names(marks.block, enclosed, names)
    for line, fields in marks.fields.items():
        if line in lines:
            repeats[line - lines.start] = fields == names
    return repeats


def _are_names(block: Block, enclosed: Enclosed, names: list[bytes]) -> Mask:
    """Mask of the enclosed lines whose fields are the names; compares lengths before texts."""
    are = np.ones(len(enclosed.lines), dtype=bool)
    for column, name in enumerate(names):
        are[are] = enclosed.ends[are, column] - enclosed.begins[are, column] == len(name)
    for line in np.flatnonzero(are):
        are[line] = names == [block.data[a:b] for a, b in zip(enclosed.begins[line], enclosed.ends[line], strict=True)]
    return are
