"""Evaluation of a segmentation model: its scores on images under one or both views, over all ranks.

Each rank takes every so many of the images, and the main rank gets their counts in the order of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.images import BadImage, decode
from trainer.data.labelled_images import Read
from trainer.dense.label_maps import LabelMap
from trainer.dense.masks import MaskedImages
from trainer.dense.segment_scores import SegmentScores, count_pixels, joined
from trainer.dense.segment_views import Windows, sliding, squashed
from trainer.dense.segmenter import LOGITS_AT_ONCE, SegmentObjective, to_pixels
from trainer.distributed import Rank, gather, raise_alike
from trainer.model.objective import evaluating
from vocab.errors import InputError

View = Literal["squash", "slide"]
Key = tuple[View, int]
"""a view, and the number of a head"""
IMAGES_AT_ONCE = 16
"""images that a rank decodes ahead of the model"""


@dataclass(frozen=True)
class SegmentTransform:
    """Way in which images are shown in evaluation."""

    size: int
    """side of a window, pixels"""
    slide_stride: float
    """step of sliding windows over their side"""
    plain: EvalTransform
    """batch, decoding and number format"""


@dataclass(frozen=True, eq=False)
class SegmentEvaluation:
    """Scores on a set of images, on the main rank."""

    scores: dict[Key, SegmentScores]
    images: Int64[np.ndarray, " images"]
    """numbers of the images that could be decoded, in the order of the scores"""
    skipped: list[Skipped] = field(default_factory=list)


def evaluate(
    objective: SegmentObjective,
    data: MaskedImages,
    rank: Rank,
    *,
    transform: SegmentTransform,
    views: Sequence[View],
    heads: Sequence[int],
) -> SegmentEvaluation | None:
    """Score some heads on all images, with the weights as they are; None on ranks other than the main one.

    All ranks must call. Raises InputError if none of the images can be decoded; ranks other than the main one exit.
    """
    own = np.arange(rank.index, len(data), rank.world)
    counts: dict[Key, list[np.ndarray]] = {(view, head): [] for view in views for head in heads}
    done: list[int] = []
    skipped: list[tuple[int, Skipped]] = []
    with evaluating(objective), data.images.store.open() as read:
        for image, loaded in _loaded(data, own, read, transform):
            if isinstance(loaded, Skipped):
                skipped.append((image, loaded))
                continue
            picture, labels = loaded
            true = torch.from_numpy(labels).to(rank.device)
            for view in views:
                windows = windows_of(picture, view, transform)
                every = predictions(objective, windows, rank, heads=heads, transform=transform)
                for head, given in zip(heads, every, strict=True):
                    counted = count_pixels(given, true, classes=len(data.images.labels))
                    counts[view, head].append(counted.cpu().numpy())
            done.append(image)
    gathered = gather((done, counts, skipped), rank)
    if not any(done for done, _, _ in gathered):
        raise_alike(_none_decodes([bad for _, _, some in gathered for _, bad in some]), rank)
    return _put_together(gathered) if rank.is_main else None


def _none_decodes(skipped: Sequence[Skipped]) -> InputError:
    some = "".join(f"; {bad.key}: {bad.reason}" for bad in skipped[:1])
    return InputError(
        "the images to score",
        found=f"none of {len(skipped)} that can be decoded{some}",
        wanted="at least one",
        remedy="Check the images.",
    )


def _put_together(
    gathered: Sequence[tuple[list[int], dict[Key, list[np.ndarray]], list[tuple[int, Skipped]]]],
) -> SegmentEvaluation:
    numbers = np.array([image for done, _, _ in gathered for image in done], np.int64)
    order = np.argsort(numbers)
    scores = {}
    for key in gathered[0][1]:
        parts = [part for _, counts, _ in gathered for part in counts[key]]
        scores[key] = joined([parts[position] for position in order.tolist()])
    bad = sorted((each for _, _, some in gathered for each in some), key=lambda each: each[0])
    return SegmentEvaluation(scores, numbers[order], [each for _, each in bad])


def _loaded(
    data: MaskedImages, own: Int64[np.ndarray, " own"], read: Read, transform: SegmentTransform
) -> Iterator[tuple[int, tuple[Image.Image, LabelMap] | Skipped]]:
    """Decode images with their label maps, some ahead; one that cannot be decoded comes with the reason."""
    how = transform.plain.decoding

    def load(image: int) -> tuple[Image.Image, LabelMap] | Skipped:
        try:
            return load_pair(data, image, read, max_pixels=how.max_pixels, take_truncated=how.take_truncated)
        except BadImage as bad:
            return Skipped("", data.images.names[image], str(bad))

    with ThreadPoolExecutor(max(1, how.threads), "decode") as pool:
        for first in range(0, len(own), IMAGES_AT_ONCE):
            some = own[first : first + IMAGES_AT_ONCE].tolist()
            yield from zip(some, pool.map(load, some), strict=True)


def load_pair(
    data: MaskedImages, image: int, read: Read, *, max_pixels: int, take_truncated: bool
) -> tuple[Image.Image, LabelMap]:
    """Decode an image and its label map. Raises BadImage, also for a map of another size."""
    content = read(int(data.images.rows[image]))
    picture = decode(content, max_pixels=max_pixels, take_truncated=take_truncated)
    labels = data.label_map(image)
    if labels.shape != (picture.height, picture.width):
        raise BadImage("mask_of_another_size")
    return picture, labels


def windows_of(picture: Image.Image, view: View, transform: SegmentTransform) -> Windows:
    """Show an image by a view."""
    match view:
        case "squash":
            return squashed(picture, size=transform.size)
        case "slide":
            return sliding(picture, size=transform.size, stride=transform.slide_stride)


def predictions(
    objective: SegmentObjective,
    windows: Windows,
    rank: Rank,
    *,
    heads: Sequence[int],
    transform: SegmentTransform,
) -> list[Int64[Tensor, "rows columns"]]:
    """Predict the class of each pixel of an image by some heads: the highest mean logit of the windows over it."""
    size, at_once = transform.size, max(1, transform.plain.batch)
    found: list[list[Float[Tensor, "some classes rows columns"]]] = [[] for _ in heads]
    for first in range(0, len(windows.pixels), at_once):
        pixels = torch.from_numpy(windows.pixels[first : first + at_once]).to(rank.device)
        with torch.autocast(rank.device.type, torch.bfloat16, enabled=transform.plain.bfloat16):
            every = objective.logits(objective.maps(pixels))
        for position, head in enumerate(heads):
            found[position].append(every[head].float())
    return [_merged(torch.cat(each), windows, size, align_corners=objective.align_corners) for each in found]


def _merged(
    logits: Float[Tensor, "windows classes _ _"], windows: Windows, size: int, *, align_corners: bool
) -> Int64[Tensor, "rows columns"]:
    """Predict the class of each pixel from the logits of all windows."""
    if len(windows.corners) == 1:
        whole = logits
    else:
        rows, columns = windows.scaled
        whole = logits.new_zeros(1, logits.shape[1], rows, columns)
        weight = logits.new_zeros(rows, columns)
        for own, (top, left) in zip(logits, windows.corners, strict=True):
            place = (..., slice(top, top + size), slice(left, left + size))
            whole[place] += to_pixels(own[None], (size, size), align_corners=align_corners)
            weight[place] += 1
        whole /= weight
    return highest(whole[0], windows.original, align_corners=align_corners)


def highest(
    logits: Float32[Tensor, "classes _ _"], size: tuple[int, int], *, align_corners: bool
) -> Int64[Tensor, "rows columns"]:
    """Predict the class of each pixel of an image by logits on another grid, a band of its rows at a time.

    Equals `to_pixels(logits[None], size)[0].argmax(0)`, which holds the logits of all pixels of the image.
    """
    (classes, count, across), (rows, columns) = logits.shape, size
    at_once = max(1, LOGITS_AT_ONCE // (classes * max(across, columns)))
    sources = (np.arange(rows) + 0.5) * count / rows - 0.5
    if align_corners:
        sources = np.linspace(0, count - 1, rows)
    sources = sources.clip(0, count - 1)
    above = torch.from_numpy(sources.astype(np.int64)).to(logits.device)
    below = (above + 1).clamp(max=count - 1)
    parts = torch.from_numpy((sources % 1).astype(np.float32)).to(logits.device)
    bands = []
    for first in range(0, rows, at_once):
        some = slice(first, first + at_once)
        band = torch.lerp(logits[:, above[some]], logits[:, below[some]], parts[some, None])
        fitted = to_pixels(band[None], (band.shape[1], columns), align_corners=align_corners)
        bands.append(fitted[0].max(0).indices)  # argmax(0), which is slower on a CPU
    return torch.cat(bands)
