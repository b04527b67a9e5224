"""Rows in any order to Parquet files that are each sorted: the runs of an external merge sort.

In: tables of shard, key and whatever else, some at a time. Out: files of at most `rows_per_file` rows, each sorted by
(shard, key), complete under its name or not there, with its checksum taken as it was written.

Rows that come in order, as they do from one file for each shard, make one file after another, and no sort is needed
after all. Others make several runs, whose ranges overlap; `ordering` finds them.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.counts import ORDER, Joins, repeats
from vocab.errors import InputError
from vocab.store.files import filesystem_of, write_whole
from vocab.store.label_writing import ROW_GROUP_ROWS
from vocab.store.manifest import LabelFile

BUFFER_ROWS = 400_000
"""rows that are held to be sorted together"""

Place = tuple[str, str]
"""shard and key"""


@dataclass(frozen=True)
class SortedFile:
    """One sorted file, and the places it begins and ends with."""

    file: LabelFile
    first: Place
    last: Place

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"file": asdict(self.file), "first": list(self.first), "last": list(self.last)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SortedFile:
        """The inverse of `to_json`."""
        return cls(LabelFile(**content["file"]), tuple(content["first"]), tuple(content["last"]))


class SortedWriter:
    """Writes runs. A context: an error inside leaves none of its files."""

    def __init__(
        self,
        out: str,
        prefix: str,
        schema: pa.Schema,
        *,
        rows_per_file: int,
        unique: bool = True,
        joins: Joins | None = None,
    ) -> None:
        """`prefix`: what the files' names begin with; `unique`: whether a (shard, key) twice is an error.

        `joins`: joins the rows of one (shard, key), as far as they stand in one file.
        """
        self._out, self._prefix, self._schema = out, prefix, schema
        self._rows_per_file, self._unique, self._joins = rows_per_file, unique, joins
        self._held: list[pa.Table] = []
        self._runs: list[SortedFile] = []
        self._open: _OpenFile | None = None

    def __enter__(self) -> SortedWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            return
        if self._open is not None:
            self._open.abandon()
        filesystem, root = filesystem_of(self._out)
        for run in self._runs:
            # The error inside is the one to be told.
            with suppress(OSError):
                filesystem.delete_file(f"{root}/{run.file.path}")

    def add(self, rows: pa.Table) -> None:
        """Take rows. Raises InputError for a (shard, key) that stands twice."""
        self._held.append(rows.select(self._schema.names).cast(self._schema))
        if sum(map(len, self._held)) >= BUFFER_ROWS:
            self._flush()

    def close(self) -> list[SortedFile]:
        """Write what is left; the runs."""
        self._flush(last=True)
        self._end_run()
        return self._runs

    def _flush(self, *, last: bool = False) -> None:
        rows = pa.concat_tables([self._schema.empty_table(), *self._held]).combine_chunks()
        self._held = []
        if not len(rows):
            return
        if not is_sorted(rows):
            rows = rows.sort_by(ORDER)
        if self._joins is not None:
            rows = self._joins.join(rows)
            if not last:
                # The next rows may be of the same key.
                self._held, rows = [rows.slice(len(rows) - 1)], rows.slice(0, len(rows) - 1)
                if not len(rows):
                    return
        elif self._unique:
            refuse_twice(rows)
        first = place(rows, 0)
        if self._open is not None:
            if self._unique and self._joins is None and first == self._open.last:
                raise _twice(first)
            # Written rows are joined no more: a row of the last key begins another file, which the merge joins to this.
            if _order(first) < _order(self._open.last) or (self._joins is not None and first == self._open.last):
                self._end_run()
        while len(rows):
            if self._open is None:
                name = f"{self._prefix}-{len(self._runs):03d}-{secrets.token_hex(4)}.parquet"
                self._open = _OpenFile(self._out, name, self._schema, place(rows, 0))
            room = self._rows_per_file - self._open.rows
            self._open.write(rows.slice(0, room))
            rows = rows.slice(room)
            if self._open.rows >= self._rows_per_file:
                self._end_run()

    def _end_run(self) -> None:
        if self._open is not None:
            self._runs.append(self._open.finish())
            self._open = None


class _OpenFile:
    """A file that is being written."""

    def __init__(self, out: str, name: str, schema: pa.Schema, first: Place) -> None:
        self.rows, self.first, self.last = 0, first, first
        self._name = name
        self._stack = ExitStack()
        self._file = Hashing(self._stack.enter_context(write_whole(f"{out}/{name}")))
        self._writer = pq.ParquetWriter(pa.PythonFile(self._file, mode="w"), schema, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self.rows += len(rows)
        self.last = place(rows, len(rows) - 1)

    def finish(self) -> SortedFile:
        self._writer.close()
        self._stack.close()
        file = LabelFile(
            path=self._name, rows=self.rows, first_shard=self.first[0], last_shard=self.last[0],
            bytes=self._file.size, sha256=self._file.digest.hexdigest(),
        )  # fmt: skip
        return SortedFile(file, self.first, self.last)

    def abandon(self) -> None:
        # Leaving the context with an error removes the file; it raises that error again, or one of a full disk.
        with suppress(OSError):
            self._stack.__exit__(InterruptedError, InterruptedError("abandoned"), None)


class Hashing(io.RawIOBase):
    """A stream that takes the checksum of what is written through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.digest.update(content)
        self.size += len(content)
        self._stream.write(content)
        return len(content)

    def tell(self) -> int:
        return self.size


def place(rows: pa.Table, row: int) -> Place:
    """Shard and key of a row."""
    return rows["shard"][row].as_py(), rows["key"][row].as_py()


def _order(place: Place) -> tuple[bytes, bytes]:
    # Parquet and Spark order strings by their bytes.
    return place[0].encode(), place[1].encode()


def is_sorted(rows: pa.Table) -> bool:
    """Whether no row comes before the one above it."""
    shard, key = (rows[name].combine_chunks() for name in ("shard", "key"))
    later = pc.greater(shard[1:], shard[:-1])
    same = pc.and_(pc.equal(shard[1:], shard[:-1]), pc.greater_equal(key[1:], key[:-1]))
    return pc.all(pc.or_(later, same)).as_py() is not False


def refuse_twice(rows: pa.Table) -> None:
    """Raise InputError if a (shard, key) of sorted rows equals the one above it."""
    at = pc.index(repeats(rows), True).as_py()
    if at >= 0:
        raise _twice(place(rows, at))


def _twice(place: Place) -> InputError:
    return InputError(
        f"sample {'/'.join(place)}",
        found="two rows with this (shard, key)",
        wanted="one row for each sample",
        remedy="Give --same-key union where rows are several captions of one image: it gets the union of their labels. "
        "Else name a --key-column that is unique in each shard, or list no input twice.",
    )
