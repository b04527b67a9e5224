"""A finished label directory as Spark DataFrames.

In: an open label directory. Out: its rows and its rejects, in the columns asked for.
"""

from __future__ import annotations

import re

from pyspark.sql import DataFrame, SparkSession

from vocab.label_shards import LabelShards


def label_rows(spark: SparkSession, labels: LabelShards, columns: str) -> DataFrame:
    """The rows of the part files. `columns`: as in "shard string, key string, synsets array<int>"."""
    parts = [file.path for file in labels.manifest.files if file.path.startswith("part-")]
    if not parts:
        return spark.createDataFrame([], columns)
    return spark.read.schema(columns).parquet(*(f"{escaped_glob(labels.place)}/{part}" for part in parts))


def reject_rows(spark: SparkSession, labels: LabelShards) -> DataFrame:
    """shard, key, reason."""
    columns = "shard string, key string, reason string"
    return spark.read.schema(columns).parquet(f"{escaped_glob(labels.place)}/{labels.rejects_name}")


def escaped_glob(path: str) -> str:
    """A path that Spark, which takes paths for globs, reads as it stands."""
    return re.sub(r"([{}\[\]*?\\])", r"\\\1", path)
