"""Part files of a job in place of others: overlapping ones merged, and rows of changed input files taken out.

Files that overlap no other are left as they are. A finished directory's own files stay until its next manifest is
written.
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
from pipeline.planning import text_of_each
from pipeline.sorted_files import SortedFile, SortedWriter, overlapping, sort_on_spark
from pipeline.task import JOB, REPEATED_KEY_REMEDY, JobSettings, refuse_ended
from vocab.store.files import filesystem_of
from vocab.store.label_shards import byte_order, check_file
from vocab.store.label_writing import ROW_GROUP_ROWS
from vocab.store.manifest import InputFile, LabelFile

AFTER_ALL_KEYS = "\U0010ffff" * 8


@dataclass(frozen=True)
class Rewritten:
    """Part files in place of others, with corrections of the account and the counts."""

    files: tuple[SortedFile, ...]
    account: tuple[InputFile, ...] = ()
    """numbers to add, some negative, for each input file whose rows were joined, by its path or its shard"""
    counts: tuple[LabelFile, ...] = ()
    """files of synset, captions inside JOB, to be added"""

    def to_json(self) -> str:
        """Text that a task sends back through Spark."""
        return json.dumps(asdict(self))

    @classmethod
    def together(cls, texts: Sequence[str]) -> Rewritten:
        """Put the results of several tasks together; the inverse of their `to_json`."""
        parts = [json.loads(text) for text in texts]
        return cls(
            tuple(SortedFile.from_json(file) for part in parts for file in part["files"]),
            tuple(InputFile(**file) for part in parts for file in part["account"]),
            tuple(LabelFile(**file) for part in parts for file in part["counts"]),
        )


def sorted_file_of(file: LabelFile) -> SortedFile:
    """A part file of a finished directory, whose first and last shard are known but not their keys."""
    return SortedFile(file, (file.first_shard or "", ""), (file.last_shard or "", AFTER_ALL_KEYS))


def merged(spark: SparkSession, group: Sequence[SortedFile], job: JobSettings) -> Rewritten:
    """Merge one group of overlapping files.

    A worker that outlives the job leaves no file. Raises InputError for a (shard, key) in two of the files, unless the
    job joins such rows, and FormatError for a file that was altered.
    """
    if len(group) == 1:
        return Rewritten(tuple(group))
    check_files(spark, [each.file for each in group], job.out)
    rows = sum(each.file.rows for each in group)
    columns = ", ".join(f"{name} {'array<int>' if name == 'synsets' else 'string'}" for name in job.schema.names)
    frame = parquet_rows(spark, job.out, [each.file.path for each in group], columns)

    def write(_: int, batches: Iterator[pa.RecordBatch]) -> str:
        return write_sorted(batches, job).to_json()

    written = Rewritten.together(sort_on_spark(frame, write, ranges=max(1, math.ceil(rows / job.rows_per_file))))
    return replace(written, files=tuple(file for part in overlapping(written.files) for file in part))


def write_sorted(batches: Iterator[pa.RecordBatch], job: JobSettings) -> Rewritten:
    """Write sorted rows; rows of one (shard, key) are joined if the job joins them."""
    joins = Joins(Counts()) if job.same_key == "union" else None
    rows_per_file = 2 * job.rows_per_file
    with SortedWriter(
        job.out, "part-sorted", job.schema, rows_per_file=rows_per_file, remedy=REPEATED_KEY_REMEDY, joins=joins
    ) as writer:
        files = tuple(writer.add_all(batches))
        if joins is None:
            written = Rewritten(files)
        else:
            counts = joins.counts.write(f"{job.out}/{JOB}", "counts-joined")
            written = Rewritten(files, joins.account({}), (counts,))
        refuse_ended(job.out, job.plan)
    return written


def check_files(spark: SparkSession, files: Sequence[LabelFile], out: str) -> None:
    """Compare files with their checksums, on the executors. Raises FormatError, through Spark, for one that differs."""

    def check(file: LabelFile) -> str:
        check_file(*filesystem_of(out), file)
        return ""

    text_of_each(spark, files, check)


def without_shards(
    spark: SparkSession, files: Sequence[LabelFile], shards: Collection[str], job: JobSettings
) -> Rewritten:
    """Take the rows of some shards out of part files. Raises FormatError for a file that was altered."""
    order = sorted(map(byte_order, shards))
    touched = [file for file in files if _can_hold(file, order)]
    kept = tuple(sorted_file_of(file) for file in files if file not in touched)
    written = Rewritten.together(text_of_each(spark, touched, lambda file: strip(file, shards, job).to_json()))
    return Rewritten(kept + written.files, counts=written.counts)


def strip(file: LabelFile, shards: Collection[str], job: JobSettings) -> Rewritten:
    """Write one part file without the rows of some shards, a row group at a time."""
    filesystem, root = filesystem_of(job.out)
    check_file(filesystem, root, file)
    gone, names = Counts(), pa.array(sorted(shards), pa.string())
    with (
        filesystem.open_input_file(f"{root}/{file.path}") as stream,
        SortedWriter(
            job.out, "part-kept", job.schema, rows_per_file=2 * job.rows_per_file, remedy=REPEATED_KEY_REMEDY
        ) as writer,
    ):
        for batch in pq.ParquetFile(stream).iter_batches(ROW_GROUP_ROWS):
            goes = pc.is_in(batch["shard"], value_set=names)
            gone.add(batch.filter(goes)["synsets"], times=-1)
            writer.add(pa.Table.from_batches([batch.filter(pc.invert(goes))]))
        files = tuple(writer.close())
        counts = gone.write(f"{job.out}/{JOB}", "counts-gone")
        refuse_ended(job.out, job.plan)
    return Rewritten(files, counts=(counts,))


def _can_hold(file: LabelFile, order: Sequence[bytes]) -> bool:
    if file.first_shard is None or file.last_shard is None:
        return False
    at = bisect_left(order, byte_order(file.first_shard))
    return at < len(order) and order[at] <= byte_order(file.last_shard)
