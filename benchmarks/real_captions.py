"""Label real captions of six corpora through Spark.

    python -m benchmarks.real_captions [--data DIR] [--runs 3]

In: captions/ of the folder with real data (CATLIP_DATA). Out: a table of rows per corpus, the vocabulary's size at
V_tau = 1, 5, 50, captions/s, and one JSON object. Six jobs of a few thousand rows each, where the fixed costs of a job
decide; benchmarks/spark_labels.py measures millions of rows, beside a peer.
"""

from __future__ import annotations

import collections
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import tyro

from benchmarks.measuring.setting import DATA
from pipeline.config import Label
from pipeline.run import label_captions
from pipeline.session import spark_session
from vocab import labeler, wordnet
from vocab.errors import run_cli
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


@dataclass(frozen=True)
class RealCaptions:
    """Label real captions of six corpora through Spark."""

    data: Path = DATA
    """folder with captions/"""
    runs: int = 3
    """timed runs; the median counts"""
    master: str = "local[2]"
    """Spark master"""
    head: int = 30
    """most frequent synsets to print for each corpus"""


def corpora(data: Path, out: Path) -> dict[str, Label]:
    """The corpora and how each is stored."""
    folder = data / "captions"

    def label(name: str, file: str, captions: tuple[str, ...], columns: tuple[str, ...] = ()) -> Label:
        return Label((str(folder / file),), str(out / name), caption_columns=captions, columns=columns)

    return {
        "cc3m": label("cc3m", "cc3m_validation.tsv", ("caption",), ("caption", "url")),
        "web": label("web", "img2dataset_test_10000.parquet", ("TEXT",)),
        "coco": label("coco", "coco_val2017_captions.jsonl.gz", ("caption",)),
        "wikipedia": label("wikipedia", "concadia_test.jsonl.gz", ("caption", "description")),
        "government": label("government", "digitalgov_alt_cc0.jsonl", ("alt",)),
        "paragraphs": label("paragraphs", "imageinwords.jsonl.gz", ("caption",)),
    }


def measure(options: RealCaptions) -> dict[str, object]:
    """Run everything; prints as it goes, returns the JSON object."""
    ours: list[float] = []
    with tempfile.TemporaryDirectory() as folder, spark_session(options.master, name="real captions") as spark:
        for run in range(options.runs + 1):  # the first one warms the workers and is not counted
            jobs = corpora(options.data, Path(folder) / f"labels-{run}")
            start = time.perf_counter()
            manifests = {name: label_captions(spark, job) for name, job in jobs.items()}
            ours.append(time.perf_counter() - start)
        rows = sum(manifest.rows for manifest in manifests.values())
        sys.stdout.write(f"{'corpus':<12}{'rows':>8}{'labelled':>10}{'empty':>8}{'rejected':>10}{'labels/row':>12}\n")
        total: collections.Counter[int] = collections.Counter()
        for name, manifest in manifests.items():
            counts = LabelShards.open(jobs[name].out).counts()
            found = collections.Counter(dict(zip(*(column.to_pylist() for column in counts.columns), strict=True)))
            total += found
            sys.stdout.write(
                f"{name:<12}{manifest.rows:>8,}{manifest.labelled:>10,}{manifest.empty:>8,}{manifest.rejected:>10,}"
                f"{sum(found.values()) / manifest.rows:>12.2f}\n"
            )
            sys.stdout.write(f"  {head_of(found, options.head)}\n")
    kept = {f"synsets_at_{tau}": len(vocabulary_at(total, rows, tau)) for tau in (1, 5, 50)}
    return {
        "rows": rows,
        "labelled": sum(m.labelled for m in manifests.values()),
        "empty": sum(m.empty for m in manifests.values()),
        "rejected": sum(m.rejected for m in manifests.values()),
        **kept,
        "captions_per_second": round(rows / statistics.median(ours[1:])),
        "labeler_alone_captions_per_second": round(labeler_alone(options)),
        "master": options.master,
    }


def labeler_alone(options: RealCaptions) -> float:
    """Captions/s of the labeler in one process, without Spark, on the corpus of web alt texts."""
    import pyarrow.parquet as pq

    texts = pq.read_table(options.data / "captions" / "img2dataset_test_10000.parquet")["TEXT"].combine_chunks()
    labeler.load().label(texts)
    seconds = []
    for _ in range(options.runs):
        start = time.perf_counter()
        labeler.load().label(texts)
        seconds.append(time.perf_counter() - start)
    return len(texts) / statistics.median(seconds)


def vocabulary_at(counts: collections.Counter[int], rows: int, min_count: int) -> Vocabulary:
    """The vocabulary of all corpora together at one threshold."""
    table = pa.table({"synset": pa.array(list(counts), pa.int32()), "captions": pa.array(list(counts.values()))})
    return Vocabulary.from_counts(table, rows=rows, min_count=min_count)


def head_of(counts: collections.Counter[int], size: int) -> str:
    """The most frequent synsets, to be read by a person."""
    nouns = wordnet.load()
    return " ".join(f"{nouns.name_of(nouns.row_of(synset))}:{count}" for synset, count in counts.most_common(size))


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(RealCaptions))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run_cli(main)
