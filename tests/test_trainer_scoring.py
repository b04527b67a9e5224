"""Scores of a model on images: those that decode, once each, measured as scores of any other origin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.labelled_images import HERE, Shelf, images_on, shelf
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.loss.losses import SoftmaxCrossEntropy
from trainer.model.objective import Objective
from trainer.probe.measures import measure, score
from vocab.errors import InputError

TRANSFORM = EvalTransform(size=16, crop=0.9, batch=4, decoding=Decoding(0, 1, 1 << 20), bfloat16=False)


class Telling(nn.Module):
    """Logits of images by the number that their grey says (`shelf`)."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pixels: Tensor) -> Tensor:
        return self.logits[(pixels[:, 0].mean((1, 2)) / 7).round().long()]


def several(images: LabelledImages) -> LabelledImages:
    """The same with classes number % 3 and, of every other image, the one after it."""
    classes = [sorted({number % 3, (number + number % 2) % 3}) for number in range(len(images))]
    offsets = np.cumsum([0, *map(len, classes)])
    flat = np.array([label for own in classes for label in own], np.int64)
    return replace(images, offsets=offsets, classes=flat, multi_label=True)


@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_of_a_model_are_measured_as_other_scores_are(*, multi_label: bool) -> None:
    store = shelf(10)
    store.pictures[6] = b"no picture"
    images = several(images_on(store)) if multi_label else images_on(store)
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    logits[2], logits[5, 1], logits[7] = torch.nan, torch.nan, 0.0
    objective = Objective(Telling(logits), None, SoftmaxCrossEntropy(), chunk=8, mean=0.0, std=1.0)
    found = score(objective, images, HERE, transform=TRANSFORM)
    assert found is not None
    kept = np.delete(np.arange(10), 6)
    expected = measure([logits[torch.from_numpy(kept)]], images.select(kept))
    assert found.measured.numbers() == expected.numbers()
    assert found.measured.metric == expected.metric
    assert found.measured.parts.tolist() == expected.parts.tolist()
    assert found.numbers() == {"images": 9, "classes": 3, "bad_images": 1, **expected.numbers()}
    assert [(bad.key, bad.reason) for bad in found.skipped] == [("6.png", "not_an_image")]
    assert objective.training


def test_images_of_which_none_decodes_have_no_scores() -> None:
    objective = Objective(Telling(torch.zeros(2, 3)), None, SoftmaxCrossEntropy(), chunk=8)
    with pytest.raises(InputError, match=r"the task's images: found none of 2 that can be decoded \(2 missing\)"):
        score(objective, images_on(Shelf({0: b"", 1: b""})), HERE, transform=TRANSFORM)
