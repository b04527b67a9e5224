"""Curves of a run's log as inline SVG: readable without a script, a library or a network.

In: lines of metrics.jsonl. Out: one figure for each number that the log has at two steps or more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vocab.pages.text import in_html

Points = Sequence[tuple[int, float]]
# A figure is a thousand pixels wide: more points than twice that only make the page heavy.
BUCKETS = 480
# What is smaller is zero.
LEAST = 1e-30
TICKS = 4
# Below and above these, numbers are written 1.2e-6 and 4,610, for want of room beside an axis.
SMALL, LARGE, HUGE = 1e-2, 1e3, 1e7


@dataclass(frozen=True)
class Figure:
    """What is drawn, and how."""

    title: str
    series: Mapping[str, str]
    """label of each line -> name of its values in the log"""
    axis: str
    """name of the plotted quantity, with its unit"""
    logarithmic: bool = False
    share: bool = False
    """the numbers lie between 0 and 1, which is written in percent"""
    marked: bool = field(default=False)
    """there are few points, and each of them is shown"""


LOSS = Figure("Loss", {"loss": "loss"}, "loss, nats per image (log scale)", logarithmic=True)
SCORES = (
    Figure(
        "Held-out images",
        {"all": "eval_macro", "head": "eval_head", "torso": "eval_torso", "tail": "eval_tail"},
        "mean average precision",
        marked=True,
    ),
    Figure("Linear probe", {"first": "probe_top1", "first five": "probe_top5"}, "accuracy", share=True, marked=True),
)
PACE = (
    Figure("Learning rate", {"rate": "learning_rate"}, "learning rate"),
    Figure("Norm of the gradient", {"norm": "grad_norm"}, "norm before clipping (log scale)", logarithmic=True),
    Figure("Speed", {"speed": "images_per_second"}, "images per second"),
    Figure("Use of the device", {"mfu": "mfu"}, "share of its peak (MFU)", share=True),
)


def points_of(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """The finite values of a name by step."""
    found = [(int(line["step"]), line[name]) for line in lines if name in line]
    return [(step, float(value)) for step, value in found if isinstance(value, int | float) and math.isfinite(value)]


def draw(figure: Figure, lines: Sequence[Mapping[str, Any]], *, width: int = 960, height: int = 300) -> str | None:
    """The figure of a log; None where it has fewer than two points of everything."""
    series = {label: points_of(lines, name) for label, name in figure.series.items()}
    return curve(
        {label: points for label, points in series.items() if len(points) > 1}, figure, width=width, height=height
    )


def curve(series: Mapping[str, Points], figure: Figure, *, width: int, height: int) -> str | None:
    """Values against steps with labelled axes; values that a logarithm has no place for are left out."""
    if figure.logarithmic:
        series = {label: [(x, y) for x, y in points if y > LEAST] for label, points in series.items()}
    series = {label: points for label, points in series.items() if len(points) > 1}
    if not series:
        return None
    everything = [point for points in series.values() for point in points]
    scale = _Scale(everything, figure, width=width, height=height)
    lines, names = "", ""
    for number, (label, points) in enumerate(series.items()):
        thin = thinned(points)
        path = " ".join(f"{scale.across(step):.1f},{scale.down(value):.1f}" for step, value in thin)
        lines += f'<polyline class="curve c{number}" points="{path}"/>'
        if figure.marked:
            lines += "".join(
                f'<circle class="c{number}" cx="{scale.across(step):.1f}" cy="{scale.down(value):.1f}" r="3"/>'
                for step, value in thin
            )
        names += f"<li class=c{number}>{in_html(label)} <b class=number>{_number(points[-1][1], figure)}</b></li>"
    return (
        f"<figure><figcaption><b>{in_html(figure.title)}</b><ul class=legend>{names}</ul></figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{in_html(figure.title)} by step">{scale.grid()}'
        f"{lines}{scale.axes()}</svg></figure>"
    )


def thinned(points: Points) -> list[tuple[int, float]]:
    """Of many points the least and the greatest of each of BUCKETS runs of neighbours: what is seen of them all."""
    if len(points) <= 2 * BUCKETS:
        return list(points)
    edges = [len(points) * bucket // BUCKETS for bucket in range(BUCKETS + 1)]
    kept: list[tuple[int, float]] = []
    for first, last in itertools.pairwise(edges):
        run = points[first:last]
        ends = {min(run, key=lambda point: point[1]), max(run, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


class _Scale:
    """Where steps and values lie on a figure."""

    left, right, top, bottom = 80, 24, 14, 46

    def __init__(self, points: Points, figure: Figure, *, width: int, height: int) -> None:
        self.figure, self.width, self.height = figure, width, height
        self.first, self.last = min(step for step, _ in points), max(step for step, _ in points)
        low, high = min(value for _, value in points), max(value for _, value in points)
        if figure.logarithmic:
            self.ends = math.log(low) - 0.05, math.log(high) + 0.05
        else:
            # Rates and shares mean something beside zero; a curve far from it would be a flat line there.
            low = 0.0 if 0 <= low < 0.7 * high else low
            room = max(0.04 * (high - low) or 0.05 * abs(high), LEAST)
            self.ends = (low if low == 0 else low - room), high + room

    def across(self, step: int | float) -> float:
        """Pixels from the left."""
        span = max(1, self.last - self.first)
        return self.left + (self.width - self.left - self.right) * (step - self.first) / span

    def down(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.ends
        place = math.log(value) if self.figure.logarithmic else value
        return self.top + (self.height - self.top - self.bottom) * (high - place) / (high - low)

    def grid(self) -> str:
        """Lines and numbers at round values and steps."""
        low, high = self.ends
        values = log_ticks(math.exp(low), math.exp(high)) if self.figure.logarithmic else ticks(low, high)
        drawn = ""
        for value in values:
            y = self.down(value)
            drawn += (
                f'<line class=grid x1="{self.left}" x2="{self.width - self.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(value, self.figure)}</text>'
            )
        for step in ticks(float(self.first), float(max(self.first + 1, self.last))):
            drawn += (
                f'<text x="{self.across(step):.1f}" y="{self.height - self.bottom + 20}" text-anchor="middle">'
                f"{step:,.0f}</text>"
            )
        return drawn

    def axes(self) -> str:
        """What the axes are."""
        across, down = (self.left + self.width - self.right) / 2, (self.top + self.height - self.bottom) / 2
        return (
            f'<text x="{across}" y="{self.height - 8}" text-anchor="middle">step</text>'
            f'<text transform="translate(14 {down}) rotate(-90)" text-anchor="middle">'
            f"{in_html(self.figure.axis)}</text>"
        )


def ticks(low: float, high: float) -> list[float]:
    """Some three to eight round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.6 * rough)
    first = math.ceil(low / step - 1e-9)
    return [(first + number) * step for number in range(int(high / step - first + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: powers of ten, 1, 2 and 5 times them, or plain ones where it is short."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [value for power in powers for factor in factors if low <= (value := factor * 10.0**power) <= high]
        if len(found) >= 3:
            return found[:: -(-len(found) // (2 * TICKS))]
    return ticks(low, high)


def _number(value: float, figure: Figure) -> str:
    if figure.share:
        return f"{100 * value:.3g}%"
    if value == 0 or SMALL <= abs(value) < LARGE:
        return f"{value:.3g}"
    if LARGE <= abs(value) < HUGE:
        return f"{value:,.0f}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"
