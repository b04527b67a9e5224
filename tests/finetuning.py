"""Fine-tuning runs of six steps on squares of three colours, and the files that they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.corpus import make_corpus
from tests.pictures import picture
from trainer.data.batch import Batch
from trainer.pretrain import pretrain
from trainer.records.log import read_log
from trainer.step.step import Step
from trainer.transfer.config import FinetuneConfig, TaskConfig

COLOURS = {"car": (30, 30, 200), "cat": (30, 200, 30), "dog": (200, 30, 30)}
# Everything random that there is.
RANDOM: dict[str, Any] = {"drop_path": 0.3, "mixup": 0.4, "cutmix": 1.0}


def write_folders(root: Path, *, images: int, bad: int = 0) -> Path:
    """A folder for each class with squares of nearly its colour; the first `bad` of the cats are no images."""
    rng = np.random.default_rng(images)
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for number in range(images):
            red, green, blue = (rng.integers(-25, 25, 3) + colour).tolist()
            content = b"no image" if label == "cat" and number < bad else picture((red, green, blue))
            (root / label / f"{number}.png").write_bytes(content)
    return root


def pretrained_in(root: Path) -> Path:
    """Pre-train a model of two blocks. Not to be written to."""
    assert pretrain(make_corpus(root / "corpus").config(root / "run", steps=3, depth=2)) == 0
    return root / "run"


def task_in(root: Path) -> TaskConfig:
    """Write class folders with 24 images to train on, and 9 to measure on. Not to be written to."""
    train, test = write_folders(root / "train", images=8), write_folders(root / "test", images=3)
    return TaskConfig(train=str(train), test=str(test))


def config(model: Path, task: TaskConfig, out: Path, **changes: Any) -> FinetuneConfig:
    """A run of six steps."""
    plain = FinetuneConfig(
        model=model,
        task=task,
        out=out,
        epochs=2,
        batch=8,
        peak_lr=3e-3,
        workers=0,
        device="cpu",
        log_every=1,
        checkpoint_every=2,
    )
    return replace(plain, **changes)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_log(run / "metrics.jsonl") if "loss" in line]


def evaluated(run: Path) -> list[int]:
    return [line["step"] for line in read_log(run / "metrics.jsonl") if "eval_top1" in line]


def results(run: Path) -> dict[str, Any]:
    """Everything that results.json says of its one record."""
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    (record,) = found["records"]
    return {**found, **record, **record["extra"], **found["data"], **found["details"]}


def bad_images(run: Path, side: str) -> list[tuple[str, str]]:
    """Images of a side that did not decode, each with the reason."""
    named = json.loads((run / "results.json").read_text())["bad_images"]
    return sorted((bad["image"], bad["reason"]) for bad in named if bad["side"] == side)


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class PowerCutError(Exception):
    pass


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = Step.take

    def take(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == step:
            raise PowerCutError
        return whole(self, batch, **given)

    monkeypatch.setattr(Step, "take", take)
