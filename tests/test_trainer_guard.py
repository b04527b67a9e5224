"""The guard: which losses are bad, and that bad ones teach it nothing."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.step.metrics import WARM_STEPS, Guard

CPU = torch.device("cpu")


def judge(guard: Guard, loss: float, norm: float = 1.0) -> float:
    return float(guard.judge(torch.tensor(loss), torch.tensor(norm)))


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (-math.inf, 1.0), (1.0, math.nan)])
def test_what_is_no_number_is_bad_from_the_first_step(loss: float, norm: float) -> None:
    assert judge(Guard(CPU, factor=2.0), loss, norm) == 1.0


def test_a_loss_above_twice_its_running_mean_is_a_spike() -> None:
    guard = Guard(CPU, factor=2.0)
    assert [judge(guard, 10.0) for _ in range(WARM_STEPS)] == [0.0] * WARM_STEPS
    assert judge(guard, 19.9) == 0.0
    assert judge(guard, 21.0) == 1.0


def test_a_loss_that_is_used_to_jump_may_jump() -> None:
    guard = Guard(CPU, factor=2.0)
    # Mean 1, mean deviation 0.6 at the end: 2.4 is above twice the mean, and nothing new.
    for number in range(60):
        assert judge(guard, 0.4 if number % 2 else 1.6) == 0.0
    assert judge(guard, 2.4) == 0.0
    assert judge(guard, 20.0) == 1.0


def test_the_first_losses_have_no_mean_to_be_above() -> None:
    guard = Guard(CPU, factor=2.0)
    assert [judge(guard, loss) for loss in (1.0, 50.0, 3.0)] == [0.0, 0.0, 0.0]


def test_bad_losses_do_not_move_the_mean() -> None:
    guard = Guard(CPU, factor=2.0)
    for _ in range(WARM_STEPS):
        judge(guard, 10.0)
    before = guard.state()
    for loss in (math.nan, 1000.0, math.inf):
        assert judge(guard, loss) == 1.0
    assert guard.state() == before


def test_a_restored_guard_judges_as_the_one_that_was_saved() -> None:
    first, second = Guard(CPU, factor=2.0), Guard(CPU, factor=2.0)
    for number in range(30):
        judge(first, 10.0 + number % 2)
    second.restore(first.state())
    assert second.state() == first.state()
    assert [judge(guard, 25.0) for guard in (first, second)] == [1.0, 1.0]


def test_an_infinite_factor_looks_for_numbers_alone() -> None:
    guard = Guard(CPU, factor=math.inf)
    for _ in range(WARM_STEPS):
        judge(guard, 1.0)
    assert judge(guard, 1e30) == 0.0
