"""Tars with one class beside each image, as WebDataset has them for classification.

In: tars whose samples have an image and a .cls. Out: `ClassTars`, which images there are and their classes, from
headers and the .cls members alone; and the store that any of them is read from.

    000000000.jpg  000000000.cls      b"17\\n", an integer from 0 on, in ASCII digits

Classes are told apart by their numbers and by nothing else; which numbers there are is up to the data set.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from trainer.data import open_files
from trainer.data.batch import Skipped
from trainer.data.labelled_images import TarStore, stamp_of
from trainer.data.source import path_of
from trainer.data.tar_cache import TarCache
from trainer.data.tar_index import FAULTS, TRUNCATED_TAR, TarIndex, index_tar, members_of
from trainer.data.tar_locations import list_tars, shown_tar
from vocab.errors import InputError, MismatchError

EXTENSION = "cls"
# More digits than any number of classes has; spaces around them are common.
MAX_CLASS_BYTES = 64
MAX_CLASS = (1 << 31) - 1
# ImageNet-22k has 21,841. More are no classes but, say, numbers of the images.
MAX_CLASSES = 1 << 16
NAMED = 5
_INTEGER = re.compile(rb"\s*(\d{1,10})\s*", re.ASCII)


@dataclass(frozen=True, eq=False)
class ClassTars:
    """Images with a class each, in the order of tars and samples. Holds no handles: it can go to any process."""

    places: tuple[str, ...]
    """locations of the tars, sorted"""
    stamps: Int64[np.ndarray, "tars 2"]
    """size (bytes) and time of change (ns) of each tar when its headers were read"""
    cache: TarCache
    tars: Int64[np.ndarray, " images"]
    """number of each image's tar"""
    keys: tuple[str, ...]
    offsets: Int64[np.ndarray, " images"]
    """where the image begins in its tar"""
    sizes: Int64[np.ndarray, " images"]
    """bytes of the image"""
    classes: Int64[np.ndarray, " images"]
    """class of each image, from its .cls"""
    skipped: tuple[Skipped, ...]
    """samples that headers or .cls show to be of no use"""
    eval_crop: float
    max_pixels: int
    take_truncated: bool

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> Int64[np.ndarray, " classes"]:
        """The classes that occur, ascending."""
        return np.unique(self.classes)

    @property
    def account(self) -> Counter[str]:
        """How many samples were left out, by reason."""
        return Counter(sample.reason for sample in self.skipped)

    @property
    def store(self) -> TarStore:
        """The same images, for any thread to read."""
        return TarStore(self.places, self.stamps, self.tars, self.offsets, self.sizes, self.cache)

    def name(self, image: int) -> tuple[str, str]:
        """The tar and the key of an image, as messages show them."""
        return shown_tar(self.places[self.tars[image]]), self.keys[image]


def open_class_tars(
    patterns: Sequence[str],
    *,
    cache: TarCache,
    eval_crop: float = 0.875,
    max_pixels: int = 89_478_485,
    take_truncated: bool = False,
    max_member_bytes: int = 64 << 20,
    max_bad_share: float = 0.1,
) -> ClassTars:
    """The images of the tars that the patterns name (`trainer/data/tar_locations.py`), fetched where they are remote.

    Samples that cannot be used are counted, and named in `skipped`: without an image or with one that headers show to
    be bad (`tar_index.FAULTS`), no_class, broken_class for a .cls that is no number of a class.

    Raises InputError for tars that are not there or no tars, for one that breaks off (nobody knows how many images are
    lost behind the break), and if more than `max_bad_share` of all samples are bad or none is left.
    """
    places = list_tars(patterns, allow_pipe=cache.allow_pipe, prefix=cache.prefix)
    parts = []
    for number, place in enumerate(places):
        cache.fetch_ahead(places[number + 1 : number + 2])
        parts.append(_read_tar(number, place, cache, max_member_bytes))
    found = ClassTars(
        places=tuple(places),
        stamps=np.array([part.stamp for part in parts], np.int64).reshape(-1, 2),
        cache=cache,
        tars=np.array([number for part in parts for number in [part.number] * len(part.keys)], np.int64),
        keys=tuple(key for part in parts for key in part.keys),
        offsets=np.array([offset for part in parts for offset in part.offsets], np.int64),
        sizes=np.array([size for part in parts for size in part.sizes], np.int64),
        classes=np.array([label for part in parts for label in part.classes], np.int64),
        skipped=tuple(bad for part in parts for bad in part.skipped),
        eval_crop=eval_crop,
        max_pixels=max_pixels,
        take_truncated=take_truncated,
    )
    _check_bad_share(found, patterns, max_bad_share, option=f"{cache.prefix}max-bad-share")
    return found


def check_classes(train: ClassTars, test: ClassTars) -> None:
    """Raise an error if a classifier cannot be trained on one and measured on the other.

    InputError for fewer than two classes or more than MAX_CLASSES; MismatchError for test classes that are never
    trained on, and for a tar that is on both sides.
    """
    if not 2 <= len(train.labels) <= MAX_CLASSES:
        raise InputError(
            "the probe's training tars",
            found=f"{len(train.labels):,} classes in {len(train):,} images",
            wanted=f"2 to {MAX_CLASSES:,}",
            remedy="Look at the .cls members: each holds the number of its image's class.",
        )
    unknown = np.setdiff1d(test.labels, train.labels)
    if len(unknown):
        raise MismatchError(
            "the probe's test tars",
            found=f"{len(unknown):,} classes without a training image: {', '.join(map(str, unknown[:NAMED].tolist()))}",
            wanted="classes of the training tars",
            remedy="Give training tars of the same data set, all of them.",
        )
    shared = set(train.places) & set(test.places)
    if shared:
        raise MismatchError(
            shown_tar(min(shared)),
            found="a tar that the probe is both trained and measured on",
            wanted="tars on one side alone",
            remedy="Leave it out of one of --probe-images and --probe-eval-images.",
        )


@dataclass
class _Part:
    """The samples of one tar."""

    number: int
    stamp: tuple[int, int]
    keys: list[str]
    offsets: list[int]
    sizes: list[int]
    classes: list[int]
    skipped: list[Skipped]


def _read_tar(number: int, place: str, cache: TarCache, max_member_bytes: int) -> _Part:
    shard = Path(shown_tar(place)).name
    try:
        file = cache.open(place)
    except OSError as error:
        raise InputError(
            shown_tar(place),
            found=f"{error.strerror}",
            wanted="a tar that can be opened",
            remedy=open_files.remedy_of(error, "Check it."),
        ) from error
    with file:
        part = _Part(number, stamp_of(file), [], [], [], [], [])
        named = shown_tar(place)
        index = index_tar(path_of(file), max_member_bytes=max_member_bytes, location=named)
        if len(index) and index.faults[-1] == TRUNCATED_TAR:
            raise _broken(place, index)
        members = members_of(path_of(file), range(len(index)), location=named)
        for sample, (key, fault) in enumerate(zip(index.keys, index.faults.tolist(), strict=True)):
            member = members[sample].get(EXTENSION)
            if fault:
                part.skipped.append(Skipped(shard, key, FAULTS[fault]))
                continue
            if member is None:
                part.skipped.append(Skipped(shard, key, "no_class"))
                continue
            # Of a long one the first bytes are enough to see that it is no number.
            text = os.pread(file.fileno(), min(member.size, MAX_CLASS_BYTES + 1), member.offset)
            label = class_of(text)
            if label is None:
                part.skipped.append(Skipped(shard, key, "broken_class"))
                continue
            part.keys.append(key)
            part.offsets.append(int(index.offsets[sample]))
            part.sizes.append(int(index.sizes[sample]))
            part.classes.append(label)
    return part


def _broken(place: str, index: TarIndex) -> InputError:
    """The error for a tar that breaks off: without the images behind the break, accuracy would change."""
    where = f"inside sample {index.keys[-1]!r}" if index.keys[-1] else "between two members"
    after = f", after {len(index) - 1:,} samples" + (f", the last one {index.keys[-2]!r}" if len(index) > 1 else "")
    return InputError(
        shown_tar(place),
        found=f"an archive that breaks off {where}{after}",
        wanted="a whole tar: nobody can tell how many images are lost behind the break",
        remedy="Download or pack it again, or leave this tar out.",
    )


def class_of(text: bytes) -> int | None:
    """The class that a .cls names; None for anything but an integer from 0 to MAX_CLASS.

    b"17" and b" 17\\n" -> 17; b"-1", b"1.0", b"0x11", b"1 2", b"", b"cat" -> None
    """
    match = _INTEGER.fullmatch(text) if len(text) <= MAX_CLASS_BYTES else None
    return int(match[1]) if match is not None and int(match[1]) <= MAX_CLASS else None


def _check_bad_share(found: ClassTars, patterns: Sequence[str], max_bad_share: float, *, option: str) -> None:
    samples = len(found) + len(found.skipped)
    if len(found) and len(found.skipped) <= max_bad_share * samples:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.account.most_common())
    examples = ", ".join(f"{bad.shard}/{bad.key}" for bad in found.skipped[:NAMED])
    raise InputError(
        " ".join(map(shown_tar, patterns)),
        found=f"{len(found):,} of {samples:,} samples with an image and a class"
        + (f" ({reasons}; for example {examples})" if samples else ""),
        wanted=f"at least one, and at most {max_bad_share:.0%} of no use",
        remedy=f"Give tars with a .cls beside each image, or raise {option}.",
    )
