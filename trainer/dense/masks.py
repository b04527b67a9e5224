"""Images with a label map each: both sides of a segmentation task, with one numbering of classes.

In: `MaskTask`, the options of the command line. Out: `SegmentationData`. A side is IMAGES::MASKS:

    ade/images/training::ade/annotations/training           folders of images and of PNGs, paired by stem at any depth
    VOC2012/JPEGImages::VOC2012/SegmentationClass           the same, with --task.train-list ImageSets/.../train.txt
    panoptic_train2017.json::train2017                      COCO's panoptic segments; the PNGs lie beside the file
    panoptic.json::images::pngs                             the same, with their folder named
    instances_train2017.json::train2017                     COCO's objects, painted over a background

All label maps are read once before the first step: so a map that does not fit its image is found, and the number of
pixels of each class is known.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from trainer.data.batch import Skipped
from trainer.data.crops import upright_size
from trainer.data.image_files import QUIET, BadImage, open_image, orientation_of
from trainer.data.labelled_images import LabelledImages
from trainer.dense.annotations import open_instances
from trainer.dense.label_maps import (
    IGNORED,
    MOST_LABELS,
    LabelMap,
    LabelMaps,
    ObjectMaps,
    PanopticMaps,
    ValueMaps,
    classes_of_values,
)
from trainer.distributed import Rank, on_main
from trainer.transfer.dense_config import MaskTask
from trainer.transfer.tasks.class_folders import files_below, is_image_name
from trainer.transfer.tasks.class_names import Names, names_of_classes, read_name_file
from trainer.transfer.tasks.coco_json import Id, categories_of, entries_of, id_of, images_of, read_annotations, refused
from trainer.transfer.tasks.files import FileStore, check_bad_share, fingerprint_of, look_up
from trainer.transfer.tasks.opening import BETWEEN, TaskData, check_sides, notes_of, subset
from vocab.errors import InputError, MismatchError
from vocab.pages.text import listed, shown

FORMS = "IMAGES::MASKS, two folders, or ANNOTATIONS.json::IMAGES of COCO's panoptic or instance annotations"
VOC_FOLDER = "SegmentationClass"
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
ADE_FOLDER = re.compile(r"ade(20k|challenge)", re.IGNORECASE)
BACKGROUND = "background"
THREADS = 8
"""threads that read label maps before the first step"""


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """Images with the class of each of their pixels."""

    images: LabelledImages
    """`classes` of an image: those of its pixels, each once"""
    maps: LabelMaps
    """by the number of an image in the store"""
    pixels: Int64[np.ndarray, " classes"]
    """pixels of each class, over all images of the data set"""
    ignored: int
    """pixels without a class"""
    fingerprint: str
    """checksum of all label maps"""

    def __len__(self) -> int:
        return len(self.images)

    def label_map(self, image: int) -> LabelMap:
        """Read the label map of an image. Raises BadImage where it has changed since the data was opened."""
        return self.maps.read(int(self.images.rows[image]))

    def select(self, images: Int64[np.ndarray, " some"]) -> MaskedImages:
        """Select some of the images, in the given order."""
        return replace(self, images=self.images.select(images))


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Images to train on and to test on."""

    train: MaskedImages
    test: MaskedImages
    task: TaskData
    """the same images as those of any other task, with names of classes and notes"""


def open_masks(config: MaskTask, rank: Rank, *, percent: float = 100.0, seed: int = 0) -> SegmentationData:
    """Open both sides of a task. All ranks must call; the main rank reads the label maps.

    `percent`: share of the training images, drawn by `seed`.

    Raises InputError for a side that cannot be opened, and for more bad images or label maps than
    `config.max_bad_share`; MismatchError for sides of other classes, for an image on both, and for names that are not
    those of the classes.
    """
    given = _given_names(config)
    sides = [
        _open(location, config, listing, given)
        for location, listing in ((config.train, config.train_list), (config.test, config.test_list))
    ]
    scanned = [on_main(partial(_scan, side, config), rank) for side in sides]
    train, test = _masked(sides, scanned, config)
    check_sides(train.images, test.images)
    own = train.images.class_names
    named = names_of_classes(train.images.labels, given, source=config.class_names, own=own)
    notes = (*notes_of("train", train.images), *notes_of("test", test.images), *named.notes)
    train = replace(train, images=subset(train.images, percent=percent, seed=seed))
    return SegmentationData(train, test, TaskData(train.images, test.images, named.names, notes))


def open_test_masks(config: MaskTask, rank: Rank) -> tuple[MaskedImages, tuple[str, ...], tuple[str, ...]]:
    """Open the images to test on alone, with the names of their classes and notes. All ranks must call.

    Raises as `open_masks`.
    """
    given = _given_names(config)
    side = _open(config.test, config, config.test_list, given)
    scanned = on_main(partial(_scan, side, config), rank)
    (test,) = _masked([side], [scanned], config)
    own = test.images.class_names
    named = names_of_classes(test.images.labels, given, source=config.class_names, own=own)
    return test, named.names, (*notes_of("test", test.images), *named.notes)


def _given_names(config: MaskTask) -> Names | None:
    return None if config.class_names is None else read_name_file(config.class_names)


@dataclass(frozen=True, eq=False)
class _Side:
    """One side before its label maps are read."""

    what: str
    store: FileStore
    maps: LabelMaps
    skipped: tuple[Skipped, ...]
    labels: tuple[str, ...] | None
    """names of the classes in the data set; None where the values of the maps are all that is known"""
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _open(location: str, config: MaskTask, listing: Path | None, given: Names | None) -> _Side:
    """Open one side. `given`: names of the classes, whose number is that of the classes if they are a list."""
    before, between, after = location.partition(BETWEEN)
    if not between or not before or not after:
        raise InputError(
            location or "--task.train or --task.test",
            found="no two colons between images and masks",
            wanted=FORMS,
            remedy="Name the masks, or the folder of the images, after two colons.",
        )
    if not before.lower().endswith(".json"):
        count = len(given) if isinstance(given, list) else None
        return _open_folders(before, after, config, listing, classes=count)
    if listing is not None:
        raise InputError(
            "--task.train-list or --task.test-list",
            found=f"{listing} for {before}",
            wanted="a list of the images in two folders",
            remedy="Leave it out: annotations list their images.",
        )
    annotations, (folder, _, pngs) = Path(before), after.partition(BETWEEN)
    _require_folder(folder)
    if is_panoptic(annotations):
        return _open_panoptic(annotations, folder, Path(pngs) if pngs else annotations.with_suffix(""))
    return _open_objects(annotations, folder, config)


def _open_folders(images: str, masks: str, config: MaskTask, listing: Path | None, *, classes: int | None) -> _Side:
    _require_folder(images)
    _require_folder(masks)
    pictures = _by_stem(images, [path for path in files_below(images) if is_image_name(path)])
    drawn = _by_stem(masks, files_below(masks))
    stems = sorted(pictures) if listing is None else _listed(listing)
    skipped = [Skipped("", stem, "missing") for stem in stems if stem not in pictures]
    there = [stem for stem in stems if stem in pictures]
    skipped += [Skipped("", shown(pictures[stem]), "no_mask") for stem in there if stem not in drawn]
    paired = [stem for stem in there if stem in drawn]
    pair = _paired(images, [pictures[stem] for stem in paired], masks, [drawn[stem] for stem in paired])
    voc = Path(masks).name == VOC_FOLDER and classes is None
    count = len(VOC_NAMES) if voc else classes if classes is not None else MOST_LABELS
    zero, notes = _zero_is_ignored(masks, config)
    return _Side(
        what=f"{images}{BETWEEN}{masks}",
        store=pair.images,
        maps=ValueMaps(pair.masks, classes_of_values(count, ignored=config.ignore, ignore_zero=zero)),
        skipped=(*skipped, *pair.skipped),
        labels=VOC_NAMES if voc else None if classes is None else tuple(map(str, range(classes))),
        notes=notes,
    )


def _zero_is_ignored(masks: str, config: MaskTask) -> tuple[bool, tuple[str, ...]]:
    """Tell whether the value 0 is no class, and say so where the folder's name alone decided it."""
    if config.zero != "auto":
        return config.zero == "ignored", ()
    if not ADE_FOLDER.search(masks):
        return False, ()
    return True, ("0 is ignored and other values are one less, as in ADE20K; --task.zero class keeps it",)


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


def _listed(path: Path) -> list[str]:
    """Stems of a list such as VOC's train.txt, one in each line. Raises InputError for none, and for one twice."""
    try:
        stems = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=f"{error}", wanted="a text file of stems", remedy="Check the path.") from error
    if not stems or len(set(stems)) < len(stems):
        found = "a stem twice" if stems else "an empty file"
        raise InputError(path, found=found, wanted="each stem once, one a line", remedy="Correct the list.")
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
        return b'"segments_info"' in annotations.read_bytes()
    except OSError as error:
        raise InputError(
            annotations, found=f"{error.strerror}", wanted="COCO's annotations", remedy="Check the path."
        ) from error


def _open_panoptic(annotations: Path, folder: str, pngs: Path) -> _Side:
    _require_folder(str(pngs))
    content = read_annotations(annotations, shorten=dict)
    labels, numbers = categories_of(annotations, content)
    paths, positions = images_of(annotations, content, folder)
    segments = {
        positions[image]: (name, own) for image, name, own in _segments_of(annotations, content, positions, numbers)
    }
    skipped = [Skipped("", path, "no_mask") for number, path in enumerate(paths) if number not in segments]
    paired = sorted(segments)
    pair = _paired(folder, [paths[each] for each in paired], str(pngs), [segments[each][0] for each in paired])
    return _Side(
        what=f"{annotations}{BETWEEN}{folder}",
        store=pair.images,
        maps=PanopticMaps(pair.masks, tuple(segments[paired[each]][1] for each in pair.positions)),
        skipped=(*skipped, *pair.skipped),
        labels=labels,
    )


def _segments_of(
    path: Path, content: Mapping[str, Any], positions: Mapping[Id, int], numbers: Mapping[Id, int]
) -> Iterator[tuple[Id, str, Mapping[int, int]]]:
    """Yield for each annotated image its id, the name of its PNG, and the class of each segment by its id.

    Raises InputError for an image or a category that the file does not list, and for a PNG outside of its folder.
    """
    for what, entry in entries_of(path, content, "annotations"):
        image, name = id_of(path, what, entry, "image_id"), entry.get("file_name")
        if image not in positions:
            raise refused(path, f"image_id {image!r} in {what}", "an image that the file lists", "Leave it out.")
        if not isinstance(name, str) or os.path.normpath(name).startswith(("/", "..")):
            raise refused(path, f"file_name {name!r:.80} in {what}", "a name below the folder of PNGs", "Correct it.")
        own = {}
        for part, segment in entries_of(path, entry, "segments_info"):
            category = id_of(path, f"{what} {part}", segment, "category_id")
            if category not in numbers:
                found = f"category_id {category!r} in {what} {part}"
                raise refused(path, found, "a category that the file lists", "Download the file again.")
            own[int(id_of(path, f"{what} {part}", segment, "id"))] = numbers[category]
        yield image, name, own


def _open_objects(annotations: Path, folder: str, config: MaskTask) -> _Side:
    objects = open_instances(annotations, folder, max_bad_share=config.max_bad_share)
    assert isinstance(objects.images.store, FileStore)
    names = objects.images.class_names
    return _Side(
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


@dataclass(frozen=True, eq=False)
class _Scan:
    """Labels that an image's map has, ascending, with their numbers of pixels; or the reason why it has none."""

    labels: Int64[np.ndarray, " present"]
    pixels: Int64[np.ndarray, " present"]
    reason: str | None = None


def _scan(side: _Side, config: MaskTask) -> list[_Scan]:
    """Read all label maps of a side, each with the header of its image."""
    with ThreadPoolExecutor(THREADS, "masks") as pool, QUIET:
        return list(pool.map(partial(_scan_one, side, config.max_pixels), range(len(side.store.paths))))


def _scan_one(side: _Side, max_pixels: int, image: int) -> _Scan:
    try:
        labels = side.maps.read(image)
        opened = open_image(side.store.read(image), max_pixels=max_pixels)
        width, height = upright_size(opened.size, orientation_of(opened))
        if labels.shape != (height, width):
            raise BadImage("mask_of_another_size")
    except BadImage as bad:
        return _Scan(np.zeros(0, np.int64), np.zeros(0, np.int64), str(bad))
    present, pixels = np.unique(labels, return_counts=True)
    return _Scan(present.astype(np.int64), pixels.astype(np.int64))


def _masked(sides: Sequence[_Side], scans: Sequence[Sequence[_Scan]], config: MaskTask) -> list[MaskedImages]:
    """Put what was read of one side, or of both, together. Raises MismatchError for sides of other classes."""
    first, last = sides[0].labels, sides[-1].labels
    if first != last:
        differing = sorted(set(first or ()) ^ set(last or ()))
        raise MismatchError(
            "the test images",
            found=f"other classes than the training images: {listed(differing)}",
            wanted="one list of classes in one order",
            remedy="Give both sides in one form, of one data set.",
        )
    highest = max((int(scan.labels[-1]) for side in scans for scan in side if len(scan.labels)), default=0)
    labels = first if first is not None else tuple(map(str, range(highest + 1)))
    return [_masked_side(side, own, labels, config) for side, own in zip(sides, scans, strict=True)]


def _masked_side(side: _Side, scans: Sequence[_Scan], labels: tuple[str, ...], config: MaskTask) -> MaskedImages:
    names = tuple(map(shown, side.store.paths))
    kept = [number for number, scan in enumerate(scans) if scan.reason is None]
    bad = [Skipped("", names[number], scan.reason) for number, scan in enumerate(scans) if scan.reason is not None]
    skipped = (*side.skipped, *bad)
    check_bad_share(side.what, len(kept), skipped, config.max_bad_share)
    own = [scans[number].labels[scans[number].labels >= 0] for number in kept]
    pixels = np.zeros(len(labels) + 1, np.int64)  # the last one is IGNORED
    digest = hashlib.sha256()
    for number in kept:
        pixels[scans[number].labels] += scans[number].pixels
        digest.update(f"{names[number]} {scans[number].labels.tolist()} {scans[number].pixels.tolist()}".encode())
    images = LabelledImages(
        store=side.store,
        rows=np.array(kept, np.int64),
        names=tuple(names[number] for number in kept),
        offsets=np.cumsum([0, *map(len, own)], dtype=np.int64),
        classes=np.concatenate(own) if own else np.zeros(0, np.int64),
        labels=labels,
        multi_label=True,
        fingerprint=fingerprint_of(side.store),
        skipped=skipped,
        class_names=side.class_names,
        notes=(*side.notes, *_ignored_note(pixels)),
    )
    assert IGNORED == -1
    return MaskedImages(images, side.maps, pixels[:-1], int(pixels[-1]), digest.hexdigest())


def _ignored_note(pixels: Int64[np.ndarray, " classes_plus_1"]) -> list[str]:
    """Say how many pixels have no class, if some have none."""
    share = pixels[-1] / max(1, pixels.sum())
    return [f"{share:.1%} of the pixels are ignored"] if pixels[-1] else []
