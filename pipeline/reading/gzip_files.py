"""Text of gzip files, of which nothing is used before its checksum has been compared.

In: an open .gz file, of one member or of many (pigz, bgzip, `cat a.gz b.gz`). Out: a stream of its text.

zlib goes on after a damaged byte with wrong text and notices it at the end of the member, where the checksum stands. So
the file is decompressed twice: once to find how much text lies in whole members, and once to read that much.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

RAW = 1 << 18
"""compressed bytes read at once: few, for the bytes behind a member are copied, and bgzip's members have 64 KiB"""
TEXT = 1 << 22
"""bytes of text decompressed at once, however well they were compressed"""
GZIP = 16 + zlib.MAX_WBITS


class DamagedGzipError(OSError):
    """A gzip file that breaks off, does not match its checksum, or goes on as something else."""


class VerifiedGzip:
    """Text of the members up to the first that is damaged; behind it, `read` raises DamagedGzipError.

    A member is a whole: where its checksum does not match, none of its text can be trusted.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._left, self._fault = verified_text(file)
        file.seek(0)
        self._blocks = inflated(file)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, none at the end of a whole file."""
        if not self._rest and self._left:
            self._rest = next(text for text, _ in self._blocks if text)[: self._left]
            self._left -= len(self._rest)
        if not self._rest and self._fault is not None:
            raise self._fault
        block = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(block) :]
        return block


def verified_text(file: BinaryIO) -> tuple[int, DamagedGzipError | None]:
    """Bytes of text in the whole members before the first damage, and what the damage is."""
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
    """Pieces of text, and whether each ends a member, whose checksum and length zlib has compared.

    Zeros behind the last member are padding, as tapes and block devices need it.
    """
    raw = file.read(RAW)
    members = 0
    while raw or not members:
        member = zlib.decompressobj(GZIP)
        try:
            while not member.eof:
                raw = raw or file.read(RAW)
                if not raw:
                    raise DamagedGzipError("a gzip file that breaks off: its checksum is missing")
                text = member.decompress(raw, TEXT)
                raw = member.unused_data if member.eof else member.unconsumed_tail
                yield text, member.eof
        except zlib.error as error:
            raise DamagedGzipError(
                f"a damaged gzip file: {str(error).rpartition(': ')[2]} in member {members + 1:,}"
                if not members or not str(error).endswith("incorrect header check")
                else f"{members:,} whole gzip members, and bytes behind them that are no gzip"
            ) from error
        members += 1
        while not (raw := raw.lstrip(b"\0")) and (more := file.read(RAW)):
            raw = more
