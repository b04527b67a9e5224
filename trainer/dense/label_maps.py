"""Label maps: the class of each pixel of an image, as data sets store it.

    ade/annotations/a/1.png           a PNG of one channel: the value is the class, 255 is ignored; or, with zero
                                      ignored, the value less one
    VOC2012/SegmentationClass/1.png   the same with a palette: the index is the class
    panoptic/1.png                    a PNG of three: red + 256 green + 65,536 blue is a segment of panoptic.json
    instances.json                    objects painted over the class `background`, large ones first

A label map that does not fit its image is no map: the image is left out, with one of these reasons:

    no_mask   mask_is_jpeg   mask_is_rgb   mask_broken   mask_of_another_size   mask_of_other_values   segment_unknown
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int16
from PIL import Image

from trainer.data.image_files import DECODE_ERRORS, QUIET, BadImage
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.shapes import mask_of
from trainer.transfer.tasks.files import FileStore

IGNORED = -1
"""value of pixels that are neither trained on nor scored"""
MOST_LABELS = (1 << 15) - 1
"""classes that a label map can hold"""
MOST_VALUES = 1 << 16
"""values that a pixel of a PNG can have"""
ONE_CHANNEL = ("1", "L", "P", "I;16", "I;16B", "I")
"""PIL's modes of a PNG whose pixels are single numbers"""
SPREAD = {"L;2": 85, "L;4": 17}
"""PIL's factor on the values of grey PNGs of two and four bits, by the PNG's own mode"""
UNKNOWN = -2
"""value of pixels beyond the classes, before they are refused"""

LabelMap = Int16[np.ndarray, "rows columns"]


@runtime_checkable
class LabelMaps(Protocol):
    """Label maps of a data set, by the number of the image in its store."""

    def read(self, image: int, *, size: tuple[int, int] | None = None) -> LabelMap:
        """Read the class of each pixel, `IGNORED` where there is none. Raises BadImage. For any thread.

        `size`: width and height of the image; a map of another size is refused before memory is taken for it.
        """
        ...


@dataclass(frozen=True, eq=False)
class ValueMaps:
    """PNGs whose values are classes, with a palette or without."""

    files: FileStore
    classes: Int16[np.ndarray, " values"]
    """class of each value that a pixel may have; `IGNORED`, or `UNKNOWN` beyond the classes"""

    def read(self, image: int, *, size: tuple[int, int] | None = None) -> LabelMap:
        values = _png(self.files.read(image), ONE_CHANNEL, size=size, otherwise="mask_is_rgb")
        labels: LabelMap = self.classes[values.astype(np.uint16, copy=False)]
        if (labels == UNKNOWN).any():
            raise BadImage("mask_of_other_values")
        return labels


def classes_of_values(classes: int, *, first: int, ignored: tuple[int, ...]) -> Int16[np.ndarray, " values"]:
    """Make `ValueMaps.classes`. `first`: value of class 0; lower ones are ignored."""
    values = np.full(MOST_VALUES, UNKNOWN, np.int16)
    values[first : first + classes] = np.arange(classes)
    values[:first] = IGNORED
    values[list(ignored)] = IGNORED
    return values


@dataclass(frozen=True, eq=False)
class PanopticMaps:
    """PNGs whose colours are segments, things and stuff; 0 is no segment."""

    files: FileStore
    segments: tuple[Mapping[int, int], ...]
    """class of each segment of an image, by its id"""

    def read(self, image: int, *, size: tuple[int, int] | None = None) -> LabelMap:
        content = self.files.read(image)
        colours = _png(content, ("RGB", "RGBA"), size=size, otherwise="mask_of_one_channel").astype(np.int32)
        ids = colours[..., 0] + (colours[..., 1] << 8) + (colours[..., 2] << 16)
        own = {0: IGNORED, **self.segments[image]}
        present, positions = np.unique(ids, return_inverse=True)
        if not own.keys() >= set(present.tolist()):
            raise BadImage("segment_unknown")
        labels = np.array([own[each] for each in present.tolist()], np.int16)
        return labels[positions].reshape(ids.shape)


@dataclass(frozen=True, eq=False)
class ObjectMaps:
    """Masks of objects, painted over the class 0, the background; a crowd is ignored."""

    objects: AnnotatedImages

    def read(self, image: int, *, size: tuple[int, int] | None = None) -> LabelMap:
        width, height = self.objects.sizes[image].tolist()
        if size is not None and size != (width, height):
            raise _of_another_size((width, height), size)
        labels = np.zeros((height, width), np.int16)
        own = self.objects.objects(image)
        # Small objects lie on large ones, and nothing is known of what lies in a crowd.
        for each in sorted(own, key=lambda each: (self.objects.crowds[each], -self.objects.areas[each])):
            shape = self.objects.shapes[each]
            if shape is None:
                raise BadImage("no_mask")
            mask = mask_of(shape, width=width, height=height)
            labels[mask.astype(bool)] = IGNORED if self.objects.crowds[each] else self.objects.classes[each] + 1
        return labels


def _of_another_size(found: tuple[int, int], size: tuple[int, int]) -> BadImage:
    """Make the error for a map of another size than its image, whose note has both sizes."""
    bad = BadImage("mask_of_another_size")
    bad.add_note(f"mask {found[0]} x {found[1]} pixels, image {size[0]} x {size[1]}")
    return bad


def _png(content: bytes, modes: tuple[str, ...], *, size: tuple[int, int] | None, otherwise: str) -> np.ndarray:
    """Decode a PNG in one of PIL's modes as it is. Raises BadImage: `otherwise` for another mode."""
    with QUIET:
        try:
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            if image.format == "JPEG":
                raise BadImage("mask_is_jpeg")
            if image.mode not in modes:
                raise BadImage(otherwise)
            if size is not None and size != image.size:
                raise _of_another_size(image.size, size)
            spread = SPREAD.get(str(image.tile[0].args), 1)
            return np.asarray(image) // spread if spread > 1 else np.asarray(image)
        except (Image.DecompressionBombError, *DECODE_ERRORS) as error:
            raise BadImage("mask_broken") from error
