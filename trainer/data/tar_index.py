"""The index of a tar: its samples in order, where the image of each lies, and the faults that headers show.

No member is read. `vocab/store/tars.py` decides which members make a sample.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8

from trainer.data import open_files
from vocab.errors import InputError
from vocab.store.tars import CompressedTarError, Member, samples

IMAGE_EXTENSIONS = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif", "jpe", "avif"),
    *("ppm", "pgm", "pbm", "pnm", "pjpeg", "pjp", "apng", "dib", "img"),
)
OTHER_IMAGE_EXTENSIONS = frozenset("heic heif hif jxl jp2 j2k jpf svg tga psd exr dng".split())
"""names of image formats that nothing here decodes"""
FAULTS = ("", "no_image", "empty_image", "image_too_large", "repeated_key", "truncated_tar", "unread_format")
"""reasons why a sample cannot be used, as far as headers show, by the code in `TarIndex.faults`; 0 is no fault"""
NO_IMAGE, EMPTY_IMAGE, IMAGE_TOO_LARGE, REPEATED_KEY, TRUNCATED_TAR, UNREAD_FORMAT = range(1, len(FAULTS))

_RANKS = {extension: rank for rank, extension in enumerate(IMAGE_EXTENSIONS)}
_NO_RANK = len(IMAGE_EXTENSIONS)


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The samples of a tar."""

    keys: list[str]
    """[samples] in the tar's order; a sample's row here is its index in the tar"""
    offsets: Int64[np.ndarray, " samples"]
    """where the image begins in the file, bytes; -1 if there is no image"""
    sizes: Int64[np.ndarray, " samples"]
    """bytes of the image"""
    faults: UInt8[np.ndarray, " samples"]
    """indices into FAULTS"""

    def __len__(self) -> int:
        return len(self.keys)


class NoTarError(InputError):
    """A readable file that is not a tar from its first byte on."""


def index_tar(path: Path, *, max_member_bytes: int, location: str = "") -> TarIndex:
    """Index every sample of a tar from its headers; of several images of a sample the first in IMAGE_EXTENSIONS counts.

    A tar that breaks off gives its whole samples, then one entry with the fault truncated_tar for the broken one.
    `location`: name of the tar in errors, if not the path. Raises NoTarError for a file that is not a tar, InputError
    for one that is missing or cannot be read.
    """
    keys: list[str] = []
    offsets: list[int] = []
    sizes: list[int] = []
    unread: list[int] = []
    whole = True
    repeats: Set[str] = frozenset()
    with _readable(path, location) as stream:
        for key, members, whole, repeats in samples(stream):  # noqa: B007 - the last ones are those of the whole tar
            rank, offset, size = _NO_RANK, -1, 0
            for extension, member in members.items():
                if (found := _RANKS.get(extension)) is not None and found < rank:
                    rank, (_, offset, size) = found, member
            if offset < 0 and not OTHER_IMAGE_EXTENSIONS.isdisjoint(members):
                unread.append(len(keys))
            keys.append(key)
            offsets.append(offset)
            sizes.append(size)
    index = TarIndex(keys, np.array(offsets, np.int64), np.array(sizes, np.int64), np.zeros(len(keys), np.uint8))
    # Of several faults the last one here counts.
    index.faults[index.sizes > max_member_bytes] = IMAGE_TOO_LARGE
    index.faults[index.sizes == 0] = EMPTY_IMAGE
    index.faults[index.offsets < 0] = NO_IMAGE
    index.faults[unread] = UNREAD_FORMAT
    index.faults[[number for number, key in enumerate(keys) if key in repeats] if repeats else []] = REPEATED_KEY
    if not whole:
        index.faults[-1] = TRUNCATED_TAR
    return index


def members_of(path: Path, indices: Collection[int], *, location: str = "") -> dict[int, dict[str, Member]]:
    """Members of some samples of a tar, by index of the sample, then by lower-case extension; none behind a break.

    The headers are walked again: members are wanted for a few samples, and arrays of those of all would cost more.
    `location` and errors: as in `index_tar`.
    """
    wanted = set(indices)
    found: dict[int, dict[str, Member]] = {index: {} for index in wanted}
    with _readable(path, location) as stream:
        for index, sample in enumerate(islice(samples(stream), max(wanted, default=-1) + 1)):
            if index in wanted:
                found[index] = sample.members
    return found


@contextmanager
def _readable(path: Path, location: str) -> Iterator[BinaryIO]:
    """Open a tar; errors while it is walked become those of `no_readable_tar`."""
    try:
        with path.open("rb") as stream:
            yield stream
    except (OSError, tarfile.ReadError) as error:
        raise no_readable_tar(location or path, error) from error


def no_readable_tar(location: str | Path, error: OSError | tarfile.ReadError) -> InputError:
    """The error for a tar that is missing or cannot be read, a NoTarError for a file that is not a tar.

    A compressed tar gives no NoTarError: it is not damaged, and training would pass over its samples as bad ones.
    """
    is_no_tar = isinstance(error, tarfile.ReadError) and not isinstance(error, CompressedTarError)
    kind = NoTarError if is_no_tar else InputError
    return kind(
        location,
        found=f"no readable tar ({error})",
        wanted="a WebDataset tar",
        remedy=open_files.remedy_of(error, "Check this location, download the tar again, or leave it out."),
    )
