"""A folder on a local disk that keeps copies of remote tars, for all processes of a machine.

Each tar is downloaded once, however many processes ask for it. The folder keeps within its size, and nothing is deleted
that the cache did not make:

    .catlip-tar-cache                       the marker, and the lock under which room is made
    00017-<hash of location>.tar.cached     a whole tar; its access time is when it was last asked for
    00017-<hash of location>.tar.part       a tar on its way, claimed (`vocab/store/locks.py`) by its downloader

The hash covers the whole location, query string included: an address signed anew is another entry. The content of a
location is assumed never to change. Files are not flushed to disk: empty the folder after a power failure.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import queue
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trainer.data import open_files
from trainer.data.tar_locations import is_local, local_name, shown_tar
from trainer.data.tar_streams import DownloadError, open_stream
from trainer.options import Cache
from vocab.errors import CatlipError, InputError, remedy_of
from vocab.store.locks import OWN, claimed, lock, remove_unclaimed

MARKER = ".catlip-tar-cache"
CACHED = ".tar.cached"
PART = ".tar.part"
OURS = re.compile(rf"[A-Za-z0-9._-]*-[0-9a-f]{{32}}\.tar\.(cached|({OWN}\.)?part)")
"""names of the files that the cache makes"""
LONGEST_WAIT_S = 60.0
ROOM_POLL_S = 0.2
MAX_GROWTH = 64 << 20
"""bytes; a tar of unknown size takes room ahead of its bytes by doubling, and by at most so much"""
MAX_AHEAD = 64
"""tars that wait to be fetched ahead, in each process"""


@dataclass(frozen=True)
class TarCache:
    """A cache folder, and how it is filled. Holds no handles: it can be pickled, and passed to any process.

    Makes the folder. Raises InputError for a folder that holds other files.
    """

    folder: Path
    """on a disk of this machine: locks of network file systems are slow, where they work at all"""
    max_bytes: int
    """limit of the folder, downloads under way included; should hold some tars for each process that reads"""
    allow_pipe: bool = False
    """allow locations that are shell commands (trainer/data/tar_locations.py)"""
    tries: int = 5
    first_wait_s: float = 1.0
    """wait before the second try; doubled for each further try up to a minute, and varied by half"""
    timeout_s: float = 60.0
    """time that a server or command may send nothing"""
    prefix: str = "--"
    """beginning of option names in error messages: "--task." for --task.cache-gb"""

    def __post_init__(self) -> None:
        self._home.prepare()

    def local_path(self, location: str) -> Path:
        """Path of a local tar, or of the copy of a remote one, downloaded if there is none.

        The copy may be evicted as soon as this returns; `open` opens it in time. Readers that have it open are safe:
        POSIX keeps the bytes of an open file that is deleted.

        Raises InputError for a tar that cannot be downloaded, with the tries and the cause, for a tar larger than the
        cache, and for a folder that is full or not writable.
        """
        if is_local(location):
            return Path(local_name(location))
        path = self._path_of(location)
        with self._home.errors():
            while not _use(path):
                self._fetch(location, path, wait=True, tries=self.tries)
        return path

    def copy_of(self, location: str) -> Path | None:
        """The copy of a remote tar if there is one; nothing is downloaded."""
        path = self._path_of(location)
        return path if path.exists() else None

    def open(self, location: str) -> BinaryIO:
        """Open a tar for reading; it stays readable whatever is evicted meanwhile.

        Raises as `local_path`, and InputError for a tar that cannot be opened.
        """
        while True:
            try:
                return self.local_path(location).open("rb")
            except OSError as error:
                # A copy may have been evicted before it was opened.
                if is_local(location) or not isinstance(error, FileNotFoundError):
                    raise InputError(
                        shown_tar(location),
                        found=f"{error.strerror}",
                        wanted="a tar that can be opened",
                        remedy=open_files.remedy_of(error, "Check it; tars must stay in place while they are read."),
                    ) from error

    def fetch_ahead(self, locations: Sequence[str]) -> None:
        """Have a background thread of this process download missing tars; returns at once.

        Each is tried once: tars beyond `MAX_AHEAD` waiting ones are left out, tars that another process downloads are
        left to it, and a failure shows when `local_path` meets it again. Fetch no more ahead than the cache holds.
        """
        waiting = _waiting(os.getpid())
        for location in locations:
            if is_local(location) or self._path_of(location).exists():
                continue
            with waiting.mutex:
                known = (self, location) in waiting.queue
            if not known:
                with contextlib.suppress(queue.Full):
                    waiting.put_nowait((self, location))

    @property
    def _home(self) -> CacheFolder:
        return CacheFolder(self.folder, self.max_bytes)

    def _path_of(self, location: str) -> Path:
        stems = re.findall(r"([A-Za-z0-9._-]+)\.tar", location)
        digest = hashlib.sha256(location.encode(errors="surrogateescape")).hexdigest()[:32]
        return self.folder / f"{stems[-1][-60:] if stems else ''}-{digest}{CACHED}"

    def _fetch(self, location: str, path: Path, *, wait: bool, tries: int) -> None:
        """Download a tar, unless another process has done so while this one waited."""
        part = path.with_name(path.name.removesuffix(CACHED) + PART)
        with claimed(part, wait=wait) as file:
            if file is None or path.exists():
                return
            for attempt in range(1, tries + 1):
                try:
                    self._download(location, file)
                except DownloadError as error:
                    if not error.passing or attempt == tries:
                        raise InputError(
                            shown_tar(location),
                            found=f"no tar after {attempt} {'try' if attempt == 1 else 'tries'} ({error})",
                            wanted="a tar that can be downloaded",
                            remedy="Check the location, the network and the credentials of this environment.",
                        ) from error
                    wait_s = min(self.first_wait_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
                    time.sleep(wait_s * random.uniform(0.5, 1.5))
                else:
                    with self._home.lock():
                        Path(file.name).rename(path)
                    return

    def _download(self, location: str, file: BinaryIO) -> None:
        """Download a tar in one try. Raises DownloadError, or OSError if the disk of the cache fails."""
        file.seek(0)
        file.truncate(0)
        with open_stream(location, allow_pipe=self.allow_pipe, timeout_s=self.timeout_s, prefix=self.prefix) as stream:
            written = room = 0
            if stream.size is not None:
                self._refuse_large(location, stream.size)
                room = self._home.make_room(file, stream.size, wait=True)
            for block in stream.blocks:
                written += len(block)
                if stream.size is None and written > room:
                    self._refuse_large(location, written)
                    wanted = max(written, min(written + min(written, MAX_GROWTH), self.max_bytes))
                    room = self._home.make_room(file, wanted, wait=False)
                elif written > room:
                    raise DownloadError(f"more than the {room:,} bytes that were announced", passing=True)
                file.write(block)
        if stream.size is not None and written < stream.size:
            raise DownloadError(f"{written:,} of {stream.size:,} bytes", passing=True)
        if written == 0:
            raise DownloadError("no bytes", passing=True)
        file.truncate(written)

    def _refuse_large(self, location: str, size: int) -> None:
        if size > self.max_bytes:
            raise InputError(
                shown_tar(location),
                found=f"a tar of {size:,} bytes or more",
                wanted=f"at most the cache's {self.max_bytes:,} bytes",
                remedy=f"Let the cache in {self.folder} hold more: {self.prefix}cache-gb.",
            )


def _use(path: Path) -> bool:
    """Mark a tar as the one used last; False if it is not there."""
    try:
        # The time of change stays, because tables of tars depend on it (`trainer/data/tar_tables.py`).
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    except PermissionError:
        # Another user's copy: readable, but its access time cannot be set.
        return True
    return True


@functools.cache
def _waiting(process: int) -> queue.Queue[tuple[TarCache, str]]:
    """Queue of tars to fetch ahead. One for each process, because threads do not survive a fork."""
    waiting: queue.Queue[tuple[TarCache, str]] = queue.Queue(MAX_AHEAD)
    threading.Thread(target=_fetch_waiting, args=(waiting,), name="tars-ahead", daemon=True).start()
    return waiting


def _fetch_waiting(waiting: queue.Queue[tuple[TarCache, str]]) -> None:
    while True:
        cache, location = waiting.get()
        path = cache._path_of(location)
        # One try: the reader's own tries follow, and name the cause.
        with contextlib.suppress(CatlipError), cache._home.errors():
            if not path.exists():
                cache._fetch(location, path, wait=False, tries=1)


def cache_of(options: Cache) -> TarCache:
    """Open the cache that a verb's options name."""
    return TarCache(
        default_cache(options.cache) / "tars",
        max_bytes=int(options.cache_gb * 1e9),
        allow_pipe=options.allow_pipe,
        prefix=options.PREFIX,
    )


def default_cache(given: Path | None) -> Path:
    """Folder where processes of this machine share tars and tables: `given`, or one in the user's cache folder."""
    if given is not None:
        return given
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open-catlip"


@dataclass(frozen=True)
class CacheFolder:
    """The folder of a cache, whose files may be deleted at any time."""

    path: Path
    max_bytes: int
    """limit of the folder, downloads under way included"""

    def prepare(self) -> None:
        """Make the folder. Raises InputError if it holds other files, or cannot be made."""
        with self.errors():
            self.path.mkdir(parents=True, exist_ok=True)
            marker = self.path / MARKER
            if not marker.exists():
                if held := sorted(path.name for path in self.path.iterdir() if path.name != MARKER):
                    raise self._refused(f"{len(held)} entries that no cache made, {held[0]!r} among them")
                marker.write_text("Copies of image tars; files here may be deleted at any time.\n")

    def make_room(self, file: BinaryIO, size: int, *, wait: bool) -> int:
        """Reserve `size` bytes of the folder for a download, and evict the least recently used tars until they fit.

        If other downloads leave too little room, `wait` waits for them to end. A tar of unknown size does not wait: it
        holds room already, so that two of them could wait for each other forever. It goes over the limit instead.
        """
        while True:
            with self.lock():
                # A hole of the full size: other processes count it from now on.
                file.truncate(size)
                if self._evict(in_vain=not wait) or not wait:
                    return size
                file.truncate(0)
            time.sleep(ROOM_POLL_S * random.uniform(0.5, 1.5))

    def _evict(self, *, in_vain: bool) -> bool:
        """Delete leftovers of killed downloads, then the tars longest unused; True if the rest fits in max_bytes.

        If the downloads under way alone exceed it, tars are deleted only if `in_vain`. Call under the lock.
        """
        total = 0
        tars: list[tuple[int, int, str]] = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                if OURS.fullmatch(entry.name) is None or not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    if not entry.name.endswith(CACHED) and remove_unclaimed(Path(entry.path)):
                        continue
                    found = os.stat(entry.path)  # noqa: PTH116 - there may be many
                except FileNotFoundError:
                    continue
                total += found.st_size
                if entry.name.endswith(CACHED):
                    tars.append((found.st_atime_ns, found.st_size, entry.path))
        under_way = total - sum(size for _, size, _ in tars)
        if under_way > self.max_bytes and not in_vain:
            return False
        for _, size, tar in sorted(tars):
            if total <= self.max_bytes:
                break
            Path(tar).unlink(missing_ok=True)
            total -= size
        return total <= self.max_bytes

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from admitting, renaming or evicting tars in the block. Never wait for a tar in it.

        Where the file system has no locks, the folder may for a while hold more than `max_bytes`.
        """
        with (self.path / MARKER).open("r+b") as marker:
            lock(marker, wait=True)
            yield

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn an OSError in the block, which the folder must have caused, into an InputError."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "Free space there, or let the cache hold less." if full else f"{remedy_of(error)} Or name another."
            raise self._refused("a full disk" if full else str(error), remedy=remedy) from error

    def _refused(self, found: str, *, remedy: str = "Name a new folder that you may write to.") -> InputError:
        return InputError(self.path, found=found, wanted="a folder for copies of tars", remedy=remedy)
