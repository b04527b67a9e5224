"""Labelled rows to the files of a label directory.

In: a DataFrame of input, shard, key, synsets, reason. Out: part-*.parquet, counts.parquet and rejects.parquet in the
output directory, each described for the manifest by reading it back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from vocab.errors import CatlipError, FormatError, InputError
from vocab.label_shards import (
    REJECTS,
    REJECTS_SCHEMA,
    ROW_GROUP_ROWS,
    describe_file,
    write_counts,
)
from vocab.manifest import LabelFile
from vocab.storage import filesystem_of, write_whole

STAGING = "_staging"
REJECTS_STAGING = "_rejects"
PARQUET_OPTIONS = {
    "compression": "zstd",
    # Both limits keep row groups small, so that a reader fetches one tar's rows without the rest (FORMAT.md).
    "parquet.block.row.count.limit": str(ROW_GROUP_ROWS),
    "parquet.block.size": str(16 << 20),
}
DESCRIBED_DDL = (
    "path string, rows bigint, first_shard string, last_shard string, bytes bigint, sha256 string, twice string"
)


def stage(labelled: DataFrame, out: str) -> DataFrame:
    """Write the labelled rows as they come, so that captions are labelled once, and read them back."""
    place = f"{out}/{STAGING}"
    labelled.write.options(**PARQUET_OPTIONS).parquet(place)
    return labelled.sparkSession.read.schema(labelled.schema).parquet(place)


def write_parts(rows: DataFrame, out: str, *, total: int, rows_per_file: int) -> None:
    """Write shard, key, synsets sorted by (shard, key), over files in the order of their names."""
    files = max(1, math.ceil(total / rows_per_file))
    ordered = (
        rows.where("reason is null")
        .select("shard", "key", "synsets")
        .repartitionByRange(files, "shard", "key")
        .sortWithinPartitions("shard", "key")
    )
    ordered.write.options(**PARQUET_OPTIONS).mode("append").parquet(out)


def write_rejects(rows: DataFrame, out: str) -> None:
    """Write rejects.parquet, sorted by (shard, key)."""
    filesystem, root = filesystem_of(out)
    rejected = rows.where("reason is not null").select("shard", "key", "reason")
    rejected.coalesce(1).sortWithinPartitions("shard", "key", "reason").write.options(**PARQUET_OPTIONS).parquet(
        f"{out}/{REJECTS_STAGING}"
    )
    written = [name for name in _names(filesystem, f"{root}/{REJECTS_STAGING}") if name.endswith(".parquet")]
    if written:
        filesystem.move(f"{root}/{REJECTS_STAGING}/{written[0]}", f"{root}/{REJECTS}")
    else:
        with write_whole(f"{out}/{REJECTS}") as file:
            pq.write_table(REJECTS_SCHEMA.empty_table(), file)


def count_captions(rows: DataFrame) -> DataFrame:
    """synset: int, captions: bigint. Synsets of a row are unique, so each row counts once for each."""
    return rows.select(F.explode("synsets").alias("synset")).groupBy("synset").agg(F.count("*").alias("captions"))


def write_count_table(rows: DataFrame, out: str) -> None:
    """Write counts.parquet; at most one row for each of WordNet's 82,115 nouns comes to the driver."""
    write_counts(out, pa.table(count_captions(rows).toArrow()))


def describe_files(spark: SparkSession, out: str) -> tuple[LabelFile, ...]:
    """Size, rows, shards and checksum of every data file, read back on the executors, a task for each file.

    Raises InputError if a (shard, key) stands twice.
    """
    filesystem, root = filesystem_of(out)
    names = sorted(name for name in _names(filesystem, root) if name.endswith(".parquet"))

    def describe(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [
                asdict(describe_file(out, name)) | {"twice": first_duplicate(out, name)}
                for name in batch.column("path").to_pylist()
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=_described_schema())

    paths = spark.createDataFrame([(name,) for name in names], "path string").repartition(len(names), "path")
    described = sorted(
        paths.mapInArrow(describe, DESCRIBED_DDL).toArrow().to_pylist(), key=lambda row: str(row["path"])
    )
    for row in described:
        if twice := row.pop("twice"):
            raise InputError(
                f"sample {twice}",
                found="two rows with this (shard, key)",
                wanted="one row for each sample",
                remedy="Name a --key-column that is unique in each shard, or list no input twice.",
            )
    return tuple(LabelFile(**row) for row in described)


def first_duplicate(out: str, name: str) -> str | None:
    """The first (shard, key) of a sorted part file that equals its predecessor; None for the other files."""
    if not name.startswith("part-"):
        return None
    filesystem, path = filesystem_of(f"{out}/{name}")
    previous: tuple[str, str] | None = None
    with filesystem.open_input_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=["shard", "key"]):
            if len(batch) == 0:
                continue
            same = pc.and_(*(pc.equal(column[1:], column[:-1]) for column in batch.columns))
            at = pc.index(same, True).as_py()
            if at >= 0:
                return "/".join(column[at].as_py() for column in batch.columns)
            first, last = (tuple(column[row].as_py() for column in batch.columns) for row in (0, len(batch) - 1))
            if first == previous:
                return "/".join(first)
            previous = last[0], last[1]
    return None


def remove_staging(out: str) -> None:
    """Remove what is not part of the format."""
    filesystem, root = filesystem_of(out)
    for name in (STAGING, REJECTS_STAGING):
        if filesystem.get_file_info(f"{root}/{name}").type == pafs.FileType.Directory:
            filesystem.delete_dir(f"{root}/{name}")
    # Hadoop's local file system writes a checksum file beside every file, hidden by its dot.
    for info in filesystem.get_file_info(pafs.FileSelector(root)):
        if info.base_name.startswith(".") and info.base_name.endswith(".crc"):
            filesystem.delete_file(info.path)


@contextmanager
def removed_on_failure(out: str) -> Iterator[None]:
    """Remove what was written if the block fails by an error of ours, so that the corrected command finds room.

    The directory was empty when the job began, so all of it is the job's.
    """
    try:
        yield
    except CatlipError:
        filesystem, root = filesystem_of(out)
        if filesystem.get_file_info(root).type == pafs.FileType.Directory:
            filesystem.delete_dir(root)
        raise


def check_written(files: tuple[LabelFile, ...], *, written: int, rejected: int, out: str) -> None:
    """Raise FormatError unless the files hold every row that was labelled or rejected."""
    parts = sum(file.rows for file in files if file.path.startswith("part-"))
    rejects = sum(file.rows for file in files if file.path == REJECTS)
    if (parts, rejects) != (written, rejected):
        raise FormatError(
            out,
            found=f"{parts:,} label rows and {rejects:,} rejects in the files",
            wanted=f"{written:,} and {rejected:,}",
            remedy="Rows were lost or written twice; remove the directory and run again, and please report it.",
        )


def _described_schema() -> pa.Schema:
    text, number = pa.string(), pa.int64()
    kinds = [text, number, text, text, number, text, text]
    return pa.schema(list(zip([part.split()[0] for part in DESCRIBED_DDL.split(", ")], kinds, strict=True)))


def _names(filesystem: pafs.FileSystem, root: str) -> list[str]:
    selector = pafs.FileSelector(root, allow_not_found=True)
    return [info.base_name for info in filesystem.get_file_info(selector) if info.type == pafs.FileType.File]
