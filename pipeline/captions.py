"""Captions of any stored format as batches of rows.

In: a `Piece` of an input file, and how to read it. Out: batches of `rows.ROWS`, a row for every row of the input, none
dropped; after them, where the file cannot be read to its end, an `Unreadable`.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline import tars
from pipeline.config import Label
from pipeline.csv_files import read_csv
from pipeline.inputs import Inputs
from pipeline.key_choice import refuse_unused_key
from pipeline.lines import read_jsonl, read_tsv
from pipeline.parquet import read_parquet
from pipeline.rows import Reading, require_columns
from vocab.errors import InputError
from vocab.storage import filesystem_of

HEADER_BYTES = 1 << 20
TEXT_FORMATS = ("tsv", "csv", "jsonl")


class Span(NamedTuple):
    """Whole lines of a text file."""

    start: int
    """byte of the first"""
    stop: int
    """byte behind the last"""
    number: int
    """of the first line in its file, from 0"""


@dataclass(frozen=True)
class Piece:
    """An input file, or a part of one: what is read in one go."""

    path: str
    shard: str
    """of rows that name none themselves"""
    groups: tuple[int, ...] | None = None
    """row groups of a Parquet file; None for all of any file"""
    span: Span | None = None
    """lines of a text file; None for all of any file"""


class UnreadableFile(Exception):  # noqa: N818 - caught by the task, which knows what it means for the job
    """A file that breaks off, or is not of its format. Rows before the break were read."""


def read_piece(piece: Piece, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Batches of `rows.ROWS`.

    Raises UnreadableFile where the file's content cannot be read, after the rows that could; InputError for a missing
    column; and what the file system raises for a file that cannot be opened.
    """
    filesystem, path = filesystem_of(piece.path)
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        raise InputError(
            piece.path, found="no such file", wanted="the file that was listed", remedy="Put it back, or begin anew."
        )
    with filesystem.open_input_file(path) as file:
        try:
            yield from _read(file, piece, reading)
        except (pa.ArrowInvalid, OSError, tarfile.ReadError) as error:
            raise UnreadableFile(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _read(file: pa.NativeFile, piece: Piece, reading: Reading) -> Iterator[pa.RecordBatch]:
    if reading.format in ("parquet", "img2dataset"):
        parquet = pq.ParquetFile(file)
        groups = range(parquet.metadata.num_row_groups) if piece.groups is None else piece.groups
        yield from read_parquet(parquet, piece.path, groups, reading)
    elif reading.format == "webdataset":
        yield from tars.read_tar(file, reading.captions)
    else:
        stream = pa.CompressedInputStream(file, "gzip") if piece.path.endswith(".gz") else file
        first = 0
        if piece.span is not None:
            stream, first = SpanStream(file, piece.span), piece.span.number
        if reading.format == "tsv":
            yield from read_tsv(stream, piece.path, first, reading)
        elif reading.format == "jsonl":
            yield from read_jsonl(stream, piece.path, first, reading)
        else:
            yield from read_csv(stream, piece.path, reading)


class SpanStream(io.RawIOBase):
    """A part of a file as a stream of its own."""

    def __init__(self, file: pa.NativeFile, span: Span) -> None:
        self._file, self._left = file, span.stop - span.start
        file.seek(span.start)

    def read(self, size: int = -1) -> bytes:
        block: bytes = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


def reading_of(options: Label, inputs: Inputs) -> Reading:
    """How the job's files are to be read, found out from the first of them and checked.

    Raises InputError for a column that is not there, or twice, and for text files of different headers.
    """
    sidecars = inputs.format == "img2dataset"
    reading = Reading(
        format=inputs.format,
        captions=options.caption_columns or (("txt",) if inputs.format == "webdataset" else ("caption",)),
        key=options.key_column or ("key" if sidecars else None),
        shard=options.shard_column,
        strict=options.strict,
    )
    if inputs.format not in ("tsv", "csv"):
        refuse_unused_key(reading, options, inputs)
        return reading
    header = not options.columns
    columns = options.columns
    if header:
        line = _common_header(inputs)
        columns = tuple(line.split("\t") if inputs.format == "tsv" else next(csv.reader([line]), []))
    _refuse_repeated(columns, where=inputs.files[0].path)
    require_columns(columns, reading.needed, where=inputs.files[0].path)
    reading = Reading(**{**vars(reading), "columns": columns, "header": header})
    refuse_unused_key(reading, options, inputs)
    return reading


def _refuse_repeated(columns: tuple[str, ...], *, where: str) -> None:
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise InputError(
            where, found=f"two columns {repeated[0]!r}", wanted="different names", remedy="Name them with --columns."
        )


def _common_header(inputs: Inputs) -> str:
    """The first line, which must be the same in every file: columns are found by its names.

    Files that cannot be read are left to their tasks, unless none can.
    """
    held = [file for file in inputs.files if file.size] or inputs.files
    headers = [(file.path, header) for file in held if (header := _first_line(file.path)) is not None]
    if not headers:
        raise InputError(
            inputs.files[0].path,
            found="a file that cannot be read",
            wanted="a whole file of the format that its name tells",
            remedy="Download it again, or leave it out of --captions.",
        )
    place, first = headers[0]
    for path, header in headers:
        if header != first:
            raise InputError(
                path,
                found=f"header {header[:200]!r}",
                wanted=f"{first[:200]!r}, as in {place}",
                remedy="Label files of another header in a job of their own, or name the columns with --columns.",
            )
    return first


def _first_line(path: str) -> str | None:
    """The first line; None where the file cannot be read, which is for the task that reads it to say."""
    filesystem, inner = filesystem_of(path)
    head = b""
    try:
        with filesystem.open_input_stream(inner) as stream:
            while b"\n" not in head and len(head) <= HEADER_BYTES and (block := stream.read(1 << 16)):
                head += block
    except PermissionError as error:
        raise InputError(
            path, found="no permission to read it", wanted="a file that this user may read", remedy="Check its mode."
        ) from error
    except OSError:
        return None
    return head.split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8-sig", "replace")
