"""Batches that a feed gave, and what tests compare in them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import torch

from trainer.data.batch import Batch, Position
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution, Resolution
from trainer.data.source import Source, from_state, to_state

STEPS = FixedResolution(16, 4)


def copied(batch: Batch) -> Batch:
    """Copy the images of a batch, which the feed would overwrite."""
    return replace(batch, images=batch.images.clone())


def take(source: Source, count: int | None = None, *, steps: Resolution = STEPS, **options: Any) -> list[Batch]:
    """Take the first `count` batches of a feed, or all."""
    with Feed(source, steps, **options) as feed:
        return [copied(batch) for batch in itertools.islice(feed, count)]


def samples_of(batches: list[Batch]) -> list[tuple[int, int]]:
    """List the samples of batches, without those that fill up a batch."""
    return [sample for batch in batches for sample in batch.samples if sample[0] >= 0]


def same(one: Batch, other: Batch) -> bool:
    """Compare all tensors of two batches."""
    names = ("images", "offsets", "classes", "weights", "flips", "draws", "seeds", "tars", "indices")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def together(parts: list[Batch]) -> list[Any]:
    """List the images of all ranks in one step: sample, sum of pixels, flip, classes."""
    return [
        (
            sample,
            part.images[n].sum().item(),
            bool(part.flips[n]),
            part.classes[part.ends[n] : part.ends[n + 1]].tolist(),
        )
        for part in parts
        for n, sample in enumerate(part.samples)
    ]


def stopped_after(batch: Batch, source: Source) -> Position:
    """Return the position after a batch as a resumed run reads it from a checkpoint."""
    return from_state(json.loads(json.dumps(to_state([batch.position], source, teams=1))), source, teams=1)
