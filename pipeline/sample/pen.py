"""A pen that draws one object in the object's own coordinates.

These run from about -1 to 1, x to the right and y down, so a drawing knows nothing of the scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]

BLACK: RGB = (30, 28, 32)
WHITE: RGB = (248, 248, 245)

# Six points of a spline per given point, and 28 of a circle: below 200 px no corner shows.
SPLINE_STEPS = 6
CIRCLE = [(math.cos(math.tau * i / 28), math.sin(math.tau * i / 28)) for i in range(28)]
SPLINE = [
    (
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (t**3 - t**2),
    )
    for t in (step / SPLINE_STEPS for step in range(SPLINE_STEPS))
]


def shade(colour: RGB, factor: float) -> RGB:
    """Darker for a factor below 1, lighter above it (2 is white)."""
    r, g, b = (int(value * factor if factor <= 1 else 255 - (255 - value) * (2 - factor)) for value in colour)
    return r, g, b


def jitter(colour: RGB, chance: Random, amount: float = 18) -> RGB:
    """A neighbour of the colour, each channel moved by at most the amount."""
    r, g, b = (min(255, max(0, round(value + (2 * chance.random() - 1) * amount))) for value in colour)
    return (r, g, b)


def catmull_rom(points: Sequence[Point], *, closed: bool) -> list[Point]:
    """A smooth curve through the points (Catmull and Rom, 1974, uniform knots)."""
    n = len(points)
    curve: list[Point] = []
    for i in range(n if closed else n - 1):
        # An open curve repeats its ends, a closed one wraps around.
        near = (i - 1, i, i + 1, i + 2) if closed else (max(i - 1, 0), i, i + 1, min(i + 2, n - 1))
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (points[k % n] for k in near)
        curve += [(a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3) for a, b, c, d in SPLINE]
    return curve if closed else [*curve, points[-1]]


def symmetric(half: Sequence[Point]) -> list[Point]:
    """A shape from the points of its right half: these, and back on the left the mirrored ones."""
    return [*half, *[(-x, y) for x, y in reversed(half) if x != 0]]


class Pen:
    """Draws one object; `colour` is its main colour and `chance` decides its small variations."""

    def __init__(
        self,
        image: Image.Image,
        *,
        centre: Point,
        scale: float,
        angle: float,
        mirrored: bool,
        colour: RGB,
        chance: Random,
    ) -> None:
        self.colour = colour
        self.chance = chance
        self._draw = ImageDraw.Draw(image)
        self._centre = centre
        self._scale = scale
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        self._matrix = (-cos if mirrored else cos, -sin, -sin if mirrored else sin, cos)
        self._low: Point = (math.inf, math.inf)
        self._high: Point = (-math.inf, -math.inf)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of all paint so far, in pixels of the image."""
        return (*self._low, *self._high)

    def polygon(self, points: Sequence[Point], fill: RGB, *, edge: bool = True) -> None:
        """A filled polygon; its edge is a dark line that keeps a white goose visible on snow."""
        placed = self._place(points)
        self._draw.polygon(placed, fill=fill)
        if edge:
            self._draw.line([*placed, placed[0]], fill=shade(fill, 0.45), width=self._width(0.035))

    def blob(self, points: Sequence[Point], fill: RGB, *, edge: bool = True) -> None:
        """A filled smooth shape through the points."""
        self.polygon(catmull_rom(points, closed=True), fill, edge=edge)

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: RGB, *, turn: float = 0.0, edge: bool = True
    ) -> None:
        """A filled ellipse around (x, y), turned by degrees."""
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        points = [(x + rx * u * cos - ry * v * sin, y + rx * u * sin + ry * v * cos) for u, v in CIRCLE]
        self.polygon(points, fill, edge=edge)

    def dot(self, x: float, y: float, radius: float, fill: RGB) -> None:
        """A small disc without an edge."""
        self.oval(x, y, radius, radius, fill, edge=False)

    def rectangle(self, left: float, top: float, right: float, bottom: float, fill: RGB, *, edge: bool = True) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, edge=edge)

    def line(self, points: Sequence[Point], width: float, fill: RGB, *, edge: bool = False) -> None:
        """A line through the points, as wide as width in the object's own units."""
        placed = self._place(points, margin=width / 2)
        if edge:
            self._draw.line(placed, fill=shade(fill, 0.45), width=self._width(width + 0.06), joint="curve")
        self._draw.line(placed, fill=fill, width=self._width(width), joint="curve")

    def curve(self, points: Sequence[Point], width: float, fill: RGB) -> None:
        """A smooth line through the points."""
        self.line(catmull_rom(points, closed=False), width, fill)

    def ring(
        self,
        x: float,
        y: float,
        radius: float,
        width: float,
        fill: RGB,
        *,
        part: tuple[float, float] = (0, 360),
        edge: bool = False,
    ) -> None:
        """A circle's line around (x, y), or the part of it between two angles in degrees, clockwise from the right."""
        start, end = part
        turns = [math.radians(start + (end - start) * i / 24) for i in range(25)]
        self.line(
            [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns], width, fill, edge=edge
        )

    def _place(self, points: Iterable[Point], *, margin: float = 0.0) -> list[Point]:
        """The points in pixels; the box grows to hold them with the margin that a wide line needs."""
        (cx, cy), (a, b, c, d), room = self._centre, self._matrix, margin * self._scale
        placed = [(cx + a * x + b * y, cy + c * x + d * y) for x, y in points]
        xs, ys = [x for x, _ in placed], [y for _, y in placed]
        self._low = (min(self._low[0], min(xs) - room), min(self._low[1], min(ys) - room))
        self._high = (max(self._high[0], max(xs) + room), max(self._high[1], max(ys) + room))
        return placed

    def _width(self, width: float) -> int:
        return max(1, round(width * self._scale))
