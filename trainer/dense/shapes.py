"""Shapes of objects as COCO's annotations give them, and their masks.

    "segmentation": [[181.0, 158.7, 180.5, 148.1, ...], ...]          polygons, x and y in turn
    "segmentation": {"size": [320, 481], "counts": [272, 2, 4, ...]}  run lengths: column after column, background first
    "segmentation": {"size": [320, 481], "counts": "X`6m05hf7..."}    the same, compressed

A mask has one byte a pixel, 1 inside. Polygons are filled by faster-coco-eval, as the evaluators of COCO fill them. A
shape is untrusted: nothing reaches that library's C++ before it was checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from trainer.dense.coco_tools import mask_tools

Mask = UInt8[np.ndarray, "height width"]
Edges = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the image"""

FEWEST_NUMBERS = 6
"""numbers of a polygon: three points"""
MOST_OUTSIDE = 1.0
"""distance of a polygon's points from the image, in sides of the image"""
MOST_TURNS = 1000.0
"""length of a polygon in sides of its image; filling it takes memory by its length"""
# Compressed counts: six bits a character from "0" on, of which the highest says that another follows.
FIRST, LAST, MORE, SIGN = ord("0"), ord("0") + 63, 0x20, 0x10
BITS, MOST_CHARACTERS = 5, 7


class BadShape(Exception):  # noqa: N818
    """A shape that is left out and counted; the only argument is the reason."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons that together fill a shape, in pixels; each [x, y, x, y, ...]."""

    rings: tuple[Float64[np.ndarray, " _"], ...]


@dataclass(frozen=True, eq=False)
class RunLengths:
    """Numbers of pixels outside and inside in turn, column after column from the upper left corner."""

    counts: Int64[np.ndarray, " runs"]


Shape = Polygons | RunLengths


def shape_of(segmentation: object, *, width: int, height: int) -> Shape | None:
    """Check a `segmentation` of an image of this size; None where there is none.

    Raises BadShape: broken_polygon, polygon_outside, broken_rle, rle_of_another_size, mask_without_area.
    """
    if segmentation is None or (isinstance(segmentation, list) and not segmentation):
        return None
    if isinstance(segmentation, list):
        return _polygons(segmentation, width=width, height=height)
    if isinstance(segmentation, Mapping):
        return _run_lengths(segmentation, width=width, height=height)
    raise BadShape("broken_polygon")


def _polygons(given: list[Any], *, width: int, height: int) -> Polygons:
    rings = tuple(map(_ring, given))
    side = max(width, height)
    for ring in rings:
        points = ring.reshape(-1, 2)
        most = np.array([width, height]) * (1 + MOST_OUTSIDE)
        if (points > most).any() or (points < -MOST_OUTSIDE * np.array([width, height])).any():
            raise BadShape("polygon_outside")
        if np.abs(np.diff(points, axis=0, append=points[:1])).sum() > MOST_TURNS * side:
            raise BadShape("broken_polygon")
    if not sum(map(_area, rings)):
        raise BadShape("mask_without_area")
    return Polygons(rings)


def _ring(given: object) -> Float64[np.ndarray, " numbers"]:
    """Read a polygon. Raises BadShape for anything but three or more pairs of finite numbers."""
    ring = numbers_in(given)
    if ring is None or ring.ndim != 1 or len(ring) < FEWEST_NUMBERS or len(ring) % 2 or not np.isfinite(ring).all():
        raise BadShape("broken_polygon")
    return ring


def numbers_in(given: object) -> Float64[np.ndarray, "..."] | None:
    """Read numbers of JSON; None for anything else, texts of digits among it."""
    try:
        made = np.array(given)
    except (ValueError, TypeError, OverflowError):
        return None
    return made.astype(np.float64) if made.dtype.kind in "iuf" else None


def _area(ring: Float64[np.ndarray, " numbers"]) -> float:
    """Area that a polygon encloses, which is 0 for a line (the shoelace formula)."""
    x, y = ring[0::2], ring[1::2]
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def _run_lengths(given: Mapping[str, Any], *, width: int, height: int) -> RunLengths:
    if given.get("size") != [height, width]:
        raise BadShape("rle_of_another_size")
    counts = given.get("counts")
    if isinstance(counts, str):
        runs = decompressed(counts)
    else:
        try:
            runs = np.array(counts)
        except (ValueError, TypeError, OverflowError) as error:
            raise BadShape("broken_rle") from error
    if runs.ndim != 1 or runs.dtype.kind != "i" or (runs < 0).any() or (runs > width * height).any():
        raise BadShape("broken_rle")
    if runs.sum() != width * height:
        raise BadShape("broken_rle")
    if not runs[1::2].sum():
        raise BadShape("mask_without_area")
    return RunLengths(runs.astype(np.int64))


def decompressed(text: str) -> Int64[np.ndarray, " runs"]:
    """Numbers of compressed run lengths. Raises BadShape (broken_rle).

    From the fourth on, a number is stored as its difference to the one two before.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64)
    if not len(codes) or codes.min() < FIRST or codes.max() > LAST:
        raise BadShape("broken_rle")
    codes -= FIRST
    ends = np.flatnonzero((codes & MORE) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if not len(ends) or ends[-1] != len(codes) - 1 or lengths.max() > MOST_CHARACTERS:
        raise BadShape("broken_rle")
    within = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & (MORE - 1)) << (BITS * within), starts)
    numbers -= np.where(codes[ends] & SIGN, np.int64(1) << (BITS * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def extent_of(shape: Shape, *, height: int) -> Edges:
    """Edges of the rectangle around a shape, without filling it. `height`: of its image."""
    if isinstance(shape, Polygons):
        points = np.concatenate(shape.rings)
        x, y = points[0::2], points[1::2]
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())
    ends = np.cumsum(shape.counts)
    first, last = ends[:-1:2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    across = (first // height != last // height).any()
    top, bottom = (0, height) if across else (int((first % height).min()), int((last % height).max()) + 1)
    return float(first[0] // height), float(top), float(last[-1] // height + 1), float(bottom)


def common(one: Edges, other: Edges) -> Edges | None:
    """Part of a rectangle that lies in another one; None if there is none."""
    left, top, right, bottom = *map(max, one[:2], other[:2]), *map(min, one[2:], other[2:])
    return (left, top, right, bottom) if right > left and bottom > top else None


def mask_of(shape: Shape, *, width: int, height: int) -> Mask:
    """Fill a shape: the mask of its image, of which `shape_of` was told the same size."""
    if isinstance(shape, RunLengths):
        inside = np.arange(len(shape.counts)) % 2
        columns = np.repeat(inside.astype(np.uint8), shape.counts).reshape(width, height)
        return np.ascontiguousarray(columns.T)
    tools = mask_tools()
    filled = tools.frPyObjects([ring.tolist() for ring in shape.rings], height, width)
    mask: Mask = np.ascontiguousarray(tools.decode(tools.merge(filled)))
    return mask
