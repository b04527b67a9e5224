"""Choosing a setting: on images that are held out of each class, or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.test_trainer_probe_grid import data, images_of
from trainer.transfer.head import Head, random_head
from trainer.transfer.measures import Measured
from trainer.transfer.probe_choice import best_of, choose, grid_of, loss_of, middle, split
from trainer.transfer.probe_grid import GridSchedule, Setting


def test_the_grid_has_every_pair_and_numbers_that_are_given_replace_the_presets() -> None:
    grid = grid_of("grid", (), ())
    assert len(grid) == 20
    assert grid[0] == Setting(1e-5, 0.0)
    assert grid_of("paper", (), ()) == (Setting(3e-5, 0.0),)
    assert grid_of("paper", (0.1, 0.01), ()) == (Setting(0.01, 0.0), Setting(0.1, 0.0))
    assert grid_of("grid", (0.1,), (0.5, 0.0)) == (Setting(0.1, 0.0), Setting(0.1, 0.5))


def test_the_middle_is_the_middle_learning_rate_without_decay() -> None:
    assert middle(grid_of("grid", (), ())) == Setting(1e-3, 0.0)
    assert middle(grid_of("grid", (1e-3, 1e-1, 1e-2), ())) == Setting(1e-2, 0.0)


@given(
    sizes=st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) >= 20),
    seed=st.integers(0, 100),
)
def test_a_tenth_of_each_class_is_held_out_to_the_next_number(sizes: list[int], seed: int) -> None:
    images = images_of([[label] for label, size in enumerate(sizes) for _ in range(size)], count=len(sizes))
    held_out = split(images, seed=seed)
    for label, size in enumerate(sizes):
        found = int(held_out[images.classes == label].sum())
        assert found in ({0} if size < 2 else {math.floor(size / 10), math.ceil(size / 10)})


def test_of_several_classes_an_image_a_tenth_of_all_is_held_out() -> None:
    images = images_of([[0, 1], [], [1]] * 10, count=2, multi_label=True)
    assert int(split(images, seed=0).sum()) == 3
    assert not np.array_equal(split(images, seed=0), split(images, seed=1))


def test_nothing_is_held_out_of_few_images_or_of_one_of_each_class() -> None:
    assert not split(images_of([[0], [1]] * 9 + [[0]], count=2), seed=0).any()
    assert not split(images_of([[label] for label in range(30)], count=30), seed=0).any()


def test_what_cannot_be_chosen_is_the_middle_and_said() -> None:
    values, images = data(12, 4, 3, multi_label=False)
    choice = choose(
        values,
        images,
        grid=grid_of("grid", (), ()),
        schedule=GridSchedule(),
        start=random_head(3, 4, seed=0),
        seed=0,
    )
    assert choice.setting == Setting(1e-3, 0.0)
    assert choice.why == "the middle one of 20, for 12 images are too few to hold out some"
    assert not choice.sure


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_setting_that_learns_is_chosen(multi_label: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(200) % 4
    values = torch.nn.functional.one_hot(classes, 4).float() + 0.1 * torch.randn(200, 4, generator=generator)
    images = images_of(classes[:, None].tolist(), count=4, multi_label=multi_label)
    # The beginning is wrong; a rate that is too low leaves it there.
    start = Head(-5 * torch.eye(4), torch.zeros(4))
    grid = (Setting(1e-7, 0.0), Setting(1e-1, 0.0))
    schedule = GridSchedule(epochs=20, batch_size=32)
    choice = choose(values, images, grid=grid, schedule=schedule, start=start, seed=0)
    assert choice.setting == grid[1]
    assert choice.sure
    assert choice.why == "the best of 2 on 20 images that were held out"
    assert choose(values, images, grid=grid[:1], schedule=schedule, start=start, seed=0).why == "the only one"


def accuracy(*correct: int) -> Measured:
    return Measured(top1=sum(correct) / len(correct), correct=np.array(correct, np.bool_))


def test_luck_decides_nothing() -> None:
    # One image more of five is luck: the loss decides. Five more of five, and none the other way, are not.
    assert best_of([accuracy(1, 1, 0, 0, 0), accuracy(1, 0, 0, 0, 0)], [2.0, 1.0]) == 1
    assert best_of([accuracy(1, 1, 1, 1, 1), accuracy(0, 0, 0, 0, 0)], [2.0, 1.0]) == 0
    # 30 images more of 40 and 10 the other way, a mean of 1/2 and an error of 0.14.
    one, other = [1] * 30 + [0] * 10, [0] * 30 + [1] * 10
    assert best_of([accuracy(*other), accuracy(*one)], [1.0, 2.0]) == 1
    assert best_of([accuracy(1, 0), accuracy(1, 0)], [math.inf, math.inf]) == 0


def test_average_precisions_are_compared_by_class() -> None:
    one = Measured(map_macro=0.75, precisions=np.array([0.5, 1.0]))
    other = Measured(map_macro=0.65, precisions=np.array([0.4, 0.9]))
    assert best_of([one, other], [2.0, 1.0]) == 0
    mixed = Measured(map_macro=0.65, precisions=np.array([0.6, 0.7]))
    assert best_of([one, mixed], [2.0, 1.0]) == 1
    nothing = Measured(map_macro=0.0, precisions=np.array([]))
    assert best_of([nothing, nothing], [2.0, 1.0]) == 1


def test_the_loss_is_torchs() -> None:
    values, images = data(30, 4, 3, multi_label=False)
    head = random_head(3, 4, seed=0)
    wanted = torch.nn.functional.cross_entropy(head.logits(values), torch.from_numpy(images.classes))
    assert loss_of(head, values, images) == pytest.approx(float(wanted), rel=1e-5)
    values, several = data(30, 4, 3, multi_label=True)
    dense = torch.zeros(30, 3)
    dense[np.repeat(np.arange(30), np.diff(several.offsets)), several.classes] = 1
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(head.logits(values), dense, reduction="sum") / 30
    assert loss_of(head, values, several) == pytest.approx(float(wanted), rel=1e-5)
    assert loss_of(Head(head.weight * torch.nan, head.bias), values, images) == math.inf
