"""A treemap as inline SVG: rectangles whose areas are numbers, as near to squares as they can be.

In: tiles, the largest first. Out: an <svg> element, or the rectangles alone for other drawings. The layout is
that of Bruls, Huizing and van Wijk, Squarified Treemaps (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vocab.pages.charts import harmless

GAP = 1.0
"""space around a tile"""
LETTER = 0.6
"""mean width of a letter over its height"""
MAX_LETTERS, MIN_LETTERS = 26.0, 8.5
"""font sizes of labels; a tile without room for the smallest has none"""


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
    """Tiles laid out by `squarify`; `name` is a second class of the <svg> element."""
    drawn = "".join(
        _drawn(tile, rectangle)
        for tile, rectangle in zip(tiles, squarify([t.size for t in tiles], width, height), strict=True)
    )
    return Markup(
        f'<svg class="treemap {name}" viewBox="0 0 {width} {height}" role="img" aria-label="{harmless(title)}">'
        f"{drawn}</svg>"
    )


def _drawn(tile: Tile, at: Rectangle) -> str:
    width, height = max(0.0, at.width - 2 * GAP), max(0.0, at.height - 2 * GAP)
    letters = min(MAX_LETTERS, (width - 8) / (LETTER * max(1, len(tile.label))), (height - 4) / 1.25)
    text = ""
    if letters >= MIN_LETTERS:
        text = (
            f'<text x="{at.x + at.width / 2:.1f}" y="{at.y + at.height / 2 + letters * 0.35:.1f}" '
            f'font-size="{letters:.1f}" text-anchor="middle">{harmless(tile.label)}</text>'
        )
    return (
        f'<g class="tile {tile.kind}"><title>{harmless(tile.title)}</title><rect x="{at.x + GAP:.1f}" '
        f'y="{at.y + GAP:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>{text}</g>'
    )
