"""How well scores of classes agree with what images show.

In: scores, some images after others, and `LabelledImages`. Out: `Measured`.

    one class an image      top-1 and top-5 accuracy
    several                 mean average precision: macro over classes, and micro over all pairs (trainer/metrics.py)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from trainer.data.labelled_images import LabelledImages
from trainer.metrics import average_precision, micro_average_precision
from trainer.transfer.scoring import TOP, places_of


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
    """whether each image's class came first, of one class an image"""
    precisions: Float64[np.ndarray, " shown"] | None = None
    """average precision of each class that an image shows, of several"""

    @property
    def metric(self) -> tuple[str, float]:
        """The number that is given where there is room for one."""
        if self.top1 is not None:
            return "top1", self.top1
        assert self.map_macro is not None
        return "map_macro", self.map_macro

    @property
    def parts(self) -> Float64[np.ndarray, " parts"]:
        """What the metric is the mean of."""
        if self.correct is not None:
            return self.correct.astype(np.float64)
        assert self.precisions is not None
        return self.precisions

    def numbers(self) -> dict[str, float]:
        """Those that there are, by name."""
        names = ("top1", "top5", "map_macro", "map_micro")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def measure(scores: Iterable[Float32[Tensor, "_ classes"]], images: LabelledImages) -> Measured:
    """Compare scores with the classes of all images, of which there is at least one.

    Of equal scores the lower number comes first, and what is no number comes last.
    """
    if not images.multi_label:
        own = torch.from_numpy(images.one_class)
        first, found = 0, []
        for part in scores:
            found.append(places_of(part, own[first : first + len(part)].to(part.device)).cpu())
            first += len(part)
        places = torch.cat(found).numpy()
        top5 = float((places < TOP).mean()) if len(images.labels) > TOP else None
        return Measured(top1=float((places < 1).mean()), top5=top5, correct=places < 1)
    whole = torch.cat([part.cpu() for part in scores]).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    offsets, positives = torch.from_numpy(images.offsets), torch.from_numpy(images.classes)
    by_class = average_precision(whole, offsets, positives)
    known = by_class[~by_class.isnan()]
    return Measured(
        map_macro=float(known.mean()) if len(known) else 0.0,
        map_micro=micro_average_precision(whole, offsets, positives),
        precisions=known.numpy(),
    )
