"""Line charts, histograms and treemaps as inline SVG: no plotting library, no script, nothing fetched.

Colours are in style.css, by the classes `chart`, `grid`, `curve`, `c0` to `c3`, `broken`, `bar`, `mark`, and `tile`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vocab.pages.text import shown

Points = Sequence[tuple[float, float]]
"""(x, y), by ascending x"""

SIZE = 480, 320
"""width and height of a chart in its own units"""
LEFT, RIGHT, TOP, BOTTOM = 72, 18, 16, 58
MAX_PLACES = 300
"""ranks or thresholds that `log_spaced` takes of many"""
BUCKETS = 480
"""stretches of a long line that keep two points each: more points than pixels only make the page heavy"""
TICKS = 4
LEAST = 1e-30
"""values of a logarithmic axis that are not above this count as zero"""
NEAR_ZERO = 0.7
"""an axis starts at 0 unless its least value is above this share of the greatest"""
HEADROOM = 0.05
"""share of a y axis left free beyond the values"""
BAR_SHARE = 0.8
"""share of its slot that a bar fills"""
MAX_BAR_NAMES = 12
PLAIN_FROM, PLAIN_TO = 1e-2, 1e7
"""numbers between these are written out, others as 1.2e-6, for want of room beside an axis"""
TILE_GAP = 1.0
"""space around a tile of a treemap"""
LETTER_WIDTH = 0.6
"""mean width of a letter over its height"""
MAX_LETTERS, MIN_LETTERS = 26.0, 8.5
"""font sizes of labels; a tile without room for the smallest has none"""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart."""

    name: str
    log: bool = False
    percent: bool = False
    """write 0.25 as 25%"""
    abbreviated: bool = False
    """write 1,200,000 as 1.2M"""
    ends: tuple[float, float] | None = None
    """least and greatest value that it shows; by default those of the data"""

    def text(self, value: float) -> str:
        """Value as a tick or a legend shows it."""
        if self.percent:
            return f"{100 * value:.3g}%"
        return abbreviated(value) if self.abbreviated else written_out(value)


@dataclass(frozen=True)
class _Scale:
    """Linear or logarithmic map from values along an axis to positions in the drawing."""

    axis: Axis
    low: float
    high: float
    start: float
    """position of `low`"""
    end: float
    """position of `high`"""

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.axis.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        return log_ticks(self.low, self.high) if self.axis.log else ticks(self.low, self.high)


def drawable(points: Points, *, across: Axis, up: Axis) -> list[tuple[float, float]]:
    """Points without those that a logarithmic axis cannot show."""
    return [(x, y) for x, y in points if (x > LEAST or not across.log) and (y > LEAST or not up.log)]


def line_chart(
    lines: Sequence[Points],
    *,
    across: Axis,
    up: Axis,
    title: str,
    size: tuple[int, int] = SIZE,
    mark: float | None = None,
    dots: bool = False,
    broken: bool = False,
) -> Markup:
    """Lines through `drawable` points; a sentence where there are fewer than two of them.

    `mark`: an x value with a dotted line. `dots`: show each point. `broken`: draw all lines but the first with gaps.
    """
    kept = [thinned(drawable(line, across=across, up=up)) for line in lines]
    points = [point for line in kept for point in line]
    if len(points) < 2:
        return Markup("<p class=soft>Too few values for a curve.</p>")
    width, height = size
    x = _Scale(across, *_ends_across(across, [x for x, _ in points]), LEFT, width - RIGHT)
    y = _Scale(up, *_ends_up(up, [y for _, y in points]), height - BOTTOM, TOP)
    parts = [_grid_up(y, width), _grid_across(x, height)]
    if mark is not None and x.low <= mark <= x.high:
        parts.append(f'<line class=mark x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" y2="{y.start}"/>')
    for number, line in enumerate(kept):
        colour = f"c{number}{' broken' if broken and number else ''}"
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        parts.append(f'<polyline class="curve {colour}" points="{path}"/>')
        if dots:
            parts += [f'<circle class=c{number} cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>' for a, b in line]
    return _svg(parts, across.name, up.name, title, size)


def bar_chart(values: Sequence[tuple[str, int]], *, across: str, up: str, title: str) -> Markup:
    """Bar for each (name, number), names below; names are left out where there is no room for all."""
    if not any(number for _, number in values):
        return Markup("<p class=soft>Nothing to count.</p>")
    width, height = SIZE
    axis = Axis(up, abbreviated=True)
    y = _Scale(axis, *_ends_up(axis, [0, *(number for _, number in values)]), height - BOTTOM, TOP)
    slot = (width - LEFT - RIGHT) / len(values)
    every = math.ceil(len(values) / MAX_BAR_NAMES)
    parts = [_grid_up(y, width)]
    for place, (name, number) in enumerate(values):
        left, top = LEFT + slot * (place + (1 - BAR_SHARE) / 2), y(number)
        parts.append(
            f'<rect class=bar x="{left:.1f}" y="{top:.1f}" width="{slot * BAR_SHARE:.1f}" '
            f'height="{y.start - top:.1f}"><title>{harmless(name)}: {number:,}</title></rect>'
        )
        if place % every == 0:
            parts.append(_text(LEFT + slot * (place + 0.5), height - BOTTOM + 20, name))
    return _svg(parts, across, up, title, SIZE)


def thinned(points: Points) -> list[tuple[float, float]]:
    """Lowest and highest point of each of `BUCKETS` stretches of a long line, which looks the same."""
    if len(points) <= 2 * BUCKETS:
        return list(points)
    edges = [len(points) * bucket // BUCKETS for bucket in range(BUCKETS + 1)]
    kept: list[tuple[float, float]] = []
    for first, last in itertools.pairwise(edges):
        stretch = points[first:last]
        kept += sorted({min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])})
    return kept


def log_spaced(count: int) -> list[int]:
    """At most `MAX_PLACES` of 0..count - 1, with both ends, evenly spread on a logarithmic axis of ranks."""
    if count < 1:
        return []
    places: list[int] = (np.unique(np.geomspace(1, count, MAX_PLACES).round().astype(int)) - 1).tolist()
    return places


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, some three to eight: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.6 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high; where they are few, 2 and 5 times them too, or multiples of one number."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        every = (factor * 10.0**power for power in powers for factor in factors)
        found = [value for value in every if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) >= 3:
            return found[:: -(-len(found) // (2 * TICKS))]
    return ticks(low, high)


def abbreviated(value: float) -> str:
    """1234567 -> "1.23M"; 500 -> "500"; 0.25 -> "0.25"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.99995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def written_out(value: float) -> str:
    """12.34 -> "12.3"; 4610 -> "4,610"; 0.00075 -> "7.5e-4"."""
    if value == 0 or PLAIN_FROM <= abs(value) < 1e3:
        return f"{value:.3g}"
    if 1e3 <= abs(value) < PLAIN_TO:
        return f"{value:,.0f}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def harmless(text: str) -> Markup:
    """Text as the content of an element or of a quoted attribute: escaped, hidden characters written out."""
    return Markup.escape(shown(text))


def _ends_across(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    low, high = axis.ends or (min(values), max(values))
    if low < high:
        return low, high
    return (low / 2, high * 2) if axis.log else (low, high + 1)


def _ends_up(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest value of a y axis, with room around the data."""
    if axis.ends is not None:
        return axis.ends
    low, high = min(values), max(values)
    if axis.log:
        return low * math.exp(-HEADROOM), high * math.exp(HEADROOM)
    # Rates and shares are read against zero; a curve far from zero would be a flat line there.
    low = 0.0 if 0 <= low < NEAR_ZERO * high else low
    room = max(HEADROOM * (high - low) or HEADROOM * abs(high), LEAST)
    return (low if low == 0 else low - room), high + room


def _grid_up(y: _Scale, width: int) -> str:
    return "".join(
        f'<line class=grid x1="{LEFT}" x2="{width - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{y.axis.text(tick)}</text>'
        for tick in y.ticks()
    )


def _grid_across(x: _Scale, height: int) -> str:
    base = height - BOTTOM
    return "".join(
        f'<line class=grid x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{base}"/>'
        f"{_text(x(tick), base + 20, x.axis.text(tick))}"
        for tick in x.ticks()
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{harmless(text)}</text>'


def _svg(parts: Iterable[str], across: str, up: str, title: str, size: tuple[int, int]) -> Markup:
    width, height = size
    return Markup(
        f'<svg class=chart viewBox="0 0 {width} {height}" role="img" aria-label="{harmless(title)}">{"".join(parts)}'
        f"{_text((LEFT + width - RIGHT) / 2, height - 11, across)}"
        f'<text transform="translate(16 {(TOP + height - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{harmless(up)}</text></svg>"
    )


@dataclass(frozen=True)
class Tile:
    """One rectangle to draw."""

    label: str
    title: str
    """text shown while a pointer rests on the tile"""
    size: float
    """above 0"""
    kind: str
    """class in the style sheet that gives the colour"""


@dataclass(frozen=True)
class Rectangle:
    """Position and size of a tile."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], width: float, height: float) -> list[Rectangle]:
    """Lay out a rectangle for each size, filling `width` x `height`. `sizes` are above 0, the largest first.

    The layout is that of Bruls, Huizing and van Wijk, Squarified Treemaps (2000).
    A row of tiles lies along the shorter side of the free space. It takes the next tile as long as that makes its
    least square tile more square; then the next row begins.
    """
    areas = [size * width * height / sum(sizes) for size in sizes]
    placed: list[Rectangle] = []
    x = y = 0.0
    while len(placed) < len(areas):
        start, stop = len(placed), len(placed) + 1
        side = min(width, height)
        while stop < len(areas) and _worst(areas[start : stop + 1], side) <= _worst(areas[start:stop], side):
            stop += 1
        depth = sum(areas[start:stop]) / side
        along = 0.0
        for area in areas[start:stop]:
            length = area / depth
            if width >= height:
                placed.append(Rectangle(x, y + along, depth, length))
            else:
                placed.append(Rectangle(x + along, y, length, depth))
            along += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
    return placed


def _worst(areas: Sequence[float], side: float) -> float:
    """Greatest ratio of longer to shorter side among tiles of these areas in a row along `side`."""
    depth = sum(areas) / side
    return max(max(area / depth**2, depth**2 / area) for area in areas)


def treemap(tiles: Sequence[Tile], *, width: int, height: int, title: str, name: str) -> Markup:
    """Treemap: tiles laid out by `squarify`; `name` is a second class of the <svg> element."""
    drawn = "".join(
        _tile(tile, rectangle)
        for tile, rectangle in zip(tiles, squarify([t.size for t in tiles], width, height), strict=True)
    )
    return Markup(
        f'<svg class="treemap {name}" viewBox="0 0 {width} {height}" role="img" aria-label="{harmless(title)}">'
        f"{drawn}</svg>"
    )


def _tile(tile: Tile, at: Rectangle) -> str:
    width, height = max(0.0, at.width - 2 * TILE_GAP), max(0.0, at.height - 2 * TILE_GAP)
    letters = min(MAX_LETTERS, (width - 8) / (LETTER_WIDTH * max(1, len(tile.label))), (height - 4) / 1.25)
    text = ""
    if letters >= MIN_LETTERS:
        text = (
            f'<text x="{at.x + at.width / 2:.1f}" y="{at.y + at.height / 2 + letters * 0.35:.1f}" '
            f'font-size="{letters:.1f}" text-anchor="middle">{harmless(tile.label)}</text>'
        )
    return (
        f'<g class="tile {tile.kind}"><title>{harmless(tile.title)}</title><rect x="{at.x + TILE_GAP:.1f}" '
        f'y="{at.y + TILE_GAP:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>{text}</g>'
    )
