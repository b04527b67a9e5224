"""WebDataset tars as both other rooms walk them: whose member is whose, and where an archive breaks off.

In: an open tar, seekable. Out: its regular files by name, offset and size, from headers alone.

    000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...   a sample's members are neighbours and share a key

What a tar holds is untrusted: nothing is unpacked, names are only names, links and devices are passed over.

A corpus has a header for every picture and caption of it, so those that nearly all of them are like are read here, six
times as fast as tarfile reads them. From the first one that is unlike them on, tarfile reads the archive.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple
from zlib import adler32

BLOCK = 512

# Read at once: as a rule all headers from one image to the next, with the small members between them.
_WINDOW = 8192
_ZEROS = bytes(BLOCK)
_OCTAL = b"01234567"
_FILE, _FOLDER, _EXTENDED = "file", "folder", "extended header"
_KINDS = {b"0": _FILE, b"\0": _FILE, b"5": _FOLDER, b"x": _EXTENDED}
# mode, uid, gid, size and time of change; what of them is octal tarfile reads as a number
_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148))
_TIME = re.compile(rb"(\d{1,3}) [acm]time=[\d.]+\n")
# What tarfile raises for hostile headers, beside its own errors: impossible numbers, and chains of long names.
_REFUSED = (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError)


# A tuple, because making one costs a third of making a frozen dataclass.
class Member(NamedTuple):
    """Where one regular file lies inside a tar."""

    name: str
    """bytes that are not UTF-8 are replaced by U+FFFD"""
    offset: int
    size: int


class BrokenTar(Exception):  # noqa: N818 - caught by both rooms, never shown
    """The archive breaks off. `name` is the member it breaks in, "" where it breaks between two or inside a header."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def split_name(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member, as the webdataset library has them: "a/b.c.JPG" -> "a/b", "c.jpg"."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def walk(stream: BinaryIO) -> Iterator[Member]:
    """The regular files of an archive, in order. Where the stream stands between two of them does not matter.

    Raises tarfile.ReadError for what is no tar from its first byte, and BrokenTar, after the last whole member, for an
    archive that ends without its two blocks of zeros: inside a member, inside a header, or between two members.

    The same as `_walk_on(stream, 0, "", end)`, which is slower.
    """
    end = stream.seek(0, os.SEEK_END)
    read = _reader(stream)
    at, name = 0, ""
    start, window = 0, b""
    while at + BLOCK <= end:
        place = at - start
        if len(window) < place + 3 * BLOCK:
            start, place, window = at, 0, read(at)
        block = window[place : place + BLOCK]
        if block == _ZEROS:
            return
        header = _plain_header(block)
        if header is not None and header[0] is _EXTENDED:
            place += 2 * BLOCK
            times = _holds_only_times(window[place - BLOCK : place], header[2])
            header = _plain_header(window[place : place + BLOCK]) if times else None
        if header is None or header[0] is _EXTENDED:
            break
        kind, name_here, size = header
        offset = start + place + BLOCK
        name = name_here
        if offset + size > end:
            raise BrokenTar(name)
        at = offset + size + -size % BLOCK
        if kind is _FILE:
            yield Member(name, offset, size)
    if at > end:
        raise BrokenTar(name)
    yield from _walk_on(stream, at, name, end)


def _walk_on(stream: BinaryIO, start: int, name: str, end: int) -> Iterator[Member]:
    """The regular files from the header at `start` on, as tarfile reads them. `name`: the member before it."""
    stream.seek(start)
    try:
        archive = tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="replace")  # noqa: SIM115
    except _REFUSED as error:
        if start > 0:
            raise BrokenTar(name) from error
        raise error if isinstance(error, tarfile.ReadError) else tarfile.ReadError(str(error)) from error
    with archive:
        while True:
            try:
                info = archive.next()
            except _REFUSED as error:
                raise BrokenTar(name) from error
            if info is None:
                break
            name = info.name
            if info.size < 0 or info.offset_data + info.size > end:
                raise BrokenTar(name)
            if info.isreg() and not info.issparse():
                yield Member(name, info.offset_data, info.size)
        # tarfile takes a broken header for the end of the archive; a real end is a block of zeros.
        stream.seek(archive.offset)
        if stream.read(BLOCK) != _ZEROS:
            raise BrokenTar("")


def _reader(stream: BinaryIO) -> Callable[[int], bytes]:
    """What reads a window of the stream at an offset."""
    file = stream.raw if isinstance(stream, io.BufferedReader) else stream
    if isinstance(file, io.FileIO):
        # Past the buffer, which every seek empties. Not a memory map: a file that shrinks would kill the process.
        number = file.fileno()
        return lambda at: os.pread(number, _WINDOW, at)

    def read(at: int) -> bytes:
        stream.seek(at)
        return stream.read(_WINDOW)

    return read


def _plain_header(block: bytes) -> tuple[str, str, int] | None:
    """Kind, name and size in a header in which nothing is unusual. None for any other, and for what is no header.

    What is not None is exactly what tarfile reads there: its checksum is right and all of its numbers are octal.
    """
    tail = _tail(block[156:])
    if tail is None:
        return None
    kind, prefix, tail_sum = tail
    try:
        # As nearly everyone writes them: eleven digits and a zero; six digits, a zero and a space.
        size = int(block[124:135], 8) if block[135] == 0 else _octal(block[124:136])
        checksum = int(block[148:154], 8) if block[154] == 0 else _octal(block[148:156])
    except ValueError:
        return None
    # adler32 begins at 1 and adds up bytes modulo 65521, which 148 of them do not reach. The checksum counts as spaces.
    if checksum != (adler32(block[:148]) & 0xFFFF) - 1 + 8 * 32 + tail_sum or size is None or size < 0:
        return None
    if block[100:148].translate(None, b"01234567\0") and any(_octal(block[a:b]) is None for a, b in _NUMBERS):
        return None
    name = block[:100].partition(b"\0")[0].decode("utf-8", "replace")
    if name.endswith("/"):
        # A file of such a name is how tars older than POSIX write a folder.
        if kind is _FILE:
            return None
        name = name.rstrip("/")
    if prefix:
        name = f"{prefix}/{name}"
    if kind is _FOLDER:
        return (kind, name.rstrip("/"), size) if size == 0 else None
    return kind, name, size


@lru_cache(maxsize=64)
def _tail(tail: bytes) -> tuple[str, str, int] | None:
    """Kind, prefix of the name and sum of a header's bytes from the 156th on, which members of one tar have in common.

    None if they are unusual, or not those of a whole header.
    """
    kind = _KINDS.get(tail[:1])
    if len(tail) != BLOCK - 156 or kind is None:
        return None
    if _octal(tail[173:181]) is None or _octal(tail[181:189]) is None:
        return None
    return kind, str(tail[189:344].partition(b"\0")[0], "utf-8", "replace"), sum(tail)


def _octal(field: bytes) -> int | None:
    """A number as tars have it: octal, with spaces around it, ended by a zero or the field. None if it is not."""
    digits = field.partition(b"\0")[0].strip(b" ")
    return None if digits.translate(None, _OCTAL) else int(digits or b"0", 8)


def _holds_only_times(block: bytes, size: int) -> bool:
    """Whether the block of an extended header says nothing of a member but its times, as Python and GNU tar write them.

    "28 mtime=1747969211.5140378\\n"
    """
    if not 0 < size <= BLOCK or len(block) < BLOCK or block[size:].strip(b"\0"):
        return False
    at = 0
    while at < size:
        record = _TIME.match(block, at, size)
        if record is None or at + int(record[1]) != record.end():
            return False
        at = record.end()
    return True
