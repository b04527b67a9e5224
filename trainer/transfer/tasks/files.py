"""Images that are files: which of them are there, and their bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from trainer.data.batch import Skipped
from trainer.data.images import BadImage
from trainer.data.labelled_images import LabelledImages, Read, TarStore
from trainer.records.record import named_bad
from trainer.records.run_data import mark_of
from vocab.errors import InputError
from vocab.pages.text import counted, listed, shown

MAX_FILE_BYTES = 64 << 20
"""largest image file that is read, bytes, the same as for members of tars"""
OTHER_FILE = "other_file"
"""reason of a file whose name is not that of an image; such files are counted, but not as bad images"""
EXAMPLES = 5
NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""control characters and halves of characters, which no name in a table of results can hold; os.fsdecode gives the
latter for bytes that are not UTF-8"""

DEVICE, INODE, SIZE, CHANGED = range(4)
# What says something about one file. Other errors, such as too many open files, say something about this process.
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ESTALE}
_WORD = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class FileStore:
    """Files below a folder, or anywhere where a path is absolute."""

    root: str
    paths: tuple[str, ...]
    stats: UInt64[np.ndarray, "files 4"]
    """device, inode, size and time of change (ns), as they were when the data set was opened"""
    max_bytes: int = MAX_FILE_BYTES

    def open(self) -> AbstractContextManager[Read]:
        """Files are opened one by one, when they are read."""
        return nullcontext(self.read)

    def path(self, image: int) -> str:
        return os.path.join(self.root, self.paths[image])  # noqa: PTH118 - a million of them are joined

    def read(self, image: int) -> bytes:
        """Read a file. Raises BadImage (missing, unreadable, image_too_large), and InputError for a changed file."""
        try:
            # A path may have become a pipe, and opening that would wait for ever.
            descriptor = os.open(self.path(image), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise _bad(error) from error
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor is no path
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BadImage("unreadable")
            if found.st_size > self.max_bytes:
                raise BadImage("image_too_large")
            try:
                content = file.read(self.max_bytes)
            except OSError as error:
                raise _bad(error) from error
        wanted = self.stats[image]
        if (found.st_size, found.st_mtime_ns & _WORD) != (int(wanted[SIZE]), int(wanted[CHANGED])):
            raise InputError(
                self.path(image),
                found=f"a file of {found.st_size:,} bytes that was changed",
                wanted=f"the file of {int(wanted[SIZE]):,} bytes that was there when the data set was opened",
                remedy="Do not change images while they are read; start the same command again.",
            )
        return content


@dataclass(frozen=True, eq=False)
class Found:
    """Files that can be images as far as the file system tells, and the others."""

    store: FileStore
    kept: Int64[np.ndarray, " files"]
    """positions of the store's files among the paths that were asked for"""
    skipped: tuple[Skipped, ...]
    """the others: missing, unreadable, empty_image, image_too_large"""


def look_up(root: str, paths: Sequence[str], *, max_bytes: int = MAX_FILE_BYTES) -> Found:
    """Look files up by their paths, without reading them."""
    stats = np.zeros((len(paths), 4), np.uint64)
    kept: list[int] = []
    skipped: list[Skipped] = []
    for position, path in enumerate(paths):
        fault = _look(os.path.join(root, path), stats[position], max_bytes)  # noqa: PTH118 - a million of them are joined
        if fault is None:
            kept.append(position)
        else:
            skipped.append(Skipped("", shown(path), fault))
    positions = np.array(kept, np.int64)
    store = FileStore(root, tuple(paths[position] for position in kept), stats[positions], max_bytes)
    return Found(store, positions, tuple(skipped))


def fingerprint_of(store: FileStore) -> str:
    """sha256 of the files' paths in the folder, sizes and times of change, in their order."""
    digest = hashlib.sha256("\0".join(store.paths).encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(store.stats[:, [SIZE, CHANGED]]).astype("<u8").tobytes())
    return digest.hexdigest()


def open_files(
    root: str,
    paths: Sequence[str],
    offsets: Int64[np.ndarray, " files_plus_1"],
    classes: Int64[np.ndarray, " positives"],
    labels: Sequence[str],
    *,
    what: str,
    max_bad_share: float,
    multi_label: bool,
    skipped: Sequence[Skipped] = (),
    class_names: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> LabelledImages:
    """Make a data set of the files in a folder that can be images; file i shows classes[offsets[i] : offsets[i + 1]].

    `skipped`: other samples that are left out. Raises as `check_bad_share` of `what`.
    """
    found = look_up(root, paths)
    bad = (*skipped, *found.skipped)
    check_bad_share(what, len(found.kept), bad, max_bad_share)
    everything = LabelledImages(
        store=found.store,
        rows=np.arange(len(paths)),
        names=tuple(map(shown, paths)),
        offsets=offsets,
        classes=classes,
        labels=tuple(labels),
        multi_label=multi_label,
        fingerprint=fingerprint_of(found.store),
        skipped=bad,
        class_names=class_names,
        notes=notes,
    )
    # The store has only those that are there.
    return replace(everything.select(found.kept), rows=np.arange(len(found.kept)))


def shared_files(one: FileStore, other: FileStore) -> list[str]:
    """List files that are in both, by their paths in `one`, sorted; links are followed."""
    identities = {
        (int(device), int(inode)): position for position, (device, inode) in enumerate(other.stats[:, :2].tolist())
    }
    shared = []
    for position, (device, inode) in enumerate(one.stats[:, :2].tolist()):
        twin = identities.get((int(device), int(inode)))
        # Some network file systems give several files one number.
        if twin is not None and os.path.realpath(one.path(position)) == os.path.realpath(other.path(twin)):
            shared.append(one.path(position))
    return sorted(shared)


def check_bad_share(
    what: str,
    images: int,
    skipped: Sequence[Skipped],
    max_bad_share: float,
    *,
    remedy: str = "Check the data set",
    option: str = "--task.max-bad-share",
) -> None:
    """Raise InputError if no image is left or more than `max_bad_share` of them are bad; other files do not count.

    `remedy`: without a full stop; `option`: the one that gives `max_bad_share`.
    """
    bad = _bad_images(skipped)
    total = images + len(bad)
    if images and len(bad) <= max_bad_share * total:
        return
    examples = ", ".join(each.name for each in (bad or skipped)[:EXAMPLES])
    raise InputError(
        what,
        found=f"{images:,} of {total:,} images that can be used"
        + (f" ({account(skipped)}; for example {examples})" if skipped else ""),
        wanted=f"at least one, and at most {100 * max_bad_share:g}% of no use",
        # With no image left no share is large enough.
        remedy=f"{remedy}, or raise {option}." if images else f"{remedy}.",
    )


def account(skipped: Sequence[Skipped]) -> str:
    """Count the samples that were left out, by reason: "3 missing, 1 empty_image"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(bad.reason for bad in skipped).most_common())


def left_out_note(skipped: Sequence[Skipped]) -> str:
    """Write a note on samples that were left out: "2 files or samples left out: 1 other_file, 1 empty_image (a/0.jpg)".

    Other files are counted alone.
    """
    named = [each.name for each in _bad_images(skipped)]
    names = f" ({listed(named)})" if named else ""
    return f"{counted(len(skipped), 'file or sample', 'files or samples')} left out: {account(skipped)}{names}"


def undecoded(**sides: Sequence[Skipped]) -> list[str]:
    """Write notes on images that do not decode: "test: 1 image could not be decoded: a/0.jpg (not_an_image)"."""
    return [
        f"{side}: {counted(len(bad), 'image')} could not be decoded: "
        + listed([f"{each.name} ({each.reason})" for each in bad])
        for side, bad in sides.items()
        if bad
    ]


def left_out(**sides: LabelledImages) -> list[dict[str, str]]:
    """List the images that were left out before any was decoded, for results.json. Other files do not count."""
    return named_bad(**{side: _bad_images(images.skipped) for side, images in sides.items()})


def _bad_images(skipped: Sequence[Skipped]) -> list[Skipped]:
    return [sample for sample in skipped if sample.reason != OTHER_FILE]


def _look(path: str, stats: UInt64[np.ndarray, "4"], max_bytes: int) -> str | None:
    """Fill in `FileStore.stats` of a file; return the reason if it is no image."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a million of them are looked at
    except OSError as error:
        return str(_bad(error))
    stats[:] = (found.st_dev & _WORD, found.st_ino & _WORD, found.st_size, found.st_mtime_ns & _WORD)
    if not stat.S_ISREG(found.st_mode):
        return "unreadable"
    if found.st_size == 0:
        return "empty_image"
    return "image_too_large" if found.st_size > max_bytes else None


def _bad(error: OSError) -> BadImage:
    """Return the reason for an image that cannot be opened; raise errors that are not the image's."""
    if error.errno in _MISSING:
        return BadImage("missing")
    if error.errno in _UNREADABLE:
        return BadImage("unreadable")
    raise error


MOST_FILES, THREADS = 1024, 16


def content_of(*sides: LabelledImages) -> str:
    """Compute a sha256 of the content of images, of the selection of them, and of the classes they show.

    Raises InputError for tars that cannot be fetched.
    """
    digest = hashlib.sha256()
    for side in sides:
        paths: list[Path] = []
        if isinstance(side.store, FileStore):
            digest.update("\0".join(side.store.paths).encode(errors="surrogateescape"))
            digest.update(np.ascontiguousarray(side.store.stats[:, SIZE]).astype("<u8").tobytes())
            count = len(side.store.paths)
            chosen = np.unique(np.linspace(0, max(0, count - 1), min(count, MOST_FILES)).astype(np.int64))
            paths = [Path(side.store.path(image)) for image in chosen.tolist()]
        elif isinstance(side.store, TarStore):
            for numbers in (side.store.tars, side.store.offsets, side.store.sizes, side.store.stamps[:, 0]):
                digest.update(np.ascontiguousarray(numbers).astype("<i8").tobytes())
            paths = [side.store.cache.local_path(location) for location in side.store.locations]
        with ThreadPoolExecutor(THREADS) as pool:
            digest.update("\0".join(pool.map(_mark, paths)).encode())
        digest.update("\0".join(side.labels).encode())
        for numbers in (side.rows, side.offsets, side.classes):
            digest.update(numbers.astype("<i8").tobytes())
    return digest.hexdigest()


def _mark(path: Path) -> str:
    """Compute the mark of a file; empty for an unreadable file, which is a bad image when it is decoded."""
    try:
        return mark_of(path)
    except OSError:
        return ""
