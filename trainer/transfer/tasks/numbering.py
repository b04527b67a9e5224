"""Numbers of classes: one numbering for both sides of a task, numbers in labels, and the orders that they give.

The writer of a list of names may have had another order of the labels in mind:

    "class_0", "class_1", "class_10", "class_2"    numbers 0, 1, 10, 2
    "0_cat", "10_ray", "1_dog"                     another order: "0_cat", "1_dog", "10_ray"
    "c8", "c9", "c10", "ca"                        as hexadecimal numbers: "c8", "c9", "ca", "c10"
    "class nine", "class one"                      as words: "class one", "class nine"
    "airfield", "hotel"                            no number, no other order
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from trainer.data.labelled_images import LabelledImages
from vocab.errors import MismatchError
from vocab.pages.text import counted, listed

LONGEST_NUMBER = 10
"""digits of a class's number"""


def is_number(label: str) -> bool:
    """Tell whether a label is a whole number in ASCII digits, no longer than a class's number can be."""
    return label.isascii() and label.isdecimal() and len(label) <= LONGEST_NUMBER


def in_order(labels: set[str]) -> list[str]:
    """Sort labels; as numbers if all are whole numbers: "9" before "10"."""
    return sorted(labels, key=lambda label: (int(label), label)) if all(map(is_number, labels)) else sorted(labels)


def renumbered(images: LabelledImages, labels: tuple[str, ...]) -> LabelledImages:
    """Number the classes of images as in `labels`. Raises MismatchError for a class that is not there."""
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
    positions = np.array([numbers[label] for label in images.labels], np.int64)
    classes = positions[images.classes]
    # Ascending within each image: where the numbers keep their order, they are so already.
    by_image = np.repeat(np.arange(len(images)), np.diff(images.offsets))
    return replace(images, labels=labels, classes=classes[np.lexsort((classes, by_image))])


WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
ROMAN = "- i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx".split()


def numbers_of(labels: Sequence[str]) -> list[int] | None:
    """Find the number of each label, where labels differ in nothing else: "class_0", "Class 10" -> 0, 10; else None."""
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
    """Sort the labels by another reading of their numbers; None where no reading gives another order.

    Labels that such a reading does not tell apart, "1" and "01", are in no order.
    """
    for keys in _orders(labels):
        if any(not one < other for one, other in pairwise(keys)):
            return [labels[position] for position in sorted(range(len(labels)), key=keys.__getitem__)]
    return None


def _orders(labels: Sequence[str]) -> Iterator[list[Any]]:
    """Keys to sort labels by: hexadecimal numbers, numbers inside text, the one number of each, decimal numbers,
    numbers in words.
    """
    before = re.split(r"\d", labels[0])[0]
    hexadecimal = re.compile(re.escape(before) + "((?:0x)?[0-9a-f]+)", re.IGNORECASE)
    found = [match[1] for match in map(hexadecimal.fullmatch, labels) if match is not None]
    if len(found) == len(labels):
        yield [int(each, 16) for each in found]
        if len(set(map(len, labels))) == 1:
            return
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
    last = [plain_words(label).rpartition(" ")[2] for label in labels]
    for written in (WORDS, ROMAN):
        if len(set(last)) == len(last) and set(last) <= set(written):
            yield [written.index(word) for word in last]


def _by_size(digits: str) -> tuple[int, str]:
    """Key that sorts as the number does, however long the number is."""
    bare = digits.lstrip("0")
    return len(bare), bare


def _parts(label: str) -> list[str]:
    """ "Class-07 b" -> ["class ", "07", " b"]: a number at every odd position."""
    return re.split(r"(\d+)", plain_words(label))


def plain_words(name: str) -> str:
    """Reduce a name to words: "Hot_Dog" and "hot dog" are one."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
