"""Files of a label directory as Spark DataFrames.

Arrow reads them, a task for each file: it opens object stores for which Spark would need further Java libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.planning import rows_of_each
from vocab.errors import FormatError
from vocab.store.files import DAMAGED, absolute, open_file
from vocab.store.label_shards import LabelShards

BATCH_ROWS = 32_768


def parquet_rows(spark: SparkSession, folder: str, names: Sequence[str], columns: str) -> DataFrame:
    """The rows of Parquet files in a folder. `columns`: as in "shard string, key string, synsets array<int>"."""
    wanted, folder = [column.split()[0] for column in columns.split(", ")], absolute(folder)
    return rows_of_each(spark, names, lambda name: batches_of(folder, name, wanted), columns)


def shard_sizes(spark: SparkSession, labels: LabelShards) -> DataFrame:
    """shard, rows: the number of label rows of each shard."""
    parts = [file.path for file in labels.manifest.parts]
    location, columns = absolute(labels.location), "shard string, rows bigint"

    def sizes(name: str) -> Iterator[pa.RecordBatch]:
        # The rows are sorted by shard: a batch holds few shards.
        for batch in batches_of(location, name, ["shard"]):
            yield pa.RecordBatch.from_arrays(batch["shard"].value_counts().flatten(), names=["shard", "rows"])

    return rows_of_each(spark, parts, sizes, columns).groupBy("shard").agg(F.sum("rows").alias("rows"))


def batches_of(folder: str, name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of one file, a batch at a time. Raises FormatError for a file that cannot be read."""
    try:
        with open_file(f"{folder}/{name}") as stream:
            for batch in pq.ParquetFile(stream).iter_batches(BATCH_ROWS, columns=columns):
                yield batch.select(columns)
    except DAMAGED as error:
        raise FormatError(
            f"{folder}/{name}",
            found=f"a file that cannot be read ({error})",
            wanted="the Parquet file that was written there",
            remedy="Copy the directory again, or make the labels again.",
        ) from error
