"""Measures of segmentation, from the true, the predicted and the rightly predicted pixels of each class in an image.

    IoU of a class                 right / (true + given - right), over the pixels of all images
    mIoU                           its mean over classes that occur in truth or prediction
    pixel accuracy                 right / true, over all classes together; mean accuracy: the mean over classes
    frequency-weighted IoU         the mean weighted by the classes' true pixels

Ignored pixels are in none of these numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, Integer
from torch import Tensor

from trainer.dense.label_maps import IGNORED
from trainer.records.intervals import LEVEL

RIGHT, TRUE, GIVEN = range(3)
BOOTSTRAP_DRAWS = 1000
THIRDS = ("head", "torso", "tail")


def count_pixels(
    given: Integer[Tensor, "rows columns"], true: Integer[Tensor, "rows columns"], *, classes: int
) -> Int64[Tensor, "3 classes"]:
    """Count the pixels of an image that are rightly given, true, and given, by class; ignored ones are left out."""
    known = true != IGNORED
    labels = (true[known & (true == given)], true[known], given[known])
    return torch.stack([torch.bincount(each.long(), minlength=classes) for each in labels])


@dataclass(frozen=True, eq=False)
class SegmentScores:
    """Pixels of each class by image: right, true and given."""

    counts: Int64[np.ndarray, "images 3 classes"]

    @property
    def iou(self) -> Float64[np.ndarray, " classes"]:
        """IoU of each class; NaN for one that occurs in neither truth nor prediction."""
        return _iou(self.counts.sum(0))

    @property
    def miou(self) -> float:
        return _known_mean(self.iou)

    @property
    def by_image(self) -> Float64[np.ndarray, " images"]:
        """mIoU of each image by itself; NaN for one whose pixels are all ignored."""
        return np.array([_known_mean(_iou(counts)) for counts in self.counts])

    def numbers(self, train_pixels: Int64[np.ndarray, " classes"]) -> dict[str, float]:
        """All measures by name, with mIoU by frequency third of the classes in the training masks.

        A third whose classes occur nowhere in the test images has no number.
        """
        total = self.counts.sum(0)
        accuracy = _ratio(total[RIGHT], total[TRUE])
        found = {
            "miou": self.miou,
            "pixel_accuracy": float(total[RIGHT].sum() / max(1, total[TRUE].sum())),
            "mean_accuracy": _known_mean(accuracy),
            "frequency_weighted_iou": float(np.nansum(self.iou * total[TRUE]) / max(1, total[TRUE].sum())),
        }
        order = np.argsort(-train_pixels, kind="stable")
        third = -(-len(order) // 3)
        for number, name in enumerate(THIRDS):
            part = self.iou[order[number * third : (number + 1) * third]]
            if not np.isnan(part).all():
                found[f"miou_{name}"] = _known_mean(part)
        return found

    def interval(self, *, seed: int = 0) -> tuple[float, float]:
        """Compute mIoU's interval by the percentile bootstrap over images."""
        images, _, classes = self.counts.shape
        generator = np.random.default_rng(seed)
        weights = generator.multinomial(images, np.full(images, 1 / images), size=BOOTSTRAP_DRAWS)
        totals = (weights.astype(np.float64) @ self.counts.reshape(images, -1)).reshape(-1, 3, classes)
        drawn = [_known_mean(_iou(total)) for total in totals]
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        return low, high


def joined(parts: Sequence[Int64[np.ndarray, "3 classes"]]) -> SegmentScores:
    """Put the counts of images together."""
    return SegmentScores(np.stack(parts).astype(np.int64))


def _iou(counts: np.ndarray) -> Float64[np.ndarray, " classes"]:
    return _ratio(counts[RIGHT], counts[TRUE] + counts[GIVEN] - counts[RIGHT])


def _ratio(above: np.ndarray, below: np.ndarray) -> Float64[np.ndarray, " classes"]:
    ratio: Float64[np.ndarray, " classes"] = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return ratio


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
