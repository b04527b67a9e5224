"""Image tars: which there are, what each holds, and the order in which an epoch visits their samples.

In: paths of WebDataset tars. Out: an index of each (headers only; members are read when their turn comes), and an order
that depends on the seed and the epoch alone.

How a tar is walked, and what in it is a sample's, is in `vocab/tars.py`.
"""

from __future__ import annotations

import glob
import itertools
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vocab.errors import InputError
from vocab.tars import BrokenTar, Member, split_name, walk

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")


@dataclass
class Sample:
    """One sample of a tar, or one fault of it, in the place where the sample would stand."""

    key: str
    index: int
    """place in the tar, from 0"""
    members: dict[str, Member] = field(default_factory=dict)
    """by lower-case extension"""
    fault: str | None = None
    """why it cannot be used, as far as headers tell: no_image, empty_image, image_too_large, repeated_key,
    truncated_tar"""

    @property
    def image(self) -> Member | None:
        """The image member, by the order of IMAGE_EXTENSIONS where there are several."""
        return next((self.members[name] for name in IMAGE_EXTENSIONS if name in self.members), None)


def list_tars(patterns: Sequence[str]) -> list[Path]:
    """Tars named by files, folders (all tars below), globs and brace ranges, sorted by path, each once.

    Raises InputError for a pattern that names none.
    """
    tars: set[Path] = set()
    for pattern in patterns:
        found: list[Path] = []
        for path in expand_braces(pattern):
            if Path(path).is_dir():
                found += Path(path).rglob("*.tar")
            elif Path(path).is_file():
                found.append(Path(path))
            elif glob.has_magic(path):
                found += [Path(match) for match in glob.glob(path, recursive=True)]  # noqa: PTH207 (takes absolute patterns)
            else:
                raise _no_tar(path, "no such file")
        if not found:
            raise _no_tar(pattern, "no tar")
        tars.update(found)
    return sorted(tars)


def expand_braces(pattern: str) -> list[str]:
    """Shell-like braces: "a/{08..10}.tar" -> a/08.tar a/09.tar a/10.tar; "{a,b}/0.tar" -> a/0.tar b/0.tar."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if ends is not None:
        first, last = ends.groups()
        choices = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        choices = match[1].split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [expanded for choice in choices for expanded in expand_braces(before + choice + after)]


def index_tar(path: Path, *, max_member_bytes: int) -> list[Sample]:
    """Every sample of a tar, from its headers alone.

    A tar that breaks off gives its whole samples, then one entry of fault truncated_tar in place of the broken one.
    Raises InputError for a file that is not there, or is no tar from its first byte.
    """
    samples: list[Sample] = []
    seen: set[str] = set()
    broken: str | None = None
    try:
        with path.open("rb") as stream:
            for member in walk(stream):
                key, extension = split_name(member.name)
                if not samples or samples[-1].key != key:
                    samples.append(Sample(key, len(samples), fault="repeated_key" if key in seen else None))
                    seen.add(key)
                samples[-1].members[extension] = member
    except BrokenTar as error:
        broken, _ = split_name(error.name)
    except (OSError, tarfile.ReadError) as error:
        raise _no_tar(path, f"no readable tar ({error})") from error
    for sample in samples:
        sample.fault = sample.fault or _fault(sample, max_member_bytes)
    if broken is not None:
        if samples and samples[-1].key == broken:
            samples.pop()
        samples.append(Sample(broken, len(samples), fault="truncated_tar"))
    return samples


def read_member(path: Path, member: Member) -> bytes:
    """The bytes of one member. Raises InputError if the tar has become shorter since it was indexed."""
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            content = file.read(member.size)
    except OSError as error:
        raise _no_tar(path, f"a file that cannot be read ({error})") from error
    if len(content) < member.size:
        raise _no_tar(path, f"{len(content)} of {member.size} bytes of a member")
    return content


def epoch_groups(count: int, *, seed: int, epoch: int, size: int) -> list[list[int]]:
    """The epoch's tars, by index in the list, shuffled and cut into groups whose samples are shuffled together."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return [order[start : start + size] for start in range(0, count, size)]


def group_order(samples: int, *, seed: int, epoch: int, group: int, stream: int, streams: int) -> list[int]:
    """The samples of one group that one of `streams` readers takes, in order.

    All readers together take each sample once, whatever their number: the group's samples are permuted by seed, epoch
    and group, and reader j takes positions j, j + streams, ... The start moves on from group to group, so that
    remainders do not always fall to the first readers.
    """
    order = np.random.default_rng([seed, epoch, 1 + group]).permutation(samples)
    taken: list[int] = order[(stream - group) % streams :: streams].tolist()
    return taken


def _fault(sample: Sample, max_member_bytes: int) -> str | None:
    image = sample.image
    if image is None:
        return "no_image"
    if image.size == 0:
        return "empty_image"
    return "image_too_large" if image.size > max_member_bytes else None


def _no_tar(path: str | Path, found: str) -> InputError:
    return InputError(
        path, found=found, wanted="a WebDataset tar", remedy="Check --images, download the tar again, or leave it out."
    )


def flatten(indices: Sequence[Sequence[Sample]]) -> list[tuple[int, Sample]]:
    """Samples of several tars as one list, each with the place of its tar among them."""
    return list(itertools.chain.from_iterable(((tar, sample) for sample in index) for tar, index in enumerate(indices)))
