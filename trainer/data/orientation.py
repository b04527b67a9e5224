"""Orientations: how the upright image, in which crops are chosen, lies in the stored one.

In: an EXIF orientation, 1 to 8. Out: sizes, boxes and pixels of the one in terms of the other.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from trainer.data.crops import Box

Transpose = Image.Transpose
# What makes an image of each orientation upright.
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# The same in steps: rows and columns change places, then columns are mirrored, then rows.
SWAPPED, ACROSS, DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the upright image."""
    return (size[1], size[0]) if orientation in SWAPPED else size


def stored_edges(box: Box, size: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an upright box in the stored image, whose size is given."""
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
    """Stored pixels the right way up."""
    if orientation in SWAPPED:
        stored = stored.transpose(1, 0, 2)
    if orientation in ACROSS:
        stored = stored[:, ::-1]
    if orientation in DOWN:
        stored = stored[::-1]
    return np.ascontiguousarray(stored)
