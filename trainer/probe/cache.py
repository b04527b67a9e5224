"""Features of a task's images, each computed once: those on the disk are read, the others computed and added.

In: a `Pretrained` and `LabelledImages`. Out: `ImageFeatures` on the main rank. A file (`feature_files.py`) holds the
features of one model on one data set, for all of its images that were ever asked for; subsets share it. Its key is JSON
of all that the features depend on, and its name a part of the key's sha256.

Images that cannot be decoded are not in the file and are tried again: a missing file may have come back.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_cache import default_cache
from trainer.distributed import Rank, on_main
from trainer.probe.feature_files import Stored, check_room, read, remove_abandoned, write
from trainer.probe.features import Outputs, extract
from trainer.transfer.config import ProbeConfig, ZeroShotConfig
from trainer.weights.pretrained import Pretrained
from vocab.pages.text import counted, tell

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of the images that could be decoded."""

    values: Float32[Tensor, "images width"]
    """on the CPU; those on the disk are mapped into memory and read when used"""
    images: LabelledImages
    skipped: list[Skipped]
    """images that were asked for and could not be decoded"""

    def of(self, images: LabelledImages) -> ImageFeatures:
        """Select features of some images of the same data set, without those that could not be decoded."""
        positions = positions_of(images.rows, self.images.rows)
        wanted = set(images.names) if self.skipped else set()
        return ImageFeatures(
            _at(self.values, positions[positions >= 0]),
            images.select(np.flatnonzero(positions >= 0)) if (positions < 0).any() else images,
            [bad for bad in self.skipped if bad.key in wanted],
        )


def features_of(
    config: ProbeConfig | ZeroShotConfig, pretrained: Pretrained, images: LabelledImages, rank: Rank
) -> ImageFeatures | None:
    """Read or compute features by a verb's options, as `cached_features`. All ranks must call it."""
    seen, task = pretrained.preprocessing, config.task
    decoding = Decoding(config.workers, 1, task.max_pixels, task.take_truncated)
    bfloat16 = config.is_bfloat16(rank.device.type)
    transform = EvalTransform(seen.image_size, seen.crop, config.batch, decoding, bfloat16)
    cache = feature_folder(config.features, task.cache)
    return cached_features(pretrained, images, rank, transform=transform, cache=cache)


def feature_folder(features: Path | None, cache: Path | None) -> Path:
    """Folder of features: `features`, else one in the folder `cache`, else one in the user's cache folder."""
    return features if features is not None else default_cache(cache) / "features"


def cached_features(
    pretrained: Pretrained, images: LabelledImages, rank: Rank, *, transform: EvalTransform, cache: Path | None
) -> ImageFeatures | None:
    """Read features from the cache and compute the missing ones; None on ranks but the main one. All must call it.

    `cache`: a folder, made where there is none; None computes all and keeps nothing. The model goes to the rank's
    device if there is anything to compute.

    Raises InputError for a store that was changed, and for a disk without room.
    """
    key = key_of(pretrained, images, transform)
    path = None if cache is None else cache / name_of(key)
    width = pretrained.classifier.in_features
    stored = Stored(torch.empty(0, width), np.empty(0, np.int64))
    if path is not None and rank.is_main:
        stored = read(path, key, width=width) or stored

    def missing() -> Int64[np.ndarray, " missing"]:
        rows = np.setdiff1d(images.rows, stored.rows)
        if path is not None and len(rows):
            remove_abandoned(path.parent)
            check_room(path, rows=len(stored.rows) + len(rows), width=width)
        return rows

    rows = on_main(missing, rank)
    faults: dict[int, str] = {}
    if len(rows):
        found = _computed(pretrained, images, rows, rank, transform)
        if found is not None:
            faults = {int(rows[image]): reason for image, reason in found.faults.items()}
            stored = _together(stored, Stored(found.values, rows[found.decoded]))
            if path is not None and len(found.decoded):
                write(path, stored, key)
    return _of(stored, images, faults) if rank.is_main else None


def key_of(pretrained: Pretrained, images: LabelledImages, transform: EvalTransform) -> str:
    """Write as JSON all that features depend on, but for the selection of images."""
    seen = pretrained.preprocessing
    return json.dumps(
        {
            "version": FORMAT_VERSION,
            # Weights do not say how many heads of attention they are for, nor how tokens are pooled.
            "architecture": [pretrained.architecture, dict(pretrained.arguments)],
            "model": pretrained.fingerprint,
            "images": images.fingerprint,
            "preprocessing": [seen.image_size, seen.mean, seen.std, transform.crop, transform.decoding.max_pixels]
            + ["truncated"] * transform.decoding.take_truncated,
            "precision": "bfloat16" if transform.bfloat16 else "float32",
        },
        sort_keys=True,
    )


def name_of(key: str) -> str:
    """Name of the file that holds features of this key."""
    return f"features-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def positions_of(
    rows: Int64[np.ndarray, " images"], among: Int64[np.ndarray, " others"]
) -> Int64[np.ndarray, " images"]:
    """Find the index of each row among other, distinct rows; -1 where it is missing."""
    found = pc.index_in(pa.array(rows), value_set=pa.array(among)).fill_null(-1)
    result: Int64[np.ndarray, " images"] = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return result


def _computed(
    pretrained: Pretrained,
    images: LabelledImages,
    rows: Int64[np.ndarray, " rows"],
    rank: Rank,
    transform: EvalTransform,
) -> Outputs | None:
    """Compute features of some rows of the store, and say how long it took; None on ranks other than the main one."""
    began = time.perf_counter()
    pretrained.model.to(rank.device)
    found = extract(pretrained.embed, images.store, rows, rank, transform)
    if found is not None:
        broken = counted(found.truncated, "of which breaks off", "of which break off") if found.truncated else ""
        seconds = time.perf_counter() - began
        tell(f"features of {counted(len(rows), 'image')}{broken and f', {broken}'} in {seconds:.1f} s\n")
    return found


def _of(stored: Stored, images: LabelledImages, faults: dict[int, str]) -> ImageFeatures:
    positions = positions_of(images.rows, stored.rows)
    here = positions >= 0
    skipped = [Skipped("", images.names[image], faults[int(images.rows[image])]) for image in np.flatnonzero(~here)]
    # A data set that is whole is not copied.
    own = images if here.all() else images.select(np.flatnonzero(here))
    return ImageFeatures(_at(stored.values, positions[here]), own, skipped)


def _at(values: Float32[Tensor, "rows width"], positions: Int64[np.ndarray, " some"]) -> Float32[Tensor, "some width"]:
    """Select rows; without a copy if all are wanted in order."""
    if np.array_equal(positions, np.arange(len(values))):
        return values
    return values[torch.from_numpy(positions)]


def _together(one: Stored, other: Stored) -> Stored:
    """Merge two disjoint sets of features, by ascending row."""
    if not len(one.rows):
        return other
    rows = np.concatenate([one.rows, other.rows])
    order = np.argsort(rows)
    return Stored(torch.cat([one.values, other.values])[torch.from_numpy(order)], rows[order])
