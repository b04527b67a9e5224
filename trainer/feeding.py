"""Measure the data path alone: how fast images reach a trainer that does nothing with them, and what limits it.

In: a `FeedConfig`. Out: a few lines to read, and a last line that is one JSON object.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from trainer.data.batch import Meter, Skipped
from trainer.data.feed import Feed
from trainer.data.labels import check_vocabulary
from trainer.data.resolution import FixedResolution
from trainer.data.source import Source
from trainer.inputs import check_first_tars, open_source, split_corpora
from trainer.verb_config import FeedConfig
from vocab.errors import InputError
from vocab.pages.text import counted
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

# Most bad samples that are named; all of them are counted.
NAMED = 10


@dataclass(frozen=True)
class Speed:
    """Measured speed of the data path."""

    images: int
    seconds: float
    first_batch_seconds: float
    waited: float
    """time in which no batch was ready, seconds"""
    meter: Meter
    account: dict[str, int]
    skipped: list[Skipped]

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    def cores_for(self, rate: float) -> float:
        """Number of cores that a rate, in images per second, would keep busy."""
        return rate * self.meter.cpu_seconds / max(1, self.meter.images)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the loaders' time, by the work that took it."""
        meter = self.meter
        whole = max(1e-9, meter.busy_seconds + meter.idle_seconds)
        known = {
            "decoding": meter.decode_seconds,
            "reading": meter.read_seconds,
            "opening tars": meter.open_seconds,
            "waiting for a free buffer": meter.idle_seconds,
        }
        known["the rest"] = whole - sum(known.values())
        return {name: seconds / whole for name, seconds in known.items()}

    @property
    def limit(self) -> str:
        """Name of the work that takes the largest share."""
        return max(self.shares, key=lambda name: self.shares[name])


def feed(config: FeedConfig) -> list[str]:
    """Measure, and put the result in lines; the last one is JSON. Raises what `pretrain` raises for the same data."""
    if not config.data.one_size:
        raise InputError(
            "--resolution",
            found=config.data.resolution,
            wanted="one size to be measured",
            remedy="Leave it out, and measure the sizes one by one with --image-size.",
        )
    source = open_training_source(config)
    return report(measure(source, config), config)


def open_training_source(config: FeedConfig) -> Source:
    """Open the training side of a run's data; without a vocabulary every synset of the labels is a class."""
    data = config.data
    if not data.images:
        raise InputError("--images", found="nothing", wanted="image tars", remedy="Add: --images PATH.")
    corpora, _ = split_corpora(data)
    locations = dict.fromkeys(corpus.labels for corpus in corpora)
    labels = {location: LabelShards.open(location, checksums=False) for location in locations}
    if data.vocabulary:
        vocabulary = Vocabulary.load(data.vocabulary)
        for each in labels.values():
            check_vocabulary(each, vocabulary, allow_foreign=data.allow_foreign_vocabulary)
    else:
        vocabulary = every_synset(list(labels.values()))
    source = open_source(corpora, labels, vocabulary, data, seed=config.seed)
    check_first_tars(source)
    return source


def every_synset(labels: list[LabelShards]) -> Vocabulary:
    """Make a vocabulary of every synset in some labels."""
    counts = pa.concat_tables([each.counts() for each in labels]).group_by("synset").aggregate([("captions", "sum")])
    return Vocabulary.from_counts(
        counts.rename_columns(["synset", "captions"]),
        rows=sum(each.manifest.labelled + each.manifest.empty for each in labels),
        min_count=1,
        sources=tuple(each.counts_sha256 for each in labels),
    )


def measure(source: Source, config: FeedConfig) -> Speed:
    """Take batches for `config.seconds`, and measure their speed."""
    data = config.data
    images, waited, account, meter = 0, 0.0, Counter[str](), Meter()
    skipped: list[Skipped] = []
    began = started = time.perf_counter()
    first = 0.0
    with Feed(
        source,
        FixedResolution(data.image_size, data.batch_size),
        workers=data.workers,
        loaders=data.loaders,
        prefetch=data.prefetch,
    ) as batches:
        for batch in batches:
            account.update(batch.account)
            skipped += batch.skipped
            if not first:
                first = time.perf_counter() - began
                started = time.perf_counter()
                continue
            images += len(batch)
            waited += batch.waited
            meter.add(batch.meter)
            if time.perf_counter() - started >= config.seconds:
                break
        seconds = time.perf_counter() - started
    return Speed(images, seconds, first, waited, meter, dict(account), skipped)


def report(speed: Speed, config: FeedConfig) -> list[str]:
    """Describe the speed in lines for people and, on the last line, in JSON for programs."""
    data, meter = config.data, speed.meter
    cores = speed.cores_for(config.gpu_rate)
    kind = ("process", "processes") if data.loaders == "processes" else ("thread", "threads")
    loaders = counted(data.workers, *kind) if data.workers else "1 loader in the calling process"
    lines = [
        f"{counted(speed.images, 'image')} of {data.image_size} px in {speed.seconds:.1f} s: "
        f"{speed.rate:,.0f} images/s from {loaders}",
        f"first batch after {speed.first_batch_seconds:.1f} s; {meter.bytes / 1e6 / speed.seconds:,.1f} MB/s read",
        "",
        *(f"  {name:<26}{share:>6.0%}" for name, share in speed.shares.items()),
        "",
        f"limited by: {speed.limit}" + ("" if speed.limit != "waiting for a free buffer" else " (loaders are faster)"),
        f"{config.gpu_rate:,.0f} images/s need about {cores:.1f} cores ({os.cpu_count()} here)",
        "account: " + ", ".join(f"{name} {count:,}" for name, count in sorted(speed.account.items())),
        *(f"  bad: {bad.name}: {bad.reason}" for bad in speed.skipped[:NAMED]),
    ]
    numbers = {
        "images_per_second": round(speed.rate, 1),
        "limited_by": speed.limit,
        "cores_for_gpu_rate": round(cores, 2),
        "first_batch_seconds": round(speed.first_batch_seconds, 2),
        "read_mb_per_second": round(meter.bytes / 1e6 / speed.seconds, 2),
        "decode_ms_per_image": round(1e3 * meter.decode_seconds / max(1, meter.images), 3),
        "data_wait_share": round(speed.waited / speed.seconds, 3),
        "shares": {name: round(share, 3) for name, share in speed.shares.items()},
        "account": speed.account,
    }
    return [*lines, json.dumps(numbers)]
