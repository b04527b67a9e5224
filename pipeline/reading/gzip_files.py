"""Gzip files as streams, of which nothing is used before its checksum has been compared; tars at any offset.

A file may have one gzip member or many (pigz, bgzip, `cat a.gz b.gz`). After a damaged byte, zlib goes on with wrong
text, and notices only at the end of the member, where the checksum is. So a file is decompressed twice: once to find
how much of it lies in whole members, and once to read that much.

A tar is read almost in order: a sample's text once its last header has been seen. The bytes inflated last are kept for
the way back; to go back farther means to inflate from the start.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, cast

RAW_BYTES = 1 << 18
"""compressed bytes read at once: few, because the bytes after a member are copied, and bgzip's members have 64 KiB"""
TEXT_BYTES = 1 << 22
"""bytes of text decompressed at once, however well they were compressed"""
GZIP = 16 + zlib.MAX_WBITS


class DamagedGzipError(OSError):
    """Raised for a gzip file that breaks off, does not match its checksum, or goes on as something else."""


class VerifiedGzip:
    """Text of the members before the first damaged one; then `read` raises DamagedGzipError.

    If a member's checksum does not match, none of its text can be trusted.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._left, self._fault = verified_text(file)
        file.seek(0)
        self._blocks = inflated(file)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; none at the end of an intact file."""
        if not self._rest and self._left:
            self._rest = next(text for text, _ in self._blocks if text)[: self._left]
            self._left -= len(self._rest)
        if not self._rest and self._fault is not None:
            raise self._fault
        block = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(block) :]
        return block


def verified_text(file: BinaryIO) -> tuple[int, DamagedGzipError | None]:
    """Number of bytes of text in whole members before the first damage, and the damage."""
    verified = length = 0
    try:
        for text, ends_member in inflated(file):
            length += len(text)
            if ends_member:
                verified = length
    except DamagedGzipError as fault:
        return verified, fault
    return verified, None


def inflated(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Blocks of text, each with whether it ends a member, whose checksum and length zlib has compared then.

    Zeros after the last member are padding, which tapes and block devices need.
    """
    raw = file.read(RAW_BYTES)
    members = 0
    while raw or not members:
        member = zlib.decompressobj(GZIP)
        try:
            while not member.eof:
                raw = raw or file.read(RAW_BYTES)
                if not raw:
                    raise DamagedGzipError("a gzip file that breaks off: its checksum is missing")
                text = member.decompress(raw, TEXT_BYTES)
                raw = member.unused_data if member.eof else member.unconsumed_tail
                yield text, member.eof
        except zlib.error as error:
            raise DamagedGzipError(
                f"a damaged gzip file: {str(error).rpartition(': ')[2]} in member {members + 1:,}"
                if not members or not str(error).endswith("incorrect header check")
                else f"{members:,} whole gzip members, and bytes behind them that are no gzip"
            ) from error
        members += 1
        while not (raw := raw.lstrip(b"\0")) and (more := file.read(RAW_BYTES)):
            raw = more


MAGIC = b"\x1f\x8b"
KEPT_BYTES = 64 << 20
"""bytes of the tar that are kept for the way back"""
LOOKED_AT_BYTES = 16 << 20
"""bytes of a compressed tar that are looked at before a job"""


def tar_stream(file: BinaryIO) -> tuple[BinaryIO, DamagedGzipError | None]:
    """The file itself, or the tar inside gzip as far as its checksums match, and the damage after that.

    Raises DamagedGzipError if not even the first gzip member is whole.
    """
    if not _is_gzip(file):
        return file, None
    size, fault = verified_text(_rewound(file))
    if not size and fault is not None:
        raise fault
    return cast(BinaryIO, _GzipTar(file, size)), fault


def first_tar_bytes(file: BinaryIO) -> BinaryIO:
    """The file itself, or the first bytes of the tar inside gzip, before any checksum is compared."""
    if not _is_gzip(file):
        return file
    head = io.BytesIO()
    for text, _ in inflated(_rewound(file)):
        head.write(text)
        if head.tell() >= LOOKED_AT_BYTES:
            break
    return head


def _is_gzip(file: BinaryIO) -> bool:
    return _rewound(file).read(len(MAGIC)) == MAGIC


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


class _GzipTar(io.RawIOBase):
    """The first `size` bytes inside a gzip file, all of which are known to match their checksums."""

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
        while (
            self._stop - self._start - len(self._held[0]) > KEPT_BYTES and self._start + len(self._held[0]) <= self._at
        ):
            self._start += len(self._held.popleft())
