"""Accuracies of class scores, and their mean average precision.

one class an image      top-1 and top-5 accuracy
several                 mean average precision: macro over classes, and micro over all pairs (trainer/metrics.py)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.metrics import average_precision, micro_average_precision
from trainer.model.objective import Objective, evaluating
from trainer.probe.features import Compute, Outputs, outputs_of
from vocab.errors import InputError

TOP = 5
"""accuracies are of the first class and of the first so many"""


@dataclass(frozen=True, eq=False)
class Measured:
    """Accuracies of one class an image, or precisions of several."""

    top1: float | None = None
    """share of the images whose class comes first"""
    top5: float | None = None
    """share whose class is among the first five; None with five classes or fewer"""
    map_macro: float | None = None
    """mean of the classes' average precisions, of those that an image shows"""
    map_micro: float | None = None
    """average precision of all pairs of an image and a class, as one ranking"""
    correct: Bool[np.ndarray, " images"] | None = None
    """True for each image whose class came first; None where images have several classes"""
    by_class: Float64[np.ndarray, " classes"] | None = None
    """share of each class's images whose class came first, or its average precision; NaN without an image"""
    images_by_class: Int64[np.ndarray, " classes"] | None = None
    """number of images that show each class"""

    @property
    def metric(self) -> tuple[str, float]:
        """Name and value of the main metric."""
        if self.top1 is not None:
            return "top1", self.top1
        assert self.map_macro is not None
        return "map_macro", self.map_macro

    @property
    def parts(self) -> Float64[np.ndarray, " parts"]:
        """Numbers whose mean is the metric: of images, or of classes."""
        if self.correct is not None:
            return self.correct.astype(np.float64)
        assert self.by_class is not None
        known: Float64[np.ndarray, " shown"] = self.by_class[~np.isnan(self.by_class)]
        return known

    @property
    def class_metric(self) -> str:
        """Name of the numbers in `by_class`."""
        return "average_precision" if self.top1 is None else "accuracy"

    def numbers(self) -> dict[str, float]:
        """Metrics that were measured, by name."""
        names = ("top1", "top5", "map_macro", "map_micro")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def measure(scores: Iterable[Float32[Tensor, "_ classes"]], images: LabelledImages) -> Measured:
    """Compare scores with the classes of all images, of which there is at least one.

    Of equal scores the class of the lower number comes first; NaN comes last.
    """
    if images.multi_label:
        return precisions_of(torch.cat([part.cpu() for part in scores]), images)
    own = torch.from_numpy(images.one_class)
    first, found = 0, []
    for part in scores:
        found.append(ranks_of(part, own[first : first + len(part)].to(part.device)).cpu())
        first += len(part)
    return accuracies_of(torch.cat(found), images)


def ranks_of(scores: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """Count the classes before each image's own; of equal scores the lower number is first, NaN is last."""
    scores = scores.masked_fill(scores.isnan(), -torch.inf)
    own = scores.gather(1, labels[:, None])
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    before = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return torch.where(own[:, 0] == -torch.inf, scores.shape[1] - 1, before)


def accuracies_of(ranks: Int64[Tensor, " images"], images: LabelledImages) -> Measured:
    """Compute accuracies from the rank of each image's class (`ranks_of`), of one class an image."""
    found, counts = ranks.numpy(), images.images_by_class
    top5 = float((found < TOP).mean()) if len(images.labels) > TOP else None
    right = np.bincount(images.one_class[found < 1], minlength=len(counts))
    by_class = np.divide(right, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return Measured(
        top1=float((found < 1).mean()), top5=top5, correct=found < 1, by_class=by_class, images_by_class=counts
    )


def precisions_of(scores: Float32[Tensor, "images classes"], images: LabelledImages) -> Measured:
    """Compute average precisions of scores on the CPU, with several classes an image; NaN ranks last.

    Raises InputError where no image shows a class: those that do may be the ones that could not be decoded.
    """
    if not len(images.classes):
        raise InputError(
            "the test images",
            found=f"{len(images):,} that can be decoded, none of which shows a class",
            wanted="at least one image of a class",
            remedy="Look at the annotations, and at the images that could not be decoded.",
        )
    ranked = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    offsets, positives = torch.from_numpy(images.offsets), torch.from_numpy(images.classes)
    by_class = average_precision(ranked, offsets, positives)
    known = by_class[~by_class.isnan()]
    return Measured(
        map_macro=float(known.mean()),
        map_micro=micro_average_precision(ranked, offsets, positives),
        by_class=by_class.numpy(),
        images_by_class=images.images_by_class,
    )


@dataclass(frozen=True, eq=False)
class Scored:
    """Accuracy of a model on test images."""

    measured: Measured
    images: int
    """number of images that could be decoded"""
    classes: int
    """number of classes that at least one of the images shows"""
    skipped: list[Skipped]
    """images that could not be decoded"""

    def numbers(self) -> dict[str, float | int]:
        """Counts of images and classes, and the metrics, by name."""
        counts = {"images": self.images, "classes": self.classes, "bad_images": len(self.skipped)}
        return counts | self.measured.numbers()


def score(objective: Objective, images: LabelledImages, rank: Rank, *, transform: EvalTransform) -> Scored | None:
    """Score the images with the objective's weights as they are; None on ranks other than the main one. All must call.

    Raises InputError on the main rank if none can be decoded, and on each for a store that was changed.
    """
    labels = torch.from_numpy(images.classes)

    def compute(pixels: Tensor, numbers: Int64[np.ndarray, " batch"]) -> Tensor:
        logits = objective.score(pixels).float()
        # With one class an image, only the rank of its class is kept: one number, where logits are a thousand.
        return logits if images.multi_label else ranks_of(logits, labels[torch.from_numpy(numbers)].to(logits.device))

    with evaluating(objective):
        found = outputs(compute, images, rank, transform=transform)
    if found is None:
        return None
    own = images.select(found.decoded)
    measured = (precisions_of if images.multi_label else accuracies_of)(found.values, own)
    skipped = [Skipped("", images.names[image], reason) for image, reason in found.faults.items()]
    return Scored(measured, len(own), int((own.images_by_class > 0).sum()), skipped)


def outputs(compute: Compute, images: LabelledImages, rank: Rank, *, transform: EvalTransform) -> Outputs | None:
    """Compute outputs for images (`features.outputs_of`); None on ranks other than the main one. All must call it.

    Raises InputError on the main rank if none can be decoded, and on each for a store that was changed.
    """
    found = outputs_of(compute, images.store, images.rows, rank, transform) if len(images) else None
    if rank.is_main and (found is None or not len(found.decoded)):
        reasons = Counter(found.faults.values() if found is not None else ())
        raise InputError(
            "the task's images",
            found=f"none of {len(images):,} that can be decoded "
            f"({', '.join(f'{count:,} {reason}' for reason, count in reasons.items()) or 'there are none'})",
            wanted="at least one",
            remedy="Look at --task.train and --task.test.",
        )
    return found
