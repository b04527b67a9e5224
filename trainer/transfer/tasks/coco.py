"""Images of COCO's annotations, any number of classes for each.

A class is present in an image that has at least one annotation of it, crowds (iscrowd) included, as in multi-label
classification on COCO usually; an image without annotations shows none of the classes, and counts as such. Boxes and
masks are not read. `coco_json.py` says what the file holds and how it is checked.

LVIS has the synset of a category ("dog.n.01"), which is then the name of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from trainer.data.labelled_images import LabelledImages
from trainer.transfer.tasks.coco_json import annotations_of, categories_of, images_of, read_annotations
from trainer.transfer.tasks.files import open_files
from vocab.class_names import SYNSET_NAME

_UNREAD = ("segmentation", "bbox")
"""nearly all of the file, dropped while it is read"""


def open_coco(annotations: Path, folder: str, *, max_bad_share: float) -> LabelledImages:
    """Open the images of an annotation file.

    Left out and named in `skipped`: what `files.look_up` refuses.

    Raises InputError for a file that is not such JSON, a repeated id or file_name, a reference to a missing category,
    annotations of missing images alone, a file_name that leaves the folder, and if more than `max_bad_share` of the
    images are bad or none is left.
    """
    content = read_annotations(annotations, shorten=_without_shapes)
    labels, numbers = categories_of(annotations, content)
    paths, positions = images_of(annotations, content, folder)
    found, notes = annotations_of(annotations, content, positions, numbers)
    owners = np.array([each.image for each in found], np.int64)
    shown = np.array([each.category for each in found], np.int64)
    offsets, classes = classes_shown(owners, shown, images=len(paths), count=len(labels))
    return open_files(
        folder,
        paths,
        offsets,
        classes,
        labels,
        what=f"{annotations}::{folder}",
        max_bad_share=max_bad_share,
        multi_label=True,
        class_names=synsets_of(content, labels),
        notes=notes,
    )


def _without_shapes(entry: dict[str, Any]) -> dict[str, Any]:
    for name in _UNREAD:
        entry.pop(name, None)
    return entry


def synsets_of(content: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    """Name the classes by their synsets where the file has any; else none."""
    synsets = {
        str(entry["name"]).strip(): entry["synset"]
        for entry in content["categories"]
        if isinstance(entry.get("synset"), str) and SYNSET_NAME.fullmatch(entry["synset"])
    }
    return tuple(synsets.get(label, label) for label in labels) if synsets else ()


def classes_shown(
    owners: Int64[np.ndarray, " annotations"], classes: Int64[np.ndarray, " annotations"], *, images: int, count: int
) -> tuple[Int64[np.ndarray, " images_plus_1"], Int64[np.ndarray, " positives"]]:
    """Offsets of the images and the classes that each shows, each once, ascending.

    `owners`, `classes`: image and class of each annotation. `count`: number of classes.
    """
    flat = np.unique(owners * count + classes)
    return np.searchsorted(flat // count, np.arange(images + 1)).astype(np.int64), flat % count
