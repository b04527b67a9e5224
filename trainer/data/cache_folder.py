"""A cache's folder: keeps within its size, and deletes nothing that the cache did not make.

In: files that want room. Out: room, made by deleting leftovers of dead processes and the tars longest unused.

    .catlip-tar-cache                    the marker, and the lock under which room is given
    00017-<hash of place>.tar.cached     a whole tar; its access time is when it was last asked for
    00017-<hash of place>.tar.part       one on its way, claimed (`vocab/store/locks.py`) by who downloads it
"""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vocab.errors import InputError, remedy_of
from vocab.store.locks import OWN, lock, remove_unclaimed

MARKER = ".catlip-tar-cache"
CACHED = ".tar.cached"
PART = ".tar.part"
OURS = re.compile(rf"[A-Za-z0-9._-]*-[0-9a-f]{{32}}\.tar\.(cached|({OWN}\.)?part)")

ROOM_POLL_S = 0.2


def default_cache(given: Path | None) -> Path:
    """Where processes of this machine share what they fetched and found out: `given`, or in the user's cache folder."""
    if given is not None:
        return given
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open-catlip"


@dataclass(frozen=True)
class CacheFolder:
    """A folder that may be deleted from."""

    path: Path
    max_bytes: int
    """what it may hold, downloads under way included"""

    def prepare(self) -> None:
        """Make the folder. Raises InputError for one that holds other things, or cannot be made."""
        with self.errors():
            self.path.mkdir(parents=True, exist_ok=True)
            marker = self.path / MARKER
            if not marker.exists():
                if held := sorted(path.name for path in self.path.iterdir() if path.name != MARKER):
                    raise self._refused(f"{len(held)} entries that no cache made, {held[0]!r} among them")
                marker.write_text("Copies of image tars; files here may be deleted at any time.\n")

    def make_room(self, file: BinaryIO, size: int, *, wait: bool) -> int:
        """Take `size` bytes of the folder for a file on its way, and evict the tars longest unused until they fit.

        Where other downloads leave too little, `wait` waits for them to end; a tar of unknown size, which holds room
        already and could wait for another such forever, goes on over the limit instead.
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
        """Delete leftovers of killed downloads, then the tars longest unused; whether the rest is within max_bytes.

        Where even the downloads under way are too much, tars are deleted only if `in_vain`. Call under the lock.
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
        """Let nothing be admitted, renamed or evicted in the block. Never wait for a tar in it.

        Where the file system has no locks, the folder may for a while hold more than `max_bytes`.
        """
        with (self.path / MARKER).open("r+b") as marker:
            lock(marker, wait=True)
            yield

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the network did wrong is a DownloadError by now; an OSError is the folder's."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "Free space there, or let the cache hold less." if full else f"{remedy_of(error)} Or name another."
            raise self._refused("a full disk" if full else str(error), remedy=remedy) from error

    def _refused(self, found: str, *, remedy: str = "Name a new folder that you may write to.") -> InputError:
        return InputError(self.path, found=found, wanted="a folder for copies of tars", remedy=remedy)
