"""The join of images and labels by id, a shuffle join on Spark.

The rows of `pipeline.align.image_ids`, none lost and none doubled, get

    synsets array<int>    synsets of the id; null exactly if there is a reason
    reason string         the row's own reason, or that of the id's reject, or no_label
    copies bigint         rows of the labels that have the id; 0 if there is no label
    differ boolean        true if these rows have different synsets
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.label_reading import parquet_rows
from pipeline.reject_reasons import NO_LABEL
from vocab.errors import MismatchError
from vocab.store.files import filesystem_of, write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import ROW_GROUP_ROWS


def join_by_id(samples: DataFrame, by_id: DataFrame) -> DataFrame:
    """Join each sample with the labels of its id. An id of several samples labels each of them."""
    # Spark would send all nulls to one task. A row with a reason keeps it, whatever its stand-in happens to match.
    stand_in = F.concat(F.lit("\0"), "shard", F.lit("\0"), "key")
    joined = samples.withColumn("asked", F.coalesce("id", stand_in)).join(
        by_id, F.col("asked") == F.col("labelled_id"), "left"
    )
    own = F.col("id").isNull()
    matched = ~own & F.coalesce(F.col("rows_of_id") > 0, F.lit(False))
    reason = F.when(own, F.col("reason")).when(~matched, F.coalesce("rejected", F.lit(NO_LABEL)))
    return joined.select(
        "input",
        "shard",
        "key",
        "id",
        F.when(matched, F.col("synsets")).alias("synsets"),
        reason.alias("reason"),
        F.when(matched, F.col("rows_of_id")).otherwise(0).alias("copies"),
        (matched & (F.col("synsets") != F.col("greatest"))).alias("differ"),
        "total",
    )


def labels_by_id(spark: SparkSession, labels: LabelShards, *, of_files: bool = False) -> DataFrame:
    """One row for each id: labelled_id, synsets, greatest, rows_of_id, rejected (a reason).

    `greatest` differs from `synsets` if the id's rows differ. A label row counts more than a reject of the same id,
    which is another caption. In labels made with --same-key union, ids repeat by intent: rows of an id in several
    shards are joined too. `of_files`: the labels' keys may be names of image files; to meet keys of tars, they end at
    the first dot of the name.
    """
    joins = labels.manifest.config.get("same_key") == "union"
    union = F.array_sort(F.array_distinct(F.flatten(F.collect_list("synsets"))))
    parts = [file.path for file in labels.manifest.parts]
    rows = parquet_rows(spark, labels.location, parts, "key string, synsets array<int>")
    rejects = parquet_rows(spark, labels.location, [labels.rejects_name], "key string, reason string")
    every = rows.select("key", "synsets", F.lit(None).cast("string").alias("reason")).unionByName(
        rejects.select("key", F.lit(None).cast("array<int>").alias("synsets"), "reason")
    )
    key = F.regexp_replace("key", r"(^|/)([^/.]+)\.[^/]*$", "$1$2") if of_files else F.col("key")
    return every.groupBy(key.alias("labelled_id")).agg(
        (union if joins else F.min("synsets")).alias("synsets"),
        (union if joins else F.max("synsets")).alias("greatest"),
        F.count("synsets").alias("rows_of_id"),
        F.min("reason").alias("rejected"),
    )


def refuse_contradictions(joined: DataFrame, labels: str) -> None:
    """Raise MismatchError for an id of a sample that has label rows with different synsets.

    Equal rows are one label written twice, and one is taken. Among different ones, none is more right than another, and
    their union would be the label of no caption. Ids without a sample do no harm.
    """
    wrong = joined.where("differ").agg(F.countDistinct("id").alias("ids"), F.min("id").alias("first")).collect()[0]
    if wrong["ids"]:
        raise MismatchError(
            f"id {wrong['first']!r}",
            found=f"rows with different synsets in {labels} (so have {wrong['ids']:,} ids in all)",
            wanted="one row for each id, or equal ones",
            remedy="Label the captions with a --key-column that is unique over all files, or leave repeated rows out.",
        )


def write_staged(rows: DataFrame, folder: str) -> list[str]:
    """Write rows as they come, a file for each partition that has rows; return the names of the files.

    A task that is run again writes a file of another name, and only that file is returned.
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


def row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Join batches into tables of about ROW_GROUP_ROWS rows, none of them empty."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= ROW_GROUP_ROWS:
            yield pa.Table.from_batches(held).cast(schema)
            held = []
    if sum(map(len, held)):
        yield pa.Table.from_batches(held).cast(schema)
