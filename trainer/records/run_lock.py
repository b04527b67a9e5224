"""One run at a time in a run directory: a lock that the main rank holds for as long as its run lives.

In: the run directory. Out: a locked file in it, `run.lock`, which names its holder and is removed when the run ends.
The system frees the lock when the process ends, even a killed one (`vocab/store/locks.py`).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trainer.distributed import Rank, on_main
from vocab.errors import InputError
from vocab.pages.text import tell
from vocab.store.locks import is_named, lock

FILE = "run.lock"


@contextmanager
def held(out: Path, rank: Rank) -> Iterator[None]:
    """Hold the directory: make it if it is missing, and remove it again if nothing was written into it.

    Raises InputError on every rank if another run holds it.
    """
    with ExitStack() as stack:
        on_main(lambda: stack.enter_context(_locked(out)), rank)
        yield


def entries(out: Path) -> list[Path]:
    """Entries of a directory, the lock left out: a start that was killed early leaves nothing else."""
    return [path for path in out.iterdir() if path.name != FILE]


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    descriptor = _open_locked(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode(), 0)
        yield
    finally:
        # Removed while locked: a process that waits for this file then finds that the name is another file's.
        path.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            # The run wrote something.
            return


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            if is_named(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        has_locks = lock(descriptor, wait=False)
    except BlockingIOError as error:
        raise InputError(
            path.parent,
            found=f"a run that is going on there: {_holder(path)}",
            wanted="a run directory that no other process writes to",
            remedy="Wait for that run or stop it; or choose another --out.",
        ) from error
    if not has_locks:
        tell(
            f"warning: {path}: this file system has no locks (flock): nothing keeps a second run from writing to "
            f"{path.parent}.\n"
        )


def _holder(path: Path) -> str:
    try:
        said = json.loads(path.read_bytes())
        return f"process {said['process']} on {said['host']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # The holder has not written yet, or has just ended.
        return "a process that has not said its name yet"
