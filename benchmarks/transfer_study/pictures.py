"""Pictures of a task's tar in memory, for the probes of the CLIP race.

In: a tar with .jpg and .cls. Out: `Pictures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from benchmarks.feeding.corpus import read_samples
from trainer.data.crops import centre_box
from trainer.data.images import crop_into


@dataclass(frozen=True)
class Pictures:
    """Pictures and their classes; classes come in turn, so that the first ones are some of each."""

    images: UInt8[Tensor, "images size size 3"]
    classes: Int64[Tensor, " images"]


def read_pictures(tar: Path, *, size: int) -> Pictures:
    """All pictures of a tar that this benchmark wrote, whole, at `size` pixels."""
    samples = list(read_samples(tar).values())
    classes = np.array([int(sample["cls"]) for sample in samples])
    pixels = np.zeros((len(samples), size, size, 3), np.uint8)
    order = in_turn(classes)
    for out, picture in zip(pixels, order.tolist(), strict=True):
        crop_into(
            samples[picture]["jpg"],
            out,
            choose=lambda width, height: centre_box(width, height, share=1.0),
            max_pixels=1 << 24,
        )
    return Pictures(torch.from_numpy(pixels), torch.from_numpy(classes[order]).long())


def in_turn(classes: np.ndarray) -> np.ndarray:
    """Places of the pictures: the first of each class, then the second of each, ..."""
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    rank = np.empty(len(classes), np.int64)
    rank[by_class] = np.concatenate([np.arange(count) for count in counts])
    return np.lexsort((classes, rank))
