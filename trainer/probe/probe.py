"""The probe of a run: how well a linear classifier on its frozen features tells the classes of other data.

In: `--probe-images` and `--probe-eval-images`, tars with a .cls beside each image. Out: `ProbeReport` on the main rank.
The classifier is the one of `python -m trainer probe` with its default options, so that both give the same number.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from trainer.config import DataConfig, RunConfig
from trainer.data.decoding import EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.data.tar_cache import cache_of
from trainer.distributed import Rank
from trainer.probe.choice import Choice, grid_of, train_best
from trainer.probe.features import Embed, extract
from trainer.probe.grid import GridSchedule
from trainer.probe.linear import images_without_numbers, random_head
from trainer.probe.measures import Measured, measure
from trainer.transfer.tasks.numbering import renumbered
from trainer.transfer.tasks.opening import check_sides
from trainer.transfer.tasks.tars import open_tars
from vocab.errors import InputError
from vocab.pages.text import counted


@dataclass(frozen=True)
class ProbeReport:
    """Accuracy of a linear classifier on frozen features."""

    top1: float
    """share of the test images whose class comes first; NaN if the features are not finite"""
    top5: float | None
    """share whose class is among the first five; None with five classes or fewer"""
    classes: int
    """number of classes with a training image"""
    train_images: int
    test_images: int
    bad_images: int
    """number of images of both sides that could not be used"""
    learning_rate: float | None
    """chosen on held-out training images; None if the features are not finite"""
    weight_decay: float | None
    """chosen beside the learning rate"""
    seconds: float

    def numbers(self) -> dict[str, float | int | None]:
        """Entries of the log: probe_top1 and so on."""
        return {f"probe_{name}": value for name, value in vars(self).items()}


def open_probe(data: DataConfig, run: RunConfig) -> tuple[LabelledImages, LabelledImages] | None:
    """Open the tars to train a probe on and to measure it on; None if none are asked for.

    Every rank opens them, and raises the same errors, as `open_tars`, `renumbered` and `check_sides`.
    """
    if not run.probe_images:
        return None
    cache = cache_of(data)
    train, test = (
        open_tars(patterns, cache=cache, max_bad_share=data.max_bad_share, max_member_bytes=data.max_member_bytes)
        for patterns in (run.probe_images, run.probe_eval_images)
    )
    test = renumbered(test, train.labels)
    check_sides(train, test)
    return train, test


def probe(
    embed: Embed, train: LabelledImages, test: LabelledImages, rank: Rank, *, transform: EvalTransform, seed: int
) -> ProbeReport | None:
    """Train a probe on the model's features and measure it; None on ranks other than the main one. All must call it.

    The same weights and seed give the same report on one kind of device, but for rounding whatever the number of ranks.
    Raises InputError on the main rank if too few images can be decoded to train on or to measure on.
    """
    began = time.perf_counter()
    learnt, seen = (extract(embed, side.store, side.rows, rank, transform) for side in (train, test))
    if learnt is None or seen is None:
        return None
    learnt_images, seen_images = train.select(learnt.decoded), test.select(seen.decoded)
    classes = int(np.count_nonzero(learnt_images.images_by_class))
    reasons = Counter([*learnt.faults.values(), *seen.faults.values()])
    _check_enough(classes, len(seen_images), reasons)
    values, shown = learnt.values.to(rank.device), seen.values.to(rank.device)
    choice: Choice | None = None
    measured = Measured()
    if not images_without_numbers(values) and not images_without_numbers(shown):
        start, grid = random_head(len(train.labels), values.shape[1], seed=seed), grid_of("grid", (), ())
        choice, head = train_best(values, learnt_images, grid=grid, schedule=GridSchedule(), start=start, seed=seed)
        measured = measure(head.logits_in_parts(shown), seen_images)
    return ProbeReport(
        top1=float("nan") if measured.top1 is None else measured.top1,
        top5=measured.top5,
        classes=classes,
        train_images=len(learnt_images),
        test_images=len(seen_images),
        bad_images=len(train.skipped) + len(test.skipped) + reasons.total(),
        learning_rate=None if choice is None else choice.setting.learning_rate,
        weight_decay=None if choice is None else choice.setting.weight_decay,
        seconds=time.perf_counter() - began,
    )


def _check_enough(classes: int, test_images: int, reasons: Counter[str]) -> None:
    if classes >= 2 and test_images:
        return
    raise InputError(
        "the probe's tars",
        found=f"{counted(classes, 'class', 'classes')} to train on and {counted(test_images, 'image')} to measure on, "
        + (", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none of them bad"),
        wanted="images of two classes, and at least one to measure on",
        remedy="Look at the tars of --probe-images and --probe-eval-images.",
    )
