"""How well a model with a task's own classifier does on its test images.

In: an objective, and `LabelledImages`. Out: `Scored` on the main rank, what `measures.py` makes of the logits; each
image counts once, however many ranks took part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform, central_crops
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, gather_on_main
from trainer.model.objective import Objective
from trainer.probe.measures import Measured, accuracies_of, places_of, precisions_of
from vocab.errors import InputError

# uint8 images on the device and their numbers on the host, to what is to be kept of each.
Compute = Callable[[Tensor, Int64[np.ndarray, " batch"]], Tensor]


@dataclass(frozen=True, eq=False)
class Scored:
    """What is reached on test images."""

    measured: Measured
    images: int
    """that could be decoded"""
    classes: int
    """that at least one of them shows"""
    skipped: list[Skipped]
    """images that could not be decoded"""

    def numbers(self) -> dict[str, float | int]:
        """Those that there are, by name."""
        counts = {"images": self.images, "classes": self.classes, "bad_images": len(self.skipped)}
        return counts | self.measured.numbers()


@dataclass(frozen=True, eq=False)
class Outputs:
    """What was computed of images, in their order."""

    values: Tensor
    """of those that could be decoded, on the CPU"""
    images: Int64[np.ndarray, " decoded"]
    """their numbers"""
    skipped: list[Skipped]


def score(objective: Objective, images: LabelledImages, rank: Rank, *, viewing: EvalTransform) -> Scored | None:
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
    found = outputs(compute, images, rank, viewing=viewing)
    objective.train(was_training)
    return None if found is None else _scored(found, images)


def outputs(compute: Compute, images: LabelledImages, rank: Rank, *, viewing: EvalTransform) -> Outputs | None:
    """What `compute` makes of the central crops of images; None on ranks other than the main one. All must call it.

    Raises InputError on the main rank if none can be decoded, and on each for a store that was changed.
    """
    own = np.array_split(np.arange(len(images)), rank.world)[rank.index]
    values, kept, skipped = [], [], []
    groups = [own[start : start + viewing.batch] for start in range(0, len(own), viewing.batch)]
    with torch.no_grad(), torch.autocast(rank.device.type, torch.bfloat16, enabled=viewing.bfloat16):
        shown = central_crops(images.store, (images.rows[group] for group in groups), viewing)
        for group, made in zip(groups, shown, strict=True):
            sound = np.array([reason is None for reason in made.reasons])
            result = compute(made.pixels.to(rank.device), group).cpu()
            values.append(result[torch.from_numpy(sound)])
            kept.append(group[sound])
            skipped += [
                Skipped("", images.names[image], reason)
                for image, reason in zip(group.tolist(), made.reasons, strict=True)
                if reason is not None
            ]
    parts = gather_on_main((values, kept, skipped), rank)
    if not parts:
        return None
    _check_any(images, parts)
    return Outputs(
        torch.cat([value for part in parts for value in part[0]]),
        np.concatenate([group for part in parts for group in part[1]]),
        [bad for part in parts for bad in part[2]],
    )


def _scored(found: Outputs, images: LabelledImages) -> Scored:
    own = images.select(found.images)
    measured = (precisions_of if images.multi_label else accuracies_of)(found.values, own)
    return Scored(measured, len(own), int((own.images_by_class > 0).sum()), found.skipped)


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
