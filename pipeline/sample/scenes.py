"""Scenes: which things an image shows, where they stand, and the painting itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from PIL import Image

from pipeline.sample.backgrounds import PLAIN, paint_background
from pipeline.sample.chance import between, cumulative, pick, pick_weighted
from pipeline.sample.kinds import COLOURS, OBJECTS, PLACES, ObjectKind, Place
from pipeline.sample.pen import Pen, Point, jitter

# Drawn this many times too large and averaged down: antialiasing.
SUPERSAMPLING = 3

# Zipf's law, flattened at the head so that the rarest kind is still in about 1 % of the images.
FREQUENCIES = cumulative((rank + 6) ** -1.15 for rank in range(len(OBJECTS)))
HOW_MANY_KINDS = ((1, 2, 3, 4), cumulative((0.5, 0.29, 0.14, 0.07)))
HOW_MANY_OF_ONE = ((1, 2, 3, 4), cumulative((0.68, 0.16, 0.11, 0.05)))

Box = tuple[int, int, int, int]


class ObjectGroup(NamedTuple):
    """Some objects of one kind and one colour; the colour is empty where the kind has its own."""

    kind: ObjectKind
    number: int
    colour: str


class Scene(NamedTuple):
    """Contents of an image: its objects, and its background, which is a place if it has a synset."""

    groups: tuple[ObjectGroup, ...]
    place: Place | None
    background: str

    @property
    def synsets(self) -> list[int]:
        """The truth: every noun offset drawn, ascending and unique."""
        drawn = {group.kind.synset for group in self.groups}
        if self.place is not None:
            drawn.add(self.place.synset)
        return sorted(drawn)

    @property
    def kinds(self) -> list[str]:
        """The names of all kinds drawn, objects first."""
        return [group.kind.name for group in self.groups] + ([self.place.name] if self.place else [])


class Picture(NamedTuple):
    """A painted scene: one (kind, left, top, right, bottom in pixels) for every object."""

    image: Image.Image
    boxes: list[tuple[ObjectKind, Box]]


def compose(chance: Random) -> Scene:
    """A scene of one to four objects, common kinds more often than rare ones."""
    wanted = pick_weighted(chance, *HOW_MANY_KINDS)
    kinds = [pick_weighted(chance, OBJECTS, FREQUENCIES)]
    while len(kinds) < wanted:
        kind = pick_weighted(chance, OBJECTS, FREQUENCIES)
        if kind not in kinds:
            kinds.append(kind)
    # Four objects fill an image, so only the first kind may come in numbers.
    number = min(pick_weighted(chance, *HOW_MANY_OF_ONE), 5 - wanted)
    groups = [_group(chance, kind, number if kind is kinds[0] else 1) for kind in kinds]
    place, background = _place(chance)
    return Scene(tuple(groups), place, background)


def compose_one(chance: Random, kind: ObjectKind) -> Scene:
    """A scene of one object of the kind."""
    return Scene((_group(chance, kind, 1),), *_place(chance))


def _group(chance: Random, kind: ObjectKind, count: int) -> ObjectGroup:
    return ObjectGroup(kind, count, pick(chance, kind.colours) if kind.colours else "")


def _place(chance: Random) -> tuple[Place | None, str]:
    if chance.random() < 0.55:
        place = pick(chance, PLACES)
        return place, place.name
    return None, pick(chance, PLAIN)


def paint(scene: Scene, *, size: int, chance: Random) -> Picture:
    """Paint the scene as a square image of size pixels."""
    side = size * SUPERSAMPLING
    image = paint_background(scene.background, side, chance)
    groups = [group for group in scene.groups for _ in range(group.number)]
    boxes = []
    for group, (centre, reach) in zip(groups, _spots(len(groups), chance), strict=True):
        named = COLOURS[group.colour] if group.colour else (200, 160, 120)
        lean = math.radians(between(chance, -group.kind.tilt, group.kind.tilt))
        pen = Pen(
            image,
            centre=(centre[0] * side, centre[1] * side),
            scale=reach * side,
            angle=lean,
            mirrored=chance.random() < 0.5,
            colour=jitter(named, chance),
            chance=chance,
        )
        group.kind.draw(pen)
        boxes.append((group.kind, _visible_box(pen, size)))
    return Picture(image.reduce(SUPERSAMPLING), boxes)


def _visible_box(pen: Pen, size: int) -> Box:
    left, top, right, bottom = (value / SUPERSAMPLING for value in pen.box)
    return max(0, int(left)), max(0, int(top)), min(size, math.ceil(right)), min(size, math.ceil(bottom))


def _spots(count: int, chance: Random) -> Sequence[tuple[Point, float]]:
    """Centres and half sizes, as shares of the side, that keep objects from covering each other."""
    match count:
        case 1:
            centres, low, high = [(0.5, 0.52)], 0.26, 0.46
        case 2:
            # Side by side, or the second one lower in front.
            drop = between(chance, 0.0, 0.2)
            centres, low, high = [(0.28, 0.5 - drop), (0.72, 0.5 + drop)], 0.2, 0.27
        case 3:
            apex = pick(chance, (0.28, 0.72))
            centres, low, high = [(0.25, 1 - apex), (0.75, 1 - apex), (0.5, apex)], 0.18, 0.24
        case _:
            centres, low, high = [(0.26, 0.27), (0.74, 0.27), (0.26, 0.74), (0.74, 0.74)], 0.17, 0.23
    spots = []
    for x, y in sorted(centres, key=lambda _: chance.random()):
        reach = between(chance, low, high)
        room = max(0.02, 0.5 - reach) * (0.8 if count == 1 else 0.15)
        spots.append(((x + between(chance, -room, room), y + between(chance, -room, room)), reach))
    return spots
