"""Confidence intervals of results: over seeds, over test images, and of paired differences.

over seeds      mean +- t(0.975, n - 1) * s / sqrt(n), s the sample standard deviation: Student's t
over images     percentile bootstrap (Efron 1979), for a result of one seed: its spread over other test
                images, with the same training images, order and first weights
paired          Student's t of the differences, seed by seed: effects of a seed on both cancel
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vocab.errors import InputError

LEVEL = 0.95
DRAWS = 10_000
# Halvings of the interval in which a quantile lies: past the precision of a float.
HALVINGS = 100


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % confidence interval."""

    value: float
    """the mean over seeds; or the one value"""
    spread: float | None
    """sample standard deviation over seeds; None for one seed"""
    low: float | None
    """lower end of the interval; None where there is none"""
    high: float | None
    over: Literal["seeds", "images"] | None
    """source of the variation that the interval covers; None: there is none"""
    seeds: int

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def over_seeds(values: Sequence[float]) -> Interval:
    """Compute the mean and its interval; no interval for a single seed. Raises InputError for no value at all."""
    if not values:
        raise InputError(
            "an interval over seeds", found="no value", wanted="at least one", remedy="Measure with a seed first."
        )
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean, None, None, None, None, 1)
    spread = statistics.stdev(values)
    half = student_t(len(values) - 1) * spread / math.sqrt(len(values))
    return Interval(mean, spread, mean - half, mean + half, "seeds", len(values))


def over_images(correct: str, *, seed: int = 0) -> Interval:
    """Compute accuracy and its interval by the percentile bootstrap; `correct`: "1" or "0" for each test image.

    Equal to drawing as many images with replacement DRAWS times: the number of right ones among them is binomial.
    Raises InputError for no image, and for other characters.
    """
    if not correct or correct.strip("01"):
        raise InputError(
            "a bootstrap over test images",
            found=f"{correct[:20]!r}" if correct else "no image",
            wanted='"1" for each image that was classified rightly, and "0" for the others',
            remedy="Measure again.",
        )
    images, right = len(correct), correct.count("1")
    drawn = np.random.default_rng(seed).binomial(images, right / images, size=DRAWS) / images
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(right / images, None, low, high, "images", 1)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """Compute `second` minus `first`, over the seeds that both have values of. Raises InputError if there are none."""
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise InputError(
            "a paired difference",
            found=f"seeds {sorted(first)} and {sorted(second)}",
            wanted="seeds that both have",
            remedy="Measure both with the same seeds.",
        )
    return over_seeds([second[seed] - first[seed] for seed in shared])


def student_t(freedom: int, *, level: float = LEVEL) -> float:
    """The t that a variable of Student's distribution stays within, either side of 0, with probability `level`."""
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= t) where tan(angle) = t / sqrt(freedom): Abramowitz and Stegun 26.7.3 and 26.7.4, exact sums."""
    odd = freedom % 2
    cosine, sine = math.cos(angle), math.sin(angle)
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    # Odd: cos + 2/3 cos^3 + ...; even: 1 + 1/2 cos^2 + ..., up to the power freedom - 2.
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
