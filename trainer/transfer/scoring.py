"""How well a model with a task's own classifier does on its test images.

In: an objective, and `LabelledImages`. Out: `Scores` on the main rank, in which each image counts once, however many
ranks took part.

    one class an image      top-1 and top-5 accuracy
    several                 mean average precision: macro over classes, and micro over all pairs (trainer/metrics.py)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import Viewing, central_crops
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Place, gather_on_main
from trainer.metrics import average_precision, micro_average_precision
from trainer.model.objective import Objective
from vocab.errors import InputError

TOP = 5

# uint8 images on the device and their numbers on the host, to what is to be kept of each.
Compute = Callable[[Tensor, Int64[np.ndarray, " batch"]], Tensor]


@dataclass(frozen=True)
class Scores:
    """What is reached on test images; accuracies of one class an image, or precisions of several."""

    images: int
    """that could be decoded"""
    classes: int
    """that at least one of them shows"""
    bad_images: int
    top1: float | None = None
    """share of the images whose class comes first"""
    top5: float | None = None
    """share whose class is among the first five; None with five classes or fewer"""
    map_macro: float | None = None
    """mean of the classes' average precisions, of those that an image shows"""
    map_micro: float | None = None
    """average precision of all pairs of an image and a class, as one ranking"""

    @property
    def metric(self) -> tuple[str, float]:
        """The number that a task is known by."""
        if self.top1 is not None:
            return "top1", self.top1
        assert self.map_macro is not None
        return "map_macro", self.map_macro

    def numbers(self) -> dict[str, float | int | None]:
        """Those that there are, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores, and what they were made of."""

    scores: Scores
    correct: Bool[np.ndarray, " images"] | None
    """whether each image's class came first, of one class an image"""
    skipped: list[Skipped]
    """images that could not be decoded"""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What was computed of images, in their order."""

    values: Tensor
    """of those that could be decoded, on the CPU"""
    images: Int64[np.ndarray, " decoded"]
    """their numbers"""
    skipped: list[Skipped]


def score(objective: Objective, images: LabelledImages, place: Place, *, viewing: Viewing) -> Scored | None:
    """Score the images with the objective's weights as they are; None on ranks other than the main one. All must call.

    Raises InputError on the main rank if none can be decoded, and on each for a store that was changed.
    """
    labels = torch.from_numpy(images.classes)

    def compute(pixels: Tensor, numbers: Int64[np.ndarray, " batch"]) -> Tensor:
        logits = objective.score(pixels).float()
        # Of one class an image nothing but its place among the others is wanted: a number, where logits are a thousand.
        return logits if images.multi_label else places_of(logits, labels[torch.from_numpy(numbers)].to(logits.device))

    was_training = objective.training
    objective.eval()
    found = outputs(compute, images, place, viewing=viewing)
    objective.train(was_training)
    return None if found is None else _scored(found, images)


def outputs(compute: Compute, images: LabelledImages, place: Place, *, viewing: Viewing) -> Outputs | None:
    """What `compute` makes of the central crops of images; None on ranks other than the main one. All must call it.

    Raises InputError on the main rank if none can be decoded, and on each for a store that was changed.
    """
    own = np.array_split(np.arange(len(images)), place.world)[place.rank]
    values, kept, skipped = [], [], []
    groups = [own[start : start + viewing.batch] for start in range(0, len(own), viewing.batch)]
    with torch.no_grad(), torch.autocast(place.device.type, torch.bfloat16, enabled=viewing.bfloat16):
        shown = central_crops(images.store, (images.rows[group] for group in groups), viewing)
        for group, made in zip(groups, shown, strict=True):
            sound = np.array([reason is None for reason in made.reasons])
            result = compute(made.pixels.to(place.device), group).cpu()
            values.append(result[torch.from_numpy(sound)])
            kept.append(group[sound])
            skipped += [
                Skipped("", images.names[image], reason)
                for image, reason in zip(group.tolist(), made.reasons, strict=True)
                if reason is not None
            ]
    parts = gather_on_main((values, kept, skipped), place)
    if not parts:
        return None
    _check_any(images, parts)
    return Outputs(
        torch.cat([value for part in parts for value in part[0]]),
        np.concatenate([group for part in parts for group in part[1]]),
        [bad for part in parts for bad in part[2]],
    )


def places_of(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """How many classes come before each image's own; of equal logits the lower number is first, no number is last."""
    logits = logits.masked_fill(logits.isnan(), -torch.inf)
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    before = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return torch.where(own[:, 0] == -torch.inf, logits.shape[1] - 1, before)


def _scored(found: Outputs, images: LabelledImages) -> Scored:
    own = images.select(found.images)
    numbers = {
        "images": len(own),
        "classes": int((own.images_by_class > 0).sum()),
        "bad_images": len(found.skipped),
    }
    if not images.multi_label:
        places = found.values.numpy()
        top5 = float((places < TOP).mean()) if len(images.labels) > TOP else None
        return Scored(Scores(**numbers, top1=float((places < 1).mean()), top5=top5), places < 1, found.skipped)
    offsets, classes = torch.from_numpy(own.offsets), torch.from_numpy(own.classes)
    by_class = average_precision(found.values, offsets, classes)
    macro = float(by_class[~by_class.isnan()].mean()) if len(classes) else 0.0
    micro = micro_average_precision(found.values, offsets, classes)
    return Scored(Scores(**numbers, map_macro=macro, map_micro=micro), None, found.skipped)


def _check_any(images: LabelledImages, parts: list[tuple[list[Tensor], list[np.ndarray], list[Skipped]]]) -> None:
    if any(len(group) for part in parts for group in part[1]):
        return
    reasons = Counter(bad.reason for part in parts for bad in part[2])
    raise InputError(
        "the task's images",
        found=f"none of {len(images):,} that can be decoded "
        f"({', '.join(f'{count:,} {reason}' for reason, count in reasons.items()) or 'there are none'})",
        wanted="at least one",
        remedy="Look at --task.train and --task.test.",
    )
