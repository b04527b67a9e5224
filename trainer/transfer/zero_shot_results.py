"""What zero-shot classification reached: over the classes that can be scored, over all, and class by class.

In: scores of the classes that have rows, and the images with their classes. Out: `ZeroShotResult`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from trainer.data.labelled_images import LabelledImages
from trainer.metrics import average_precision, micro_average_precision
from trainer.transfer.synset_scores import ClassRows
from vocab.errors import InputError

TOP = 5


@dataclass(frozen=True)
class ZeroShotReport:
    """Shares of images, or mean average precisions where an image shows any number of classes."""

    images: int
    """number of images that could be decoded"""
    bad_images: int
    classes: int
    scorable_classes: int
    """with a row of their own or, where that is asked for, of a hyponym"""
    scorable_images: int
    """number of images that show a class that can be scored. Accuracies are over these images; average precisions are
    over all, for a class should not come first where it is not shown either"""
    top1: float | None = None
    """share of the scorable images whose class comes first among the scorable classes; None of a single such class"""
    top5: float | None = None
    """share whose class is among the first five; None with five scorable classes or fewer"""
    top1_all: float | None = None
    """share of all images, where those of other classes are wrong"""
    top5_all: float | None = None
    map_macro: float | None = None
    """mean of the average precisions of the scorable classes that an image shows"""
    map_micro: float | None = None
    """average precision of all pairs of an image and a scorable class, as one ranking"""
    map_macro_all: float | None = None
    """mean over all classes that an image shows, where those that cannot be scored have 0"""
    map_micro_all: float | None = None
    """average precision of all pairs, where those of classes that cannot be scored are never found"""

    @property
    def metric(self) -> tuple[str, float]:
        """The number that is beside a probe's: of all images and classes."""
        if self.top1_all is not None:
            return "top1", self.top1_all
        assert self.map_macro_all is not None
        return "map_macro", self.map_macro_all


@dataclass(frozen=True, eq=False)
class ZeroShotResult:
    """The numbers, and what they are made of."""

    report: ZeroShotReport
    by_class: tuple[float | None, ...]
    """top-1 accuracy or average precision of each class; None of one without images, or that cannot be scored"""
    correct: Bool[np.ndarray, " images"] | None
    """True for each image whose class comes first; None where images have several classes"""


def evaluate(
    scores: Float32[Tensor, "images scorable"], classes: Sequence[ClassRows], images: LabelledImages, *, bad_images: int
) -> ZeroShotResult:
    """Compare scores of the scorable ones of `classes`, in their order, with what the images show.

    Of equal scores the class of the lower number comes first. Raises InputError for scores that are no finite numbers,
    and where no image shows a class that can be scored.
    """
    bad = int((~scores.isfinite()).any(1).sum())
    if bad:
        raise InputError(
            "the model's features",
            found=f"{bad:,} of {len(scores):,} images with scores that are no finite numbers",
            wanted="numbers",
            remedy="Look at the model's run: its loss may have become no number.",
        )
    scorable = np.array([rows.scorable for rows in classes], np.bool_)
    owners = np.repeat(np.arange(len(images)), np.diff(images.offsets))
    report = ZeroShotReport(
        images=len(images),
        bad_images=bad_images,
        classes=len(classes),
        scorable_classes=int(scorable.sum()),
        scorable_images=len(np.unique(owners[scorable[images.classes]])),
    )
    if not report.scorable_images:
        raise InputError(
            "the test images",
            found=f"{report.images:,} that show none of the {report.scorable_classes:,} classes that can be scored",
            wanted="at least one image of such a class",
            remedy="Name the classes by --task.class-names FILE, or give images of these classes.",
        )
    # A class's place among the scorable ones, -1 for the others.
    places = np.where(scorable, np.cumsum(scorable) - 1, -1)
    return (_several if images.multi_label else _one)(scores, places, images, report)


def _one(
    scores: Float32[Tensor, "images scorable"],
    places: Int64[np.ndarray, " classes"],
    images: LabelledImages,
    report: ZeroShotReport,
) -> ZeroShotResult:
    own = torch.from_numpy(places[images.one_class])
    known = (own >= 0).numpy()
    ranks = np.full(len(images), len(places))
    ranks[known] = ranks_of(scores[known], own[known]).numpy()
    first, among = ranks < 1, ranks < TOP
    several = report.scorable_classes > TOP
    counts, right = images.images_by_class, np.bincount(images.one_class[first], minlength=len(places))
    by_class = [
        float(hits) / float(count) if place >= 0 and count else None
        for place, hits, count in zip(places.tolist(), right.tolist(), counts.tolist(), strict=True)
    ]
    report = replace(
        report,
        top1=float(first[known].mean()) if report.scorable_classes > 1 else None,
        top5=float(among[known].mean()) if several else None,
        top1_all=float(first.mean()),
        top5_all=float(among.mean()) if several else None,
    )
    return ZeroShotResult(report, tuple(by_class), first)


def ranks_of(scores: Float32[Tensor, "images scorable"], own: Int64[Tensor, " images"]) -> Int64[Tensor, " images"]:
    """How many classes come before each image's own: those that score more, and of equal ones those before it."""
    mine = scores.gather(1, own[:, None])
    earlier = torch.arange(scores.shape[1]) < own[:, None]
    return ((scores > mine) | ((scores == mine) & earlier)).sum(1)


def _several(
    scores: Float32[Tensor, "images scorable"],
    places: Int64[np.ndarray, " classes"],
    images: LabelledImages,
    report: ZeroShotReport,
) -> ZeroShotResult:
    kept = places[images.classes] >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets, positives = torch.from_numpy(before[images.offsets]), torch.from_numpy(places[images.classes[kept]])
    average = average_precision(scores, offsets, positives)
    by_class = [None if place < 0 or average[place].isnan() else float(average[place]) for place in places.tolist()]
    found = [precision for precision in by_class if precision is not None]
    shown = int((images.images_by_class > 0).sum())
    micro = micro_average_precision(scores, offsets, positives)
    report = replace(
        report,
        map_macro=sum(found) / len(found),
        map_micro=micro,
        map_macro_all=sum(found) / shown,
        map_micro_all=micro * float(kept.mean()),
    )
    return ZeroShotResult(report, tuple(by_class), None)
