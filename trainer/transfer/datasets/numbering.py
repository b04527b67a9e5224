"""One numbering of classes for both sides of a task, the orders that labels can be in, and no image on both sides.

In: the images to train on and to test on, each with classes numbered on its own. Out: the test images with the numbers
of the training classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from trainer.data.class_tars import MAX_CLASSES
from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_places import is_local, local_name, without_secrets
from trainer.data.tar_store import TarStore
from trainer.transfer.datasets.files import FileStore, shared_files
from trainer.transfer.words import counted, listed
from vocab.errors import InputError, MismatchError

LONGEST_NUMBER = 10
"""digits of a class's number"""


def is_number(label: str) -> bool:
    """Whether a label is a whole number in ASCII digits, of a length that classes have."""
    return label.isascii() and label.isdecimal() and len(label) <= LONGEST_NUMBER


def in_order(labels: set[str]) -> list[str]:
    """Ascending; as numbers if all are whole numbers: "9" before "10"."""
    return sorted(labels, key=lambda label: (int(label), label)) if all(map(is_number, labels)) else sorted(labels)


def numbers_of(labels: Sequence[str]) -> list[int] | None:
    """The number of each label, where labels differ in nothing else: "class_0", "Class 10" -> 0, 10; else None."""
    parts = list(map(_parts, labels))
    if len({len(each) for each in parts}) != 1:
        return None
    alone = len(parts) == 1
    differing = [at for at, found in enumerate(zip(*parts, strict=True)) if len(set(found)) > 1 or (alone and at % 2)]
    if len(differing) != 1 or not differing[0] % 2:
        return None
    numbers = [each[differing[0]] for each in parts]
    return list(map(int, numbers)) if max(map(len, numbers)) <= LONGEST_NUMBER else None


def other_order(labels: Sequence[str]) -> list[str] | None:
    """The labels in another order that their numbers can be read to give; None where they give no other.

    Labels that such a reading does not tell apart, "1" and "01", are in no order.
    """
    for keys in _orders(labels):
        if any(not one < other for one, other in pairwise(keys)):
            return [labels[place] for place in sorted(range(len(labels)), key=keys.__getitem__)]
    return None


def _orders(labels: Sequence[str]) -> Iterator[list[Any]]:
    """What labels can be sorted by: numbers inside text, the one number of each, decimal and hexadecimal numbers."""
    if list(labels) == sorted(labels):
        split = [re.split(r"(\d+)", label) for label in labels]
        yield [[_by_size(part) if at % 2 else (0, part) for at, part in enumerate(each)] for each in split]
    parts = list(map(_parts, labels))
    if all(len(each) > 1 for each in parts):
        for at in (1, -2):
            sizes = [_by_size(each[at]) for each in parts]
            if len(set(sizes)) == len(sizes):
                yield sizes
    if all(re.fullmatch(r"[+-]?\d+(\.\d*)?", label) for label in labels):
        yield list(map(float, labels))
    before = re.split(r"\d", labels[0])[0]
    hexadecimal = re.compile(re.escape(before) + "((?:0x)?[0-9a-f]+)", re.IGNORECASE)
    found = [match[1] for match in map(hexadecimal.fullmatch, labels) if match is not None]
    if len(found) == len(labels):
        yield [int(each, 16) for each in found]


def _by_size(digits: str) -> tuple[int, str]:
    """What sorts as the number does, however long it is."""
    bare = digits.lstrip("0")
    return len(bare), bare


def _parts(label: str) -> list[str]:
    """ "Class-07 b" -> ["class ", "07", " b"]: a number at every odd place."""
    return re.split(r"(\d+)", plain_words(label))


def plain_words(name: str) -> str:
    """ "Hot_Dog" and "hot dog" are one."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


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

    InputError for too few classes or more than MAX_CLASSES; MismatchError for one class an image on one side and any
    number on the other, and for an image that is on both sides.
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
        return sorted(map(without_secrets, set(map(_whole, one.places)) & set(map(_whole, other.places))))
    return []


def _whole(place: str) -> str:
    return os.path.realpath(local_name(place)) if is_local(place) else place
