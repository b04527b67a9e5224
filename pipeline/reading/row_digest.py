"""Digest of an input file's rows, which shows whether a file whose time has changed still holds the same rows.

It does not depend on how the rows are cut into batches, nor on the order of the file's pieces; the cut into pieces is
the same on every cluster. It is taken while rows are labelled, without a second pass, and of a tar it needs not one
byte of the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.planning import Task, text_of_each
from pipeline.reading.captions import Piece, UnreadableFile, read_piece
from pipeline.reading.rows import ReadOptions

if TYPE_CHECKING:
    # Tasks take digests too, and need no Spark.
    from pyspark.sql import SparkSession


class RowDigest:
    """Digest of one piece, fed batch by batch.

    Each column has streams of its own, for lengths and for content, so that the cut into batches leaves no trace.
    """

    def __init__(self, piece: Piece) -> None:
        self._start = f"{piece.groups} {piece.span}"
        self._streams: dict[str, Any] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the rows of a batch."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._add(name, column)

    def hexdigest(self) -> str:
        """sha256 of the piece's position in its file and of its rows."""
        whole = hashlib.sha256(self._start.encode())
        for name in sorted(self._streams):
            whole.update(name.encode() + self._streams[name].digest())
        return whole.hexdigest()

    def _add(self, name: str, column: pa.Array) -> None:
        if pa.types.is_list(column.type):
            self._update(f"{name} lists", _numbers(pc.list_value_length(column)))
            self._add(f"{name} item", column.flatten())
        elif pa.types.is_integer(column.type):
            self._update(f"{name} nulls", np.asarray(column.is_null()))
            self._update(f"{name} numbers", np.asarray(column.fill_null(0)).astype(np.int64))
        else:
            texts = column.cast(pa.binary())
            self._update(f"{name} lengths", _numbers(pc.binary_length(texts)))
            if texts.null_count:
                texts = texts.drop_null()
            if len(texts):
                _, offsets, data = texts.buffers()
                ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
                if ends[-1] > ends[0]:
                    self._update(name, memoryview(data)[ends[0] : ends[-1]])

    def _update(self, stream: str, content: Any) -> None:
        self._streams.setdefault(stream, hashlib.sha256()).update(content)


def _numbers(lengths: pa.Array) -> Any:
    """Lengths; -1 for null."""
    return np.asarray(lengths.fill_null(-1)).astype(np.int32)


def digest_of_pieces(digests: Iterable[str]) -> str:
    """Digest of a file from its pieces' digests: their sum, so that the order does not matter; 32 hex digits."""
    return f"{sum(int(digest, 16) for digest in digests) % (1 << 128):032x}"


def digests_of(spark: SparkSession, tasks: Sequence[Task], reading: ReadOptions) -> dict[str, str]:
    """Digests, by path, of the files that the tasks read; a file that cannot be read has none."""
    pieces = [piece for task in tasks for piece in task.pieces]
    found: dict[str, list[str]] = {}
    for piece, digest in zip(
        pieces, text_of_each(spark, pieces, lambda piece: _digest_of(piece, reading)), strict=True
    ):
        found.setdefault(piece.path, []).append(digest)
    return {path: digest_of_pieces(digests) for path, digests in found.items() if "" not in digests}


def _digest_of(piece: Piece, reading: ReadOptions) -> str:
    """Digest of a piece; "" if it cannot be read."""
    digest = RowDigest(piece)
    try:
        for batch in read_piece(piece, reading):
            digest.add(batch)
    except UnreadableFile:
        return ""
    return digest.hexdigest()
