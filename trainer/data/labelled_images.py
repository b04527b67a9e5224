"""Images of a task with the classes that they show, and the store that their bytes are read from.

What a data set holds is read in `trainer/transfer/tasks/`. A store gives the bytes of an image to any thread; the store
here reads members of tars.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from trainer.data.batch import Skipped
from trainer.data.tar_cache import TarCache
from trainer.data.tar_locations import is_local, shown_tar
from vocab.errors import InputError

MAX_CLASSES = 1 << 16
"""more than any data set has (ImageNet-22k: 21,841): more are not classes but, say, numbers of images"""
Read = Callable[[int], bytes]
"""Function from the number of an image in its store to its bytes; for any thread. Raises BadImage for an image that is
gone, InputError for a store that was changed."""


@runtime_checkable
class ImageStore(Protocol):
    """A store of image bytes. Holds no handles: it can be sent to any process."""

    def open(self) -> AbstractContextManager[Read]:
        """Open the store for as long as the context lasts."""
        ...


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and classes: image i shows classes[offsets[i] : offsets[i + 1]], ascending; one unless `multi_label`."""

    store: ImageStore
    rows: Int64[np.ndarray, " images"]
    """number of each image in the store"""
    names: tuple[str, ...]
    """unique names of the images, as shown in messages"""
    offsets: Int64[np.ndarray, " images_plus_1"]
    classes: Int64[np.ndarray, " positives"]
    labels: tuple[str, ...]
    """name of each class in the data set, by its number"""
    multi_label: bool
    fingerprint: str
    """checksum of the whole data set, the same for every selection; another one if any bytes may have changed"""
    skipped: tuple[Skipped, ...] = ()
    """bad samples found without decoding"""
    class_names: tuple[str, ...] = ()
    """names of the classes if the data set has others besides `labels`, as LVIS has synsets"""
    notes: tuple[str, ...] = ()
    """remarks on how the data set was read, for readers of the results"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def one_class(self) -> Int64[np.ndarray, " images"]:
        """The class of each image, for a data set with one class per image."""
        assert not self.multi_label
        return self.classes

    @property
    def images_by_class(self) -> Int64[np.ndarray, " labels"]:
        """Number of images that show each class."""
        return np.bincount(self.classes, minlength=len(self.labels)).astype(np.int64)

    def select(self, images: Int64[np.ndarray, " some"]) -> LabelledImages:
        """Select some of the images, in the given order; the classes keep their numbers."""
        lengths = np.diff(self.offsets)[images]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        positives = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[images], lengths)
        return replace(
            self,
            rows=self.rows[images],
            names=tuple(self.names[image] for image in images.tolist()),
            offsets=offsets,
            classes=self.classes[positives],
        )


MAX_OPEN = 128
"""tars that are held open at a time; a process may have 1,024 files open by default"""


@dataclass(frozen=True, eq=False)
class TarStore:
    """Images in tars, of which at most MAX_OPEN are open. Holds no handles: it can be sent to any process."""

    locations: tuple[str, ...]
    """locations of the tars"""
    stamps: Int64[np.ndarray, "tars 2"]
    """bytes and time of change (ns) of each tar when its headers were read"""
    tars: Int64[np.ndarray, " images"]
    """number of each image's tar"""
    offsets: Int64[np.ndarray, " images"]
    """where the image begins in its tar"""
    sizes: Int64[np.ndarray, " images"]
    """bytes of the image"""
    cache: TarCache

    @contextmanager
    def open(self) -> Iterator[Read]:
        """Open the store; each tar is fetched and opened when an image of it is first read.

        The tars that were read last stay open. Reading raises InputError for a tar that is gone, was changed or has
        become shorter.
        """
        # Where two threads open the same tar at once, the second one's is closed when it has been read.
        tar_of = lru_cache(MAX_OPEN)(self._open_tar)
        try:
            yield partial(self._read, tar_of)
        finally:
            tar_of.cache_clear()

    def _read(self, tar_of: Callable[[int], _OpenTar], image: int) -> bytes:
        number, offset, size = int(self.tars[image]), int(self.offsets[image]), int(self.sizes[image])
        tar = tar_of(number)
        content = os.pread(tar.file.fileno(), size, offset)
        if len(content) < size:
            raise InputError(
                shown_tar(self.locations[number]),
                found=f"{len(content):,} of {size:,} bytes of the image at byte {offset:,}",
                wanted="the tar as it was when its headers were read",
                remedy="Do not change image tars while they are read; start the same command again.",
            )
        return content

    def _open_tar(self, number: int) -> _OpenTar:
        location = self.locations[number]
        tar = _OpenTar(self.cache.open(location))
        size, changed = stamp_of(tar.file)
        wanted = self.stamps[number].tolist()
        # The copy of a remote tar may have been fetched anew, which changes its time alone.
        if size != wanted[0] or (changed != wanted[1] and is_local(location)):
            raise InputError(
                shown_tar(location),
                found=f"a tar of {size:,} bytes that was changed",
                wanted=f"the tar of {wanted[0]:,} bytes whose headers were read",
                remedy="Do not change image tars while they are read; start the same command again.",
            )
        return tar


class _OpenTar:
    """An open tar; it is closed when no thread reads it and the store has dropped it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def __del__(self) -> None:
        self.file.close()


def stamp_of(file: BinaryIO) -> tuple[int, int]:
    """Bytes and time of change (ns) of an open file."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns
