"""Small pictures, and tars and folders of them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

CHANNELS = {"dog": 0, "cat": 1, "car": 2}
"""the colour channel in which `write_folders` makes the pictures of a class bright"""


def picture(colour: tuple[int, int, int] = (200, 30, 30), *, size: tuple[int, int] = (24, 20)) -> bytes:
    """Make a PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    """Write a tar of these members, among which a name may stand twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar of members by name, in their order."""
    return tar_of(path, *members.items())


def classed(path: Path, labels: dict[str, bytes], **extra: bytes) -> Path:
    """Write a tar of red squares and their .cls files, then the `extra` members, with "." for "__" in their names."""
    members = {}
    for key, label in labels.items():
        members |= {f"{key}.png": picture(), f"{key}.cls": label}
    return write_tar(path, members | {name.replace("__", "."): content for name, content in extra.items()})


def folders(root: Path, **classes: list[str]) -> Path:
    """Make a folder for each class, with red squares of the names given."""
    for label, names in classes.items():
        (root / label).mkdir(parents=True)
        for name in names:
            path = root / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture())
    return root


def write_folders(root: Path, counts: dict[str, int], *, seed: int = 0) -> Path:
    """Make a folder for each class, with so many dark squares that are brighter in the class's own colour."""
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colour = [int(value) for value in generator.integers(0, 60, 3)]
            colour[CHANNELS.get(name, 0)] += 120
            (root / name / f"{number}.png").write_bytes(picture((colour[0], colour[1], colour[2])))
    return root
