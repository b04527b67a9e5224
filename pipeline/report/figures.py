"""Curves and bars as inline SVG, drawn here: no plotting library, no script, nothing fetched.

In: numbers and the names of the axes. Out: the text of an <svg> element. Colours, and letters that grow on a narrow
screen, are the page's style sheet's (`markup`), by the classes `chart`, `grid`, `curve`, `second`, `bar`, `mark`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.markup import plain

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 72, 18, 16, 58
MAX_POINTS = 300
"""points of a curve: more than one to a pixel or so is only bytes"""
HEADROOM = 0.05
"""left free above the greatest value of a linear axis"""
BAR_SHARE = 0.8
"""of a bar's place that it fills"""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart."""

    name: str
    log: bool = False
    percent: bool = False
    """values are shares; the axis reaches from 0 to 1"""


@dataclass(frozen=True)
class Scale:
    """Values along an axis to places in the drawing."""

    axis: Axis
    low: float
    high: float
    start: float
    """place of `low`"""
    end: float

    def place(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log(v) if self.axis.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        return log_ticks(self.low, self.high) if self.axis.log else linear_ticks(self.low, self.high)

    def label(self, value: float) -> str:
        """A tick's text."""
        return f"{value:.0%}" if self.axis.percent else short(value)


def curves(
    lines: Sequence[Sequence[tuple[float, float]]], *, across: Axis, up: Axis, title: str, mark: float | None = None
) -> str:
    """Lines through points (x, y), the first drawn full, the second broken; `mark` is a value on the x axis.

    A linear y axis begins at 0. Points that a logarithmic axis cannot show (0 and below) are left out. Fewer than two
    points give a sentence.
    """
    shown = [[p for p in line if not ((across.log and p[0] <= 0) or (up.log and p[1] <= 0))] for line in lines]
    points = [point for line in shown for point in line]
    if len(points) < 2:
        return "<p class=soft>Too few values for a curve.</p>"
    x = _scale(across, [p[0] for p in points], LEFT, WIDTH - RIGHT)
    y = _scale(up, [*([] if up.log else [0.0]), *(p[1] for p in points)], HEIGHT - BOTTOM, TOP)
    parts = [_grid_up(y), _grid_across(x)]
    if mark is not None and x.low <= mark <= x.high:
        parts.append(f'<line class=mark x1="{x.place(mark):.1f}" x2="{x.place(mark):.1f}" y1="{TOP}" y2="{y.start}"/>')
    for number, line in enumerate(shown):
        path = " ".join(f"{x.place(a):.1f},{y.place(b):.1f}" for a, b in line)
        parts.append(f'<polyline class="curve{" second" if number else ""}" points="{path}"/>')
    return _svg(parts, across.name, up.name, title)


def bars(values: Sequence[tuple[str, int]], *, across: str, up: str, title: str) -> str:
    """A bar for each (name, number), names below; names give way where there is no room for all."""
    if not any(number for _, number in values):
        return "<p class=soft>Nothing to count.</p>"
    y = _scale(Axis(up), [0, *(number for _, number in values)], HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / len(values)
    every = math.ceil(len(values) / 12)
    parts = [_grid_up(y)]
    for place, (name, number) in enumerate(values):
        left, top = LEFT + step * (place + (1 - BAR_SHARE) / 2), y.place(number)
        parts.append(
            f'<rect class=bar x="{left:.1f}" y="{top:.1f}" width="{step * BAR_SHARE:.1f}" '
            f'height="{y.start - top:.1f}"><title>{plain(name)}: {number:,}</title></rect>'
        )
        if place % every == 0:
            parts.append(_text(LEFT + step * (place + 0.5), HEIGHT - BOTTOM + 20, name))
    return _svg(parts, across, up, title)


def thinned(count: int) -> list[int]:
    """At most `MAX_POINTS` of the places 0..count - 1, the first and the last among them, dense at the beginning.

    Evenly spread on a logarithmic axis, for curves over ranks and thresholds.
    """
    if count < 1:
        return []
    places: list[int] = (np.unique(np.geomspace(1, count, MAX_POINTS).round().astype(int)) - 1).tolist()
    return places


def linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high: 3 to 7 of them."""
    rough = (high - low) / 6
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high; where there are fewer than three, also twice and five times as much."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [10.0**p for p in powers if low <= 10.0**p <= high * (1 + 1e-9)]
    if len(inside) >= 3:
        return inside
    return [times * 10.0**p for p in powers for times in (1, 2, 5) if low <= times * 10.0**p <= high * (1 + 1e-9)]


def short(value: float) -> str:
    """1234567 -> "1.2M"; 500 -> "500"; 0.25 -> "0.25"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.99995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    if axis.percent:
        return Scale(axis, 0.0, 1.0, start, end)
    low, high = min(values), max(values)
    if not axis.log:
        high += (high - low) * HEADROOM
    if low == high:
        low, high = (low / 2, high * 2) if axis.log else (low - 0.5, high + 0.5)
    return Scale(axis, low, high, start, end)


def _grid_up(y: Scale) -> str:
    return "".join(
        f'<line class=grid x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.place(tick):.1f}" y2="{y.place(tick):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y.place(tick) + 4:.1f}" text-anchor="end">{y.label(tick)}</text>'
        for tick in y.ticks()
    )


def _grid_across(x: Scale) -> str:
    base = HEIGHT - BOTTOM
    return "".join(
        f'<line class=grid x1="{x.place(tick):.1f}" x2="{x.place(tick):.1f}" y1="{TOP}" y2="{base}"/>'
        f"{_text(x.place(tick), base + 20, x.label(tick))}"
        for tick in x.ticks()
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{plain(text)}</text>'


def _svg(parts: Iterable[str], across: str, up: str, title: str) -> str:
    return (
        f'<svg class=chart viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{plain(title)}">{"".join(parts)}'
        f"{_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 11, across)}"
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{plain(up)}</text></svg>"
    )
