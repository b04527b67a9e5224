"""The options of fine-tuning: the paper's recipe where nothing is said, and what cannot work."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from trainer.optim.optimiser import learning_rate
from trainer.transfer.config import CHANGEABLE, FinetuneConfig, TaskConfig
from vocab.errors import InputError

PLAIN = FinetuneConfig(Path("runs/b16"), TaskConfig(train="train", test="val"), Path("out"))
# ImageNet-1k: 10 epochs of 1,281,167 images in batches of 512.
STEPS = 25_023


def test_the_defaults_are_the_paper_s_recipe_for_imagenet() -> None:
    done = PLAIN.completed(multi_label=False, image_size=224, steps=STEPS)
    assert (done.epochs, done.batch, done.weight_decay, done.label_smoothing) == (10, 512, 0.05, 0.1)
    assert (done.optimiser, done.image_size, done.ema_momentum) == ("adamw", 224, 0.0005)
    settings = done.optim(steps=STEPS)
    rates = [learning_rate(step, settings) for step in (1, STEPS // 2, STEPS)]
    assert rates == pytest.approx([3e-5, 1.65e-5, 3e-6], rel=1e-3)


def test_several_classes_an_image_learn_more_slowly_and_unsmoothed() -> None:
    done = PLAIN.completed(multi_label=True, image_size=224, steps=STEPS)
    assert (done.peak_lr, done.final_lr, done.label_smoothing) == (1e-5, pytest.approx(1e-6), 0.0)


def test_what_is_given_stays() -> None:
    given: dict[str, Any] = {
        "image_size": 512,
        "peak_lr": 1e-4,
        "final_lr": 0.0,
        "label_smoothing": 0.0,
        "ema_momentum": 0.5,
    }
    assert replace(PLAIN, **given).completed(multi_label=False, image_size=224, steps=9) == replace(PLAIN, **given)


@pytest.mark.parametrize(("steps", "momentum"), [(100_000, 0.0005), (20_000, 0.0005), (1_000, 0.01), (5, 1.0)])
def test_a_short_run_s_average_forgets_what_it_began_with(steps: int, momentum: float) -> None:
    assert PLAIN.completed(multi_label=False, image_size=224, steps=steps).ema_momentum == momentum


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 6}, r"--batch: found 6; wanted a multiple of 4 processes x 1 parts\. Choose 8"),
        ({"mixup": 0.2, "batch": 12}, r"4 processes x 1 parts x 2 images that are mixed\. Choose 16"),
        ({"accumulate": 0}, "--accumulate: found 0; wanted more than 0"),
        ({"epochs": 0}, "--epochs"),
        ({"percent": 0.0}, "--percent: found 0"),
        ({"percent": 101.0}, "--percent: found 101"),
        ({"percent": math.nan}, "--percent"),
        ({"alpha": 1.5}, "--alpha"),
        ({"image_size": 0}, "--image-size"),
        ({"min_crop_area": 0.0}, "--min-crop-area"),
        ({"peak_lr": -1.0}, "--peak-lr"),
        ({"peak_lr": math.inf}, "--peak-lr"),
        ({"final_lr": -1.0}, "--final-lr"),
        ({"mixup": -0.1}, "--mixup"),
        ({"cutmix": math.nan}, "--cutmix"),
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"drop_path": 1.0}, "--drop-path"),
        ({"layer_decay": 0.0}, "--layer-decay"),
        ({"layer_decay": 1.5}, "--layer-decay"),
        ({"clip_norm": 0.0}, "--clip-norm"),
        ({"ema_momentum": 2.0}, "--ema-momentum"),
        ({"warmup_steps": -1}, "--warmup-steps"),
        ({"workers": -1}, "--workers"),
        ({"prefetch": 0}, "--prefetch"),
        ({"eval_every": -1}, "--eval-every"),
        ({"log_every": 0}, "--log-every"),
        ({"checkpoint_every": 0}, "--checkpoint-every"),
        ({"keep_checkpoints": 0}, "--keep-checkpoints"),
        ({"seed": -1}, "--seed"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_named_before_anything_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PLAIN, **changes).check(world=4)


def test_what_can_work_is_let_through() -> None:
    PLAIN.check(world=4)
    replace(PLAIN, mixup=0.2, cutmix=1.0, warmup_steps=500, layer_decay=0.65, accumulate=4).check(world=8)


def test_a_warm_up_that_never_ends_is_refused() -> None:
    with pytest.raises(InputError, match=r"--warmup-steps: found 10 of 10 steps"):
        replace(PLAIN, warmup_steps=10).completed(multi_label=False, image_size=224, steps=10)


def test_what_may_be_changed_are_fields() -> None:
    fields = {*vars(PLAIN), *(f"task.{name}" for name in vars(PLAIN.task))}
    assert fields >= CHANGEABLE


def test_the_command_line_names_every_field() -> None:
    words = ["runs/b16", "--task.train", "train", "--task.test", "val", "--out", "out"]
    assert tyro.cli(FinetuneConfig, args=words) == replace(PLAIN, model="runs/b16")
    given = tyro.cli(FinetuneConfig, args=[*words, "--init", "transfer", "--image-size", "512", "--task.kind", "tars"])
    assert (given.init, given.image_size, given.task.kind) == ("transfer", 512, "tars")
