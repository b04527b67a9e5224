"""Sorted files to files that are sorted over all of them: the merge of an external merge sort.

In: runs, each sorted by itself. Out: runs whose ranges do not overlap, in order. Where the input is one file for each
shard, in the order of its rows, nothing is read again; only runs that overlap are sorted once more, by Spark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import SparkSession

from pipeline.label_reading import parquet_rows
from pipeline.runs import Run, RunWriter
from pipeline.task import refuse_ended
from vocab.label_shards import SCHEMA, check_file
from vocab.manifest import LabelFile
from vocab.storage import filesystem_of

AFTER_ALL_KEYS = "\U0010ffff" * 8


def in_order(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs in groups: those of one group overlap, each group comes before the next."""
    groups: list[list[Run]] = []
    end: tuple[bytes, bytes] | None = None
    for run in sorted(runs, key=lambda run: (_bytes(run.first), _bytes(run.last))):
        if end is not None and _bytes(run.first) <= end:
            groups[-1].append(run)
            end = max(end, _bytes(run.last))
        else:
            groups.append([run])
            end = _bytes(run.last)
    return groups


def run_of_file(file: LabelFile) -> Run:
    """A part file of a finished directory, of which only the shards are known."""
    return Run(file, (file.first_shard or "", ""), (file.last_shard or "", AFTER_ALL_KEYS))


def merged(spark: SparkSession, group: Sequence[Run], out: str, *, plan: str, rows_per_file: int) -> list[Run]:
    """One group as runs that do not overlap.

    `plan`: id of the job's plan; a worker that outlives the job leaves no file. Raises InputError for a (shard, key)
    that stands in two of them, FormatError for a file that was altered.
    """
    if len(group) == 1:
        return list(group)
    check_files(spark, [run.file for run in group], out)
    rows = sum(run.file.rows for run in group)
    files = max(1, math.ceil(rows / rows_per_file))
    frame = parquet_rows(spark, out, [run.file.path for run in group], "shard string, key string, synsets array<int>")
    ordered = frame.repartitionByRange(files, "shard", "key").sortWithinPartitions("shard", "key")

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with RunWriter(out, "part-sorted", SCHEMA, rows_per_file=2 * rows_per_file) as writer:
            for batch in batches:
                writer.add(pa.Table.from_batches([batch]))
            texts = [json.dumps(run.to_json()) for run in writer.close()]
            refuse_ended(out, plan)
        yield pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], names=["run"])

    found = [Run.from_json(json.loads(row["run"])) for row in ordered.mapInArrow(write, "run string").collect()]
    return [run for part in in_order(found) for run in part]


def check_files(spark: SparkSession, files: Sequence[LabelFile], out: str) -> None:
    """Compare files with their checksums, on the executors. Raises FormatError, through Spark, for one that differs."""
    described = tuple(files)

    def check(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        filesystem, root = filesystem_of(out)
        for batch in batches:
            for number in batch.column(0).to_pylist():
                check_file(filesystem, root, described[number])
            yield batch

    spark.range(0, len(described), 1, len(described)).mapInArrow(check, "id bigint").collect()


def _bytes(place: tuple[str, str]) -> tuple[bytes, bytes]:
    return place[0].encode(), place[1].encode()
