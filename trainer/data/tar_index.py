"""What one tar holds: its samples in order, where the image of each lies, and what headers tell to be wrong with it.

In: the path of a WebDataset tar. Out: a `TarIndex`, arrays with an entry for each sample; no member is read.

How a tar is walked, and what in it is a sample's, is in `vocab/tars.py`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from vocab.errors import InputError
from vocab.tars import BrokenTar, Member, split_name, walk

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
FAULTS = ("", "no_image", "empty_image", "image_too_large", "repeated_key", "truncated_tar")
"""Why a sample cannot be used, as far as headers tell, by the code in `TarIndex.faults`; 0 is none"""
NO_IMAGE, EMPTY_IMAGE, IMAGE_TOO_LARGE, REPEATED_KEY, TRUNCATED_TAR = range(1, len(FAULTS))

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


def index_tar(path: Path, *, max_member_bytes: int) -> TarIndex:
    """Every sample of a tar, from its headers alone; of several images of one the first in IMAGE_EXTENSIONS counts.

    A tar that breaks off gives its whole samples, then one entry of fault truncated_tar in place of the broken one.
    Raises NoTarError for a file that is no tar, and InputError for one that is not there or cannot be read.
    """
    keys: list[str] = []
    offsets: list[int] = []
    sizes: list[int] = []
    repeated: list[int] = []
    seen: set[str] = set()
    broken: str | None = None
    rank = _NO_RANK
    try:
        with path.open("rb") as stream:
            for name, offset, size in walk(stream):
                key, extension = split_name(name)
                if not keys or keys[-1] != key:
                    if key in seen:
                        repeated.append(len(keys))
                    seen.add(key)
                    keys.append(key)
                    offsets.append(-1)
                    sizes.append(0)
                    rank = _NO_RANK
                # Of two members of one name the later one counts, as when a tar is unpacked.
                if (found := _RANKS.get(extension)) is not None and found <= rank:
                    rank, offsets[-1], sizes[-1] = found, offset, size
    except BrokenTar as error:
        broken, _ = split_name(error.name)
    except (OSError, tarfile.ReadError) as error:
        raise no_readable_tar(path, error) from error
    if broken is not None:
        if not keys or keys[-1] != broken:
            keys.append(broken)
            offsets.append(-1)
            sizes.append(0)
        offsets[-1], sizes[-1] = -1, 0
    index = TarIndex(keys, np.array(offsets, np.int64), np.array(sizes, np.int64), np.zeros(len(keys), np.uint8))
    _find_faults(index, repeated, max_member_bytes)
    if broken is not None:
        index.faults[-1] = TRUNCATED_TAR
    return index


def members_of(path: Path, indices: Collection[int]) -> dict[int, dict[str, Member]]:
    """Members of some samples of a tar by index of the sample, then by lower-case extension; none where it broke off.

    The headers are walked again: captions are looked at for a few samples, and arrays for all would cost more.
    Raises as `index_tar`.
    """
    wanted, last = set(indices), max(indices, default=-1)
    found: dict[int, dict[str, Member]] = {index: {} for index in wanted}
    index, current = -1, None
    try:
        with path.open("rb") as stream:
            for member in walk(stream):
                key, extension = split_name(member.name)
                if key != current:
                    index, current = index + 1, key
                if index > last:
                    break
                if index in wanted:
                    found[index][extension] = member
    except BrokenTar as error:
        if split_name(error.name)[0] == current and index in wanted:
            found[index] = {}
    except (OSError, tarfile.ReadError) as error:
        raise no_readable_tar(path, error) from error
    return found


def _find_faults(index: TarIndex, repeated: list[int], max_member_bytes: int) -> None:
    index.faults[index.sizes > max_member_bytes] = IMAGE_TOO_LARGE
    index.faults[index.sizes == 0] = EMPTY_IMAGE
    index.faults[index.offsets < 0] = NO_IMAGE
    index.faults[repeated] = REPEATED_KEY


def no_readable_tar(path: Path, error: OSError | tarfile.ReadError) -> InputError:
    """The error for a tar that is not there or cannot be read, or a NoTarError for a file that is none."""
    kind = NoTarError if isinstance(error, tarfile.ReadError) else InputError
    return kind(
        path,
        found=f"no readable tar ({error})",
        wanted="a WebDataset tar",
        remedy="Check this place, download the tar again, or leave it out.",
    )
