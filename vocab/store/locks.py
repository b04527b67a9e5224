"""Locks of files: one writer at a time, freed by the system when its process ends, even a killed one.

The lock is held on the open file, not on its name, so a finished file is renamed under its lock. The package filelock
cannot do that: it locks a second file, and its lock for file systems without flock outlives a killed process.

Some file systems have no locks (FUSE, Lustre mounted without flock, NFS without a lock service). There each process
writes an unfinished file of its own, which says in its name whose it is and appears whole when it is renamed:

    00017.tar.part                                  claimed by whoever has locked it
    00017.tar.node7-4026531836.2211.1f0c99ab.part   without locks: host and process namespace, process, random
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""answers of flock where the file system has no locks"""
OWN = r"(?P<machine>[A-Za-z0-9-]+)\.(?P<pid>[0-9]+)\.[0-9a-f]{8}"
"""the part of a file's name that says which process alone writes it"""
ABANDONED_SECONDS = 24 * 3600.0
"""seconds without a write after which a file that nobody can be asked about counts as left behind"""


def lock(file: BinaryIO | int, *, wait: bool) -> bool:
    """Lock an open file; False where its file system has no locks.

    Raises BlockingIOError if another holds it, unless `wait` is set, and OSError for any other refusal. The file is
    best open for writing, as NFS demands.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def is_named(file: BinaryIO | int, path: Path) -> bool:
    """Tell whether an open file still has its name: it may have been renamed or removed while this caller waited."""
    try:
        return os.path.samestat(os.fstat(file if isinstance(file, int) else file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[BinaryIO | None]:
    """Make or take over an unfinished file for this caller alone; it is removed at the end unless renamed.

    `name` of the file is its path, which differs from `path` where the file system has no locks. The file may hold
    what a killed process left. None if another has it and `wait` is not set, or if it was renamed or removed while
    this caller waited.
    """
    file = _claim(path, wait=wait)
    if file is None:
        yield None
        return
    with file:
        try:
            yield file
        finally:
            if is_named(file, Path(file.name)):
                os.unlink(file.name)  # noqa: PTH108 - beside its name


def remove_unclaimed(path: Path) -> bool:
    """Remove an unfinished file that a process left behind; False if its writer may still be at work."""
    with path.open("r+b" if os.access(path, os.W_OK) else "rb") as file:
        if own := re.search(rf"\.{OWN}\.", path.name):
            is_left = own["machine"] == machine() and has_ended(int(own["pid"]))
        else:
            try:
                is_left = lock(file, wait=False)
            except BlockingIOError:
                return False
        if not is_left and time.time() - os.fstat(file.fileno()).st_mtime <= ABANDONED_SECONDS:
            return False
        if is_named(file, path):
            path.unlink()
        return True


def _claim(path: Path, *, wait: bool) -> BinaryIO | None:
    file = _opened(path, os.O_CREAT)
    try:
        if lock(file, wait=wait):
            if is_named(file, path):
                return file
        else:
            own = f"{machine()}.{os.getpid()}.{secrets.token_hex(4)}"
            unshared = _opened(path.with_name(f"{path.stem}.{own}{path.suffix}"), os.O_CREAT | os.O_EXCL)
            # Empty: made by this call, or by another that came no further.
            if os.fstat(file.fileno()).st_size == 0:
                path.unlink(missing_ok=True)
            file.close()
            return unshared
    except BlockingIOError:
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _opened(path: Path, flags: int) -> BinaryIO:
    # Without truncation, for another process may be writing; O_NOFOLLOW, for a link would lead out of the folder.
    return open(path, "r+b", opener=lambda name, _: os.open(name, os.O_RDWR | os.O_NOFOLLOW | flags, 0o666))


def host() -> str:
    """Name of this host, fit for the name of a file."""
    return re.sub("[^A-Za-z0-9]", "-", socket.gethostname())[:64] or "-"


def machine() -> str:
    """Name of this host and number of its process namespace (one of each container): where a process number counts."""
    try:
        namespace = re.sub("[^0-9]", "", os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - beside os.kill
    except OSError:
        namespace = "0"
    return f"{host()}-{namespace}"


def has_ended(pid: int) -> bool:
    """Tell whether no process of this machine has the number any more; one that waits to be reaped has ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    try:
        # The state stands behind the program's name, which may hold anything.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in ("Z", "X")
