"""Marks of tars: size and checksum of a sample of the bytes, to know a tar again wherever it lies.

A mark is made without reading or fetching all of a tar: it is the sha256 of parts that lie evenly over the tar. A tar
that is no longer than these parts is read whole.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.data.tar_cache import TarCache
from trainer.data.tar_locations import PIPE, is_local, local_name
from trainer.data.tar_streams import DownloadError, open_stream

PARTS, PART_BYTES = 16, 1 << 16


@dataclass(frozen=True)
class TarMark:
    """A tar by its content; None where a value is unknown until the tar is fetched."""

    bytes: int | None = None
    changed: int | None = None
    """time of change (ns) of a local file"""
    mark: str | None = None


def marked(location: str, cache: TarCache, *, known: TarMark | None, moved: bool) -> TarMark:
    """The mark of a tar. `known`: its earlier mark; `moved`: True if it lay in another location then.

    A local file of the same size and time of change in the same location is not read again. A remote tar is marked by
    its copy in the cache; if it moved and has no copy, only its size is asked for.
    """
    if is_local(location):
        path = Path(local_name(location))
        try:
            found = path.stat()
            if known is not None and not moved and (known.bytes, known.changed) == (found.st_size, found.st_mtime_ns):
                return known
            return TarMark(found.st_size, found.st_mtime_ns, mark_of(path))
        except OSError:
            return TarMark()  # opening it for its samples raises the error that names the cause
    if (copy := cache.copy_of(location)) is not None:
        with suppress(FileNotFoundError):  # evicted meanwhile
            return TarMark(copy.stat().st_size, mark=mark_of(copy))
    if known is not None and not moved:
        # The content of a location is assumed never to change, as in the cache.
        return replace(known, changed=None)
    if known is not None and not location.startswith(PIPE):
        with suppress(DownloadError), open_stream(location, allow_pipe=False, timeout_s=cache.timeout_s) as stream:
            return TarMark(stream.size)
    return TarMark()


def mark_of(path: Path) -> str:
    """sha256 of 16 parts of 64 KiB that lie evenly over a file; of the whole file if it is no longer than that."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        last = max(0, size - PART_BYTES)
        for part in range(PARTS):
            start = part * PART_BYTES if size <= PARTS * PART_BYTES else part * last // (PARTS - 1)
            digest.update(os.pread(file.fileno(), PART_BYTES, start))
    return digest.hexdigest()
