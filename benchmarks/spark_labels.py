"""The labelling job over millions of rows, beside Spark copying the same rows unchanged.

    python -m benchmarks.spark_labels [--rows 10000000] [--runs 1] [--data DIR] [--folder DIR]

In: captions/ of the folder with real data (CATLIP_DATA), and captions of the drawn sample. They are repeated until
there are enough, each time with two other words after them, so that no two rows are alike; written as Parquet files of
100,000 rows with a key and a caption. Out: as it goes, rows/s; last, one JSON object.

What is timed is `label_captions` in a session that has labelled before: listing, planning, reading, labelling, writing
label shards, counts, rejects and manifest. The peer, in the same session: Spark reads key and caption, passes the
caption through Python unchanged (`arrow_udf`), and writes both as Parquet. `growth_10x` compares a tenth of the rows.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import arrow_udf

from benchmarks.labelling.sources import read_sources
from benchmarks.measuring.setting import DATA
from pipeline.config import Label, Prune, SampleConfig
from pipeline.prune import prune
from pipeline.run import label_captions
from pipeline.session import spark_session
from vocab import wordnet
from vocab.errors import run_cli

FILE_ROWS = 100_000
CORES = 2
MIN_COUNT = 500


@dataclass(frozen=True)
class SparkLabels:
    """The labelling job over millions of rows, beside Spark copying the same rows unchanged."""

    rows: int = 10_000_000
    """rows of the large run; the small one has a tenth"""
    runs: int = 1
    """timed runs of the job and of the peer in turn; the median counts"""
    sample: int = 20_000
    """captions of the drawn sample among those that are repeated"""
    data: Path = DATA
    """folder with captions/"""
    folder: Path | None = None
    """where to write, some GB; default: a temporary folder"""


def texts_of(options: SparkLabels, folder: Path) -> pa.StringArray:
    """Real captions of six corpora, then the sample's."""
    from pipeline.sample.draw import draw_sample

    texts = [text for source in read_sources(options.data).values() for text in source]
    draw_sample(SampleConfig(out=folder / "sample", samples=options.sample, mode="captions"))
    drawn = (
        pq.ParquetDataset([str(p) for p in sorted((folder / "sample").glob("*.parquet"))])
        .read(columns=["caption"])
        .column("caption")
        .drop_null()
        .to_pylist()
    )
    return pa.array(texts + drawn, pa.string())


def write_rows(texts: pa.StringArray, rows: int, folder: Path) -> None:
    """Parquet files of key and caption. The words after a caption are nouns of WordNet, another pair each time."""
    folder.mkdir(parents=True)
    words = pc.replace_substring(wordnet.load().lemmas, "_", " ")
    words = words.filter(pc.match_substring_regex(words, "^[a-z]{4,9}$"))
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        row = pa.array(range(start, min(start + FILE_ROWS, rows)), pa.int64())
        again = pc.divide(row, len(texts))
        text = texts.take(pc.subtract(row, pc.multiply(again, len(texts))))
        first = words.take(pc.subtract(again, pc.multiply(pc.divide(again, len(words)), len(words))))
        second = words.take(pc.subtract(row, pc.multiply(pc.divide(row, len(words)), len(words))))
        caption = pc.binary_join_element_wise(text, first, second, " ")
        key = pc.utf8_lpad(row.cast(pa.string()), 12, "0")
        pq.write_table(pa.table({"uid": key, "caption": caption}), folder / f"{number:05d}.parquet")


def copy_unchanged(spark: SparkSession, source: Path, out: Path) -> None:
    """The peer."""

    @arrow_udf("string")  # type: ignore[call-overload, untyped-decorator, unused-ignore]
    def same(batch: pa.Array) -> pa.Array:
        return batch

    frame = spark.read.parquet(str(source))
    frame.select("uid", same("caption").alias("caption")).write.parquet(str(out))


def seconds(work: Callable[[], object]) -> float:
    """Time the work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(options: SparkLabels, folder: Path) -> dict[str, object]:
    """Write the rows, run everything; prints as it goes, returns the JSON object."""
    texts = texts_of(options, folder)
    small, large = folder / "small", folder / "large"
    write_rows(texts, options.rows, large)
    write_rows(texts, options.rows // 10, small)
    sys.stdout.write(f"{options.rows:,} rows made of {len(texts):,} captions, real and drawn\n")
    log = folder / "log.jsonl"

    def label(spark: SparkSession, source: Path, name: str) -> None:
        shutil.rmtree(folder / name, ignore_errors=True)
        label_captions(spark, Label((str(source),), str(folder / name), key_column="uid", log=log))

    def copy(spark: SparkSession, source: Path) -> None:
        shutil.rmtree(folder / "copy", ignore_errors=True)
        copy_unchanged(spark, source, folder / "copy")

    ours, tenths, peers = [], [], []
    with spark_session(f"local[{CORES}]", name="spark labels") as spark:
        label(spark, small, "labels-small")
        copy(spark, small)
        for _ in range(options.runs):
            ours.append(seconds(lambda: label(spark, large, "labels")))
            peers.append(seconds(lambda: copy(spark, large)))
            tenths.append(seconds(lambda: label(spark, small, "labels-small")))
            sys.stdout.write(f"labels {ours[-1]:.1f} s, copy {peers[-1]:.1f} s, a tenth {tenths[-1]:.1f} s\n")
    pruning = seconds(lambda: prune(Prune((str(folder / "labels"),), folder / "v.parquet", min_count=MIN_COUNT)))
    events = [json.loads(line) for line in log.read_text().splitlines()]
    took = statistics.median(ours)
    return {
        "captions_per_second_per_core": round(options.rows / took / CORES),
        "ratio_to_identity": round(statistics.median(peer / own for peer, own in zip(peers, ours, strict=True)), 3),
        "growth_10x": round(took / statistics.median(tenths), 2),
        "worker_peak_mb": max(event["peak_mb"] for event in events if event["event"] == "task"),
        "prune_seconds": round(pruning, 2),
        "rows": options.rows,
        "seconds": round(took, 1),
        "identity_seconds": round(statistics.median(peers), 1),
        "runs": options.runs,
        "machine_cores": os.cpu_count(),
    }


def main() -> None:
    """Measure and print."""
    options = tyro.cli(SparkLabels)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sys.stdout.write(json.dumps(measure(options, Path(folder))) + "\n")


if __name__ == "__main__":
    run_cli(main)
