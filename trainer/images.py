"""Pixels: untrusted bytes to RGB, and the crop that the model sees.

In: the bytes of an image member. Out: uint8 pixels [size, size, 3], or `BadImage` with the reason it was refused.
Normalisation happens on the device (`trainer/model.py`), so that three bytes a pixel travel.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

Pixels = UInt8[np.ndarray, "size size 3"]

# PostScript and the like run programs; these are what image tars hold.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# What PIL's decoders raise on bytes that are not what they claim.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
)
# Aspect ratios of random crops, as in the Inception recipe that torchvision and CoreNet follow.
ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10


class BadImage(Exception):  # noqa: N818
    """An image that is skipped and counted; its only argument is the reason, as written to bad_samples.jsonl."""


def decode(content: bytes, *, max_pixels: int) -> Image.Image:
    """RGB image of JPEG, PNG, WebP, GIF, BMP or TIFF bytes: upright (EXIF), opaque (on white), 8 bits a channel.

    Of animated files the first frame. Raises BadImage: not_an_image, decompression_bomb, broken_image.
    """
    with warnings.catch_warnings():
        # PIL warns of corrupt EXIF, odd palettes and large images; what matters of it becomes a reason below.
        warnings.simplefilter("ignore")
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


def random_crop(image: Image.Image, rng: np.random.Generator, *, size: int, min_area: float, flip: bool) -> Pixels:
    """Random resized crop, bilinear, and a mirror image half of the time if `flip`.

    Area uniform in [min_area, 1] of the image, aspect ratio log-uniform in 3/4..4/3 (Inception; torchvision's
    RandomResizedCrop). Every choice comes from `rng`, and always the same number of draws before the flip.
    """
    shares = rng.uniform(min_area, 1, CROP_TRIES)
    ratios = np.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), CROP_TRIES))
    place = rng.uniform(size=2)
    mirrored = flip and bool(rng.random() < 0.5)
    width, height = image.size
    for share, ratio in zip(shares.tolist(), ratios.tolist(), strict=True):
        across = round(math.sqrt(share * width * height * ratio))
        down = round(math.sqrt(share * width * height / ratio))
        if 0 < across <= width and 0 < down <= height:
            break
    else:
        # Too long an image for any of them: as much of it as the aspect ratios allow.
        across = max(1, min(width, round(height * ASPECT[1])))
        down = max(1, min(height, round(width / ASPECT[0])))
        place = np.array([0.5, 0.5])
    left, top = int(place[0] * (width - across + 1)), int(place[1] * (height - down + 1))
    box = (left, top, left + across, top + down)
    cropped = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(ImageOps.mirror(cropped) if mirrored else cropped)


def centre_crop(image: Image.Image, *, size: int, share: float) -> Pixels:
    """The central square of `share` of the shorter side, bilinear.

    Cropped before it is scaled, so that an image of absurd length costs no more than another.
    """
    side = share * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, min(left + side, image.width), min(top + side, image.height))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def sample_rng(*, seed: int, epoch: int, shard: str, index: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch, whichever process draws them."""
    return np.random.default_rng([seed, epoch, zlib.crc32(shard.encode()), index])
