"""Step metrics arrive in order, as late as said, and none is lost."""

from __future__ import annotations

import pytest
import torch

from trainer.step.metrics import MOST_STEPS_AHEAD, DeferredMetrics, StepMetrics


def numbers(step: int, *, bad: bool = False, stop: int = 0) -> torch.Tensor:
    return torch.tensor([step + 0.5, 2.0 * step, float(bad), float(stop)])


def test_metrics_are_read_two_steps_late() -> None:
    metrics, read = DeferredMetrics(torch.device("cpu")), []
    for step in range(1, 6):
        metrics.push(step, numbers(step))
        read.append([each.step for each in metrics.read()])
    assert MOST_STEPS_AHEAD == 2
    assert read == [[], [], [1], [2], [3]]
    assert [each.step for each in metrics.read(lag=0)] == [4, 5]
    assert list(metrics.read(lag=0)) == []


def test_metrics_are_what_was_pushed() -> None:
    metrics = DeferredMetrics(torch.device("cpu"))
    # Two ranks were asked to stop.
    metrics.push(7, numbers(7, bad=True, stop=2))
    assert list(metrics.read(lag=0)) == [StepMetrics(step=7, loss=7.5, norm=14.0, bad=True, stop=True)]


def test_what_is_pushed_later_does_not_change_what_waits() -> None:
    metrics, kept = DeferredMetrics(torch.device("cpu")), torch.zeros(4)
    for step in range(1, MOST_STEPS_AHEAD + 2):
        kept.copy_(numbers(step))
        metrics.push(step, kept)
    assert [each.loss for each in metrics.read(lag=0)] == [1.5, 2.5, 3.5]


def test_a_host_that_does_not_read_is_found_out() -> None:
    metrics = DeferredMetrics(torch.device("cpu"))
    for step in range(1, MOST_STEPS_AHEAD + 2):
        metrics.push(step, numbers(step))
    with pytest.raises(AssertionError, match="read between two steps"):
        metrics.push(MOST_STEPS_AHEAD + 2, numbers(MOST_STEPS_AHEAD + 2))


def test_a_rollback_drops_what_waits() -> None:
    metrics = DeferredMetrics(torch.device("cpu"))
    metrics.push(1, numbers(1))
    metrics.clear()
    assert list(metrics.read(lag=0)) == []
