"""The samples of a WebDataset tar, from its headers: whose members are whose, which keys repeat, where it breaks off.

In: an open tar, seekable. Out: its samples in order; no member is read.

    a.jpg a.txt b.jpg a.json   ->   a (jpg, txt), b (jpg), a (json; its key stood before)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from vocab.tars import BrokenTar, Member, split_name, walk


@dataclass
class TarSample:
    """One sample of a tar."""

    key: str
    repeated: bool
    """whether an earlier sample of the tar has the same key"""
    members: dict[str, Member] = field(default_factory=dict)
    """by lower-case extension"""
    whole: bool = True
    """False where the archive breaks off inside this sample; it is the last one"""


def walk_samples(stream: BinaryIO) -> Iterator[TarSample]:
    """The samples of a tar. One that breaks off ends with a sample that is not whole, of key "" where none has begun.

    Raises tarfile.ReadError for what is no tar from its first byte.
    """
    seen: set[str] = set()
    sample: TarSample | None = None
    try:
        for member in walk(stream):
            key, extension = split_name(member.name)
            # A second image under the same key is a second sample, neighbours or not.
            if sample is None or key != sample.key or extension in sample.members:
                if sample is not None:
                    yield sample
                sample = TarSample(key, repeated=key in seen)
                seen.add(key)
            sample.members[extension] = member
    except BrokenTar as broken:
        key, _ = split_name(broken.name)
        if sample is None or key != sample.key:
            if sample is not None:
                yield sample
            sample = TarSample(key, repeated=key in seen)
        sample.whole = False
    if sample is not None:
        yield sample
