"""The learning rate of a step: warm-up, the two shapes after it, and what becomes of shares that overlap."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import OptimConfig
from trainer.optim.optimiser import decay_start, learning_rate

COSINE = OptimConfig(steps=110, warmup_steps=10, start_lr=0.0, peak_lr=1.0, final_lr=0.1)
WSD = replace(COSINE, schedule="wsd", steps=200, decay_share=0.2)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.55), (110, 0.1), (500, 0.1)])
def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(step: int, rate: float) -> None:
    assert learning_rate(step, COSINE) == pytest.approx(rate)


# 160 is where the last fifth begins; a quarter of the way from there, half the height is gone.
@pytest.mark.parametrize(
    ("step", "rate"), [(5, 0.5), (10, 1.0), (11, 1.0), (160, 1.0), (170, 0.55), (200, 0.1), (900, 0.1)]
)
def test_wsd_stays_at_the_peak_and_falls_by_the_root_of_the_share(step: int, rate: float) -> None:
    assert learning_rate(step, WSD) == pytest.approx(rate)


def test_wsd_runs_of_any_length_are_the_same_until_the_fall() -> None:
    longer = replace(WSD, steps=400)
    assert decay_start(WSD) == 160
    assert [learning_rate(n, WSD) for n in range(161)] == [learning_rate(n, longer) for n in range(161)]


def test_a_fall_that_would_begin_within_warm_up_begins_at_its_end() -> None:
    overlapping = replace(WSD, steps=100, warmup_steps=60, decay_share=0.9)
    assert [learning_rate(n, overlapping) for n in (30, 60, 70, 100)] == pytest.approx([0.5, 1.0, 0.55, 0.1])


def test_with_a_decay_share_of_less_than_a_step_wsd_ends_at_the_peak() -> None:
    flat = replace(WSD, decay_share=1e-9)
    assert [learning_rate(n, flat) for n in (11, 200, 201)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_run_that_ends_within_warm_up_keeps_rising(schedule: str) -> None:
    short = replace(COSINE, steps=5, schedule=schedule)
    assert [learning_rate(n, short) for n in (5, 10, 11)] == [0.5, 0.5, 0.5]


def test_a_run_without_warm_up_starts_near_its_peak() -> None:
    config = OptimConfig(steps=1000, warmup_steps=0, peak_lr=1.0)
    assert learning_rate(1, config) == pytest.approx(1.0, abs=1e-5)
    assert learning_rate(0, config) == 1e-6


@given(
    step=st.integers(0, 300),
    steps=st.integers(1, 200),
    warmup=st.integers(0, 200),
    share=st.floats(0, 1, exclude_min=True),
    schedule=st.sampled_from(["cosine", "wsd"]),
)
def test_no_rate_leaves_the_range_of_the_configured_ones(
    step: int, steps: int, warmup: int, share: float, schedule: str
) -> None:
    config = replace(COSINE, steps=steps, warmup_steps=warmup, decay_share=share, schedule=schedule)
    assert -1e-12 <= learning_rate(step, config) <= 1 + 1e-12
    if warmup < step:  # never rising again
        assert learning_rate(step + 1, config) <= learning_rate(step, config) + 1e-12


def test_a_quarter_of_the_way_is_a_quarter_of_the_half_turn() -> None:
    assert learning_rate(35, COSINE) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
