"""The options of the sample.

In: nothing. Out: `SampleConfig`, whose field docstrings are its help on the command line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vocab.errors import InputError
from vocab.store.files import local_path

MOST_PER_SHARD = 10_000


@dataclass(frozen=True)
class SampleConfig:
    """Draw a data set of images with captions, offline, to try everything on."""

    out: Path
    """folder to write, new or empty"""
    samples: int = 12_000
    """number of samples"""
    samples_per_shard: int | None = None
    """samples in a tar and its Parquet file, at most 10,000 (default: 1,000, or a quarter of the samples where that is
    less, for a run needs tars to train on and others to evaluate on)"""
    seed: int = 0
    """seed of every draw; a sample depends on the seed and on its own number alone"""
    size: int = 96
    """side of the square images, pixels"""
    mode: Literal["scenes", "objects", "captions"] = "scenes"
    """contents of the data set

    scenes: images with captions
    objects: images of one labelled object, for probes
    captions: captions alone, as Parquet"""
    processes: int | None = None
    """processes that draw, which do not change the bytes written (default: one for each processor)"""

    def __post_init__(self) -> None:
        # The dataclass is frozen; this is a part of making one.
        object.__setattr__(self, "out", local_path(self.out))

    @property
    def per_shard(self) -> int:
        """Samples in one tar."""
        if self.samples_per_shard is not None:
            return self.samples_per_shard
        return max(1, min(1_000, -(-self.samples // 4)))

    @property
    def shards(self) -> int:
        """Number of shards that the samples fill."""
        return -(-self.samples // self.per_shard)

    @property
    def workers(self) -> int:
        """Number of processes that draw, at most one for each shard."""
        return min(self.processes or os.cpu_count() or 1, self.shards)


def check(config: SampleConfig) -> None:
    """Raise InputError for an option out of its range."""
    _check_range("samples", config.samples, 1, 100_000 * MOST_PER_SHARD)
    _check_range("samples_per_shard", config.per_shard, 1, MOST_PER_SHARD)
    _check_range("number of shards", config.shards, 1, 100_000)
    _check_range("seed", config.seed, 0, 2**63 - 1)
    _check_range("size", config.size, 16, 2048)
    if config.processes is not None:
        _check_range("processes", config.processes, 1, 1024)


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(option, found=str(value), wanted=f"{low} to {high}", remedy="Choose a value in this range.")
