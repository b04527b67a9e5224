"""Samples of a WebDataset tar, grouped in one way for label, check and training.

In: an open tar, seekable. Out: its samples in order, from headers alone.

    000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...   members of a sample are neighbours and share a key
    a.jpg a.txt a.jpg b.jpg a.json                                     a (jpg, txt), a (jpg), b (jpg), a (json)

The key is a member's path to the first dot of its last part, without "./". Hidden files and what systems leave beside
files (`._000.jpg`, `__MACOSX/`, `Thumbs.db`: `leftovers.py`) belong to no sample and part none. A hidden folder
counts as any other: somebody packed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from vocab.store.leftovers import EXTENSIONS, NAMES, is_left_by_system
from vocab.store.tars import BrokenTar, Member, walk


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
    """The samples of a tar. An extension that comes again begins a new sample of the same key.

    An archive that breaks off ends with a sample that is not whole. Raises tarfile.ReadError for a file that is no tar
    from its first byte.
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
    if not stem or (extension in EXTENSIONS and base.lower() in NAMES):
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
