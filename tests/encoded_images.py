"""Encoded images, and the crops that PIL makes of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from trainer.data.crops import Box, on_grid
from trainer.data.images import BadImage, Choose, crop_into, decode

LIMIT = 1_000_000
PHOTO_LIMIT = 89_478_485


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def whole(width: int, height: int) -> Box:
    return 0, 0, width, height


def cropped(content: bytes, *, choose: Choose, size: int, max_pixels: int = PHOTO_LIMIT) -> np.ndarray:
    out = np.full((size, size, 3), 99, np.uint8)
    crop_into(content, out, choose=choose, max_pixels=max_pixels)
    return out.astype(int)


def plainly_cropped(content: bytes, *, choose: Choose, size: int, max_pixels: int = PHOTO_LIMIT) -> np.ndarray:
    """Decode, crop and scale with PIL alone: the pixels that crop_into must give."""
    return plainly(decode(content, max_pixels=max_pixels), choose=choose, size=size)


def plainly(image: Image.Image, *, size: int, choose: Choose = whole) -> np.ndarray:
    (left, top, width, height), _ = on_grid(choose(*image.size), *image.size, size=size)
    image = image.crop((left, top, left + width, top + height))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)


def outcome(crop: Callable[..., np.ndarray], content: bytes, *, max_pixels: int = LIMIT) -> str:
    try:
        crop(content, choose=whole, size=16, max_pixels=max_pixels)
    except BadImage as bad:
        return str(bad)
    return "an image"


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def scenery(width: int = 70, height: int = 50) -> Image.Image:
    """Soft slopes of colour, different on each side, that survive JPEG."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - (across + down) / 2], axis=-1).astype(np.uint8))


def grey16() -> Image.Image:
    return Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
