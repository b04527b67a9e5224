"""What one tar holds: its samples in order, where the image of each lies, and what headers tell to be wrong with it.

In: the path of a WebDataset tar. Out: a `TarIndex`, arrays with an entry for each sample; no member is read.

Which members make a sample is decided in `vocab/store/tar_samples.py`.
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
from vocab.store.tar_samples import samples
from vocab.store.tars import CompressedTarError, Member

IMAGE_EXTENSIONS = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif", "jpe", "avif"),
    *("ppm", "pgm", "pbm", "pnm", "pjpeg", "pjp", "apng", "dib", "img"),
)
OTHER_IMAGE_EXTENSIONS = frozenset("heic heif hif jxl jp2 j2k jpf svg tga psd exr dng".split())
"""images by their names, in formats that nothing here decodes"""
FAULTS = ("", "no_image", "empty_image", "image_too_large", "repeated_key", "truncated_tar", "unread_format")
"""Why a sample cannot be used, as far as headers tell, by the code in `TarIndex.faults`; 0 is none"""
NO_IMAGE, EMPTY_IMAGE, IMAGE_TOO_LARGE, REPEATED_KEY, TRUNCATED_TAR, UNREAD_FORMAT = range(1, len(FAULTS))

_RANKS = {extension: rank for rank, extension in enumerate(IMAGE_EXTENSIONS)}
_NO_RANK = len(IMAGE_EXTENSIONS)


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The samples of a tar."""

    keys: list[str]
    """[samples] in the tar's order; a sample's place here is its index in the tar"""
    offsets: Int64[np.ndarray, " samples"]
    """where the image begins in the file; -1 where there is none"""
    sizes: Int64[np.ndarray, " samples"]
    """bytes of the image"""
    faults: UInt8[np.ndarray, " samples"]
    """places in FAULTS"""

    def __len__(self) -> int:
        return len(self.keys)


class NoTarError(InputError):
    """A file that is there and can be read, and is no tar from its first byte."""


def index_tar(path: Path, *, max_member_bytes: int, place: str = "") -> TarIndex:
    """Every sample of a tar, from its headers alone; of several images of one the first in IMAGE_EXTENSIONS counts.

    A tar that breaks off gives its whole samples, then one entry of fault truncated_tar in place of the broken one.
    `place`: what errors call the tar, where that is not the path. Raises NoTarError for a file that is no tar, and
    InputError for one that is not there or cannot be read.
    """
    keys: list[str] = []
    offsets: list[int] = []
    sizes: list[int] = []
    unread: list[int] = []
    whole = True
    repeats: Set[str] = frozenset()
    with _readable(path, place) as stream:
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
    repeated = [place for place, key in enumerate(keys) if key in repeats] if repeats else []
    _find_faults(index, unread, repeated, max_member_bytes)
    if not whole:
        index.faults[-1] = TRUNCATED_TAR
    return index


def members_of(path: Path, indices: Collection[int], *, place: str = "") -> dict[int, dict[str, Member]]:
    """Members of some samples of a tar by index of the sample, then by lower-case extension; none where it broke off.

    The headers are walked again: captions are looked at for a few samples, and arrays for all would cost more.
    `place`, and what is raised: as `index_tar` has it.
    """
    wanted = set(indices)
    found: dict[int, dict[str, Member]] = {index: {} for index in wanted}
    with _readable(path, place) as stream:
        for index, sample in enumerate(islice(samples(stream), max(wanted, default=-1) + 1)):
            if index in wanted:
                found[index] = sample.members
    return found


@contextmanager
def _readable(path: Path, place: str) -> Iterator[BinaryIO]:
    """A tar, open while it is walked."""
    try:
        with path.open("rb") as stream:
            yield stream
    except (OSError, tarfile.ReadError) as error:
        raise no_readable_tar(place or path, error) from error


def _find_faults(index: TarIndex, unread: list[int], repeated: list[int], max_member_bytes: int) -> None:
    index.faults[index.sizes > max_member_bytes] = IMAGE_TOO_LARGE
    index.faults[index.sizes == 0] = EMPTY_IMAGE
    index.faults[index.offsets < 0] = NO_IMAGE
    index.faults[unread] = UNREAD_FORMAT
    index.faults[repeated] = REPEATED_KEY


def no_readable_tar(place: str | Path, error: OSError | tarfile.ReadError) -> InputError:
    """The error for a tar that is not there or cannot be read, or a NoTarError for a file that is none.

    A compressed tar is not damaged: what cannot be read of it is no bad sample, which training would pass over.
    """
    is_no_tar = isinstance(error, tarfile.ReadError) and not isinstance(error, CompressedTarError)
    kind = NoTarError if is_no_tar else InputError
    return kind(
        place,
        found=f"no readable tar ({error})",
        wanted="a WebDataset tar",
        remedy=open_files.remedy_of(error, "Check this place, download the tar again, or leave it out."),
    )
