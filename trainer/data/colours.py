"""Colours: images in PIL's modes to opaque RGB with 8 bits a channel.

An image has one conversion, for the whole of it or any part: what depends on the whole image, such as the range of its
values, is found once.

    alpha              on white
    16 bits, floats    the range is guessed from the largest value: 0..1 (floats alone), 0..255, or 0..65535. If that is
                       far below the end of its range, the picture would be black whatever it shows: unknown_range
    CMYK in a JPEG     inverted, as in browsers and PIL, unless there is no Adobe marker and it would then be black
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageChops, JpegImagePlugin, TiffImagePlugin

from trainer.data.image_files import BadImage

Convert = Callable[[Image.Image], Image.Image]
ALPHA_MODES = ("PA", "LA", "La", "RGBA", "RGBa")
# Least share of the range that a picture's largest value must reach; not asked of the smallest range.
DARKEST = 1 / 16
# Pixels that are converted at once.
BAND_PIXELS = 1 << 20
# Size of the sample from which the polarity of a CMYK image is guessed.
SAMPLE = (64, 64)
WHITE_IS_ZERO = 0


def to_rgb(image: Image.Image, *, deep: bool) -> Convert:
    """The conversion of parts of an image to RGB. `deep`: its file has more than 8 bits a channel.

    Raises BadImage: unknown_range.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image)
    if deep:
        _refuse_dark(image)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _on_white
    if image.mode == "CMYK" and isinstance(image, JpegImagePlugin.JpegImageFile) and _is_negative(image):
        return lambda part: ImageChops.invert(part).convert("RGB")
    return lambda part: part if part.mode == "RGB" else part.convert("RGB")


def bands(width: int, height: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """First row and end of each band of about `BAND_PIXELS`; all but the last have a multiple of `multiple` rows."""
    rows = max(1, BAND_PIXELS // width // multiple) * multiple
    for first in range(0, height, rows):
        yield first, min(first + rows, height)


def _on_white(part: Image.Image) -> Image.Image:
    part = part.convert("RGBA")
    white = Image.new("RGBA", part.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, part).convert("RGB")


def _grey(image: Image.Image) -> Convert:
    """The conversion of an image with one value a pixel, of more than 8 bits."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    extents = ((0, first, image.width, last) for first, last in bands(image.width, image.height))
    parts = (np.asarray(image.crop(extent)) for extent in extents)
    extremes = [(part.min(), part.max()) for part in parts]
    low, high = float(np.min([least for least, _ in extremes])), float(np.max([most for _, most in extremes]))
    full = _range(low, high, floats=image.mode == "F", bits=max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))))
    inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO

    def convert(part: Image.Image) -> Image.Image:
        grey = _bytes_of(np.asarray(part), full)
        return Image.fromarray(255 - grey if inverted else grey).convert("RGB")

    return convert


def _range(low: float, high: float, *, floats: bool, bits: int) -> int:
    """The value of white. Raises BadImage if it cannot be guessed."""
    ranges = (1, 255, 65535) if floats else (4095,) if bits == 12 else (255, 65535)
    full = next((end for end in ranges if high <= end), None)
    # NaN compares as False.
    if full is None or not low >= 0 or (full != ranges[0] and high < DARKEST * full):
        raise BadImage("unknown_range")
    return full


def _bytes_of(values: np.ndarray, full: int) -> UInt8[np.ndarray, "height width"]:
    if values.dtype.kind == "f":
        return np.rint(values * (255 / full)).astype(np.uint8)
    # The high bits, as PIL takes them of colours of 16 bits.
    return (values.astype(np.int64) >> (full.bit_length() - 8)).astype(np.uint8)


def _refuse_dark(image: Image.Image) -> None:
    """Refuse colours of 16 bits with empty high bytes: PIL has dropped the low ones. Raises BadImage: unknown_range."""
    most = np.reshape(image.getextrema(), (-1, 2))[:, 1]
    if most[: -1 if image.mode in ALPHA_MODES else None].max() < DARKEST * 256:
        raise BadImage("unknown_range")


def _is_negative(image: Image.Image) -> bool:
    """Tell whether the inks of a CMYK JPEG are the inverse of what PIL reads.

    Files of Adobe's programs hold inverted inks, and have its marker. Files without the marker are taken as inverted
    too, unless more than half of the picture would then be black, and would not be otherwise.
    """
    if "adobe" in image.info:
        return False
    sample = image.resize(SAMPLE, Image.Resampling.NEAREST)
    usual, other = (np.asarray(inks.convert("RGB")).max(-1) for inks in (sample, ImageChops.invert(sample)))
    darkest = DARKEST * 256
    return bool(np.median(usual) < darkest <= np.median(other))
