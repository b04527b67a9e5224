"""Pixels: untrusted bytes to RGB, and a crop of them, scaled with antialiasing into its slot of a batch.

The crop is uint8 [size, size, 3]; an image that cannot be used raises `BadImage` with the reason. Normalisation happens
on the device (`trainer/model/objective.py`), so that three bytes a pixel are copied.

`decode` defines which bytes are an image and how it looks. For most JPEGs `crop_into` has a faster way, which gives the
same crop except for rounding; files that the fast way does not take go through PIL, as in `decode`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image, ImageFile, JpegImagePlugin

from trainer.data.colours import bands, to_rgb
from trainer.data.crops import TURNS, Box, on_grid, stored_edges, upright_pixels, upright_size
from trainer.data.image_files import (
    BYTES_PER_PIXEL,
    QUIET,
    TAKING_TRUNCATED,
    BadImage,
    load,
    open_image,
    orientation_of,
    refusing,
    without_text,
)

__all__ = ["BadImage", "Choose", "Pixels", "crop_into", "decode"]

Pixels = UInt8[np.ndarray, "size size 3"]
Choose = Callable[[int, int], Box]
"""function from width and height of an upright image to the box that is wanted of it"""
T = TypeVar("T")

# Segments that neither turn an image nor change its colours, of processes that every JPEG decoder knows: DQT, DHT, DRI,
# COM; SOF0, SOF1, SOF2 (baseline, extended, progressive). APP0 only if it is JFIF's; PIL has to read the others.
PLAIN_SEGMENTS = frozenset({0xDB, 0xC4, 0xDD, 0xFE, 0xC0, 0xC1, 0xC2})
APP_SEGMENTS = frozenset(range(0xE0, 0xF0))
JFIF = b"\xff\xe0\x00\x10JFIF\x00"
START_OF_SCAN = 0xDA
# Memory that a thread keeps between images, because its pages are mapped already. Larger images get their own.
SCRATCH_BYTES = 64 << 20
# Errors of simplejpeg for bytes that it cannot decode or, being strict, does not accept.
JPEG_ERRORS = (ValueError, RuntimeError, LookupError, MemoryError)
# A crop of more pixels is converted in bands, and averaged before it is scaled.
WHOLE_PIXELS = 1 << 23
# Memory that a progressive JPEG without subsampling needs, bytes a pixel.
MOST_JPEG_BYTES = 7
# More than any honest header has.
MAX_SEGMENTS = 64
# Reasons for which PIL may refuse a truncated file.
MAYBE_TRUNCATED = ("not_an_image", "broken_image")


def decode(content: bytes, *, max_pixels: int, take_truncated: bool = False) -> Image.Image:
    """Decode JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF to RGB: upright (EXIF), opaque (on white), 8 bits a channel.

    Animated files give their first frame. `take_truncated`: decode a file that is truncated behind its header as far
    as it goes (`TakingTruncated`). Raises BadImage: not_an_image, decompression_bomb, broken_image, unknown_range.
    """
    return _tried(content, partial(_decode, max_pixels=max_pixels), take_truncated=take_truncated)[0]


def _decode(content: bytes, *, max_pixels: int) -> Image.Image:
    image = open_image(content, max_pixels=max_pixels)
    deep = _is_deep(image)
    load(image, file_bytes=len(content), max_pixels=max_pixels)
    with refusing("broken_image"):
        rgb = to_rgb(image, deep=deep)(image)
    turn = TURNS.get(orientation_of(image))
    return rgb if turn is None else rgb.transpose(turn)


def _tried(content: bytes, work: Callable[[bytes], T], *, take_truncated: bool) -> tuple[T, bool]:
    """Do `work` on an image, also on a truncated one if `take_truncated`; the second value is True for such a file."""
    with QUIET:
        try:
            return _with_or_without_text(content, work), False
        except BadImage as bad:
            if not take_truncated or str(bad) not in MAYBE_TRUNCATED:
                raise
        with TAKING_TRUNCATED:
            return _with_or_without_text(content, work), True


def _with_or_without_text(content: bytes, work: Callable[[bytes], T]) -> T:
    """Do `work` on an image; if PIL refuses a PNG, do it without text and colour profile."""
    try:
        return work(content)
    except BadImage:
        bare = without_text(content)
        if bare is None:
            raise
        return work(bare)


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Tell whether an image that is not decoded yet has colours of more than 8 bits."""
    # BGR;16, without a byte order, has 5 or 6 bits a channel.
    return any(re.search(";16[BLN]", str(tile.args)) for tile in image.tile)


_scratch = threading.local()


def _kept(name: str) -> UInt8[np.ndarray, " bytes"]:
    """This thread's memory for decoded or cropped pixels; the system allots pages when they are written."""
    memory: np.ndarray | None = getattr(_scratch, name, None)
    if memory is None:
        memory = np.empty(SCRATCH_BYTES, np.uint8)
        setattr(_scratch, name, memory)
    return memory


def crop_into(content: bytes, out: Pixels, *, choose: Choose, max_pixels: int, take_truncated: bool = False) -> bool:
    """Write the box that `choose` picks of an image to `out`, scaled to its size: bilinear, antialiased.

    `choose` gets the width and height that `decode` would give, and may be called three times for one image. The box of
    `crops.on_grid` is cut. The result equals a bilinear `resize` of PIL's crop of `decode(content)`, except that JPEGs
    are decoded at 1/step of their size. Returns True for a truncated file. Raises BadImage as `decode`.
    """
    if _jpeg_into(content, out, choose, max_pixels):
        return False
    work = partial(_cropped, choose=choose, size=len(out), max_pixels=max_pixels)
    pixels, truncated = _tried(content, work, take_truncated=take_truncated)
    _resize_into(pixels, out)
    return truncated


def _cropped(content: bytes, *, choose: Choose, size: int, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """The box that `choose` picks of an image of any kind, upright; averaged if it is much larger than `size`."""
    image = open_image(content, max_pixels=max_pixels)
    deep, stored, step = _is_deep(image), image.size, 1

    def chosen() -> tuple[Box, int]:
        whole = upright_size(stored, orientation)
        return on_grid(choose(*whole), *whole, size=size)

    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # A JPEG has its orientation in the header; in other formats it may lie behind the pixels.
        orientation = orientation_of(image)
        box, step = chosen()
        load(image, file_bytes=len(content), max_pixels=max_pixels, step=step)
    else:
        load(image, file_bytes=len(content), max_pixels=max_pixels)
        orientation = orientation_of(image)
        box, _ = chosen()
    left, top, right, bottom = (edge // step for edge in stored_edges(box, stored, orientation))
    with refusing("broken_image"):
        pixels = _rgb_of(image, (left, top, right, bottom), deep=deep, size=size)
    return upright_pixels(pixels, orientation)


def _rgb_of(
    image: Image.Image, edges: tuple[int, int, int, int], *, deep: bool, size: int
) -> UInt8[np.ndarray, "height width 3"]:
    """A part of an image in RGB; if it is large, converted in bands and averaged to about four times `size`."""
    convert = to_rgb(image, deep=deep)
    left, top, right, bottom = edges
    width, height = right - left, bottom - top
    if width * height <= WHOLE_PIXELS:
        return np.array(convert(image.crop(edges)))
    across, down = max(1, width // (4 * size)), max(1, height // (4 * size))
    parts = (convert(image.crop((left, top + first, right, top + last))) for first, last in bands(width, height, down))
    return np.concatenate([np.asarray(part.reduce((across, down))) for part in parts])


def _jpeg_into(content: bytes, out: Pixels, choose: Choose, max_pixels: int) -> bool:
    """`crop_into` for an upright, flawless JPEG in grey or colour; False, with `out` unchanged, for all other bytes."""
    if not _upright_jpeg(content):
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except JPEG_ERRORS:
        return False
    # PIL refuses more than twice its own limit. `memory_of` knows what a progressive JPEG needs.
    limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
    if colours not in ("YCbCr", "Gray", "RGB") or width * height > limit * BYTES_PER_PIXEL / MOST_JPEG_BYTES:
        return False
    box, step = on_grid(choose(width, height), width, height, size=len(out))
    down, across = -(-height // step), -(-width // step)
    try:
        image = simplejpeg.decode_jpeg(
            content,
            "RGB",
            min_height=down,
            min_width=across,
            min_factor=step,
            buffer=_kept("decoded") if 3 * down * across <= SCRATCH_BYTES else None,
        )
    except JPEG_ERRORS:
        # simplejpeg is strict: it also refuses files about which libjpeg only warns. PIL decides about those.
        return False
    left, top, right, bottom = (edge // step for edge in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    crop = image[top:bottom, left:right]
    if not crop.flags.c_contiguous and crop.size <= SCRATCH_BYTES:
        whole = _kept("cropped")[: crop.size].reshape(crop.shape)
        np.copyto(whole, crop)
        crop = whole
    _resize_into(crop, out)
    return True


def _upright_jpeg(content: bytes) -> bool:
    """Tell if the segments before the first scan let every decoder show the same image, the same way up."""
    if content[:2] != b"\xff\xd8":
        return False
    position, plain = 2, True
    for _ in range(MAX_SEGMENTS):
        segment = content[position : position + 4]
        if len(segment) < 4 or segment[0] != 0xFF:
            return False
        kind = segment[1]
        if kind == START_OF_SCAN:
            return plain or _unturned(content)
        if kind not in PLAIN_SEGMENTS and not content.startswith(JFIF, position):
            if kind not in APP_SEGMENTS:
                return False
            plain = False
        position += 2 + int.from_bytes(segment[2:], "big")
    return False


def _unturned(content: bytes) -> bool:
    """Tell if PIL finds neither a fault in the header of a JPEG nor an orientation that `decode` would undo."""
    try:
        # No limit here, for no JPEG has so many pixels: the caller checks the size.
        with QUIET, open_image(content, max_pixels=1 << 32) as image:
            return orientation_of(image) == 1
    except BadImage:
        return False


def _resize_into(image: UInt8[np.ndarray, "height width 3"], out: Pixels) -> None:
    # On channels-last memory this is one pass of integer SIMD if the processor has it, written to `out` itself.
    # F.interpolate calls the same kernel, but would return new memory.
    size = len(out)
    torch.ops.aten._upsample_bilinear2d_aa.out(
        _channels_last(image), [size, size], False, None, None, out=_channels_last(out)
    )


def _channels_last(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[torch.Tensor, "1 3 height width"]:
    return torch.from_numpy(image[None]).permute(0, 3, 1, 2)
