"""One numbering of classes for both sides of a task, and no image on both.

In: the images to train on and to test on, each with classes numbered on its own. Out: the test images with the numbers
of the training classes.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from trainer.data.labelled_images import MAX_CLASSES, LabelledImages, TarStore
from trainer.data.tar_locations import is_local, local_name, shown_tar
from trainer.transfer.tasks.files import FileStore, shared_files
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted, listed

LONGEST_NUMBER = 10
"""digits of a class's number"""


def is_number(label: str) -> bool:
    """Whether a label is a whole number in ASCII digits, of a length that classes have."""
    return label.isascii() and label.isdecimal() and len(label) <= LONGEST_NUMBER


def in_order(labels: set[str]) -> list[str]:
    """Ascending; as numbers if all are whole numbers: "9" before "10"."""
    return sorted(labels, key=lambda label: (int(label), label)) if all(map(is_number, labels)) else sorted(labels)


def renumbered(images: LabelledImages, labels: tuple[str, ...]) -> LabelledImages:
    """The same images with classes numbered as in `labels`. Raises MismatchError for a class that is not there."""
    numbers = {label: number for number, label in enumerate(labels)}
    unknown = [label for label in images.labels if label not in numbers]
    if unknown:
        raise MismatchError(
            "the test images",
            found=f"{counted(len(unknown), 'class', 'classes')} that the training images do not have: "
            f"{listed(unknown)}",
            wanted=f"classes of the {len(labels):,} that are trained on, under the same labels: {listed(labels)}",
            remedy="Give training and test images of one data set.",
        )
    places = np.array([numbers[label] for label in images.labels], np.int64)
    classes = places[images.classes]
    # Ascending within each image: where the numbers keep their order, they are so already.
    by_image = np.repeat(np.arange(len(images)), np.diff(images.offsets))
    return replace(images, labels=labels, classes=classes[np.lexsort((classes, by_image))])


def check_sides(train: LabelledImages, test: LabelledImages) -> None:
    """Raise an error if nothing can be trained on one and measured on the other.

    InputError for too few classes or more than MAX_CLASSES, and for test images that show none; MismatchError for one
    class an image on one side and any number on the other, and for an image that is on both sides.
    """
    if train.multi_label != test.multi_label:
        kinds = ("one class for each image", "any number of classes for each image")
        raise MismatchError(
            "the test images",
            found=kinds[test.multi_label],
            wanted=f"{kinds[train.multi_label]}, as the training images have it",
            remedy="Give training and test images of one data set.",
        )
    fewest = 1 if train.multi_label else 2
    shown = int(np.count_nonzero(train.images_by_class))
    if shown < fewest or len(train.labels) > MAX_CLASSES:
        raise InputError(
            "the training images",
            found=f"{counted(shown, 'class', 'classes')} with images, of {len(train.labels):,}",
            wanted=f"{fewest} to {MAX_CLASSES:,}",
            remedy="Look at the labels: they are names or numbers of classes, not of images.",
        )
    if not len(test.classes):
        raise InputError(
            "the test images",
            found=f"{counted(len(test), 'image')}, none of which shows a class",
            wanted="at least one image of a class",
            remedy="Look at the annotations: a mean average precision of no class says nothing.",
        )
    shared = _shared(train, test)
    if shared:
        what = "tar" if isinstance(train.store, TarStore) else "image"
        both = counted(len(shared), f"{what} that is", f"{what}s that are")
        raise MismatchError(
            "the task",
            found=f"{both} both trained on and tested on: {listed(shared)}",
            wanted="none",
            remedy="Leave them out of one side.",
        )


def _shared(train: LabelledImages, test: LabelledImages) -> list[str]:
    """Images, or tars, that are on both sides."""
    one, other = train.store, test.store
    if isinstance(one, FileStore) and isinstance(other, FileStore):
        return shared_files(one, other)
    if isinstance(one, TarStore) and isinstance(other, TarStore):
        return sorted(map(shown_tar, set(map(_whole, one.locations)) & set(map(_whole, other.locations))))
    return []


def _whole(place: str) -> str:
    return os.path.realpath(local_name(place)) if is_local(place) else place
