"""Settings trained at once: each one is what torch's own classes would have made of it."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.labelled_images import drawn_features, images_of
from trainer.config import OptimConfig
from trainer.data.labelled_images import LabelledImages
from trainer.optim.optimiser import learning_rate
from trainer.probe import grid
from trainer.probe.grid import GridSchedule, Setting, train_grid
from trainer.probe.linear import Head, random_head
from vocab.errors import InputError, MismatchError

pytestmark = [pytest.mark.arithmetic, pytest.mark.usefixtures("one_thread")]

GRID = (Setting(1e-3, 0.0), Setting(1e-1, 0.0), Setting(1e-2, 0.3))


def plain(
    values: Tensor, images: LabelledImages, setting: Setting, schedule: GridSchedule, start: Head, *, seed: int
) -> Head:
    """Train each setting by itself with torch's AdamW, which `grid` says that it equals."""
    dense = torch.zeros(len(values), len(images.labels), dtype=values.dtype)
    dense[np.repeat(np.arange(len(images)), np.diff(images.offsets)), images.classes] = 1
    head = nn.Linear(values.shape[1], len(images.labels)).to(values.dtype)
    with torch.no_grad():
        head.weight.copy_(start.weight)
        head.bias.copy_(start.bias)
    optimiser = torch.optim.AdamW(head.parameters(), lr=setting.learning_rate, weight_decay=setting.weight_decay)
    steps = schedule.epochs * -(-len(values) // schedule.batch_size)
    course = OptimConfig(steps=steps, warmup_steps=0, peak_lr=1.0, final_lr=schedule.final_share)
    generator, step, smoothing = torch.Generator().manual_seed(seed), 0, schedule.label_smoothing
    for _ in range(schedule.epochs):
        for batch in torch.randperm(len(values), generator=generator).split(schedule.batch_size):
            step += 1
            optimiser.param_groups[0]["lr"] = setting.learning_rate * learning_rate(step, course)
            logits = head(values[batch])
            if images.multi_label:
                targets = dense[batch] * (1 - smoothing) + smoothing / len(images.labels)
                loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(batch)
            else:
                loss = F.cross_entropy(logits, dense[batch].argmax(1), label_smoothing=smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return Head(head.weight.detach().float(), head.bias.detach().float())


@settings(deadline=None, max_examples=25)
@given(
    images=st.integers(1, 25),
    width=st.integers(1, 20),
    count=st.integers(2, 6),
    batch=st.integers(1, 30),
    smoothing=st.sampled_from([0.0, 0.1]),
    multi_label=st.booleans(),
)
def test_each_setting_is_a_run_of_torch_with_the_same_batches(
    images: int, width: int, count: int, batch: int, smoothing: float, multi_label: bool
) -> None:
    values, shown = drawn_features(images, width, count, multi_label=multi_label)
    schedule = GridSchedule(epochs=4, batch_size=batch, label_smoothing=smoothing)
    start = random_head(count, width, seed=1)
    # In float64 nothing but a mistake can make a difference; AdamW turns rounding into whole steps where a gradient is
    # as good as zero.
    heads = train_grid(values.double(), shown, grid=GRID, schedule=schedule, start=start, seed=3)
    for setting, head in zip(GRID, heads, strict=True):
        wanted = plain(values.double(), shown, setting, schedule, start, seed=3)
        torch.testing.assert_close(head.weight, wanted.weight, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(head.bias, wanted.bias, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_in_float32_only_rounding_differs(multi_label: bool) -> None:
    values, shown = drawn_features(300, 40, 10, multi_label=multi_label)
    schedule, start = GridSchedule(epochs=5, batch_size=64), random_head(10, 40, seed=1)
    heads = train_grid(values, shown, grid=GRID, schedule=schedule, start=start, seed=3)
    for setting, head in zip(GRID, heads, strict=True):
        wanted = plain(values, shown, setting, schedule, start, seed=3)
        torch.testing.assert_close(head.weight, wanted.weight, atol=1e-3 * setting.learning_rate, rtol=1e-4)
        torch.testing.assert_close(head.bias, wanted.bias, atol=1e-3 * setting.learning_rate, rtol=1e-4)


def test_settings_that_take_several_turns_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, shown = drawn_features(50, 8, 3, multi_label=False)
    schedule, start = GridSchedule(epochs=2, batch_size=16), random_head(3, 8, seed=1)
    at_once = train_grid(values, shown, grid=GRID, schedule=schedule, start=start, seed=0)
    monkeypatch.setattr(grid, "MOST_WEIGHTS", 2 * 24)
    in_turns = train_grid(values, shown, grid=GRID, schedule=schedule, start=start, seed=0)
    for one, other in zip(at_once, in_turns, strict=True):
        torch.testing.assert_close(one.weight, other.weight)


def test_the_seed_alone_decides_the_batches() -> None:
    values, shown = drawn_features(50, 8, 3, multi_label=False)
    schedule, start = GridSchedule(epochs=2, batch_size=16), random_head(3, 8, seed=1)
    one, again, other = (
        train_grid(values, shown, grid=GRID[:1], schedule=schedule, start=start, seed=seed)[0] for seed in (0, 0, 1)
    )
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)


def test_denormal_numbers_are_0_while_it_trains_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[float] = []

    def train(*_: object) -> None:
        products.append(float(torch.tensor(1e-30) * 1e-10))

    values, shown = drawn_features(5, 8, 3, multi_label=False)
    monkeypatch.setattr(grid, "_train", train)
    train_grid(values, shown, grid=GRID, schedule=GridSchedule(), start=random_head(3, 8, seed=1), seed=0)
    train()
    assert products[0] == 0.0
    assert 0 < products[1] < 1e-39


def test_an_interruption_does_not_wait_for_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    def result(_: object) -> None:
        raise KeyboardInterrupt

    values, shown = drawn_features(5, 8, 3, multi_label=False)
    monkeypatch.setattr(Future, "result", result)
    with pytest.raises(KeyboardInterrupt):
        train_grid(
            values,
            shown,
            grid=GRID,
            schedule=GridSchedule(epochs=1_000_000_000),
            start=random_head(3, 8, seed=1),
            seed=0,
        )


def test_classes_that_are_told_apart_are_learnt_as_torch_does() -> None:
    # Gradients vanish: what torch computes with denormal numbers is here computed with 0.
    values = 100 * torch.eye(4).repeat(8, 1)
    shown = images_of([[number % 4] for number in range(32)], count=4)
    schedule, start = GridSchedule(epochs=300, batch_size=8), random_head(4, 4, seed=1)
    heads = train_grid(values, shown, grid=GRID, schedule=schedule, start=start, seed=3)
    for setting, head in zip(GRID, heads, strict=True):
        wanted = plain(values, shown, setting, schedule, start, seed=3)
        torch.testing.assert_close(head.weight, wanted.weight, atol=1e-3 * setting.learning_rate, rtol=1e-4)


def test_features_that_are_no_numbers_are_counted() -> None:
    values, shown = drawn_features(50, 8, 3, multi_label=False)
    values[3, 2], values[7] = torch.inf, torch.nan
    with pytest.raises(InputError, match=r"training images: found 2 of 50 images with values that are not finite"):
        train_grid(values, shown, grid=GRID, schedule=GridSchedule(), start=random_head(3, 8, seed=1), seed=0)


@pytest.mark.parametrize("start", [random_head(3, 9, seed=1), random_head(4, 8, seed=1)])
def test_a_beginning_of_another_shape_is_refused(start: Head) -> None:
    values, shown = drawn_features(5, 8, 3, multi_label=False)
    with pytest.raises(MismatchError, match="the features"):
        train_grid(values, shown, grid=GRID, schedule=GridSchedule(), start=start, seed=0)
