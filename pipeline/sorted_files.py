"""Rows in any order to Parquet files sorted by (shard, key), with checksums: an external merge sort.

Rows that come in order, as from one input file per shard, make files that follow one another, and no merge is needed.
Other rows make files whose ranges overlap: `overlapping` groups these, and `sort_on_spark` sorts the rows of a group.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.counts import ORDER, Joins, repeats
from vocab.errors import InputError
from vocab.store.files import filesystem_of, write_whole
from vocab.store.label_writing import ROW_GROUP_ROWS
from vocab.store.manifest import LabelFile

if TYPE_CHECKING:
    # Tasks write sorted files too, and need no Spark.
    from pyspark.sql import DataFrame

BUFFER_ROWS = 400_000
"""rows held in memory and sorted together"""

Name = tuple[str, str]
"""shard and key of a row"""


@dataclass(frozen=True)
class SortedFile:
    """A sorted file, and the names of its first and last row."""

    file: LabelFile
    first: Name
    last: Name

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SortedFile:
        """Make a file of what JSON keeps of its `asdict`."""
        return cls(LabelFile(**content["file"]), tuple(content["first"]), tuple(content["last"]))


class SortedWriter:
    """Writes rows to sorted files. A context manager: an error inside the block leaves none of its files."""

    def __init__(
        self,
        out: str,
        prefix: str,
        schema: pa.Schema,
        *,
        rows_per_file: int,
        remedy: str | None = None,
        joins: Joins | None = None,
    ) -> None:
        """`prefix`: beginning of the files' names.

        `remedy`: advice in the error for a (shard, key) of two rows; without one, such rows are all kept.
        `joins`: joins the rows of a (shard, key), as far as they are in one file; then they are no error.
        """
        self._out, self._prefix, self._schema = out, prefix, schema
        self._rows_per_file, self._remedy, self._joins = rows_per_file, remedy, joins
        self._held: list[pa.Table] = []
        self._files: list[SortedFile] = []
        self._open: _OpenFile | None = None

    def __enter__(self) -> SortedWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            return
        if self._open is not None:
            self._open.abandon()
        filesystem, root = filesystem_of(self._out)
        for written in self._files:
            # The error inside the block is the one to report.
            with suppress(OSError):
                filesystem.delete_file(f"{root}/{written.file.path}")

    def add(self, rows: pa.Table) -> None:
        """Take rows. Raises InputError for a (shard, key) of two rows, unless such rows are joined or kept."""
        self._held.append(rows.select(self._schema.names).cast(self._schema))
        if sum(map(len, self._held)) >= BUFFER_ROWS:
            self._flush()

    def add_all(self, batches: Iterable[pa.RecordBatch]) -> list[SortedFile]:
        """Take all batches, then close. Raises what `add` raises."""
        for batch in batches:
            self.add(pa.Table.from_batches([batch]))
        return self.close()

    def close(self) -> list[SortedFile]:
        """Write the rows that are still held; return the files."""
        self._flush(last=True)
        self._end_file()
        return self._files

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
                # The next rows may have the last row's key.
                self._held, rows = [rows.slice(len(rows) - 1)], rows.slice(0, len(rows) - 1)
                if not len(rows):
                    return
        elif self._remedy is not None:
            refuse_repeats(rows, self._remedy)
        self._begin_after(name_of(rows, 0))
        while len(rows):
            if self._open is None:
                name = f"{self._prefix}-{len(self._files):03d}-{secrets.token_hex(4)}.parquet"
                self._open = _OpenFile(self._out, name, self._schema, name_of(rows, 0))
            room = self._rows_per_file - self._open.rows
            self._open.write(rows.slice(0, room))
            rows = rows.slice(room)
            if self._open.rows >= self._rows_per_file:
                self._end_file()

    def _begin_after(self, first: Name) -> None:
        """End the open file if a row of this name cannot follow its last row."""
        if self._open is None:
            return
        if first == self._open.last:
            if self._joins is not None:
                # Rows already written cannot be joined. In a file of its own, the row meets them in the merge.
                self._end_file()
            elif self._remedy is not None:
                raise _repeated(first, self._remedy)
        elif byte_order_of(first) < byte_order_of(self._open.last):
            self._end_file()

    def _end_file(self) -> None:
        if self._open is not None:
            self._files.append(self._open.finish())
            self._open = None


class _OpenFile:
    """A file that is being written."""

    def __init__(self, out: str, name: str, schema: pa.Schema, first: Name) -> None:
        self.rows, self.first, self.last = 0, first, first
        self._name = name
        self._stack = ExitStack()
        self._file = Hashing(self._stack.enter_context(write_whole(f"{out}/{name}")))
        self._writer = pq.ParquetWriter(pa.PythonFile(self._file, mode="w"), schema, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self.rows += len(rows)
        self.last = name_of(rows, len(rows) - 1)

    def finish(self) -> SortedFile:
        self._writer.close()
        self._stack.close()
        file = LabelFile(
            path=self._name, rows=self.rows, first_shard=self.first[0], last_shard=self.last[0],
            bytes=self._file.size, sha256=self._file.digest.hexdigest(),
        )  # fmt: skip
        return SortedFile(file, self.first, self.last)

    def abandon(self) -> None:
        # A writer left open would write its footer when it is collected, into a file that is closed by then.
        with suppress(OSError):
            self._writer.close()
        # Leaving the context with an error removes the file; it raises that error again, or one of a full disk.
        with suppress(OSError):
            self._stack.__exit__(InterruptedError, InterruptedError("abandoned"), None)


class Hashing(io.RawIOBase):
    """A stream that takes the checksum of the bytes written through it."""

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


def name_of(rows: pa.Table, row: int) -> Name:
    """Shard and key of a row."""
    return rows["shard"][row].as_py(), rows["key"][row].as_py()


def byte_order_of(name: Name) -> tuple[bytes, bytes]:
    """Sort key of a name: Parquet and Spark order strings by their bytes."""
    return name[0].encode(), name[1].encode()


def is_sorted(rows: pa.Table) -> bool:
    """Tell whether each row's (shard, key) equals or follows that of the row above."""
    shard, key = (rows[name].combine_chunks() for name in ("shard", "key"))
    later = pc.greater(shard[1:], shard[:-1])
    same = pc.and_(pc.equal(shard[1:], shard[:-1]), pc.greater_equal(key[1:], key[:-1]))
    return pc.all(pc.or_(later, same)).as_py() is not False


def refuse_repeats(rows: pa.Table, remedy: str) -> None:
    """Raise InputError if two neighbours of the sorted rows have the same (shard, key)."""
    at = pc.index(repeats(rows), True).as_py()
    if at >= 0:
        raise _repeated(name_of(rows, at), remedy)


def _repeated(name: Name, remedy: str) -> InputError:
    return InputError(
        f"sample {'/'.join(name)}",
        found="two rows with this (shard, key)",
        wanted="one row for each sample",
        remedy=remedy,
    )


def overlapping(files: Sequence[SortedFile]) -> list[list[SortedFile]]:
    """Group files whose ranges overlap, or that share a (shard, key); each group ends before the next begins."""
    groups: list[list[SortedFile]] = []
    end: tuple[bytes, bytes] | None = None
    for file in sorted(files, key=lambda file: (byte_order_of(file.first), byte_order_of(file.last))):
        if end is not None and byte_order_of(file.first) <= end:
            groups[-1].append(file)
            end = max(end, byte_order_of(file.last))
        else:
            groups.append([file])
            end = byte_order_of(file.last)
    return groups


def sort_on_spark(
    rows: DataFrame,
    write: Callable[[int, Iterator[pa.RecordBatch]], str],
    *,
    ranges: int,
    order: Sequence[str] = ("shard", "key"),
) -> list[str]:
    """Sort rows on Spark in about so many ranges of (shard, key), and let a task write each.

    `write` takes a range's number and its sorted rows; the texts that it returns come back in the order of the ranges.
    """

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        text = write(0 if context is None else context.partitionId(), batches)
        yield pa.RecordBatch.from_arrays([pa.array([text], pa.string())], names=["written"])

    ordered = rows.repartitionByRange(ranges, "shard", "key").sortWithinPartitions(*order)
    return [row["written"] for row in ordered.mapInArrow(task, "written string").collect()]
