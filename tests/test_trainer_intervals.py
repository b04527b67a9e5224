"""Confidence intervals: over seeds, over test images, and of differences."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.records.intervals import Interval, over_images, over_seeds, paired, student_t
from vocab.errors import InputError


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (29, 2.0452), (999, 1.9623)],
)
def test_students_t_is_that_of_printed_tables(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=5e-5)


def test_students_t_has_other_levels() -> None:
    assert student_t(10, level=0.9) == pytest.approx(1.8125, abs=5e-5)
    assert student_t(5, level=0.99) == pytest.approx(4.0321, abs=5e-5)


def test_three_seeds_have_an_interval_of_4_303_standard_errors() -> None:
    interval = over_seeds([0.60, 0.62, 0.67])
    # The sample standard deviation is 0.0360555, its third's root's share 0.0208167.
    assert interval.value == pytest.approx(0.63)
    assert interval.spread == pytest.approx(0.0360555)
    assert interval.half_width == pytest.approx(0.0895669)
    assert (interval.low, interval.high) == (pytest.approx(0.5404331), pytest.approx(0.7195669))
    assert (interval.over, interval.seeds) == ("seeds", 3)


def test_seeds_that_agree_have_an_interval_of_no_width() -> None:
    assert over_seeds([0.5, 0.5]) == Interval(0.5, 0.0, 0.5, 0.5, "seeds", 2)


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([0.25]) == Interval(0.25, None, None, None, None, 1)
    assert over_seeds([0.25]).half_width is None


def test_no_seed_is_an_error() -> None:
    with pytest.raises(InputError, match="found no value; wanted at least one"):
        over_seeds([])


def test_one_seed_has_an_interval_over_its_test_images() -> None:
    interval = over_images("1" * 700 + "0" * 300)
    # The normal approximation's 1.96 * sqrt(0.7 * 0.3 / 1000) is 0.0284.
    assert interval == Interval(0.7, None, 0.672, 0.728, "images", 1)
    assert over_images("0" * 300 + "1" * 700) == interval


def test_the_bootstrap_is_of_its_seed() -> None:
    correct = "10" * 333
    assert over_images(correct, seed=5) == over_images(correct, seed=5)


def test_the_bootstrap_equals_drawing_images_with_replacement() -> None:
    random = np.random.default_rng(1)
    correct = random.random(400) < 0.85
    drawn = [correct[random.integers(0, 400, size=400)].mean() for _ in range(10_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    interval = over_images("".join("1" if right else "0" for right in correct))
    # One image is 0.0025: the quantiles of two sets of draws differ by one at most.
    assert interval.low == pytest.approx(low, abs=0.0026)
    assert interval.high == pytest.approx(high, abs=0.0026)


def test_images_that_are_all_right_vary_in_nothing() -> None:
    assert over_images("1111") == Interval(1.0, None, 1.0, 1.0, "images", 1)


@pytest.mark.parametrize(("correct", "found"), [("", "no image"), ("10x1", "'10x1'")])
def test_marks_that_are_none_are_an_error(correct: str, found: str) -> None:
    with pytest.raises(InputError, match=f"found {found}; wanted"):
        over_images(correct)


def test_a_difference_is_taken_seed_by_seed() -> None:
    # Seeds differ by 10 points, the inits by 2 and 4: unpaired, the interval would hold 0.
    interval = paired({0: 0.50, 1: 0.60, 2: 0.70}, {2: 0.74, 1: 0.62, 0: 0.52})
    assert interval.value == pytest.approx(0.08 / 3)
    assert interval.spread == pytest.approx(0.0115470)
    assert interval.half_width == pytest.approx(0.02868435)
    assert interval.seeds == 3


def test_a_difference_is_over_the_seeds_that_both_have() -> None:
    assert paired({0: 0.5, 7: 0.1}, {0: 0.625, 3: 0.9}) == Interval(0.125, None, None, None, None, 1)


def test_a_difference_of_other_seeds_is_an_error() -> None:
    with pytest.raises(InputError, match=r"found seeds \[0\] and \[1\]; wanted seeds that both have"):
        paired({0: 0.5}, {1: 0.5})
