"""Accuracy while towers were pre-trained: what the paper's Figure 4 is drawn from.

In: a curves.json. Out: `Point`s by side.

    {"side": {"catlip": [{"epoch": 1.0, "seconds": 61.5, "images": 20000, "accuracy": 0.21, "seed": 0}, ...],
              "clip": [...]},
     "same_time": {"clip": [...]}}

`side`: towers that saw the same images. `same_time`, which may be left out: CLIP trained anew, for so long as CatLIP
took. Further entries are left alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocab.errors import FormatError

SIDES = {"catlip": "CatLIP", "clip": "CLIP"}
FORM = '{"side": {"catlip": [...], "clip": [...]}}, each a list of epoch, seconds, images, accuracy and seed'


@dataclass(frozen=True)
class Point:
    """A probe of a tower that is being trained."""

    seed: int
    epoch: float
    """times that every image was seen"""
    seconds: float
    """spent on training"""
    images: int
    """seen, those seen again included"""
    accuracy: float
    """a share, 0 to 1"""


@dataclass(frozen=True)
class Curves:
    """All probes, by side: "catlip" and "clip"."""

    side: Mapping[str, tuple[Point, ...]]
    same_time: Mapping[str, tuple[Point, ...]]
    """nothing where it was not trained"""


def read_curves(path: Path) -> Curves:
    """The content of a curves.json. Raises FormatError for a file that holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        side = {name: _points(content["side"][name]) for name in SIDES}
        same_time = {name: _points(points) for name, points in content.get("same_time", {}).items() if name in SIDES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            path, found=f"no curves ({error!r})", wanted=FORM, remedy="python benchmarks/transfer.py writes one."
        ) from error
    return Curves(side, same_time)


def by_seed(points: tuple[Point, ...]) -> dict[int, list[Point]]:
    """The curve of each seed, from its beginning."""
    curves: dict[int, list[Point]] = {}
    for point in sorted(points, key=lambda point: (point.seed, point.images)):
        curves.setdefault(point.seed, []).append(point)
    return curves


def _points(values: Any) -> tuple[Point, ...]:
    """Points as a file has them. Raises what using a file of another form raises."""
    if not values:
        raise ValueError("a side without a point")
    points = []
    for value in values:
        epoch, seconds, accuracy = (float(value[name]) for name in ("epoch", "seconds", "accuracy"))
        if not all(map(math.isfinite, (epoch, seconds, accuracy))):
            raise ValueError(f"{value}, which holds no numbers")
        points.append(Point(int(value["seed"]), epoch, seconds, int(value["images"]), accuracy))
    return tuple(points)
