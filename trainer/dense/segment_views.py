"""Views of an image with its label map: the random crops of training, and what evaluation shows.

    training     the image scaled by a random factor, a random square of it, mirrored by a coin; padded where the scaled
                 image is smaller; drawn anew while one class covers too much of it
    squash       the whole image in one square, its aspect ratio lost: CatLIP's evaluation
    slide        the image with its shorter side as long as a window, and windows that overlap: DINOv3's evaluation

Label maps are read by nearest neighbour at the centre of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16, UInt8
from PIL import Image

from trainer.dense.label_maps import IGNORED, LabelMap

TRIES = 10
"""crops that are drawn of an image at most"""
LONGEST = 4
"""longer side of a scaled image under sliding windows over the side of a window, at most"""
SCALE, FLIP, PLACES = 0, 1, 2
CROP_DRAWS = PLACES + 2 * TRIES
"""random numbers of a crop: its scale, whether it is mirrored, and two for each try at its place"""


@dataclass(frozen=True)
class CropRule:
    """Rule by which training crops are drawn."""

    size: int
    """side of a crop, pixels"""
    scale: tuple[float, float]
    """least and greatest shorter side of the scaled image over `size`"""
    max_class_share: float
    flip: bool


@dataclass(frozen=True, eq=False)
class Crop:
    """A square of an image, with its label map."""

    pixels: UInt8[np.ndarray, "size size 3"]
    labels: Int16[np.ndarray, "size size"]


def random_crop(image: Image.Image, labels: LabelMap, draws: Float64[np.ndarray, " draws"], rule: CropRule) -> Crop:
    """Draw a crop by `CROP_DRAWS` random numbers in [0, 1)."""
    low, high = rule.scale
    width, height = image.size
    factor = rule.size * (low + float(draws[SCALE]) * (high - low)) / min(width, height)
    across, down = (min(rule.size, max(1, round(side * factor))) for side in (width, height))
    left = top = 0.0
    cut = np.zeros((0, 0), np.int16)
    for place in draws[PLACES:].reshape(TRIES, 2).tolist():
        left = place[0] * max(0.0, width - across / factor)
        top = place[1] * max(0.0, height - down / factor)
        cut = labels[np.ix_(_nearest(top, down, factor, height), _nearest(left, across, factor, width))]
        if largest_share(cut) <= rule.max_class_share:
            break
    box = (left, top, min(width, left + across / factor), min(height, top + down / factor))
    scaled = np.asarray(image.resize((across, down), Image.Resampling.BILINEAR, box=box))
    pixels = np.zeros((rule.size, rule.size, 3), np.uint8)
    targets = np.full((rule.size, rule.size), IGNORED, np.int16)
    mirrored = rule.flip and draws[FLIP] >= 0.5
    pixels[:down, :across] = scaled[:, ::-1] if mirrored else scaled
    targets[:down, :across] = cut[:, ::-1] if mirrored else cut
    return Crop(pixels, targets)


def _nearest(start: float, count: int, factor: float, limit: int) -> np.ndarray:
    """Rows or columns of a label map under the centres of `count` scaled pixels."""
    return np.minimum((start + (np.arange(count) + 0.5) / factor).astype(np.int64), limit - 1)


def largest_share(labels: LabelMap) -> float:
    """Share of the commonest class among the pixels that have one; 0 where none has."""
    counts = np.bincount(labels.ravel().astype(np.int64) + 1)[1:]
    return float(counts.max() / counts.sum()) if counts.sum() else 0.0


@dataclass(frozen=True, eq=False)
class Windows:
    """An image as evaluation shows it: squares of one size, and where they lie in the scaled image."""

    pixels: UInt8[np.ndarray, "windows size size 3"]
    corners: Sequence[tuple[int, int]]
    """top and left of each window"""
    scaled: tuple[int, int]
    """rows and columns of the scaled image"""
    original: tuple[int, int]
    """rows and columns of the image"""


def squashed(image: Image.Image, *, size: int) -> Windows:
    """Show an image whole, as one square."""
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR))
    return Windows(pixels[None], [(0, 0)], (size, size), (image.height, image.width))


def sliding(image: Image.Image, *, size: int, stride: float) -> Windows:
    """Cut an image into windows, `stride` of their side apart; the last ones end with the image.

    An image whose sides differ by more than a factor of `LONGEST` is squashed to that.
    """
    factor = size / min(image.size)
    columns, rows = (min(LONGEST * size, max(size, round(side * factor))) for side in image.size)
    scaled = np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
    step = max(1, round(size * stride))
    corners = [(top, left) for top in starts(rows, size, step) for left in starts(columns, size, step)]
    pixels = np.stack([scaled[top : top + size, left : left + size] for top, left in corners])
    return Windows(pixels, corners, (rows, columns), (image.height, image.width))


def starts(length: int, size: int, step: int) -> list[int]:
    """Starts of windows that cover a length: multiples of the step, the last one moved back to the end.

    >>> starts(10, 4, 3)
    [0, 3, 6]
    >>> starts(9, 4, 3)
    [0, 3, 5]
    """
    count = -(-(length - size) // step) + 1
    return [min(number * step, length - size) for number in range(count)]
