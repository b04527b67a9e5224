"""The content of a data set, wherever it lies and whenever it was copied there.

In: images of a task. Out: a checksum of their files' names and sizes and of bytes of them: what `tar_marks.mark_of`
reads of every tar, or of 1,024 files that lie evenly among all.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trainer.data.labelled_images import LabelledImages, TarStore
from trainer.data.tar_marks import mark_of
from trainer.transfer.tasks.files import SIZE, FileStore

MOST_FILES, THREADS = 1024, 16


def content_of(*sides: LabelledImages) -> str:
    """sha256 of the content of some images, of which of them are taken and of the classes they show.

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
            paths = [side.store.cache.local_path(place) for place in side.store.locations]
        with ThreadPoolExecutor(THREADS) as pool:
            digest.update("\0".join(pool.map(_mark, paths)).encode())
        digest.update("\0".join(side.labels).encode())
        for numbers in (side.rows, side.offsets, side.classes):
            digest.update(numbers.astype("<i8").tobytes())
    return digest.hexdigest()


def _mark(path: Path) -> str:
    """The mark of a file; nothing for one that cannot be read, which is a bad image when it is decoded."""
    try:
        return mark_of(path)
    except OSError:
        return ""
