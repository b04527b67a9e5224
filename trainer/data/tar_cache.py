"""A folder on a local disk that keeps copies of tars which lie elsewhere, for all processes of a machine.

In: places of tars. Out: paths of whole local copies, each downloaded once, however many processes ask for it.

A copy is called 00017-<hash of place>.tar.cached; cache_folder.py keeps the folder. The hash is of the whole
place, query string included: an address signed anew is another entry. What a place holds is taken never to change.
Files are not flushed to disk: empty the folder after a power failure.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import queue
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trainer.data.cache_folder import CACHED, PART, CacheFolder
from trainer.data.tar_places import is_local, local_name, shown_tar
from trainer.data.tar_streams import DownloadError, open_stream
from vocab.errors import CatlipError, InputError
from vocab.store.locks import claimed

LONGEST_WAIT_S = 60.0
GROWTH = 64 << 20
"""most bytes by which a tar whose size nobody tells takes room before it needs it; until then it doubles"""
AHEAD = 64
"""most places that wait to be fetched ahead, in each process"""


@dataclass(frozen=True)
class TarCache:
    """A cache folder and how it is filled. Holds no handles: it can be pickled, and passed to any process.

    Making one makes the folder, or raises InputError for a folder that holds other things.
    """

    folder: Path
    """on a disk of this machine: locks of network file systems are slow, where they work"""
    max_bytes: int
    """what the folder may hold, downloads under way included; should be some tars for each process that reads"""
    allow_pipe: bool = False
    """see trainer/data/tar_places.py: runs shell commands"""
    tries: int = 5
    first_wait_s: float = 1.0
    """seconds before the second try; doubled for each further one up to a minute, and varied by half"""
    timeout_s: float = 60.0
    """seconds that a server or command may send nothing"""
    prefix: str = "--"
    """what the names of options begin with, in errors that tell which to change: "--task." for --task.cache-gb"""

    def __post_init__(self) -> None:
        self._home.prepare()

    def local_path(self, place: str) -> Path:
        """A local place as it is, else its copy, downloaded if there is none.

        The copy may be evicted as soon as this returns. That harms nobody who has it open, for POSIX keeps the bytes
        of an open file that is deleted; use `open` to have it open in time.

        Raises InputError for a tar that cannot be had, with the tries and the cause, or is larger than the cache, and
        for a folder that is full or not writable.
        """
        if is_local(place):
            return Path(local_name(place))
        path = self._path_of(place)
        with self._home.errors():
            while not _use(path):
                self._fetch(place, path, wait=True, tries=self.tries)
        return path

    def copy_of(self, place: str) -> Path | None:
        """The copy of a remote place, if there is one; nothing is downloaded."""
        path = self._path_of(place)
        return path if path.exists() else None

    def open(self, place: str) -> BinaryIO:
        """A tar, open for reading: stays whole in the reader's hands, whatever is evicted meanwhile.

        Raises what `local_path` does, and OSError for a local place that cannot be opened.
        """
        while True:
            try:
                return self.local_path(place).open("rb")
            except FileNotFoundError:
                if is_local(place):
                    raise

    def fetch_ahead(self, places: Sequence[str]) -> None:
        """Have a background thread of this process download what is not there yet; returns at once.

        Only a promise to try: places beyond AHEAD waiting ones are left out, tars that another process downloads are
        left to it, and a failure shows when `local_path` meets it again. Fetch no more ahead than the cache holds.
        """
        waiting = _waiting(os.getpid())
        for place in places:
            if is_local(place) or self._path_of(place).exists():
                continue
            with waiting.mutex:
                known = (self, place) in waiting.queue
            if not known:
                with contextlib.suppress(queue.Full):
                    waiting.put_nowait((self, place))

    @property
    def _home(self) -> CacheFolder:
        return CacheFolder(self.folder, self.max_bytes)

    def _path_of(self, place: str) -> Path:
        stems = re.findall(r"([A-Za-z0-9._-]+)\.tar", place)
        digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:32]
        return self.folder / f"{stems[-1][-60:] if stems else ''}-{digest}{CACHED}"

    def _fetch(self, place: str, path: Path, *, wait: bool, tries: int) -> None:
        """Download a tar, unless another process has done so while this one waited."""
        part = path.with_name(path.name.removesuffix(CACHED) + PART)
        with claimed(part, wait=wait) as file:
            if file is None or path.exists():
                return
            for attempt in range(1, tries + 1):
                try:
                    self._download(place, file)
                except DownloadError as error:
                    if not error.passing or attempt == tries:
                        raise InputError(
                            shown_tar(place),
                            found=f"no tar after {attempt} {'try' if attempt == 1 else 'tries'} ({error})",
                            wanted="a tar that can be downloaded",
                            remedy="Check the place, the network and the credentials of this environment.",
                        ) from error
                    wait_s = min(self.first_wait_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
                    time.sleep(wait_s * random.uniform(0.5, 1.5))
                else:
                    with self._home.lock():
                        Path(file.name).rename(path)
                    return

    def _download(self, place: str, file: BinaryIO) -> None:
        """One try. Raises DownloadError, or OSError where the cache's disk fails."""
        file.seek(0)
        file.truncate(0)
        with open_stream(place, allow_pipe=self.allow_pipe, timeout_s=self.timeout_s, prefix=self.prefix) as stream:
            written = room = 0
            if stream.size is not None:
                self._refuse_large(place, stream.size)
                room = self._home.make_room(file, stream.size, wait=True)
            for block in stream.blocks:
                written += len(block)
                if stream.size is None and written > room:
                    self._refuse_large(place, written)
                    wanted = max(written, min(written + min(written, GROWTH), self.max_bytes))
                    room = self._home.make_room(file, wanted, wait=False)
                elif written > room:
                    raise DownloadError(f"more than the {room:,} bytes that were announced", passing=True)
                file.write(block)
        if stream.size is not None and written < stream.size:
            raise DownloadError(f"{written:,} of {stream.size:,} bytes", passing=True)
        if written == 0:
            raise DownloadError("no bytes", passing=True)
        file.truncate(written)

    def _refuse_large(self, place: str, size: int) -> None:
        if size > self.max_bytes:
            raise InputError(
                shown_tar(place),
                found=f"a tar of {size:,} bytes or more",
                wanted=f"at most the cache's {self.max_bytes:,} bytes",
                remedy=f"Let the cache in {self.folder} hold more: {self.prefix}cache-gb.",
            )


def _use(path: Path) -> bool:
    """Whether a tar is there; if so it is now the one used last."""
    try:
        # The time of change stays: tables of tars are told by it (`trainer/data/tar_tables.py`).
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    except PermissionError:
        # Another user's copy, which can be read; only its age stays.
        return True
    return True


@functools.cache
def _waiting(process: int) -> queue.Queue[tuple[TarCache, str]]:
    """What this process fetches ahead. By process, for threads do not live on in a forked one."""
    waiting: queue.Queue[tuple[TarCache, str]] = queue.Queue(AHEAD)
    threading.Thread(target=_fetch_waiting, args=(waiting,), name="tars-ahead", daemon=True).start()
    return waiting


def _fetch_waiting(waiting: queue.Queue[tuple[TarCache, str]]) -> None:
    while True:
        cache, place = waiting.get()
        path = cache._path_of(place)
        # One try: the reader's own tries follow, and name the cause.
        with contextlib.suppress(CatlipError), cache._home.errors():
            if not path.exists():
                cache._fetch(place, path, wait=False, tries=1)
