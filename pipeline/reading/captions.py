"""Captions of any stored format as batches of rows."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.config import Label
from pipeline.reading import tars
from pipeline.reading.dialects import reading_of_table, table_reading
from pipeline.reading.gzip_files import VerifiedGzip, tar_stream
from pipeline.reading.inputs import InputFiles
from pipeline.reading.json_captions import read_coco, read_jsonl
from pipeline.reading.lines import BLOCK, Readable, no_text
from pipeline.reading.lookahead import refuse_unused_key, require_captions
from pipeline.reading.parquet import read_parquet
from pipeline.reading.rows import ReadOptions
from pipeline.reading.stored_formats import PARQUET
from pipeline.reading.tables import read_table
from vocab.errors import InputError
from vocab.store.files import BROKEN, filesystem_of


class Span(NamedTuple):
    """Whole lines of a text file."""

    start: int
    """first byte of the first line"""
    stop: int
    """byte after the last line"""
    number: int
    """number of the first line in its file, from 0"""


@dataclass(frozen=True)
class Piece:
    """An input file, or a part of one, that a task reads."""

    path: str
    shard: str
    """shard of rows that do not name one"""
    groups: tuple[int, ...] | None = None
    """row groups of a Parquet file; None for all of any file"""
    span: Span | None = None
    """lines of a text file; None for all of any file"""


class UnreadableFile(Exception):  # noqa: N818 - caught by the task, which knows what it means for the job
    """Raised for a file that breaks off, or is not of its format. Rows before the break were read."""


def read_piece(piece: Piece, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Read batches of `rows.ROWS`.

    Raises UnreadableFile where the content cannot be read, after the rows before it; InputError for a missing column;
    and what the file system raises for a file that cannot be opened.
    """
    filesystem, path = filesystem_of(piece.path)
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        raise InputError(
            piece.path, found="no such file", wanted="the file that was listed", remedy="Put it back, or begin anew."
        )
    with filesystem.open_input_file(path) as file:
        try:
            yield from _read(file, piece, reading)
        except (*BROKEN, tarfile.ReadError) as error:
            raise UnreadableFile(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _read(file: pa.NativeFile, piece: Piece, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    if reading.format in PARQUET:
        parquet = pq.ParquetFile(file)
        groups = range(parquet.metadata.num_row_groups) if piece.groups is None else piece.groups
        yield from read_parquet(parquet, piece.path, groups, reading)
    elif reading.format == "webdataset":
        tar, damage = tar_stream(file)
        yield from tars.read_tar(tar, reading)
        if damage is not None:
            raise damage
    else:
        yield from _read_text(file, piece, reading)


def _read_text(file: pa.NativeFile, piece: Piece, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    text: Readable = VerifiedGzip(file) if piece.path.endswith(".gz") else file
    if reading.format == "coco":
        yield from read_coco(text, reading)
        return
    head = text_head(text)
    if (other := no_text(head)) is not None:
        found, remedy = other
        raise OSError(f"{found}, where text in UTF-8 is wanted. {remedy}")
    first = 0 if piece.span is None else piece.span.number
    stream: Readable = Rejoined(head, text) if piece.span is None else SpanStream(file, piece.span)
    if reading.format == "jsonl":
        yield from read_jsonl(stream, piece.path, first, reading)
    else:
        yield from read_table(stream, piece.path, first, head, reading_of_table(reading, head, where=piece.path))


def text_head(text: Readable) -> bytes:
    """First bytes of a text file, which show its dialect: BLOCK of them, or all; fewer if the file is damaged."""
    blocks: list[bytes] = []
    try:
        while sum(map(len, blocks)) < BLOCK and (block := text.read(BLOCK - sum(map(len, blocks)))):
            blocks.append(block)
    except OSError:
        # Further reading raises it again, after the rows of what was read.
        if not blocks:
            raise
    return b"".join(blocks)


class Rejoined:
    """A stream whose first bytes were read before."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1, /) -> bytes:
        head, self._head = self._head, b""
        return head or self._rest.read(size)


class SpanStream:
    """A part of a file as a stream."""

    def __init__(self, file: pa.NativeFile, span: Span) -> None:
        self._file, self._left = file, span.stop - span.start
        file.seek(span.start)

    def read(self, size: int = -1, /) -> bytes:
        block: bytes = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


def reading_of(options: Label, inputs: InputFiles) -> ReadOptions:
    """How to read the job's files, from the options and a look at some of the files.

    Raises InputError for a column that none of these files has, or that one has twice.
    """
    sidecars = inputs.format == "img2dataset"
    usual = ("txt",) if inputs.format == "webdataset" else ("caption",)
    reading = ReadOptions(
        format=inputs.format,
        captions=options.caption_columns or (() if options.synset_columns else usual),
        synsets=options.synset_columns,
        key=options.key_column or ("key" if sidecars else None),
        shard=options.shard_column,
        strict=options.strict,
    )
    if inputs.format in ("tsv", "csv"):
        reading = table_reading(reading, options, inputs)
    refuse_unused_key(reading, options, inputs)
    require_captions(reading, inputs)
    return reading
