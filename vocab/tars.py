"""WebDataset tars as both other rooms walk them: whose member is whose, and where an archive breaks off.

In: an open tar, seekable. Out: its regular files by name, offset and size, from headers alone.

    000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...   a sample's members are neighbours and share a key

What a tar holds is untrusted: nothing is unpacked, names are only names, links and devices are passed over.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512


@dataclass(frozen=True)
class Member:
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
    """The regular files of an archive, in order.

    Raises tarfile.ReadError for what is no tar from its first byte, and BrokenTar, after the last whole member, for an
    archive that ends without its two blocks of zeros: inside a member, inside a header, or between two members.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="replace") as archive:
        name = ""
        while True:
            try:
                info = archive.next()
            except (tarfile.TarError, ValueError, OverflowError) as error:
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
        if stream.read(BLOCK) != bytes(BLOCK):
            raise BrokenTar("")
