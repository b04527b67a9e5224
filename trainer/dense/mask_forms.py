"""Sides of a segmentation task in the forms that they have on disk, before any mask is read.

ade/images/training::ade/annotations/training           folders of images and of PNGs, paired by stem at any depth
VOC2012/JPEGImages::VOC2012/SegmentationClass           the same, with --task.train-list ImageSets/.../train.txt
panoptic_train2017.json::train2017                      COCO's panoptic segments; the PNGs lie beside the file
panoptic.json::images::pngs                             the same, with their folder named
instances_train2017.json::train2017                     COCO's objects, painted over a background
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.batch import Skipped
from trainer.data.tar_locations import local_name
from trainer.dense.annotations import open_instances
from trainer.dense.label_maps import (
    MOST_LABELS,
    LabelMaps,
    ObjectMaps,
    PanopticMaps,
    ValueMaps,
    classes_of_values,
)
from trainer.dense.voc import read_list, refuse_list
from trainer.transfer.dense_config import MaskTask
from trainer.transfer.tasks.class_folders import files_below, is_image_name
from trainer.transfer.tasks.class_names import Names
from trainer.transfer.tasks.coco_json import (
    MAX_BYTES,
    Id,
    categories_of,
    entries_of,
    file_name_of,
    id_of,
    images_of,
    read_annotations,
    refused,
)
from trainer.transfer.tasks.files import FileStore, look_up
from trainer.transfer.tasks.opening import BETWEEN
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted, shown

FORMS = "IMAGES::MASKS, two folders, or ANNOTATIONS.json::IMAGES of COCO's panoptic or instance annotations"
VOC_FOLDER = "SegmentationClass"
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
ADE_FOLDER = re.compile(r"ade(20k|challengedata2016)", re.IGNORECASE)
ADE_DEPTH = 3
"""folders at the end of a path, of which one has the name: ADEChallengeData2016/annotations/training"""
IGNORED_VALUE = 255
"""value that is ignored unless others are given"""
BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class MaskSide:
    """One side before its label maps are read."""

    what: str
    store: FileStore
    maps: LabelMaps
    skipped: tuple[Skipped, ...]
    labels: tuple[str, ...] | None
    """names of the classes in the data set; None where the values of the maps are all that is known"""
    first: int = 0
    """value of the first class in the maps"""
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise InputError for more classes than a label map can hold."""
        if len(self.labels or ()) > MOST_LABELS:
            raise InputError(
                self.what,
                found=counted(len(self.labels or ()), "class", "classes"),
                wanted=f"at most {MOST_LABELS:,}, which a label map can hold",
                remedy="Give fewer names, or leave categories out.",
            )


def first_value(config: MaskTask, *locations: str) -> int:
    """Find the value of the first class in the masks of all these sides: 1 where zero is ignored.

    Raises MismatchError where the folder of one side has ADE20K's name and that of the other has not.
    """
    if config.zero != "auto":
        return int(config.zero == "ignored")
    parts = [_parts(location) for location in locations]
    found = {_is_ade(masks) for images, masks in parts if masks and not images.lower().endswith(".json")}
    if len(found) > 1:
        raise MismatchError(
            "--task.zero",
            found="masks of one side in a folder of ADE20K's name, where 0 is no class, and of the other in another",
            wanted="values that mean the same on both sides",
            remedy="Give --task.zero ignored or --task.zero class.",
        )
    return int(True in found)


def _is_ade(masks: str) -> bool:
    """Tell ADE20K's folders by the last names of the path, as it is given or with links followed."""
    given, followed = Path(os.path.abspath(masks)), Path(masks).resolve()  # noqa: PTH100 - Path.absolute leaves ".."
    names = (*given.parts[-ADE_DEPTH:], *followed.parts[-ADE_DEPTH:])
    return not _is_voc(masks) and any(map(ADE_FOLDER.fullmatch, names))


def _is_voc(masks: str) -> bool:
    return Path(masks).absolute().name == VOC_FOLDER


def _parts(location: str) -> tuple[str, str]:
    """Split a side into images or annotations, and all that follows."""
    before, _, after = BETWEEN.join(map(local_name, location.split(BETWEEN))).partition(BETWEEN)
    return before, after


def open_side(location: str, config: MaskTask, listing: Path | None, given: Names | None, *, first: int) -> MaskSide:
    """Open one side. `given`: names of the classes, whose number is that of the classes if they are a list.

    `first`: value of the first class in masks.
    """
    before, after = _parts(location)
    if not before or not after:
        raise InputError(
            location or "--task.train or --task.test",
            found="no two colons between images and masks",
            wanted=FORMS,
            remedy="Name the masks, or the folder of the images, after two colons.",
        )
    if not before.lower().endswith(".json"):
        count = len(given) if isinstance(given, list) else None
        return _open_folders(before, after, config, listing, first=first, classes=count)
    refuse_list(listing, before)
    annotations, (folder, _, pngs) = Path(before), after.partition(BETWEEN)
    _require_folder(folder)
    if is_panoptic(annotations):
        return _open_panoptic(annotations, folder, Path(pngs) if pngs else annotations.with_suffix(""))
    return _open_objects(annotations, folder, config)


def _open_folders(
    images: str, masks: str, config: MaskTask, listing: Path | None, *, first: int, classes: int | None
) -> MaskSide:
    _require_folder(images)
    _require_folder(masks)
    pictures = _by_stem(images, [path for path in files_below(images) if is_image_name(path)])
    drawn = _by_stem(masks, files_below(masks))
    stems = sorted(pictures) if listing is None else read_list(listing)
    skipped = [Skipped("", stem, "missing") for stem in stems if stem not in pictures]
    there = [stem for stem in stems if stem in pictures]
    skipped += [Skipped("", shown(pictures[stem]), "no_mask") for stem in there if stem not in drawn]
    paired = [stem for stem in there if stem in drawn]
    pair = _paired(images, [pictures[stem] for stem in paired], masks, [drawn[stem] for stem in paired])
    voc = _is_voc(masks) and classes is None
    count = len(VOC_NAMES) if voc else classes if classes is not None else MOST_LABELS
    ignored = config.ignore or (IGNORED_VALUE,)
    note = "0 is ignored and other values are one less, as in ADE20K; --task.zero class keeps it"
    return MaskSide(
        what=f"{images}{BETWEEN}{masks}",
        store=pair.images,
        maps=ValueMaps(pair.masks, classes_of_values(count, first=first, ignored=ignored)),
        skipped=(*skipped, *pair.skipped),
        labels=VOC_NAMES if voc else None if classes is None else tuple(map(str, range(first, first + classes))),
        first=first,
        notes=(note,) if first and config.zero == "auto" else (),
    )


def _by_stem(root: str, paths: Sequence[str]) -> dict[str, str]:
    """Files by their paths without suffix. Raises InputError for two of one stem."""
    stems: dict[str, str] = {}
    for path in paths:
        stem = os.path.splitext(path)[0]  # noqa: PTH122 - a million of them are split
        if (other := stems.setdefault(stem, path)) != path:
            raise InputError(
                root,
                found=f"{other} and {path}",
                wanted="one file of a stem, for images and masks are paired by stem",
                remedy="Move one of them away.",
            )
    return stems


@dataclass(frozen=True, eq=False)
class _Pair:
    """Images and masks that are both there, one mask for each image."""

    images: FileStore
    masks: FileStore
    positions: list[int]
    """their positions among the paths that were asked for"""
    skipped: tuple[Skipped, ...]


def _paired(folder: str, images: Sequence[str], mask_folder: str, masks: Sequence[str]) -> _Pair:
    """Look up images and masks, listed in one order; leave out both where one of them is not there."""
    found, drawn = look_up(folder, images), look_up(mask_folder, masks)
    both = sorted(set(found.kept.tolist()) & set(drawn.kept.tolist()))
    pictures, maps = (
        replace(
            side.store,
            paths=tuple(paths[each] for each in both),
            stats=side.store.stats[np.searchsorted(side.kept, np.array(both, np.int64))],
        )
        for side, paths in ((found, images), (drawn, masks))
    )
    return _Pair(pictures, maps, both, (*found.skipped, *drawn.skipped))


def is_panoptic(annotations: Path) -> bool:
    """Tell COCO's panoptic annotations from those of instances. Raises InputError for a file that cannot be read."""
    try:
        if annotations.stat().st_size > MAX_BYTES:
            return False  # `open_instances` refuses the file before it reads it
        content = annotations.read_bytes()
        return b'"segments_info"' in content or (b'"isthing"' in content and b'"segmentation"' not in content)
    except OSError as error:
        raise InputError(
            annotations, found=f"{error.strerror}", wanted="COCO's annotations", remedy="Check the path."
        ) from error


def _open_panoptic(annotations: Path, folder: str, pngs: Path) -> MaskSide:
    if not pngs.is_dir():
        raise InputError(
            pngs,
            found="no such folder",
            wanted=f"the folder of the PNGs that belong to {annotations}",
            remedy=f"Move the PNGs there, or name their folder: {annotations}{BETWEEN}{folder}{BETWEEN}PNGS.",
        )
    content = read_annotations(annotations, shorten=dict)
    labels, numbers = categories_of(annotations, content)
    paths, positions = images_of(annotations, content, folder)
    segments: dict[int, tuple[str, Mapping[int, int]]] = {}
    for what, image, name, own in _segments_of(annotations, content, positions, numbers):
        if segments.setdefault(positions[image], (name, own))[1] is not own:
            found = f"image_id {image!r} for the second time in {what}"
            raise refused(annotations, found, "one annotation of an image", "Leave one out.")
    skipped = [Skipped("", path, "no_mask") for number, path in enumerate(paths) if number not in segments]
    paired = sorted(segments)
    pair = _paired(folder, [paths[each] for each in paired], str(pngs), [segments[each][0] for each in paired])
    return MaskSide(
        what=f"{annotations}{BETWEEN}{folder}",
        store=pair.images,
        maps=PanopticMaps(pair.masks, tuple(segments[paired[each]][1] for each in pair.positions)),
        skipped=(*skipped, *pair.skipped),
        labels=labels,
    )


def _segments_of(
    path: Path, content: Mapping[str, Any], positions: Mapping[Id, int], numbers: Mapping[Id, int]
) -> Iterator[tuple[str, Id, str, Mapping[int, int]]]:
    """Yield each annotation's name in errors, its image's id, its PNG's name, and the class of each segment by id.

    Raises InputError for an image or a category that the file does not list, for a PNG outside of its folder, and for
    the id of a segment that is no whole number or stands twice.
    """
    for what, entry in entries_of(path, content, "annotations"):
        image, name = id_of(path, what, entry, "image_id"), file_name_of(path, what, entry, "the folder of PNGs")
        if image not in positions:
            raise refused(path, f"image_id {image!r} in {what}", "an image that the file lists", "Leave it out.")
        own: dict[int, int] = {}
        for part, segment in entries_of(path, entry, "segments_info"):
            category = id_of(path, f"{what} {part}", segment, "category_id")
            if category not in numbers:
                found = f"category_id {category!r} in {what} {part}"
                raise refused(path, found, "a category that the file lists", "Download the file again.")
            identity = id_of(path, f"{what} {part}", segment, "id")
            if not isinstance(identity, int) or identity in own:
                found = f"{identity!r:.80} as id of {what} {part}"
                raise refused(path, found, "a whole number for each segment, each once", "Correct it.")
            own[identity] = numbers[category]
        yield what, image, name, own


def _open_objects(annotations: Path, folder: str, config: MaskTask) -> MaskSide:
    objects = open_instances(annotations, folder, max_bad_share=config.max_bad_share)
    assert isinstance(objects.images.store, FileStore)
    names = objects.images.class_names
    return MaskSide(
        what=f"{annotations}{BETWEEN}{folder}",
        store=objects.images.store,
        maps=ObjectMaps(objects),
        skipped=objects.images.skipped,
        labels=(BACKGROUND, *objects.images.labels),
        class_names=(BACKGROUND, *names) if names else (),
        notes=objects.images.notes,
    )


def _require_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise InputError(folder, found="no such folder", wanted=FORMS, remedy="Check the path.")
