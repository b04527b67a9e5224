"""The pulse: beats arrive in order, as late as said, and none is lost."""

from __future__ import annotations

import pytest
import torch

from trainer.step.pulse import LAG, Beat, Pulse


def numbers(step: int, *, bad: bool = False, stop: int = 0) -> torch.Tensor:
    return torch.tensor([step + 0.5, 2.0 * step, float(bad), float(stop)])


def test_a_beat_is_heard_two_steps_late() -> None:
    pulse, heard = Pulse(torch.device("cpu")), []
    for step in range(1, 6):
        pulse.send(step, numbers(step))
        heard.append([beat.step for beat in pulse.listen()])
    assert LAG == 2
    assert heard == [[], [], [1], [2], [3]]
    assert [beat.step for beat in pulse.listen(lag=0)] == [4, 5]
    assert list(pulse.listen(lag=0)) == []


def test_a_beat_says_what_was_sent() -> None:
    pulse = Pulse(torch.device("cpu"))
    # Two ranks were asked to stop.
    pulse.send(7, numbers(7, bad=True, stop=2))
    assert list(pulse.listen(lag=0)) == [Beat(step=7, loss=7.5, norm=14.0, bad=True, stop=True)]


def test_what_is_sent_later_does_not_change_what_waits() -> None:
    pulse, kept = Pulse(torch.device("cpu")), torch.zeros(4)
    for step in range(1, LAG + 2):
        kept.copy_(numbers(step))
        pulse.send(step, kept)
    assert [beat.loss for beat in pulse.listen(lag=0)] == [1.5, 2.5, 3.5]


def test_a_host_that_does_not_listen_is_found_out() -> None:
    pulse = Pulse(torch.device("cpu"))
    for step in range(1, LAG + 2):
        pulse.send(step, numbers(step))
    with pytest.raises(AssertionError, match="listen between two steps"):
        pulse.send(LAG + 2, numbers(LAG + 2))


def test_a_rollback_forgets_what_waits() -> None:
    pulse = Pulse(torch.device("cpu"))
    pulse.send(1, numbers(1))
    pulse.forget()
    assert list(pulse.listen(lag=0)) == []
