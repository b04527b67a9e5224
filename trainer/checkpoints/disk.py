"""Files and folders flushed to the disk, so that they survive a power cut; sizes and sha256 of what was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

BLOCK = 1 << 22


class Written(NamedTuple):
    """Size and checksum of a written file."""

    size: int
    """bytes"""
    sha256: str


def write_file(path: Path, blocks: Iterable[bytes | memoryview]) -> Written:
    """Write a file and flush it to the disk. Raises OSError, with the file's name, if the disk refuses it."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb", buffering=0) as file:
            for block in blocks:
                left = memoryview(block)
                digest.update(left)
                size += len(left)
                # A disk that is nearly full takes a part of a block before it refuses the next.
                while left:
                    left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    return Written(size, digest.hexdigest())


def flush(path: Path) -> None:
    """Flush a file's bytes, or a folder's names: what was made or renamed in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
