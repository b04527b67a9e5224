"""The page of a small pre-training run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.synsets import CAT, DOG
from trainer.evaluation import Evaluation
from trainer.metrics import mean_average_precision
from trainer.records.classes import of_vocabulary
from trainer.records.gallery import GalleryImage, Guess
from trainer.records.page import page
from vocab.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([DOG, CAT], np.int32), np.array([1200, 34]), rows=5000, min_count=30)
RESULTS = {
    "parameters": 2_700_000,
    "classes": 2,
    "steps": 500,
    "images_seen": 64_000,
    "device": "cpu",
    "processes": 1,
    "training_account": {"samples": 64_100, "bad": 100},
    "evaluation_account": {"samples": 3},
}
LINES: list[dict[str, Any]] = [{"step": step, "loss": 9.0 / step} for step in range(1, 9)]


def evaluation() -> Evaluation:
    logits = torch.tensor([[2.0, -1.0], [-2.0, 0.5], [0.0, 0.0]])
    offsets, positives = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1])
    numbers, precision = mean_average_precision(logits, offsets, positives, torch.tensor([1200.0, 34.0]))
    return Evaluation(numbers, precision, [(0, 0), (0, 1), (0, 2)], logits, offsets, positives, {}, [])


def html(
    caption: str = "a dog",
    key: str = "00000/000000001",
    lines: list[dict[str, Any]] = LINES,
    total_steps: int = 500,
    *,
    vocabulary: Vocabulary = VOCABULARY,
    title: str = "sample",
    model: str = "vit_tiny_patch16_224",
    device: str = "cpu",
) -> str:
    """Render the page of a run that shows one picture."""
    dog, cat = vocabulary.names
    image = GalleryImage(key, "AAAA", caption, [dog], [Guess(dog, 0.88, right=True), Guess(cat, 0.27, right=False)])
    return page(
        title=title,
        lines=lines,
        vocabulary=vocabulary,
        result=evaluation(),
        classes=of_vocabulary(vocabulary, evaluation()),
        results=RESULTS | {"device": device},
        shown=[image],
        model=model,
        total_steps=total_steps,
        seconds=200.0,
    )
