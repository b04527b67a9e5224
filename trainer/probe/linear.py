"""A linear classifier on features: its weights, its logits, its loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from trainer.data.labelled_images import LabelledImages
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted

STD = 0.01
"""standard deviation of a random head's weights, so small that every class is about equally likely at first"""
LOGITS_AT_ONCE = 1 << 24
VALUES_AT_ONCE = 1 << 26


@dataclass(frozen=True, eq=False)
class Head:
    """Weights of a linear classifier."""

    weight: Float32[Tensor, "classes width"]
    bias: Float32[Tensor, " classes"]

    def logits(self, features: Float32[Tensor, "images width"]) -> Float32[Tensor, "images classes"]:
        """One logit for each class."""
        return torch.addmm(self.bias, features, self.weight.T)

    def logits_in_parts(self, features: Float32[Tensor, "images width"]) -> Iterator[Float32[Tensor, "some classes"]]:
        """Logits of some images after others, so that few exist at a time."""
        rows = max(1, LOGITS_AT_ONCE // len(self.bias))
        for first in range(0, len(features), rows):
            yield self.logits(features[first : first + rows])


def random_head(classes: int, width: int, *, seed: int) -> Head:
    """Draw weights from a normal distribution; biases are zero."""
    generator = torch.Generator().manual_seed(seed)
    return Head(torch.randn(classes, width, generator=generator) * STD, torch.zeros(classes))


def loss_of(head: Head, values: Float32[Tensor, "images width"], images: LabelledImages) -> float:
    """Mean cross entropy, of one class an image or of each class by itself; infinite where it is NaN."""
    total, first = 0.0, 0
    offsets, classes = torch.from_numpy(images.offsets), torch.from_numpy(images.classes)
    for logits in head.logits_in_parts(values):
        ends = offsets[first : first + len(logits) + 1]
        owners = torch.arange(len(logits)).repeat_interleave(ends.diff()).to(logits.device)
        own = classes[int(ends[0]) : int(ends[-1])].to(logits.device)
        losses = F.softplus(logits).sum() if images.multi_label else logits.logsumexp(1).sum()
        total += float(losses - logits[owners, own].sum())
        first += len(logits)
    return total / len(images) if np.isfinite(total) else np.inf


def images_without_numbers(values: Float[Tensor, "images width"]) -> int:
    """Count the images whose features are not all finite."""
    rows = max(1, VALUES_AT_ONCE // max(1, values.shape[1]))
    parts = (values[first : first + rows] for first in range(0, len(values), rows))
    return sum(int((~part.isfinite()).any(1).sum()) for part in parts)


def check_numbers(values: Float[Tensor, "images width"], what: str) -> None:
    """Raise InputError, with the number of images, for features that are not finite, and for none at all."""
    bad = images_without_numbers(values)
    if bad or not len(values):
        raise InputError(
            f"the features of {what}",
            found=f"{bad:,} of {len(values):,} images with values that are not finite" if bad else "none",
            wanted="finite numbers, of at least one image",
            remedy="Look at the model's run: its loss may have become NaN. Or try --precision float32.",
        )


def check_fit(values: Float[Tensor, "images width"], images: LabelledImages, head: Head) -> None:
    """Raise MismatchError unless features, images and classifier have the same images, classes and width."""
    count, classes, width = len(values), *head.weight.shape
    if (count, classes, width) != (len(images), len(images.labels), values.shape[1]):
        raise MismatchError(
            "the features",
            found=f"{count:,} of width {values.shape[1]:,}; "
            f"the classifier has {counted(classes, 'class', 'classes')} and width {width:,}",
            wanted=f"those of {counted(len(images), 'image')} with {counted(len(images.labels), 'class', 'classes')}",
            remedy="Compute features and classifier from the same model and images.",
        )
