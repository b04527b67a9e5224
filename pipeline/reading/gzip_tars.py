"""Tars compressed with gzip, as streams that can be read at any offset.

In: an open file. Out: a stream of the tar, whether the file is compressed or not.

A sample's text is read when its last header has been seen, so every read lies a little before or behind the last one.
What was inflated last is kept for the way back; whoever goes back farther pays for inflating from the start.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipeline.reading.gzip_files import DamagedGzipError, inflated, verified_text

MAGIC = b"\x1f\x8b"
KEPT = 64 << 20
"""bytes of the tar that are kept for the way back"""
LOOKED_AT = 16 << 20


def tar_stream(file: BinaryIO) -> tuple[BinaryIO, DamagedGzipError | None]:
    """The file itself, or the tar inside of gzip as far as it matches its checksums, and the damage behind that.

    Raises DamagedGzipError where not even the first gzip member is whole.
    """
    if not _is_gzip(file):
        return file, None
    size, fault = verified_text(_rewound(file))
    if not size and fault is not None:
        raise fault
    return cast(BinaryIO, _GzipTar(file, size)), fault


def first_tar_bytes(file: BinaryIO) -> BinaryIO:
    """The file itself, or the first bytes of the tar inside of gzip, whose checksum nobody has compared yet."""
    if not _is_gzip(file):
        return file
    head = io.BytesIO()
    for text, _ in inflated(_rewound(file)):
        head.write(text)
        if head.tell() >= LOOKED_AT:
            break
    return head


def _is_gzip(file: BinaryIO) -> bool:
    return _rewound(file).read(len(MAGIC)) == MAGIC


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


class _GzipTar(io.RawIOBase):
    """The first `size` bytes inside of a gzip file, of which all are known to match their checksums."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._size = file, size
        self._at = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._blocks: Iterator[bytes] = (text for text, _ in inflated(_rewound(self._file)) if text)
        self._held: deque[bytes] = deque()
        self._start = self._stop = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        if self._at < self._start:
            self._begin_anew()
        while self._stop < end:
            self._keep(next(self._blocks))
        parts, begin = [], self._start
        for block in self._held:
            if begin < end and begin + len(block) > self._at:
                parts.append(block[max(0, self._at - begin) : end - begin])
            begin += len(block)
        self._at = end
        return b"".join(parts)

    def _keep(self, block: bytes) -> None:
        self._held.append(block)
        self._stop += len(block)
        while self._stop - self._start - len(self._held[0]) > KEPT and self._start + len(self._held[0]) <= self._at:
            self._start += len(self._held.popleft())
