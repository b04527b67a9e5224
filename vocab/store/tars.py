"""WebDataset tars: the files of an archive, and its samples, grouped in one way for label, check and training.

In: an open tar, seekable. Out, from headers alone: its regular files by name, offset and size, or its samples in order.

    000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...   members of a sample are neighbours and share a key
    a.jpg a.txt a.jpg b.jpg a.json                                     a (jpg, txt), a (jpg), b (jpg), a (json)

The key is a member's path to the first dot of its last part, without "./". Hidden files and systems' leftovers
(`._000.jpg`, `__MACOSX/`, `Thumbs.db`: `file_names.py`) belong to no sample and part none. A hidden folder counts as
any other: somebody packed it.

A tar is untrusted: nothing is unpacked, names are only compared, links and devices are skipped. Archives joined to one
file (`cat a.tar b.tar`) are read one after the other, as `tar --ignore-zeros` reads them.

A corpus has a header for every picture and caption, so headers of the usual form are read here, six times as fast as by
tarfile. From the first unusual header on, tarfile reads the archive.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Generator, Iterator, Set
from functools import lru_cache
from typing import BinaryIO, NamedTuple
from zlib import adler32

from vocab.store.file_names import LEFTOVER_EXTENSIONS, LEFTOVERS, is_left_by_system

BLOCK = 512

# Bytes read at once: as a rule all headers from one image to the next, with the small members between them.
_WINDOW = 8192
# Bytes read at once behind the end of an archive, where as a rule some kilobytes of zeros follow.
_PADDING = 1 << 20
_ZEROS = bytes(BLOCK)
_Read = Callable[[int, int], bytes]
_OCTAL = b"01234567"
_FILE, _FOLDER, _EXTENDED = "file", "folder", "extended header"
_KINDS = {b"0": _FILE, b"\0": _FILE, b"5": _FOLDER, b"x": _EXTENDED}
# mode, uid, gid, size and time of change: tarfile reads them as octal numbers
_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148))
_TIME = re.compile(rb"(\d{1,3}) [acm]time=[\d.]+\n")
# Errors of tarfile for hostile headers: its own, and those of impossible numbers and of chains of long names.
_REFUSED = (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError)
# First bytes of files that are often given instead of a tar, and the command that makes a tar of them.
_PACKED = {
    b"\x1f\x8b": ("gzip", "gzip -d"),
    b"BZh": ("bzip2", "bzip2 -d"),
    b"\xfd7zXZ\0": ("xz", "xz -d"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -d"),
    b"\x1f\x9d": ("compress", "uncompress"),
    b"PK\3\4": ("zip", "unzip, then tar"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x"),
    b"Rar!": ("rar", "unrar x, then tar"),
}


# A tuple, because making one costs a third of making a frozen dataclass.
class Member(NamedTuple):
    """Where one regular file lies inside a tar."""

    name: str
    """bytes that are not UTF-8 are replaced by U+FFFD"""
    offset: int
    size: int
    """-1 for a sparse file (`tar -S`), whose bytes do not lie together"""


class CompressedTarError(tarfile.ReadError):
    """A compressed tar; the error's text gives the command that unpacks it."""


class BrokenTar(Exception):  # noqa: N818 - caught by both rooms, never shown
    """The archive breaks off. `name`: the member that is cut, "" if none is: between two members, or in a header."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def walk(stream: BinaryIO) -> Iterator[Member]:
    """Regular files of an archive, in order. The stream's position may change between two of them.

    Raises tarfile.ReadError for a file that is not a tar from its first byte on; and BrokenTar, after the last whole
    member, if the archive ends without a block of zeros (inside a member or header, or between two members) or is
    followed by anything but zeros and further archives.

    Equals `_walk_on(stream, 0, "", end)`, which is slower, for one archive after another.
    """
    end = stream.seek(0, os.SEEK_END)
    read = _reader(stream)
    at = 0
    while True:
        at, name = yield from _walk_plain(read, at, end)
        if read(at, BLOCK) != _ZEROS:
            at = yield from _walk_on(stream, at, name, end)
        at = _skip_zeros(read, at, end)
        if at == end:
            return


def _walk_plain(read: _Read, at: int, end: int) -> Generator[Member, None, tuple[int, str]]:
    """Yield the files from the header at `at` to the first block that is not a plain header; return its offset and the
    last name. The block may be zeros, or lie beyond the end.
    """
    name = ""
    start, window = 0, b""
    while at + BLOCK <= end:
        place = at - start
        if len(window) < place + 3 * BLOCK:
            start, place, window = at, 0, read(at, _WINDOW)
        header = _plain_header(window[place : place + BLOCK])
        if header is not None and header[0] is _EXTENDED:
            place += 2 * BLOCK
            times = _holds_only_times(window[place - BLOCK : place], header[2])
            header = _plain_header(window[place : place + BLOCK]) if times else None
        if header is None or header[0] is _EXTENDED:
            break
        kind, name, size = header
        offset = start + place + BLOCK
        if offset + size > end:
            raise BrokenTar(name)
        at = offset + size + -size % BLOCK
        if kind is _FILE:
            yield Member(name, offset, size)
    if at > end:
        raise BrokenTar(name)
    return at, name


def _walk_on(stream: BinaryIO, start: int, name: str, end: int) -> Generator[Member, None, int]:
    """Yield the files from the header at `start` on, as tarfile reads them; return the offset of the zeros at the end.

    `name`: the member before.
    """
    stream.seek(start)
    try:
        archive = tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="replace")  # noqa: SIM115
    except _REFUSED as error:
        if start > 0:
            raise BrokenTar(name) from error
        raise _no_tar(stream, error) from error
    with archive:
        while True:
            try:
                info = archive.next()
            except _REFUSED as error:
                raise BrokenTar(name) from error
            if info is None:
                break
            name = info.name
            # A sparse file's size is the unpacked one.
            sparse = info.issparse()
            if info.size < 0 or (archive.offset if sparse else info.offset_data + info.size) > end:
                raise BrokenTar(name)
            if info.isreg():
                yield Member(name, info.offset_data, -1 if sparse else info.size)
        # tarfile takes a broken header for the end of the archive; a real end is a block of zeros.
        stream.seek(archive.offset)
        if stream.read(BLOCK) != _ZEROS:
            raise BrokenTar("")
        return archive.offset


def _skip_zeros(read: _Read, at: int, end: int) -> int:
    """Offset of the first block from `at` on that is not all zeros; `end` if there is none."""
    while block := read(at, _PADDING):
        if rest := block.lstrip(b"\0"):
            return (at + len(block) - len(rest)) // BLOCK * BLOCK
        at += len(block)
    return end


def _no_tar(stream: BinaryIO, error: Exception) -> tarfile.ReadError:
    """Error for a file that is not a tar from its first byte on; for a compressed tar it says how to unpack it."""
    stream.seek(0)
    first = stream.read(8)
    for magic, (form, command) in _PACKED.items():
        if first.startswith(magic):
            return CompressedTarError(f"a tar compressed with {form}, which is not read: unpack it first, {command}")
    return error if isinstance(error, tarfile.ReadError) else tarfile.ReadError(str(error))


def _reader(stream: BinaryIO) -> _Read:
    """A function that reads some bytes of the stream at an offset."""
    file = stream.raw if isinstance(stream, io.BufferedReader) else stream
    if isinstance(file, io.FileIO):
        # Past the buffer, which every seek empties. Not a memory map: a file that shrinks would kill the process.
        number = file.fileno()
        return lambda at, size: os.pread(number, size, at)

    def read(at: int, size: int) -> bytes:
        stream.seek(at)
        return stream.read(size)

    return read


def _plain_header(block: bytes) -> tuple[str, str, int] | None:
    """Kind, name and size from a usual header; None for an unusual one and for a block that is not a header.

    A result is exactly what tarfile reads there: the checksum is right and all numbers are octal.
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
    """Kind, prefix of the name and sum of a header's bytes from the 156th on, which all members of a tar may share.

    None if they are unusual or incomplete.
    """
    kind = _KINDS.get(tail[:1])
    if len(tail) != BLOCK - 156 or kind is None:
        return None
    if _octal(tail[173:181]) is None or _octal(tail[181:189]) is None:
        return None
    return kind, str(tail[189:344].partition(b"\0")[0], "utf-8", "replace"), sum(tail)


def _octal(field: bytes) -> int | None:
    """Value of an octal number with spaces around it, ended by a zero or the field; None for anything else."""
    digits = field.partition(b"\0")[0].strip(b" ")
    return None if digits.translate(None, _OCTAL) else int(digits or b"0", 8)


def _holds_only_times(block: bytes, size: int) -> bool:
    """Tell whether an extended header's block holds only a member's times, as Python and GNU tar write them.

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


class Sample(NamedTuple):
    """Neighbouring members of one key, each with another extension."""

    key: str
    """never "" in a whole sample"""
    members: dict[str, Member]
    """by lower-case extension; sparse ones are left out, and all of a sample that is not whole"""
    whole: bool
    """False where the archive breaks off inside this sample, or before one of unknown key, ""; it is the last one"""
    repeats: Set[str]
    """keys of more than one sample of the tar, complete when the last sample has been given; one set for all samples"""

    @property
    def repeated(self) -> bool:
        """True if the tar has another sample of this key, before or behind it, as far as `repeats` is complete."""
        return self.key in self.repeats


def samples(stream: BinaryIO) -> Iterator[Sample]:
    """Samples of a tar, in order. A repeated extension begins a new sample of the same key.

    The last sample of an archive that breaks off is not whole. Raises tarfile.ReadError for a file that is not a tar
    from its first byte on.
    """
    seen: set[str] = set()
    repeats: set[str] = set()
    key = ""
    members: dict[str, Member] = {}
    broken: BrokenTar | None = None
    try:
        for member in walk(stream):
            own, extension = split_name(member.name)
            if own != key or extension in members:
                if not own:
                    continue
                if key:
                    yield Sample(key, members, True, repeats)
                key, members = own, {}
                (repeats if key in seen else seen).add(key)
            if member.size >= 0:
                members[extension] = member
    except BrokenTar as error:
        broken = error
    lost = split_name(broken.name)[0] if broken is not None else None
    if key and lost != key:
        if lost in seen:
            repeats.add(lost)
        yield Sample(key, members, True, repeats)
    if lost is not None:
        yield Sample(lost, {}, False, repeats)


def split_name(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member: "./a//b.c.JPG" -> "a/b", "c.jpg".

    The key of a member that belongs to no sample is "".
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    if not stem or (extension in LEFTOVER_EXTENSIONS and base.lower() in LEFTOVERS):
        return "", extension
    if slash:
        inside = _folder(folder)
        return ("" if inside is None else inside + stem), extension
    return stem, extension


@lru_cache(maxsize=64)
def _folder(path: str) -> str | None:
    """A folder as keys begin with it: "./a//b" -> "a/b/", "." -> "". None for one that holds no samples."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if any(map(is_left_by_system, parts)):
        return None
    return "".join(f"{part}/" for part in parts)
