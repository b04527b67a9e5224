"""Crops: which part of an image the model sees, in an upright image and in the file as it is stored.

A crop is a box of whole pixels. It is chosen in the upright image; an EXIF orientation, 1 to 8, says how that image
lies in the stored one.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels; the last two are at least 1"""

# Aspect ratios of random crops, as in the Inception recipe that torchvision and CoreNet follow.
ASPECT = (3 / 4, 4 / 3)
LOG_ASPECT = (math.log(ASPECT[0]), math.log(ASPECT[1]))
TRIES = 10
BOX_DRAWS = 2 * TRIES + 2
# A JPEG can be decoded at 1/8, 1/4 or 1/2 of its size with less work; a block is 8 pixels wide.
SHRINKS = (8, 4, 2)


def random_box(width: int, height: int, draws: Float64[np.ndarray, "22"], *, min_area: float) -> Box:
    """A random box: area uniform in [min_area, 1] of the image, aspect ratio log-uniform in 3/4..4/3.

    `draws`: numbers in [0, 1), of which 10 choose areas, 10 ratios, and 2 the position. The first of the ten pairs
    that fits is taken; if none does, the largest central box that the aspect ratios allow (Inception; torchvision's
    RandomResizedCrop). A draw has the same meaning whichever try succeeds.
    """
    chances: list[float] = draws.tolist()
    area = width * height
    for share, ratio in zip(chances[:TRIES], chances[TRIES : 2 * TRIES], strict=True):
        pixels = (min_area + share * (1 - min_area)) * area
        aspect = math.exp(LOG_ASPECT[0] + ratio * (LOG_ASPECT[1] - LOG_ASPECT[0]))
        across, down = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = chances[2 * TRIES :]
            return int(left * (width - across + 1)), int(top * (height - down + 1)), across, down
    across = max(1, min(width, round(height * ASPECT[1])))
    down = max(1, min(height, round(width / ASPECT[0])))
    return (width - across) // 2, (height - down) // 2, across, down


def centre_box(width: int, height: int, *, share: float) -> Box:
    """The central square of `share` (in (0, 1]) of the shorter side, rounded to the nearest whole pixel.

    If the rest is odd, the extra pixel stays on the right or at the bottom.
    """
    side = max(1, round(share * min(width, height)))
    return (width - side) // 2, (height - side) // 2, side, side


def on_grid(box: Box, width: int, height: int, *, size: int) -> tuple[Box, int]:
    """Move the edges of a box onto multiples of a step; the step is the largest of 8, 4, 2 that leaves `size` pixels.

    So an image decoded at 1/step of its size can be cut between two of its pixels, not through them. A box shorter than
    2 * size pixels in either direction stays as it is, with step 1. Others lose less than a step of their length, and
    their centre moves by at most half a step (one step if they would leave the image, which is `width` x `height`).
    """
    left, top, across, down = box
    step = next((step for step in SHRINKS if min(across, down) >= step * size), 1)
    if step == 1:
        return box, 1
    left, across = _onto(left, across, width, step)
    top, down = _onto(top, down, height, step)
    return (left, top, across, down), step


def _onto(start: int, length: int, whole: int, step: int) -> tuple[int, int]:
    rest = length % step
    length -= rest
    nearest = (2 * start + rest + step) // (2 * step)
    return min(nearest, (whole - length) // step) * step, length


Transpose = Image.Transpose
# The transposition that makes an image of each orientation upright.
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# The same in steps: swap rows and columns, then mirror columns, then rows.
SWAPPED, ACROSS, DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the upright image."""
    return (size[1], size[0]) if orientation in SWAPPED else size


def stored_edges(box: Box, size: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an upright box in the stored image, which has the given size."""
    whole_width, whole_height = upright_size(size, orientation)
    left, top, width, height = box
    if orientation in ACROSS:
        left = whole_width - left - width
    if orientation in DOWN:
        top = whole_height - top - height
    if orientation in SWAPPED:
        left, top, width, height = top, left, height, width
    return left, top, left + width, top + height


def upright_pixels(
    stored: UInt8[np.ndarray, "height width 3"], orientation: int
) -> UInt8[np.ndarray, "upright_height upright_width 3"]:
    """Turn stored pixels the right way up."""
    if orientation in SWAPPED:
        stored = stored.transpose(1, 0, 2)
    if orientation in ACROSS:
        stored = stored[:, ::-1]
    if orientation in DOWN:
        stored = stored[::-1]
    return np.ascontiguousarray(stored)
