"""Files that one process of a machine writes at a time, and that are gone with it unless it finishes them.

In: the path of an unfinished file. Out: the file, locked; or the news that another process has it.

The lock is of the open file, not of its name: it vanishes with the process, even a killed one, and whoever takes the
file over begins anew. A finished file is renamed under its lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[BinaryIO | None]:
    """The file of that name, made if absent, for this caller alone, and removed at the end unless renamed.

    It may hold what a killed process left. None if it was renamed or removed while this caller waited for it, or
    if another has it and `wait` is not set.
    """
    # Without truncation, for another process may be writing; O_NOFOLLOW, for a link would lead out of the folder.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        if not (_locked(file, wait=wait) and _is_named(file, path)):
            yield None
            return
        try:
            yield file
        finally:
            if _is_named(file, path):
                path.unlink()


def remove_unclaimed(path: Path) -> bool:
    """Remove a file that a killed process left; whether nobody has it."""
    with path.open("rb") as file:
        if not _locked(file, wait=False):
            return False
        if _is_named(file, path):
            path.unlink()
        return True


def _locked(file: BinaryIO, *, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_named(file: BinaryIO, path: Path) -> bool:
    """Whether an open file still has its name: it may have been renamed or removed, and another have its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
