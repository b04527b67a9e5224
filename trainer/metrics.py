"""Scores over the vocabulary: mean average precision, what class frequencies alone would give, and top-1 accuracy.

In: logits of held-out images and their sparse labels. Out: `HeldOutScores`. Ties count as in scikit-learn's
average_precision_score: scores that are equal are one threshold.

    average precision = sum over thresholds of (recall there - recall before) * precision there
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vocab.errors import InputError
from vocab.pages.text import counted

# Score columns sorted at a time: bounds the memory beside the scores themselves, on the device 1.3 GB.
CHUNK_ELEMENTS = 1 << 25
CPU = torch.device("cpu")


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of one evaluation. Macro: average precision, mean over classes with a positive; micro: over all pairs."""

    images: int
    classes: int
    """classes with at least one positive among the images"""
    macro: float
    head: float | None
    """macro over the most frequent third of the vocabulary; None where no class of it has a positive"""
    torso: float | None
    tail: float | None
    micro: float
    baseline_macro: float
    """macro of a model that gives every image the class frequencies: each class's share of positives"""
    baseline_micro: float
    top1: float
    """share of all images whose most probable class is one of their labels; images without a label count as missed"""


def mean_average_precision(
    scores: Float[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " positives"],
    frequency: Float[Tensor, " classes"],
    *,
    device: torch.device = CPU,
) -> tuple[HeldOutScores, Float[Tensor, " classes"]]:
    """Means over classes and pairs, top-1 accuracy, and the average precision of each class (NaN without positives).

    `frequency` orders the classes for the baseline: captions of each class in the training corpus. `device`: where
    scores, which lie on the CPU, are sorted, a block of classes at a time. Raises InputError if no image shows a class,
    and for scores that are NaN or infinite.
    """
    _check(scores, positives)
    average = average_precision(scores, offsets, positives, device=device)
    counts = torch.bincount(positives, minlength=scores.shape[1])
    present = counts > 0
    third = (scores.shape[1] + 2) // 3
    parts = [_mean(average[part * third : (part + 1) * third]) for part in range(3)]
    return (
        HeldOutScores(
            images=len(scores),
            classes=int(present.sum()),
            macro=float(average[present].mean()),
            head=parts[0],
            torso=parts[1],
            tail=parts[2],
            micro=micro_average_precision(scores, offsets, positives, device=device),
            baseline_macro=float(counts[present].double().mean()) / len(scores),
            baseline_micro=micro_average_precision(
                frequency.expand(len(scores), -1), offsets, positives, device=device
            ),
            top1=top1_accuracy(scores, offsets, positives),
        ),
        average,
    )


def _check(scores: Float[Tensor, "images classes"], positives: Int64[Tensor, " positives"]) -> None:
    """Raise InputError if no class has a positive image, or a score is NaN or infinite."""
    if not len(positives):
        raise InputError(
            "held-out tars",
            found=f"{counted(len(scores), 'image')}, none of them labelled with a class of the vocabulary",
            wanted="at least one labelled image",
            remedy="Check --eval-images and --eval-labels, or raise --holdout-shards or --eval-limit.",
        )
    bad = int((~scores.isfinite()).any(1).sum())
    if bad:
        raise InputError(
            "the model's scores",
            found=f"{bad:,} of {len(scores):,} held-out images with scores that are NaN or infinite",
            wanted="finite numbers",
            remedy="Look at the loss in metrics.jsonl, and begin again with a lower --peak-lr.",
        )


def average_precision(
    scores: Float[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " positives"],
    *,
    device: torch.device = CPU,
) -> Float[Tensor, " classes"]:
    """Average precision of each class, float64; nan for a class without a positive. A block of classes at a time."""
    results = []
    for block, true in _blocks(scores, offsets, positives, device):
        ranked, order = block.sort(dim=0, descending=True)
        hits = true.gather(0, order)
        ranks = torch.arange(1, len(block) + 1, dtype=torch.float64, device=device)[:, None]
        precision = hits.cumsum(0, dtype=torch.float64) / ranks
        # Of equal scores all stand at the last one's threshold: carry each group's end back to its members.
        last = torch.ones_like(hits)
        last[:-1] = ranked[:-1] != ranked[1:]
        ends = torch.where(last, torch.arange(len(block), device=device)[:, None], len(block))
        ends = ends.flip(0).cummin(0).values.flip(0)
        results.append(((precision.gather(0, ends) * hits).sum(0) / hits.sum(0)).cpu())
    return torch.cat(results) if results else torch.empty(0, dtype=torch.float64)


def micro_average_precision(
    scores: Float[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " positives"],
    *,
    device: torch.device = CPU,
) -> float:
    """Average precision of all (image, class) pairs as one ranking; 0 without positives.

    Only thresholds at a positive's score raise the recall, so counting the pairs above each of those is enough:
    nothing as large as images x classes is ever sorted.
    """
    rows = torch.arange(len(scores)).repeat_interleave(offsets.diff())
    if len(positives) == 0:
        return 0.0
    thresholds, hits = map(torch.from_numpy, np.unique(scores[rows, positives].numpy(), return_counts=True))
    above = torch.zeros(len(thresholds) + 1, dtype=torch.int64)
    steps = thresholds.to(device)
    for block, _ in _blocks(scores, offsets, positives, device):
        reached = torch.searchsorted(steps, block.flatten().contiguous(), right=True)
        above += torch.bincount(reached, minlength=len(above)).cpu()
    # reached = number of thresholds a score passes; of threshold t all with reached > t.
    passing = above.flip(0).cumsum(0).flip(0)[1:].double()
    true = hits.flip(0).cumsum(0).flip(0).double()
    return float((hits * true / passing).sum() / len(positives))


def top1_accuracy(
    scores: Float[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " positives"],
) -> float:
    """Share of images whose class of the highest score is a positive; an image without positives counts as missed."""
    rows = torch.arange(len(scores)).repeat_interleave(offsets.diff())
    return int((scores.argmax(1)[rows] == positives).sum()) / len(scores)


def _blocks(
    scores: Float[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " positives"],
    device: torch.device,
) -> Iterator[tuple[Float[Tensor, "images block"], Bool[Tensor, "images block"]]]:
    """Columns of the scores with their truth, as many as CHUNK_ELEMENTS allow at a time, on the device."""
    rows = torch.arange(len(scores)).repeat_interleave(offsets.diff()).to(device)
    positives = positives.to(device)
    width = max(1, CHUNK_ELEMENTS // max(1, len(scores)))
    for start in range(0, scores.shape[1], width):
        block = scores[:, start : start + width].to(device)
        inside = (positives >= start) & (positives < start + width)
        true = torch.zeros(block.shape, dtype=torch.bool, device=device)
        true[rows[inside], positives[inside] - start] = True
        yield block, true


def _mean(values: Float[Tensor, " classes"]) -> float | None:
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else None
