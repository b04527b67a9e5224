"""Images and their objects as a detector sees them: scaled, cut and mirrored together into a square.

A view says which part of an image lies where in the square. In training the part is drawn by large-scale jitter
(Ghiasi et al., arXiv 2012.07177): the image is scaled so that it would fill the square, then by a random factor, and a
random part of a larger image is cut out. What the square has beside the part is grey. In evaluation the part is the
whole image, its longer side as long as the square's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from PIL import Image

from trainer.data.images import BadImage, decode
from trainer.data.labelled_images import Read
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.shapes import Edges, Mask, common, mask_of

DRAWS = 4
"""random numbers of a training view: scale, two offsets, mirroring"""
MASK_SIDE = 112
"""side of an object's mask inside its box: four times that of a predicted one"""
LEAST_SIDE = 1.0
"""sides of a box in the model's input, pixels; smaller objects are left out"""


@dataclass(frozen=True)
class Jitter:
    """Views of training images."""

    low: float
    high: float
    """factors on the scale at which an image fills the square"""
    squash: bool
    """fill the square whatever the image's aspect ratio"""
    flip: bool


@dataclass(frozen=True)
class ImageView:
    """Part of an image, and the rectangle that it fills in the upper left of the model's square."""

    part: Edges
    """in pixels of the image"""
    width: int
    height: int
    """pixels of the rectangle"""
    mirrored: bool

    def to_input(self, boxes: Float32[np.ndarray, "boxes 4"]) -> Float32[np.ndarray, "boxes 4"]:
        """Boxes of the image in pixels of the model's input; they may leave the rectangle."""
        left, top, right, bottom = self.part
        scale = np.array([self.width / (right - left), self.height / (bottom - top)] * 2, np.float32)
        moved = (boxes - np.array([left, top] * 2, np.float32)) * scale
        return self._mirrored(moved)

    def to_image(self, boxes: Float32[np.ndarray, "boxes 4"]) -> Float32[np.ndarray, "boxes 4"]:
        """Boxes of the model's input in pixels of the image; undoes `to_input`."""
        left, top, right, bottom = self.part
        scale = np.array([(right - left) / self.width, (bottom - top) / self.height] * 2, np.float32)
        return self._mirrored(boxes) * scale + np.array([left, top] * 2, np.float32)

    def _mirrored(self, boxes: Float32[np.ndarray, "boxes 4"]) -> Float32[np.ndarray, "boxes 4"]:
        if not self.mirrored:
            return boxes
        turned = boxes.copy()
        turned[:, [2, 0]] = self.width - boxes[:, [0, 2]]
        return turned


def view_of(width: int, height: int, *, size: int, jitter: Jitter, draws: Float64[np.ndarray, " draws"]) -> ImageView:
    """Choose the part of an image that fills a square of `size` pixels. `draws`: DRAWS numbers in [0, 1)."""
    luck, across, down, mirrored = draws.tolist()
    scale = jitter.low + (jitter.high - jitter.low) * luck
    sides = (width, height) if jitter.squash else (max(width, height),) * 2
    scaled = [max(1, round(own * scale * size / side)) for own, side in zip((width, height), sides, strict=True)]
    seen = [min(size, side) for side in scaled]
    starts = [(side - own) * offset for side, own, offset in zip(scaled, seen, (across, down), strict=True)]
    ratios = [own / side for own, side in zip((width, height), scaled, strict=True)]
    # A view that is not cut ends exactly at the image's edge: an object there is whole.
    right, bottom = (
        own if shown == side else min(own, (start + shown) * ratio)
        for own, side, shown, start, ratio in zip((width, height), scaled, seen, starts, ratios, strict=True)
    )
    part = (starts[0] * ratios[0], starts[1] * ratios[1], float(right), float(bottom))
    return ImageView(part, seen[0], seen[1], mirrored=jitter.flip and mirrored < 0.5)


@dataclass(frozen=True, eq=False)
class SeenObjects:
    """Objects of a view, without crowds; those that it shows nothing of are left out."""

    boxes: Float32[np.ndarray, "objects 4"]
    """in pixels of the model's input"""
    classes: Int64[np.ndarray, " objects"]
    masks: UInt8[np.ndarray, "objects side side"] | None
    """mask of each inside its box, 0 to 255; None if they were not asked for"""


def objects_in(data: AnnotatedImages, image: int, view: ImageView, *, masks: bool) -> SeenObjects:
    """Find what a view shows of an image's objects.

    A box that the view cuts is that of the visible part of the mask, where there are `masks`, as ViTDet has it.
    """
    width, height = data.sizes[image].tolist()
    boxes: list[Edges] = []
    classes: list[int] = []
    shown: list[Mask] = []
    for number in data.objects(image):
        if data.crowds[number]:
            continue
        whole = _edges(data.boxes[number])
        region = common(whole, view.part)
        shape = data.shapes[number] if masks else None
        if region is not None and shape is not None:
            mask = mask_of(shape, width=width, height=height)
            if region != whole:
                region = bounds(mask, region)
            if region is not None:
                shown.append(inside(mask, region, mirrored=view.mirrored))
        if region is not None:
            boxes.append(region)
            classes.append(int(data.classes[number]))
    placed = view.to_input(np.array(boxes, np.float32).reshape(-1, 4))
    large = ((placed[:, 2:] - placed[:, :2]) >= LEAST_SIDE).all(axis=1)
    kept = np.flatnonzero(large)
    squares = np.array([shown[each] for each in kept.tolist()], np.uint8) if masks else None
    return SeenObjects(
        placed[kept],
        np.array(classes, np.int64)[kept],
        None if squares is None else squares.reshape(-1, MASK_SIDE, MASK_SIDE),
    )


def _edges(box: Float32[np.ndarray, "4"]) -> Edges:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def bounds(mask: Mask, region: Edges) -> Edges | None:
    """Smallest rectangle around the pixels of a mask in a region; None if there is no pixel."""
    left, top = int(region[0]), int(region[1])
    right, bottom = int(np.ceil(region[2])), int(np.ceil(region[3]))
    part = mask[top:bottom, left:right]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if not len(rows):
        return None
    around = (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)
    return common((float(around[0]), float(around[1]), float(around[2]), float(around[3])), region)


def inside(mask: Mask, region: Edges, *, mirrored: bool) -> UInt8[np.ndarray, "side side"]:
    """Scale the part of a mask in a region to a square, 0 to 255."""
    picture = Image.fromarray(mask * np.uint8(255))
    scaled = np.asarray(picture.resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BILINEAR, box=region))
    return np.ascontiguousarray(scaled[:, ::-1]) if mirrored else scaled


@dataclass(frozen=True, eq=False)
class Viewer:
    """Pixels of views of images in a store."""

    size: int
    """side of the square, pixels"""
    background: tuple[int, int, int]
    """colour beside the part"""
    max_pixels: int
    take_truncated: bool

    def pixels(
        self, data: AnnotatedImages, read: Read, image: int, view: ImageView
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Decode an image and fill the square.

        Raises BadImage as `decode`, and "other_size" for an image of another size than the annotations tell.
        """
        picture = decode(
            read(int(data.images.rows[image])), max_pixels=self.max_pixels, take_truncated=self.take_truncated
        )
        if picture.size != tuple(data.sizes[image].tolist()):
            raise BadImage("other_size")
        return self.square(picture, view)

    def square(self, picture: Image.Image, view: ImageView) -> UInt8[np.ndarray, "size size 3"]:
        """Fill the square with a view of a decoded image."""
        scaled = picture.resize((view.width, view.height), Image.Resampling.BILINEAR, box=view.part)
        seen = np.asarray(scaled)
        square = np.empty((self.size, self.size, 3), np.uint8)
        square[:] = self.background
        square[: view.height, : view.width] = seen[:, ::-1] if view.mirrored else seen
        return square
