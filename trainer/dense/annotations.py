"""Images with the objects of COCO's instance annotations.

    "annotations": [{"id": 91, "image_id": 139, "category_id": 64, "iscrowd": 0, "area": 300.2,
                     "bbox": [178.1, 107.1, 18.6, 52.2], "segmentation": [[181.0, 158.7, ...]]}, ...]

The file is untrusted: `coco_json.py` checks what it says of images and categories, `shapes.py` its masks, and
`annotated_images.py` its boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from trainer.dense.annotated_images import (
    MOST_SIDE,
    AnnotatedImages,
    AnnotatedObject,
    assembled,
    box_inside,
    is_number,
)
from trainer.dense.shapes import BadShape, common, extent_of, numbers_in, shape_of
from trainer.transfer.tasks.coco import synsets_of
from trainer.transfer.tasks.coco_json import (
    Annotation,
    annotations_of,
    categories_of,
    entries_of,
    images_of,
    read_annotations,
    refused,
)


def open_instances(annotations: Path, folder: str, *, max_bad_share: float) -> AnnotatedImages:
    """Open the images and objects of an annotation file.

    Images that are missing are named in `images.skipped`, as in `open_coco`, and their objects are left out with them.

    Raises InputError as `open_coco`; for an image without width and height; and as `assembled`.
    """
    content = read_annotations(annotations, shorten=_compact)
    labels, numbers = categories_of(annotations, content)
    paths, positions = images_of(annotations, content, folder)
    sizes = _sizes(annotations, content)
    found, notes = annotations_of(annotations, content, positions, numbers)
    objects, left_out = _objects(found, sizes)
    return assembled(
        folder,
        paths,
        sizes,
        objects,
        left_out,
        ids=tuple(positions),
        labels=labels,
        categories=tuple(numbers),
        what=f"{annotations}::{folder}",
        max_bad_share=max_bad_share,
        class_names=synsets_of(content, labels),
        notes=notes,
    )


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Pack the polygons of an annotation while the file is read: lists of numbers take ten times the memory."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        packed = map(numbers_in, polygons)
        # What is no numbers stays as it is: refused with its reason where shapes are checked.
        entry["segmentation"] = [polygon if own is None else own for polygon, own in zip(polygons, packed, strict=True)]
    return entry


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
) -> tuple[list[AnnotatedObject], Counter[str]]:
    """The objects that can be used, in their order, and a count of the others by reason."""
    objects: list[AnnotatedObject] = []
    left_out: Counter[str] = Counter()
    known: set[str] = set()
    for each in annotations:
        width, height = sizes[each.image].tolist()
        identity = repr(each.entry.get("id"))
        try:
            if "id" in each.entry and identity in known:
                raise BadShape("repeated_id")
            known.add(identity)
            objects.append(_object(each, width=width, height=height))
        except BadShape as bad:
            left_out[str(bad)] += 1
    return objects, left_out


def _object(annotation: Annotation, *, width: int, height: int) -> AnnotatedObject:
    entry = annotation.entry
    box = box_inside(entry.get("bbox"), width=width, height=height)
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise BadShape("crowd_unclear")
    shape = shape_of(entry.get("segmentation"), width=width, height=height)
    if shape is not None and common(box, extent_of(shape, height=height)) is None:
        raise BadShape("mask_outside_box")
    area: Any = entry.get("area")
    if not is_number(area) or not 0 < area <= width * height:
        area = (box[2] - box[0]) * (box[3] - box[1])
    return AnnotatedObject(annotation.image, annotation.category, box, float(area), bool(crowd), shape)
