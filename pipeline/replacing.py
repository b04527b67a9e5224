"""Rows of input files that changed since, taken out of a finished directory's part files.

In: part files, and the shards whose rows go. Out: the part files that had such rows, written anew without them, and
their counts, to be taken away. The directory's own files stay as they are until its next manifest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from pipeline.counts import Counts
from pipeline.ordering import Rewritten, run_of_file
from pipeline.sorted_files import RunWriter
from pipeline.task import JOB, Job, refuse_ended
from vocab.store.files import filesystem_of
from vocab.store.label_footers import byte_order
from vocab.store.label_shards import check_file
from vocab.store.label_writing import ROW_GROUP_ROWS
from vocab.store.manifest import LabelFile


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
        RunWriter(job.out, "part-kept", job.schema, rows_per_file=2 * job.rows_per_file) as writer,
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
