"""Pixels: untrusted bytes to RGB, and the crop of them that the model sees, antialiased into its place in a batch.

In: the bytes of an image member and the box that is wanted of it. Out: uint8 pixels [size, size, 3], or `BadImage` with
the reason it was refused. Normalisation happens on the device (`trainer/model.py`): three bytes a pixel travel.

`decode` says which bytes are an image and what it looks like. Most JPEGs need none of its care, and `crop_into` takes
them a faster way that gives the same crop but for rounding; whatever that way has a doubt about goes back to `decode`.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, features

from trainer.data.crops import Box, on_grid

Pixels = UInt8[np.ndarray, "size size 3"]
Choose = Callable[[int, int], Box]
"""width and height of an upright image -> the box of it that is wanted"""

# PostScript and the like run programs; these are what image tars hold.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
if "avif" in features.modules and features.check("avif"):  # of Pillow 11.3 and later, as its wheels are built
    FORMATS += ("AVIF",)
# What PIL's decoders raise on bytes that are not what they claim.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
# Segments that neither turn an image nor change its colours, in the processes that every JPEG decoder knows: DQT, DHT,
# DRI, COM; SOF0, SOF1, SOF2 (baseline, extended, progressive). APP0 only if it is JFIF's; the others PIL has to read.
PLAIN_SEGMENTS = frozenset({0xDB, 0xC4, 0xDD, 0xFE, 0xC0, 0xC1, 0xC2})
APP_SEGMENTS = frozenset(range(0xE0, 0xF0))
JFIF = b"\xff\xe0\x00\x10JFIF\x00"
START_OF_SCAN = 0xDA
# What a thread keeps between images: pages that were touched once need no second fault. Larger images do without.
SCRATCH_BYTES = 64 << 20
# What simplejpeg raises on bytes that it cannot or, being strict, does not want to decode.
JPEG_ERRORS = (ValueError, RuntimeError, LookupError, MemoryError)
# More than any honest header has.
MAX_SEGMENTS = 64


class BadImage(Exception):  # noqa: N818
    """An image that is skipped and counted; its only argument is the reason, as written to bad_samples.jsonl."""


class _Quiet:
    """Silences warnings while any thread is inside.

    `warnings.catch_warnings` alone would let one thread's exit undo another's entry.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


# PIL warns of corrupt EXIF, odd palettes and large images; what matters of it becomes a reason.
QUIET = _Quiet()


def decode(content: bytes, *, max_pixels: int) -> Image.Image:
    """RGB image of JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF bytes: upright (EXIF), opaque (on white), 8 bits a channel.

    Of animated files the first frame. Raises BadImage: not_an_image, decompression_bomb, broken_image.
    """
    with QUIET:
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise BadImage("decompression_bomb") from error
        except DECODE_ERRORS as error:
            raise BadImage("not_an_image") from error
        if image.width * image.height > max_pixels:
            raise BadImage("decompression_bomb")
        try:
            image.load()
            return _opaque(ImageOps.exif_transpose(image))
        except Image.DecompressionBombError as error:
            raise BadImage("decompression_bomb") from error
        except DECODE_ERRORS as error:
            raise BadImage("broken_image") from error


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        # 16 bits a pixel: the high byte. convert() would clip everything above 255 to white.
        high = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.mode in ("PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


class _Scratch(threading.local):
    """Memory of one thread for decoded and cropped pixels; the system gives its pages when they are first written."""

    def __init__(self) -> None:
        self.decoded = np.empty(SCRATCH_BYTES, np.uint8)
        self.cropped = np.empty(SCRATCH_BYTES, np.uint8)


_scratch = _Scratch()


def crop_into(content: bytes, out: Pixels, *, choose: Choose, max_pixels: int) -> None:
    """Write the box that `choose` picks of an image to `out`, scaled to its size: bilinear, antialiased.

    `choose` gets the width and height that `decode` would give, and may be asked twice for one image. What is cut is
    the box of `crops.on_grid`. The result equals a bilinear `resize` of PIL's crop of `decode(content)`, but that JPEGs
    are decoded at 1/step of their size. Raises BadImage as `decode` does.
    """
    if _jpeg_into(content, out, choose, max_pixels):
        return
    image = decode(content, max_pixels=max_pixels)
    (left, top, width, height), _ = on_grid(choose(*image.size), *image.size, size=len(out))
    _resize_into(np.array(image.crop((left, top, left + width, top + height))), out)


def _jpeg_into(content: bytes, out: Pixels, choose: Choose, max_pixels: int) -> bool:
    """`crop_into` for an upright, flawless JPEG in grey or colour; False, and `out` as it was, for all other bytes."""
    if not _upright_jpeg(content):
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except JPEG_ERRORS:
        return False
    # PIL has a limit of its own, and refuses twice as much.
    limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
    if colours not in ("YCbCr", "Gray", "RGB") or width * height > limit:
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
            buffer=_scratch.decoded if 3 * down * across <= SCRATCH_BYTES else None,
        )
    except JPEG_ERRORS:
        # It is strict: what libjpeg only warns of comes here too, and PIL says whether it is an image.
        return False
    left, top, right, bottom = (edge // step for edge in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    crop = image[top:bottom, left:right]
    if not crop.flags.c_contiguous and crop.size <= SCRATCH_BYTES:
        whole = _scratch.cropped[: crop.size].reshape(crop.shape)
        np.copyto(whole, crop)
        crop = whole
    _resize_into(crop, out)
    return True


def _upright_jpeg(content: bytes) -> bool:
    """Whether the segments before the first scan are such that any decoder shows the same image, the same way up."""
    if content[:2] != b"\xff\xd8":
        return False
    place, plain = 2, True
    for _ in range(MAX_SEGMENTS):
        segment = content[place : place + 4]
        if len(segment) < 4 or segment[0] != 0xFF:
            return False
        kind = segment[1]
        if kind == START_OF_SCAN:
            return plain or _unturned(content)
        if kind not in PLAIN_SEGMENTS and not content.startswith(JFIF, place):
            if kind not in APP_SEGMENTS:
                return False
            plain = False
        place += 2 + int.from_bytes(segment[2:], "big")
    return False


def _unturned(content: bytes) -> bool:
    """Whether PIL finds neither a fault in the header of a JPEG nor an orientation that `decode` would undo."""
    try:
        with QUIET, Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
    except (Image.DecompressionBombError, *DECODE_ERRORS):
        return False


def _resize_into(image: UInt8[np.ndarray, "height width 3"], out: Pixels) -> None:
    # On channels last this is one pass of integer SIMD where the processor has it, and writes to `out` itself;
    # F.interpolate calls the same kernel, but would return new memory.
    size = len(out)
    torch.ops.aten._upsample_bilinear2d_aa.out(
        _channels_last(image), [size, size], False, None, None, out=_channels_last(out)
    )


def _channels_last(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[torch.Tensor, "1 3 height width"]:
    return torch.from_numpy(image[None]).permute(0, 3, 1, 2)
