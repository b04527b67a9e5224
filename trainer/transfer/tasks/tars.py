"""Tars with a .cls beside each image, as a task.

In: patterns of tars (`trainer/data/tar_locations.py`). Out: `LabelledImages`, in the order of tars and samples.

    000000000.jpg  000000000.cls  000000000.json      "17\\n"; whatever else a sample has is not read

Classes are those of the numbers in .cls that occur, ascending, and their labels these numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.data.class_tars import ClassTars, open_class_tars
from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_cache import TarCache
from trainer.data.tar_locations import is_local, shown_tar


def open_tars(
    patterns: Sequence[str], *, cache: TarCache, max_bad_share: float, max_member_bytes: int = 64 << 20
) -> LabelledImages:
    """Open the tars that the patterns name, fetched where they are remote. Raises as `open_class_tars`."""
    tars = open_class_tars(patterns, cache=cache, max_bad_share=max_bad_share, max_member_bytes=max_member_bytes)
    shown = [shown_tar(place) for place in tars.places]
    bare = [Path(place).name for place in shown]
    # Two folders may have a 00000.tar each, and no two images may have one name.
    shards = bare if len(set(bare)) == len(bare) else shown
    places = np.arange(len(tars))
    return LabelledImages(
        store=tars.store,
        rows=places,
        names=tuple(f"{shards[tar]}/{key}" for tar, key in zip(tars.tars.tolist(), tars.keys, strict=True)),
        offsets=np.arange(len(tars) + 1),
        classes=np.searchsorted(tars.labels, tars.classes).astype(np.int64),
        labels=tuple(map(str, tars.labels.tolist())),
        multi_label=False,
        fingerprint=_fingerprint(tars),
        skipped=tars.skipped,
    )


def with_all_classes(images: LabelledImages, count: int) -> LabelledImages:
    """The images with classes 0 to `count` - 1, of which some may have no image: a list of names says how many."""
    numbers = np.array(list(map(int, images.labels)), np.int64)
    return replace(images, labels=tuple(map(str, range(count))), classes=numbers[images.classes])


def _fingerprint(tars: ClassTars) -> str:
    """sha256 of the places, of what local tars' sizes and times of change are, and of what lies where in each.

    A remote place is taken never to change, as its local copy is.
    """
    digest = hashlib.sha256()
    for place, (size, changed) in zip(tars.places, tars.stamps.tolist(), strict=True):
        line = shown_tar(place)
        if is_local(place):
            line += f"\t{size}\t{changed}"
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    digest.update("\0".join(tars.keys).encode(errors="surrogateescape"))
    for values in (tars.tars, tars.offsets, tars.sizes):
        digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()
