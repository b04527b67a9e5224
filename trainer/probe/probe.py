"""The probe of a run: how well a linear classifier on the features of its weights tells the classes of other data.

In: `--probe-images` and `--probe-eval-images`, tars with a .cls beside each image. Out: `ProbeReport` on the main rank.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from trainer.config import DataConfig, RunConfig
from trainer.data.batch import Skipped
from trainer.data.class_tars import ClassTars, check_classes, open_class_tars
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.tar_cache import TarCache
from trainer.distributed import Rank
from trainer.inputs import cache_folder
from trainer.probe import linear_probe
from trainer.probe.features import Embed, Features, extract
from vocab.errors import InputError


@dataclass(frozen=True)
class ProbeReport:
    """What a linear classifier on frozen features reaches."""

    top1: float
    """share of the test images whose class it names first; nan if the model's features are no numbers"""
    top5: float | None
    """share whose class is among its first five; None with five classes or fewer"""
    classes: int
    train_images: int
    test_images: int
    bad_images: int
    """of both sets, those that could not be used"""
    weight_decay: float
    """chosen on a tenth of the training images"""
    seconds: float
    skipped: tuple[Skipped, ...] = ()
    """images that could not be decoded"""

    def numbers(self) -> dict[str, float | int | None]:
        """What the log gets, as probe_top1 and so on."""
        return {f"probe_{name}": value for name, value in vars(self).items() if name != "skipped"}


def open_probe(data: DataConfig, run: RunConfig) -> tuple[ClassTars, ClassTars] | None:
    """The tars to train a probe on and to measure it on; None if none are asked for.

    Every rank opens them, and raises the same errors: InputError if one of the two options is missing, and what
    `open_class_tars` and `check_classes` raise.
    """
    options = {"probe-images": run.probe_images, "probe-eval-images": run.probe_eval_images}
    missing = [name for name, patterns in options.items() if not patterns]
    if len(missing) == len(options):
        return None
    if missing:
        raise InputError(
            f"--{missing[0]}",
            found="nothing, beside the other of the two",
            wanted="tars to train a probe on, and tars to measure it on",
            remedy="Give both, or neither.",
        )
    cache = TarCache(cache_folder(data) / "tars", max_bytes=int(data.cache_gb * 1e9), allow_pipe=data.allow_pipe)
    train, test = (
        open_class_tars(
            patterns,
            cache=cache,
            eval_crop=data.eval_crop,
            max_pixels=data.max_pixels,
            take_truncated=data.truncated_images == "take",
            max_member_bytes=data.max_member_bytes,
            max_bad_share=data.max_bad_share,
        )
        for patterns in options.values()
    )
    check_classes(train, test)
    return train, test


def probe(
    embed: Embed,
    train: ClassTars,
    test: ClassTars,
    rank: Rank,
    *,
    size: int,
    batch: int,
    bfloat16: bool,
    seed: int,
    workers: int = 0,
) -> ProbeReport | None:
    """Train a probe on the model's features and measure it; None on ranks other than the main one. All must call it.

    `size`: of the images, pixels; `batch`: images at a time on each rank; `workers`: threads that decode them. The same
    weights and seed give the same report on one kind of device, but for rounding whatever the number of ranks.
    Raises InputError on the main rank if too few images can be decoded to train on or to measure on.
    """
    began = time.perf_counter()

    def features(tars: ClassTars) -> Features | None:
        decoding = Decoding(workers, 1, tars.max_pixels, tars.take_truncated)
        viewing = EvalTransform(size, tars.eval_crop, batch, decoding, bfloat16)
        return extract(embed, tars.store, np.arange(len(tars)), rank, viewing)

    learnt, seen = features(train), features(test)
    if learnt is None or seen is None:
        return None
    learnt_classes, seen_classes = train.classes[learnt.decoded], test.classes[seen.decoded]
    labels = np.unique(learnt_classes)
    skipped = (*_skipped(train, learnt), *_skipped(test, seen))
    _check_enough(labels, len(seen_classes), skipped)
    values, shown = learnt.values.to(rank.device), seen.values.to(rank.device)
    classifier, decay = linear_probe.train(
        values, targets(learnt_classes, labels).to(rank.device), count=len(labels), seed=seed
    )
    reached = linear_probe.accuracy(classifier, shown, targets(seen_classes, labels).to(rank.device))
    return ProbeReport(
        top1=reached.top1,
        top5=reached.top5,
        classes=len(labels),
        train_images=len(learnt_classes),
        test_images=len(seen_classes),
        bad_images=len(train.skipped) + len(test.skipped) + len(skipped),
        weight_decay=decay,
        seconds=time.perf_counter() - began,
        skipped=skipped,
    )


def targets(classes: Int64[np.ndarray, " images"], labels: Int64[np.ndarray, " labels"]) -> Int64[Tensor, " images"]:
    """Each image's place among the labels that are trained on, ascending; -1 for a class that is not among them."""
    places = np.searchsorted(labels, classes)
    found = labels[np.minimum(places, len(labels) - 1)] == classes
    return torch.from_numpy(np.where(found, places, -1))


def _skipped(tars: ClassTars, features: Features) -> list[Skipped]:
    return [Skipped(*tars.name(image), reason) for image, reason in features.faults.items()]


def _check_enough(labels: Int64[np.ndarray, " labels"], test_images: int, skipped: tuple[Skipped, ...]) -> None:
    if len(labels) >= 2 and test_images:
        return
    reasons = Counter(bad.reason for bad in skipped)
    raise InputError(
        "the probe's tars",
        found=f"{len(labels)} classes to train on and {test_images:,} images to measure on, "
        + (", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none of them bad"),
        wanted="images of two classes, and at least one to measure on",
        remedy="Look at the tars of --probe-images and --probe-eval-images.",
    )
