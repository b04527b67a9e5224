"""A detection task: images with objects to train on and to test on, with one numbering of classes.

--task.train instances_train2017.json::train2017/     COCO's instance annotations and images   annotations.py
--task.train VOC2012/Annotations::VOC2012/JPEGImages  Pascal VOC's annotations and images      voc.py
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer.data.tar_locations import is_local, local_name
from trainer.dense.annotated_images import AnnotatedImages, check_left_out, left_out_notes
from trainer.dense.annotations import open_instances
from trainer.dense.voc import open_voc, refuse_list
from trainer.transfer.tasks.class_names import names_of_classes, read_name_file
from trainer.transfer.tasks.opening import BETWEEN, TaskData, check_sides, notes_of, subset
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted, listed
from vocab.store.locations import Location

FORM = "ANNOTATIONS.json::IMAGE_FOLDER, or XML_FOLDER::IMAGE_FOLDER"


@dataclass(frozen=True, eq=False)
class DetectData:
    """Both sides of a task."""

    train: AnnotatedImages
    test: AnnotatedImages
    task: TaskData
    """the same images by their classes alone, with names of the classes and notes"""
    masks: bool
    """masks are learnt: every object has one"""


def open_detect_task(
    train: str,
    test: str,
    *,
    class_names: Location | None,
    masks: bool | None,
    max_bad_share: float,
    percent: float,
    seed: int,
    train_list: Path | None = None,
    test_list: Path | None = None,
) -> DetectData:
    """Open both sides of a task; no image is read. `percent`: share of the training images that are used.

    `masks`: learn masks, and leave out and count objects without one; None: where nearly all objects of both sides have
    one, at most `max_bad_share` excepted. `train_list`, `test_list`: lists of the images to take of a VOC side.

    Raises InputError for a side that cannot be opened, and MismatchError for test classes that are not trained on and
    for an image that is on both sides.
    """
    sides = [
        open_side(location, max_bad_share=max_bad_share, listing=listing)
        for location, listing in ((train, train_list), (test, test_list))
    ]
    wanted = all(nearly_all_masks(side, max_bad_share) for side in sides) if masks is None else masks
    few = () if wanted or masks is not None else few_masks_notes(train=sides[0], test=sides[1])
    if wanted:
        sides = [
            with_masks(side, location, max_bad_share=max_bad_share)
            for side, location in zip(sides, (train, test), strict=True)
        ]
    own, other = sides[0], renumbered(sides[1], sides[0], location=test)
    check_sides(own.images, other.images)
    for side, location in ((own, train), (other, test)):
        require_objects(side, location)
    given = None if class_names is None else read_name_file(class_names)
    named = names_of_classes(own.images.labels, given, source=class_names, own=own.images.class_names)
    notes = (*notes_of("train", own.images), *notes_of("test", other.images), *few, *named.notes)
    task = TaskData(own.images, other.images, named.names, notes)
    if percent < 100:
        kept = subset(own.images, percent=percent, seed=seed)
        own = own.select(np.flatnonzero(np.isin(own.images.rows, kept.rows)))
    return DetectData(own, other, task, masks=wanted)


def open_side(location: str, *, max_bad_share: float, listing: Path | None = None) -> AnnotatedImages:
    """Open one side of a task. Raises InputError for a location of another form, and for a list with COCO's."""
    annotations, between, folder = location.rpartition(BETWEEN)
    if not between or not all(map(is_local, (annotations, folder))):
        raise InputError(
            location,
            found="no annotations with images",
            wanted=f"{FORM}, both on this machine",
            remedy="Name the annotations and the folder of the images, two colons between.",
        )
    source, images = Path(local_name(annotations)), local_name(folder)
    if not Path(images).is_dir():
        raise InputError(
            location, found=f"no image folder {folder!r}", wanted=FORM, remedy="Check the path after the two colons."
        )
    if source.is_dir():
        return open_voc(source, images, max_bad_share=max_bad_share, listing=listing)
    if source.suffix.lower() == ".json":
        refuse_list(listing, source)
        return open_instances(source, images, max_bad_share=max_bad_share)
    raise InputError(
        location,
        found=f"{annotations!r}, which is neither a folder nor a .json",
        wanted=FORM,
        remedy="Name COCO's instance annotations, or the folder of Pascal VOC's .xml.",
    )


def nearly_all_masks(data: AnnotatedImages, max_bad_share: float) -> bool:
    """Tell whether `with_masks` would leave out at most `max_bad_share` of the objects."""
    return data.has_masks and without_masks(data).total() <= max_bad_share * (
        len(data.boxes) + sum(data.left_out.values())
    )


def without_masks(data: AnnotatedImages) -> Counter[str]:
    """Count the objects that are left out where masks are learnt, by reason."""
    return Counter(data.left_out) + Counter(no_mask=sum(shape is None for shape in data.shapes))


def few_masks_notes(**sides: AnnotatedImages) -> tuple[str, ...]:
    """Write a note on each side that has masks, but lacks too many of them for masks to be learnt."""
    return tuple(
        f"{without_masks(side)['no_mask']:,} of {counted(len(side.boxes), 'object')} to {name} on lack a mask"
        for name, side in sides.items()
        if side.has_masks and without_masks(side)["no_mask"]
    )


def with_masks(data: AnnotatedImages, location: str, *, max_bad_share: float) -> AnnotatedImages:
    """Leave out the objects without a mask, and count them.

    Raises InputError if none has one, and for more than `max_bad_share` of the objects left out.
    """
    if len(data.boxes) and not data.has_masks:
        raise InputError(
            location,
            found="objects without masks",
            wanted="a segmentation for each of them",
            remedy="Leave --masks out, or give --masks off: boxes alone are learnt then.",
        )
    there = np.array([shape is not None for shape in data.shapes], bool)
    if there.all():
        return data
    left_out = without_masks(data)
    check_left_out(location, left_out, kept=int(there.sum()), max_bad_share=max_bad_share)
    old = left_out_notes(Counter(data.left_out))
    notes = (*(note for note in data.images.notes if note not in old), *left_out_notes(left_out))
    kept = data.keep(there)
    return replace(kept, images=replace(kept.images, notes=notes), left_out=left_out)


def require_objects(data: AnnotatedImages, location: str) -> None:
    """Raise InputError for a side with crowds alone: nothing can be learnt or found there."""
    if data.crowds.all():
        raise InputError(
            location,
            found=f"{counted(len(data.crowds), 'object')}, all of them crowds",
            wanted="at least one object that is no crowd",
            remedy="Look at iscrowd (COCO) or difficult (Pascal VOC) in the annotations.",
        )


def renumbered(test: AnnotatedImages, train: AnnotatedImages, *, location: str) -> AnnotatedImages:
    """Give the test classes the numbers of the training classes of the same names.

    Raises MismatchError for a class that is not trained on.
    """
    labels = train.images.labels
    numbers = {label: number for number, label in enumerate(labels)}
    strangers = [label for label in test.images.labels if label not in numbers]
    if strangers:
        raise MismatchError(
            location,
            found=f"classes that the training images do not have: {listed(strangers)}",
            wanted="classes of the training annotations",
            remedy="Give annotations of one data set, whose categories are the same on both sides.",
        )
    new = np.array([numbers[label] for label in test.images.labels], np.int64)
    own = dict(zip(new.tolist(), test.categories, strict=True))
    unused = itertools.count(
        1 + max((each for each in (*train.categories, *own.values()) if isinstance(each, int)), default=0)
    )
    # A class that the test annotations do not list keeps its id, unless it is that of another class there.
    ids = [
        own[number] if number in own else next(unused) if each in test.categories else each
        for number, each in enumerate(train.categories)
    ]
    owners = np.repeat(np.arange(len(test)), np.diff(test.images.offsets))
    shown = new[test.images.classes]
    order = np.lexsort((shown, owners))
    images = replace(test.images, labels=labels, classes=shown[order])
    return replace(test, images=images, classes=new[test.classes], categories=tuple(ids))
