"""Features of a task's images. A stand-in for the cached ones, which come with the probe: nothing is kept.

In: a `Pretrained` and `LabelledImages`. Out: `ImageFeatures` on the main rank.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.crops import centre_box
from trainer.data.images import BadImage, crop_into
from trainer.data.labelled_images import LabelledImages, Read
from trainer.distributed import Place
from trainer.weights.pretrained import Pretrained


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of the images that could be decoded."""

    values: Float32[Tensor, "images width"]
    images: LabelledImages
    skipped: list[Skipped]


def cached_features(
    pretrained: Pretrained,
    images: LabelledImages,
    place: Place,
    *,
    batch: int,
    workers: int,
    cache: Path | None,
    bfloat16: bool,
    max_pixels: int,
) -> ImageFeatures | None:
    """What the classifier reads of each image; None on ranks other than the main one."""
    if not place.main:
        return None
    model, seen = pretrained.model.to(place.device), pretrained.preprocessing
    values, kept, skipped = [torch.empty(0, pretrained.classifier.in_features, device=place.device)], [], []
    with (
        images.store.open() as read,
        ThreadPoolExecutor(max(1, workers)) as pool,
        torch.no_grad(),
        torch.autocast(place.device.type, torch.bfloat16, enabled=bfloat16),
    ):
        model.eval()
        for start in range(0, len(images), batch):
            rows = images.rows[start : start + batch].tolist()
            pixels = np.zeros((len(rows), seen.image_size, seen.image_size, 3), np.uint8)
            jobs = [(read, row, out, seen.crop, max_pixels) for row, out in zip(rows, pixels, strict=True)]
            for number, reason in enumerate(pool.map(lambda job: _decode(*job), jobs)):
                if reason is None:
                    kept.append(start + number)
                else:
                    skipped.append(Skipped("", images.names[start + number], reason))
            found = pretrained.embed(torch.from_numpy(pixels).to(place.device)).float()
            values.append(found[[number - start for number in kept if number >= start]])
    return ImageFeatures(torch.cat(values), images.select(np.array(kept, np.int64)), skipped)


def _decode(read: Read, row: int, out: UInt8[np.ndarray, "size size 3"], crop: float, max_pixels: int) -> str | None:
    try:
        crop_into(read(row), out, choose=lambda w, h: centre_box(w, h, share=crop), max_pixels=max_pixels)
    except BadImage as bad:
        return str(bad)
    return None
