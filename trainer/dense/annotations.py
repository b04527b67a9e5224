"""Images with their objects: boxes, masks and classes of COCO's instance annotations.

    "annotations": [{"id": 91, "image_id": 139, "category_id": 64, "iscrowd": 0, "area": 300.2,
                     "bbox": [178.1, 107.1, 18.6, 52.2], "segmentation": [[181.0, 158.7, ...]]}, ...]

The file is untrusted: `coco_json.py` checks what it says of images and categories, `shapes.py` its masks, and this
module its boxes. An object that cannot be used is left out and counted by its reason:

    broken_box          no four finite numbers as bbox
    box_without_area    no width or no height
    box_outside         less than half of the box lies inside its image; another box is cut at the image's edges
    crowd_unclear       an iscrowd that is neither 0 nor 1
    broken_polygon, polygon_outside, broken_rle, rle_of_another_size, mask_without_area      of `shapes.py`
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from trainer.data.labelled_images import LabelledImages
from trainer.dense.shapes import BadShape, Polygons, Shape, shape_of
from trainer.transfer.tasks.coco import classes_shown, synsets_of
from trainer.transfer.tasks.coco_json import (
    Annotation,
    Id,
    annotations_of,
    categories_of,
    entries_of,
    images_of,
    read_annotations,
    refused,
)
from trainer.transfer.tasks.files import FileStore, open_files
from vocab.errors import InputError
from vocab.pages.text import counted

LEAST_INSIDE = 0.5
"""share of a box that lies inside its image"""
MOST_SIDE = 1 << 16
"""width or height of an image, pixels"""


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
        flat = np.unique(owners * len(self.categories) + classes)
        shown = np.searchsorted(flat // len(self.categories), np.arange(len(self) + 1))
        images = replace(self.images, offsets=shown.astype(np.int64), classes=flat % len(self.categories))
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


def open_instances(annotations: Path, folder: str, *, max_bad_share: float) -> AnnotatedImages:
    """Open the images and objects of an annotation file.

    Images that are missing are named in `images.skipped`, as in `open_coco`, and their objects are left out with them.

    Raises InputError as `open_coco`; for an image without width and height; and for more than `max_bad_share` of the
    objects left out, or all.
    """
    content = read_annotations(annotations, shorten=_compact)
    labels, numbers = categories_of(annotations, content)
    paths, positions = images_of(annotations, content, folder)
    sizes = _sizes(annotations, content)
    found, notes = annotations_of(annotations, content, positions, numbers)
    found = sorted(found, key=lambda each: each.image)  # stable: in the file's order within an image
    objects, left_out = _objects(found, sizes)
    check_left_out(annotations, left_out, kept=len(objects), max_bad_share=max_bad_share)
    shown_offsets, shown = classes_shown([each.annotation for each in objects], images=len(paths), classes=len(labels))
    images = open_files(
        folder,
        paths,
        shown_offsets,
        shown,
        labels,
        what=f"{annotations}::{folder}",
        max_bad_share=max_bad_share,
        multi_label=True,
        class_names=synsets_of(content, labels),
        notes=(*notes, *left_out_notes(left_out)),
    )
    owners = np.array([each.annotation.image for each in objects], np.int64)
    everything = AnnotatedImages(
        images=images,
        sizes=sizes,
        ids=tuple(positions),
        categories=tuple(numbers),
        offsets=np.searchsorted(owners, np.arange(len(paths) + 1)).astype(np.int64),
        boxes=np.array([each.box for each in objects], np.float32).reshape(-1, 4),
        classes=np.array([each.annotation.category for each in objects], np.int64),
        areas=np.array([each.area for each in objects], np.float64),
        crowds=np.array([each.crowd for each in objects], bool),
        shapes=tuple(each.shape for each in objects),
        left_out=left_out,
    )
    assert isinstance(images.store, FileStore)
    there = {path: number for number, path in enumerate(paths)}
    kept = np.array([there[path] for path in images.store.paths], np.int64)
    return everything._with_objects(kept)


@dataclass(frozen=True, eq=False)
class _Object:
    annotation: Annotation
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    shape: Shape | None


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Pack the polygons of an annotation while the file is read: lists of numbers take ten times the memory."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        entry["segmentation"] = [_packed(polygon) for polygon in polygons]
    return entry


def _packed(polygon: object) -> object:
    try:
        return np.array(polygon, np.float64)
    except (ValueError, TypeError, OverflowError):
        return polygon  # refused with its reason where shapes are checked


def _sizes(path: Path, content: Mapping[str, Any]) -> Int64[np.ndarray, "images 2"]:
    """Width and height of each image. Raises InputError for an image without them."""
    sizes = []
    for what, entry in entries_of(path, content, "images"):
        size = (entry.get("width"), entry.get("height"))
        if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < MOST_SIDE for side in size):
            raise refused(
                path,
                f"{size!r:.80} as width and height of {what}",
                f"whole numbers from 1 to {MOST_SIDE - 1:,}",
                "Boxes lie in pixels of an image: write the sizes of the images into the file.",
            )
        sizes.append(size)
    return np.array(sizes, np.int64).reshape(-1, 2)


def _objects(
    annotations: Sequence[Annotation], sizes: Int64[np.ndarray, "images 2"]
) -> tuple[list[_Object], Counter[str]]:
    """The objects that can be used, in their order, and a count of the others by reason."""
    objects: list[_Object] = []
    left_out: Counter[str] = Counter()
    for each in annotations:
        width, height = sizes[each.image].tolist()
        try:
            objects.append(_object(each, width=width, height=height))
        except BadShape as bad:
            left_out[str(bad)] += 1
    return objects, left_out


def _object(annotation: Annotation, *, width: int, height: int) -> _Object:
    entry = annotation.entry
    box = box_inside(entry.get("bbox"), width=width, height=height)
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise BadShape("crowd_unclear")
    shape = shape_of(entry.get("segmentation"), width=width, height=height)
    area = entry.get("area")
    if not isinstance(area, int | float) or not 0 < area <= width * height:
        area = (box[2] - box[0]) * (box[3] - box[1])
    return _Object(annotation, box, float(area), bool(crowd), shape)


def box_inside(given: object, *, width: int, height: int) -> tuple[float, float, float, float]:
    """Check a box [left, top, width, height], and return the edges of its part inside the image.

    Raises BadShape: broken_box, box_without_area, box_outside.
    """
    if not isinstance(given, list) or len(given) != 4:
        raise BadShape("broken_box")
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in given):
        raise BadShape("broken_box")
    left, top, across, down = given
    if across <= 0 or down <= 0:
        raise BadShape("box_without_area")
    edges = (max(left, 0), max(top, 0), min(left + across, width), min(top + down, height))
    inside = max(0, edges[2] - edges[0]) * max(0, edges[3] - edges[1])
    if inside < LEAST_INSIDE * across * down:
        raise BadShape("box_outside")
    return edges


def check_left_out(path: Path, left_out: Counter[str], *, kept: int, max_bad_share: float) -> None:
    """Raise InputError if more than `max_bad_share` of the objects are left out, or all of them."""
    bad = left_out.total()
    if bad <= max_bad_share * (kept + bad) and (kept or not bad):
        return
    raise InputError(
        path,
        found=f"{bad:,} of {kept + bad:,} objects that cannot be used ({reasons(left_out)})",
        wanted=f"at most {100 * max_bad_share:g}% of them, and at least one object that can",
        remedy="Mend these annotations or leave them out, or raise --task.max-bad-share.",
    )


def left_out_notes(left_out: Counter[str]) -> tuple[str, ...]:
    """Write a note on objects that are left out; none where all can be used."""
    return (f"{counted(left_out.total(), 'object')} left out: {reasons(left_out)}",) if left_out else ()


def reasons(left_out: Counter[str]) -> str:
    """Count objects by reason: "3 broken_polygon, 1 box_outside"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())


def content_of_objects(*sides: AnnotatedImages) -> str:
    """Compute a sha256 of boxes, classes and masks, with the sizes of their images."""
    digest = hashlib.sha256()
    for side in sides:
        for numbers in (side.sizes, side.offsets, side.classes, side.crowds):
            digest.update(numbers.astype("<i8").tobytes())
        digest.update(side.boxes.astype("<f4").tobytes())
        for shape in side.shapes:
            parts = () if shape is None else shape.rings if isinstance(shape, Polygons) else (shape.counts,)
            digest.update(f"{type(shape).__name__} {[len(part) for part in parts]}".encode())
            for part in parts:
                digest.update(part.astype("<f8").tobytes())
    return digest.hexdigest()
