"""How well a model with a task's own classifier does on its test images.

In: an objective, and `LabelledImages`. Out: `Scored` on the main rank, what `measures.py` makes of the logits; each
image counts once, however many ranks took part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.model.objective import Objective
from trainer.probe.features import Compute, Outputs, outputs_of
from trainer.probe.measures import Measured, accuracies_of, places_of, precisions_of
from vocab.errors import InputError


@dataclass(frozen=True, eq=False)
class Scored:
    """What is reached on test images."""

    measured: Measured
    images: int
    """number of images that could be decoded"""
    classes: int
    """number of classes that at least one of the images shows"""
    skipped: list[Skipped]
    """images that could not be decoded"""

    def numbers(self) -> dict[str, float | int]:
        """Those that there are, by name."""
        counts = {"images": self.images, "classes": self.classes, "bad_images": len(self.skipped)}
        return counts | self.measured.numbers()


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
    """Compute outputs for images (`features.outputs_of`); None on ranks other than the main one. All must call it.

    Raises InputError on the main rank if none can be decoded, and on each for a store that was changed.
    """
    found = outputs_of(compute, images.store, images.rows, rank, viewing) if len(images) else None
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


def _scored(found: Outputs, images: LabelledImages) -> Scored:
    own = images.select(found.decoded)
    measured = (precisions_of if images.multi_label else accuracies_of)(found.values, own)
    skipped = [Skipped("", images.names[image], reason) for image, reason in found.faults.items()]
    return Scored(measured, len(own), int((own.images_by_class > 0).sum()), skipped)
