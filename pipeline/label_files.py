"""Sorted rows to Parquet files of the label format, each written whole by the task that sorted it.

In: a DataFrame of shard, key and one column more. Out: the files in the directory, as the manifest describes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame

from vocab.errors import InputError
from vocab.store.files import filesystem_of, write_whole
from vocab.store.label_shards import REJECTS, REJECTS_SCHEMA, SCHEMA
from vocab.store.label_writing import ROW_GROUP_ROWS, describe_file
from vocab.store.manifest import LabelFile

DESCRIBED_DDL = "path string, rows bigint, first_shard string, last_shard string, bytes bigint, sha256 string"
DESCRIBED = pa.schema(
    [
        ("path", pa.string()),
        ("rows", pa.int64()),
        ("first_shard", pa.string()),
        ("last_shard", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)


def write_parts(rows: DataFrame, out: str, *, files: int) -> list[LabelFile]:
    """Write shard, key, synsets over about `files` part files, sorted by (shard, key) in the order of their names.

    Raises InputError, through Spark, if a (shard, key) stands twice.
    """
    ordered = rows.select(*SCHEMA.names).repartitionByRange(files, "shard", "key").sortWithinPartitions("shard", "key")
    write = write_partition(out, "part-{:05d}.parquet", SCHEMA, unique=True)
    return described(ordered.mapInArrow(write, DESCRIBED_DDL))


def write_rejects(rows: DataFrame, out: str) -> list[LabelFile]:
    """Write shard, key, reason as one sorted file, which there is even without rows."""
    ordered = rows.select(*REJECTS_SCHEMA.names).repartition(1).sortWithinPartitions("shard", "key", "reason")
    written = described(ordered.mapInArrow(write_partition(out, REJECTS, REJECTS_SCHEMA, unique=False), DESCRIBED_DDL))
    if written:
        return written
    # Spark leaves out the tasks of a stage that has nothing to do.
    with write_whole(f"{out}/{REJECTS}") as file:
        pq.write_table(REJECTS_SCHEMA.empty_table(), file)
    return [describe_file(out, REJECTS)]


def write_staged(rows: DataFrame, folder: str) -> list[str]:
    """Write rows as they come, a file for each partition that has some; the names of those that count.

    A task that is tried again writes a file of another name, and only that one is named.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next((batch for batch in batches if len(batch)), None)
        if first is None:
            return
        context = TaskContext.get()
        name = f"{context.partitionId() if context is not None else 0:05d}-{secrets.token_hex(4)}.parquet"
        with (
            write_whole(f"{folder}/{name}") as file,
            pq.ParquetWriter(file, first.schema, compression="zstd") as writer,
        ):
            for group in row_groups(chain([first], batches), first.schema):
                writer.write_table(group)
        yield pa.RecordBatch.from_pydict({"name": pa.array([name], pa.string())})

    filesystem, path = filesystem_of(folder)
    filesystem.create_dir(path, recursive=True)
    return sorted(rows.mapInArrow(write, "name string").toArrow()["name"].to_pylist())


def described(files: DataFrame) -> list[LabelFile]:
    """The written files, by name."""
    return sorted((LabelFile(**row) for row in files.toArrow().to_pylist()), key=lambda file: file.path)


def write_partition(
    out: str, name: str, schema: pa.Schema, *, unique: bool
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """For `mapInArrow`: a sorted partition in, one row about its file out; nothing of an empty one.

    The name holds the partition's number alone, so that a task that is tried again writes the same file again.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        groups = row_groups(batches, schema)
        first = next(groups, None)
        if first is None:
            return
        context = TaskContext.get()
        path = name.format(context.partitionId() if context is not None else 0)
        with write_whole(f"{out}/{path}") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            previous = first.slice(0, 0)
            while first is not None:
                if unique:
                    refuse_repeated(pa.concat_tables([previous, first]))
                writer.write_table(first, row_group_size=ROW_GROUP_ROWS)
                previous, first = first.slice(len(first) - 1), next(groups, None)
        yield pa.RecordBatch.from_pylist([asdict(describe_file(out, path))], schema=DESCRIBED)

    return write


def row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches put together to tables of about ROW_GROUP_ROWS, none of them empty."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= ROW_GROUP_ROWS:
            yield pa.Table.from_batches(held).cast(schema)
            held = []
    if sum(map(len, held)):
        yield pa.Table.from_batches(held).cast(schema)


def refuse_repeated(rows: pa.Table) -> None:
    """Raise InputError if a (shard, key) of sorted rows equals its predecessor."""
    shards, keys = (rows[name].combine_chunks() for name in ("shard", "key"))
    same = pc.and_(pc.equal(shards[1:], shards[:-1]), pc.equal(keys[1:], keys[:-1]))
    at = pc.index(same, True).as_py()
    if at >= 0:
        raise InputError(
            f"sample {shards[at].as_py()}/{keys[at].as_py()}",
            found="two rows with this (shard, key)",
            wanted="one row for each sample",
            remedy="Repack the tar or its sidecar without the repeated key, or leave them out of --images.",
        )
