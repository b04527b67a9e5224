"""Pictures of predictions for a run's page: a test image, and the image under its true and its predicted masks.

A class has the same colour in all pictures. The best images stand beside the median and the worst ones.
"""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt8
from PIL import Image

PICTURE_SIDE = 320
"""longer side of a picture, pixels"""
OPACITY = 0.6
GOLDEN_RATIO = 0.6180339887498949
LISTED = 8
"""classes that are named below a picture, those of most pixels first"""
EACH = 3
"""images that are shown of the best, of the median and of the worst ones"""


@dataclass(frozen=True)
class Legend:
    """A class in a picture, and its colour."""

    name: str
    colour: str
    """#rrggbb"""


@dataclass(frozen=True)
class Prediction:
    """A test image with what is true and what was predicted of it."""

    title: str
    """best, median or worst, with the score"""
    name: str
    """name of the image"""
    jpegs: tuple[str, ...]
    """base64: the image, the true masks or boxes on it, the predicted ones"""
    legend: tuple[Legend, ...]


def colour_of(label: int) -> tuple[int, int, int]:
    """Choose the colour of a class by its number: hues a golden ratio apart, in three brightnesses."""
    hue = label * GOLDEN_RATIO % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.9, 0.55, 0.8)[label % 3], (0.95, 1.0, 0.65)[label // 3 % 3])
    return round(255 * red), round(255 * green), round(255 * blue)


def legend_of(labels: Sequence[int], class_names: Sequence[str]) -> tuple[Legend, ...]:
    """Name classes with their colours."""
    return tuple(Legend(class_names[label], "#{:02x}{:02x}{:02x}".format(*colour_of(label))) for label in labels)


def shown_images(scores: Float64[np.ndarray, " images"]) -> list[tuple[str, int]]:
    """Choose the images to show by their scores: the worst, the median and the best ones, each once."""
    known = np.flatnonzero(~np.isnan(scores))
    order = known[np.argsort(scores[known], kind="stable")].tolist()
    middle = max(0, len(order) // 2 - EACH // 2)
    groups = {"best": order[::-1][:EACH], "median": order[middle : middle + EACH], "worst": order[:EACH]}
    chosen: dict[int, str] = {}
    for title, images in groups.items():
        for image in images:
            chosen.setdefault(image, title)
    return [(title, image) for image, title in chosen.items()]


def masked_picture(image: Image.Image, labels: Integer[np.ndarray, "rows columns"]) -> Image.Image:
    """Lay the colours of the classes over an image; pixels without a class stay as they are."""
    present = np.unique(labels)
    palette = np.zeros((int(present.max(initial=0)) + 1, 3), np.uint8)
    for label in present[present >= 0].tolist():
        palette[label] = colour_of(label)
    pixels = np.asarray(image).astype(np.float32)
    known = (labels >= 0)[..., None]
    mixed = np.where(known, (1 - OPACITY) * pixels + OPACITY * palette[np.maximum(labels, 0)], pixels)
    laid: UInt8[np.ndarray, "rows columns 3"] = mixed.astype(np.uint8)
    return Image.fromarray(laid)


def mask_prediction(
    title: str,
    name: str,
    image: Image.Image,
    true: Integer[np.ndarray, "rows columns"],
    given: Int64[np.ndarray, "rows columns"],
    class_names: Sequence[str],
) -> Prediction:
    """Make the picture of an image's predicted masks; its legend has the commonest classes of both."""
    both = np.concatenate([true.ravel(), given.ravel()]).astype(np.int64)
    counts = np.bincount(both[both >= 0])
    common = np.argsort(-counts, kind="stable")[:LISTED]
    parts = (image, masked_picture(image, true), masked_picture(image, given))
    legend = legend_of([label for label in common.tolist() if counts[label]], class_names)
    return Prediction(title, name, tuple(map(jpeg_of, parts)), legend)


def jpeg_of(image: Image.Image) -> str:
    """Encode a picture for a page."""
    small = image.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()
