"""Tars with a .cls beside each image, as WebDataset has them for classification, as a task.

The order is that of tars and samples. Only headers and the .cls members are read.

    000000000.jpg  000000000.cls  000000000.json      b"17\\n", an integer from 0 on, in ASCII digits; no other is read

The classes are the numbers that occur in .cls, ascending, and their labels are these numbers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from trainer.data.batch import Skipped
from trainer.data.labelled_images import LabelledImages, TarStore, stamp_of
from trainer.data.source import path_of
from trainer.data.tar_cache import TarCache
from trainer.data.tar_index import FAULTS, TRUNCATED_TAR, TarIndex, index_tar, members_of
from trainer.data.tar_locations import is_local, list_tars, shown_tar
from trainer.transfer.tasks.files import check_bad_share
from vocab.errors import InputError

EXTENSION = "cls"
MAX_CLASS_BYTES = 64
"""more digits than any number of classes has; spaces around them are common"""
MAX_CLASS = (1 << 31) - 1
_INTEGER = re.compile(rb"\s*(\d{1,10})\s*", re.ASCII)


def open_tars(
    patterns: Sequence[str], *, cache: TarCache, max_bad_share: float, max_member_bytes: int = 64 << 20
) -> LabelledImages:
    """Open the tars that the patterns name (`trainer/data/tar_locations.py`), fetched if they are remote.

    Samples that cannot be used are named in `skipped`: without an image or with one that headers show to be bad
    (`tar_index.FAULTS`), no_class, broken_class for a .cls that is not the number of a class.

    Raises InputError for files that are missing or not tars, for a tar that breaks off (the number of images behind the
    break is unknown), and if more than `max_bad_share` of all samples are bad or none is left.
    """
    locations = list_tars(patterns, allow_pipe=cache.allow_pipe, prefix=cache.prefix)
    tars = []
    for number, location in enumerate(locations):
        cache.fetch_ahead(locations[number + 1 : number + 2])
        tars.append(_read_tar(location, cache, max_member_bytes))
    keys = [key for tar in tars for key in tar.keys]
    skipped = tuple(bad for tar in tars for bad in tar.skipped)
    check_bad_share(
        " ".join(map(shown_tar, patterns)),
        len(keys),
        skipped,
        max_bad_share,
        remedy="Give tars with a .cls beside each image",
        option=f"{cache.prefix}max-bad-share",
    )
    numbers = np.concatenate([np.array(tar.classes, np.int64) for tar in tars])
    store = TarStore(
        tuple(locations),
        np.array([tar.stamp for tar in tars], np.int64).reshape(-1, 2),
        np.repeat(np.arange(len(tars)), [len(tar.keys) for tar in tars]),
        np.array([offset for tar in tars for offset in tar.offsets], np.int64),
        np.array([size for tar in tars for size in tar.sizes], np.int64),
        cache,
    )
    labels = np.unique(numbers)
    return LabelledImages(
        store=store,
        rows=np.arange(len(keys)),
        names=_names(store, keys),
        offsets=np.arange(len(keys) + 1),
        classes=np.searchsorted(labels, numbers).astype(np.int64),
        labels=tuple(map(str, labels.tolist())),
        multi_label=False,
        fingerprint=_fingerprint(store, keys),
        skipped=skipped,
    )


def with_all_classes(images: LabelledImages, count: int) -> LabelledImages:
    """Number the classes 0 to `count` - 1, with or without images: a list of names says how many there are."""
    numbers = np.array(list(map(int, images.labels)), np.int64)
    return replace(images, labels=tuple(map(str, range(count))), classes=numbers[images.classes])


@dataclass
class _TarSamples:
    """The samples of one tar."""

    stamp: tuple[int, int]
    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def _read_tar(location: str, cache: TarCache, max_member_bytes: int) -> _TarSamples:
    shown = shown_tar(location)
    shard = Path(shown).name
    with cache.open(location) as file:
        tar = _TarSamples(stamp_of(file))
        index = index_tar(path_of(file), max_member_bytes=max_member_bytes, location=shown)
        if len(index) and index.faults[-1] == TRUNCATED_TAR:
            raise _broken(shown, index)
        members = members_of(path_of(file), range(len(index)), location=shown)
        for sample, (key, fault) in enumerate(zip(index.keys, index.faults.tolist(), strict=True)):
            member = members[sample].get(EXTENSION)
            if fault:
                tar.skipped.append(Skipped(shard, key, FAULTS[fault]))
                continue
            if member is None:
                tar.skipped.append(Skipped(shard, key, "no_class"))
                continue
            # The first bytes of a long one are enough to see that it is not a number.
            text = os.pread(file.fileno(), min(member.size, MAX_CLASS_BYTES + 1), member.offset)
            label = class_of(text)
            if label is None:
                tar.skipped.append(Skipped(shard, key, "broken_class"))
                continue
            tar.keys.append(key)
            tar.offsets.append(int(index.offsets[sample]))
            tar.sizes.append(int(index.sizes[sample]))
            tar.classes.append(label)
    return tar


def class_of(text: bytes) -> int | None:
    """The class in a .cls; None for anything but an integer from 0 to MAX_CLASS.

    b"17" and b" 17\\n" -> 17; b"-1", b"1.0", b"0x11", b"1 2", b"", b"cat" -> None
    """
    match = _INTEGER.fullmatch(text) if len(text) <= MAX_CLASS_BYTES else None
    return int(match[1]) if match is not None and int(match[1]) <= MAX_CLASS else None


def _names(store: TarStore, keys: Sequence[str]) -> tuple[str, ...]:
    """Unique names of the images, "00000.tar/000000017"."""
    shown = [shown_tar(location) for location in store.locations]
    bare = [Path(location).name for location in shown]
    # Two folders may have a 00000.tar each.
    shards = bare if len(set(bare)) == len(bare) else shown
    return tuple(f"{shards[tar]}/{key}" for tar, key in zip(store.tars.tolist(), keys, strict=True))


def _fingerprint(store: TarStore, keys: Sequence[str]) -> str:
    """sha256 of the locations, of sizes and times of change of local tars, and of the keys and positions of all images.

    The content of a remote location is assumed never to change, as in the cache.
    """
    digest = hashlib.sha256()
    for location, (size, changed) in zip(store.locations, store.stamps.tolist(), strict=True):
        line = shown_tar(location)
        if is_local(location):
            line += f"\t{size}\t{changed}"
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    digest.update("\0".join(keys).encode(errors="surrogateescape"))
    values: Int64[np.ndarray, " images"]
    for values in (store.tars, store.offsets, store.sizes):
        digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()


def _broken(shown: str, index: TarIndex) -> InputError:
    """The error for a tar that breaks off: without the images behind the break, accuracy would change."""
    where = f"inside sample {index.keys[-1]!r}" if index.keys[-1] else "between two members"
    after = f", after {len(index) - 1:,} samples" + (f", the last one {index.keys[-2]!r}" if len(index) > 1 else "")
    return InputError(
        shown,
        found=f"an archive that breaks off {where}{after}",
        wanted="a whole tar: the number of images behind the break is unknown",
        remedy="Download or pack it again, or leave this tar out.",
    )
