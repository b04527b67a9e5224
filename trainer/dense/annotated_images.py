"""Images with their objects: boxes, classes, masks, whichever form of annotations they come from.

An object that cannot be used is left out and counted by its reason:

    broken_box          no four finite numbers
    box_without_area    no width or no height
    box_outside         less than half of the box lies inside its image; another box is cut at the image's edges
    crowd_unclear       a mark of crowds that is neither 0 nor 1
    no_mask             no mask, where masks are learnt
    mask_outside_box    a mask that has nothing in the box
    repeated_id         the id of an earlier object
    broken_polygon, polygon_outside, broken_rle, rle_of_another_size, mask_without_area      of `shapes.py`
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from trainer.data.batch import Skipped
from trainer.data.labelled_images import LabelledImages
from trainer.dense.shapes import BadShape, Edges, Polygons, Shape
from trainer.transfer.tasks.coco import classes_shown
from trainer.transfer.tasks.coco_json import Id
from trainer.transfer.tasks.files import FileStore, open_files
from vocab.errors import InputError
from vocab.pages.text import counted

LEAST_INSIDE = 0.5
"""share of a box that lies inside its image"""
MOST_SIDE = 1 << 16
"""width or height of an image, pixels"""


@dataclass(frozen=True, eq=False)
class AnnotatedObject:
    """An object as its annotation describes it, checked."""

    image: int
    """index of its image"""
    category: int
    """number of its class"""
    box: Edges
    area: float
    crowd: bool
    shape: Shape | None = None


@dataclass(frozen=True, eq=False)
class AnnotatedImages:
    """Images and objects: image i has the objects offsets[i] : offsets[i + 1]."""

    images: LabelledImages
    """`classes` of an image: those of its objects, each once"""
    sizes: Int64[np.ndarray, "images 2"]
    """width and height of each image, pixels"""
    ids: tuple[Id, ...]
    """id of each image in the file"""
    categories: tuple[Id, ...]
    """id of each class in the file"""
    offsets: Int64[np.ndarray, " images_plus_1"]
    boxes: Float32[np.ndarray, "objects 4"]
    """left, top, right, bottom in pixels, inside the image"""
    classes: Int64[np.ndarray, " objects"]
    areas: Float64[np.ndarray, " objects"]
    """area of each object, square pixels: the file's, or that of the box where the file has none"""
    crowds: Bool[np.ndarray, " objects"]
    """True: a region of many objects, for evaluation alone"""
    shapes: tuple[Shape | None, ...]
    """mask of each object; None where the file has none"""
    left_out: Mapping[str, int]
    """objects that were left out, by reason"""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_masks(self) -> bool:
        """Tell whether any object has a mask."""
        return any(shape is not None for shape in self.shapes)

    def objects(self, image: int) -> range:
        """Numbers of the objects of an image."""
        return range(int(self.offsets[image]), int(self.offsets[image + 1]))

    def select(self, images: Int64[np.ndarray, " some"]) -> AnnotatedImages:
        """Select some of the images with their objects, in the given order."""
        return replace(self._with_objects(images), images=self.images.select(images))

    def keep(self, objects: Bool[np.ndarray, " objects"]) -> AnnotatedImages:
        """Keep some of the objects of each image; True marks them."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))[objects]
        classes = self.classes[objects]
        shown_offsets, shown = classes_shown(owners, classes, images=len(self), count=len(self.categories))
        images = replace(self.images, offsets=shown_offsets, classes=shown)
        return replace(
            self,
            images=images,
            offsets=np.searchsorted(owners, np.arange(len(self) + 1)).astype(np.int64),
            boxes=self.boxes[objects],
            classes=classes,
            areas=self.areas[objects],
            crowds=self.crowds[objects],
            shapes=tuple(self.shapes[each] for each in np.flatnonzero(objects).tolist()),
        )

    def _with_objects(self, images: Int64[np.ndarray, " some"]) -> AnnotatedImages:
        """Select sizes, ids and objects of some images, without the images themselves."""
        lengths = np.diff(self.offsets)[images]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        objects = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[images], lengths)
        return replace(
            self,
            sizes=self.sizes[images],
            ids=tuple(self.ids[image] for image in images.tolist()),
            offsets=offsets,
            boxes=self.boxes[objects],
            classes=self.classes[objects],
            areas=self.areas[objects],
            crowds=self.crowds[objects],
            shapes=tuple(self.shapes[each] for each in objects.tolist()),
        )


def assembled(
    folder: str,
    paths: Sequence[str],
    sizes: Int64[np.ndarray, "images 2"],
    objects: Sequence[AnnotatedObject],
    left_out: Counter[str],
    *,
    ids: Sequence[Id],
    labels: Sequence[str],
    categories: Sequence[Id],
    what: str,
    max_bad_share: float,
    skipped: Sequence[Skipped] = (),
    class_names: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> AnnotatedImages:
    """Make a data set of the images in a folder and their objects, in any order.

    Raises InputError for more than `max_bad_share` of the objects left out, or all; and as `check_bad_share` of `what`.
    """
    check_left_out(what, left_out, kept=len(objects), max_bad_share=max_bad_share)
    ordered = sorted(objects, key=lambda each: each.image)  # stable: in the order of annotations within an image
    owners = np.array([each.image for each in ordered], np.int64)
    classes = np.array([each.category for each in ordered], np.int64)
    shown_offsets, shown = classes_shown(owners, classes, images=len(paths), count=len(labels))
    images = open_files(
        folder,
        paths,
        shown_offsets,
        shown,
        labels,
        what=what,
        max_bad_share=max_bad_share,
        multi_label=True,
        skipped=skipped,
        class_names=class_names,
        notes=(*notes, *left_out_notes(left_out)),
    )
    everything = AnnotatedImages(
        images=images,
        sizes=sizes,
        ids=tuple(ids),
        categories=tuple(categories),
        offsets=np.searchsorted(owners, np.arange(len(paths) + 1)).astype(np.int64),
        boxes=np.array([each.box for each in ordered], np.float32).reshape(-1, 4),
        classes=classes,
        areas=np.array([each.area for each in ordered], np.float64),
        crowds=np.array([each.crowd for each in ordered], bool),
        shapes=tuple(each.shape for each in ordered),
        left_out=left_out,
    )
    assert isinstance(images.store, FileStore)
    there = {path: number for number, path in enumerate(paths)}
    return everything._with_objects(np.array([there[path] for path in images.store.paths], np.int64))


def is_number(given: object) -> bool:
    """Tell whether a value of JSON is a finite number; true and false are none."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return False
    try:
        return math.isfinite(given)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def box_inside(given: object, *, width: int, height: int) -> Edges:
    """Check a box [left, top, width, height], and return the edges of its part inside the image.

    Raises BadShape: broken_box, box_without_area, box_outside.
    """
    if not isinstance(given, list) or len(given) != 4 or not all(map(is_number, given)):
        raise BadShape("broken_box")
    left, top, across, down = map(float, given)
    if across <= 0 or down <= 0:
        raise BadShape("box_without_area")
    edges = (max(left, 0), max(top, 0), min(left + across, width), min(top + down, height))
    inside = max(0, edges[2] - edges[0]) * max(0, edges[3] - edges[1])
    if inside < LEAST_INSIDE * across * down:
        raise BadShape("box_outside")
    return edges


def check_left_out(what: str, left_out: Counter[str], *, kept: int, max_bad_share: float) -> None:
    """Raise InputError if more than `max_bad_share` of the objects are left out, or all of them."""
    bad = left_out.total()
    if bad <= max_bad_share * (kept + bad) and (kept or not bad):
        return
    raise InputError(
        what,
        found=f"{bad:,} of {kept + bad:,} objects that cannot be used ({reasons(left_out)})",
        wanted=f"at most {100 * max_bad_share:g}% of them, and at least one object that can",
        remedy="Mend these annotations or leave them out" + (", or raise --task.max-bad-share." if kept else "."),
    )


def left_out_notes(left_out: Counter[str]) -> tuple[str, ...]:
    """Write a note on objects that are left out; none where all can be used."""
    return (f"{counted(left_out.total(), 'object')} left out: {reasons(left_out)}",) if left_out else ()


def reasons(left_out: Counter[str]) -> str:
    """Count objects by reason: "3 broken_polygon, 1 box_outside"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())


def content_of_objects(*sides: AnnotatedImages) -> str:
    """Compute a sha256 of boxes, classes, areas and masks, with sizes and ids of their images and ids of classes."""
    digest = hashlib.sha256()
    for side in sides:
        for numbers in (side.sizes, side.offsets, side.classes, side.crowds):
            digest.update(numbers.astype("<i8").tobytes())
        digest.update(side.boxes.astype("<f4").tobytes())
        digest.update(side.areas.astype("<f8").tobytes())
        digest.update(f"{side.ids} {side.categories}".encode())
        for shape in side.shapes:
            parts = () if shape is None else shape.rings if isinstance(shape, Polygons) else (shape.counts,)
            digest.update(f"{type(shape).__name__} {[len(part) for part in parts]}".encode())
            for part in parts:
                digest.update(part.astype("<f8").tobytes())
    return digest.hexdigest()
