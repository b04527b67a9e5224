"""Sorted files to files that are sorted over all of them: the merge of an external merge sort.

In: runs, each sorted by itself. Out: runs whose ranges do not overlap, in order. Where the input is one file for each
shard, in the order of its rows, nothing is read again; only runs that overlap are sorted once more, by Spark. Runs that
share a (shard, key) overlap, so rows of one key that different tasks read are joined here.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from pipeline.counts import Counts, Joins
from pipeline.label_reading import parquet_rows
from pipeline.sorted_files import SortedFile, SortedWriter
from pipeline.task import JOB, Job, refuse_ended
from vocab.store.files import filesystem_of
from vocab.store.label_footers import byte_order
from vocab.store.label_shards import check_file
from vocab.store.label_writing import ROW_GROUP_ROWS
from vocab.store.manifest import InputFile, LabelFile

AFTER_ALL_KEYS = "\U0010ffff" * 8


@dataclass(frozen=True)
class Rewritten:
    """Part files in place of others, with corrections of the account and the counts."""

    runs: tuple[SortedFile, ...]
    account: tuple[InputFile, ...] = ()
    """numbers to add, some negative, for each input file whose rows were joined, by its path or its shard"""
    counts: tuple[LabelFile, ...] = ()
    """files of synset, captions inside JOB, to be added"""

    def to_json(self) -> str:
        """Text that comes back from Spark."""
        runs, account, counts = ([asdict(each) for each in some] for some in (self.runs, self.account, self.counts))
        return json.dumps({"runs": runs, "account": account, "counts": counts})

    @classmethod
    def together(cls, texts: Sequence[str]) -> Rewritten:
        """All that `to_json` gave, as one."""
        parts = [json.loads(text) for text in texts]
        return cls(
            tuple(SortedFile.from_json(run) for part in parts for run in part["runs"]),
            tuple(InputFile(**file) for part in parts for file in part["account"]),
            tuple(LabelFile(**file) for part in parts for file in part["counts"]),
        )


def in_order(runs: Sequence[SortedFile]) -> list[list[SortedFile]]:
    """Runs in groups: those of one group overlap, each group comes before the next."""
    groups: list[list[SortedFile]] = []
    end: tuple[bytes, bytes] | None = None
    for run in sorted(runs, key=lambda run: (_bytes(run.first), _bytes(run.last))):
        if end is not None and _bytes(run.first) <= end:
            groups[-1].append(run)
            end = max(end, _bytes(run.last))
        else:
            groups.append([run])
            end = _bytes(run.last)
    return groups


def run_of_file(file: LabelFile) -> SortedFile:
    """A part file of a finished directory, of which only the shards are known."""
    return SortedFile(file, (file.first_shard or "", ""), (file.last_shard or "", AFTER_ALL_KEYS))


def merged(spark: SparkSession, group: Sequence[SortedFile], job: Job) -> Rewritten:
    """One group as runs that do not overlap.

    A worker that outlives the job leaves no file. Raises InputError for a (shard, key) that stands in two of them,
    unless such rows are to be joined, and FormatError for a file that was altered.
    """
    if len(group) == 1:
        return Rewritten(tuple(group))
    check_files(spark, [run.file for run in group], job.out)
    rows = sum(run.file.rows for run in group)
    files = max(1, math.ceil(rows / job.rows_per_file))
    columns = ", ".join(f"{name} {'array<int>' if name == 'synsets' else 'string'}" for name in job.schema.names)
    frame = parquet_rows(spark, job.out, [run.file.path for run in group], columns)
    ordered = frame.repartitionByRange(files, "shard", "key").sortWithinPartitions("shard", "key")

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        text = write_sorted(batches, job).to_json()
        yield pa.RecordBatch.from_arrays([pa.array([text], pa.string())], names=["written"])

    texts = [row["written"] for row in ordered.mapInArrow(write, "written string").collect()]
    written = Rewritten.together(texts)
    return replace(written, runs=tuple(run for part in in_order(written.runs) for run in part))


def write_sorted(batches: Iterator[pa.RecordBatch], job: Job) -> Rewritten:
    """Write sorted rows, those of one (shard, key) joined if the job joins them."""
    joins = Joins(Counts()) if job.same_key == "union" else None
    rows_per_file = 2 * job.rows_per_file
    with SortedWriter(job.out, "part-sorted", job.schema, rows_per_file=rows_per_file, joins=joins) as writer:
        for batch in batches:
            writer.add(pa.Table.from_batches([batch]))
        runs = tuple(writer.close())
        if joins is None:
            written = Rewritten(runs)
        else:
            counts = joins.counts.write(f"{job.out}/{JOB}", "counts-joined")
            written = Rewritten(runs, joins.account({}), (counts,))
        refuse_ended(job.out, job.plan)
    return written


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


def without_shards(spark: SparkSession, files: Sequence[LabelFile], shards: Collection[str], job: Job) -> Rewritten:
    """Part files without the rows of some shards. Raises FormatError for a file that was altered."""
    order = sorted(map(byte_order, shards))
    touched = [file for file in files if _can_hold(file, order)]
    kept = tuple(run_of_file(file) for file in files if file not in touched)
    if not touched:
        return Rewritten(kept)

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = [strip(touched[number], shards, job).to_json() for number in batch.column(0).to_pylist()]
            yield pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], names=["written"])

    rows = spark.range(0, len(touched), 1, len(touched)).mapInArrow(write, "written string").collect()
    written = Rewritten.together([row["written"] for row in rows])
    return Rewritten(kept + written.runs, counts=written.counts)


def strip(file: LabelFile, shards: Collection[str], job: Job) -> Rewritten:
    """Write one part file without the rows of some shards, a row group at a time."""
    filesystem, root = filesystem_of(job.out)
    check_file(filesystem, root, file)
    gone, names = Counts(), pa.array(sorted(shards), pa.string())
    with (
        filesystem.open_input_file(f"{root}/{file.path}") as stream,
        SortedWriter(job.out, "part-kept", job.schema, rows_per_file=2 * job.rows_per_file) as writer,
    ):
        for batch in pq.ParquetFile(stream).iter_batches(ROW_GROUP_ROWS):
            goes = pc.is_in(batch["shard"], value_set=names)
            gone.add(batch.filter(goes)["synsets"], times=-1)
            writer.add(pa.Table.from_batches([batch.filter(pc.invert(goes))]))
        runs = tuple(writer.close())
        counts = gone.write(f"{job.out}/{JOB}", "counts-gone")
        refuse_ended(job.out, job.plan)
    return Rewritten(runs, counts=(counts,))


def _can_hold(file: LabelFile, order: Sequence[bytes]) -> bool:
    if file.first_shard is None or file.last_shard is None:
        return False
    at = bisect_left(order, byte_order(file.first_shard))
    return at < len(order) and order[at] <= byte_order(file.last_shard)
