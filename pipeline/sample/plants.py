"""Plants and fruit, drawn with a pen."""

from __future__ import annotations

import math

from pipeline.sample.pen import RGB, WHITE, Pen, shade, symmetric

BARK: RGB = (115, 78, 45)


def apple(pen: Pen) -> None:
    """A round fruit with a stalk and one leaf."""
    skin = pen.colour
    pen.blob(symmetric([(0, -0.42), (0.4, -0.6), (0.85, -0.35), (0.85, 0.25), (0.45, 0.85), (0, 0.78)]), skin)
    pen.oval(-0.42, -0.15, 0.13, 0.22, shade(skin, 1.6), turn=20, edge=False)
    pen.curve([(0, -0.42), (0.03, -0.7), (0.12, -0.92)], 0.08, (95, 60, 35))
    pen.blob([(0.1, -0.7), (0.35, -0.95), (0.62, -0.8), (0.38, -0.66)], (80, 160, 60))


def banana(pen: Pen) -> None:
    """A yellow crescent with dark ends."""
    skin = (248, 215, 60)
    pen.blob(
        [(-0.95, -0.4), (-0.55, 0.2), (0.1, 0.42), (0.75, 0.1), (0.95, -0.35), (0.92, 0.2), (0.45, 0.72), (-0.3, 0.78),
         (-0.85, 0.3)], skin,
    )  # fmt: skip
    pen.curve([(-0.85, -0.1), (-0.45, 0.5), (0.15, 0.6), (0.75, 0.3)], 0.04, shade(skin, 0.7))
    pen.line([(-0.95, -0.45), (-0.9, -0.25)], 0.14, (90, 70, 35))
    pen.line([(0.94, -0.38), (0.94, -0.22)], 0.09, (90, 70, 35))


def mushroom(pen: Pen) -> None:
    """A spotted cap on a pale stem."""
    pen.blob([(-0.2, 0.0), (0.2, 0.0), (0.22, 0.6), (0.34, 0.92), (-0.34, 0.92), (-0.22, 0.6)], (240, 228, 205))
    pen.blob(symmetric([(0, -0.82), (0.6, -0.6), (0.92, 0.02), (0.4, 0.12)]), pen.colour)
    for x, y, radius in ((-0.5, -0.22, 0.14), (0.05, -0.5, 0.16), (0.5, -0.2, 0.13), (0.02, -0.1, 0.1)):
        pen.dot(x, y, radius, WHITE)


def tree(pen: Pen) -> None:
    """A trunk under a round crown of leaves."""
    pen.polygon([(-0.12, 0.98), (-0.09, 0.1), (0.09, 0.1), (0.14, 0.98)], BARK)
    crown = pen.colour
    for x, y, radius in ((-0.4, 0.0, 0.38), (0.4, 0.0, 0.38), (-0.25, -0.42, 0.4), (0.28, -0.42, 0.4), (0, -0.6, 0.36)):
        pen.oval(x, y, radius, radius, crown)
    pen.oval(0, -0.2, 0.5, 0.42, crown, edge=False)
    for _ in range(5):
        pen.dot(1.0 * (pen.chance.random() - 0.5), -0.25 + 0.8 * (pen.chance.random() - 0.5), 0.07, shade(crown, 1.35))


def leaf(pen: Pen) -> None:
    """A broad pointed leaf with its veins."""
    blade = pen.colour
    pen.line([(0, 0.5), (0.05, 1.0)], 0.08, shade(blade, 0.55))
    pen.blob(symmetric([(0, -0.98), (0.35, -0.6), (0.6, -0.1), (0.5, 0.4), (0, 0.65)]), blade)
    pen.line([(0, -0.85), (0, 0.6)], 0.05, shade(blade, 0.55))
    for y in (-0.4, -0.05, 0.3):
        for side in (-1, 1):
            pen.line([(0, y + 0.12), (side * 0.38, y - 0.12)], 0.035, shade(blade, 0.55))


def sunflower(pen: Pen) -> None:
    """A dark disc in a wreath of yellow petals, on a stem."""
    pen.curve([(0, 0), (0.06, 0.5), (0, 0.98)], 0.1, (70, 135, 50))
    pen.blob([(0.02, 0.75), (0.3, 0.45), (0.62, 0.5), (0.4, 0.75)], (80, 150, 60))
    for step in range(14):
        turn = math.tau * step / 14
        x, y = 0.44 * math.cos(turn), -0.36 + 0.44 * math.sin(turn)
        pen.oval(x, y, 0.2, 0.095, (250, 200, 30), turn=math.degrees(turn))
    pen.oval(0, -0.36, 0.3, 0.3, (95, 58, 30))
    pen.dot(0, -0.36, 0.15, (65, 38, 22))


def cactus(pen: Pen) -> None:
    """A ribbed column with two arms, in a pot or in sand."""
    flesh, rib = (70, 145, 80), (45, 105, 55)
    for side, height in ((-1, 0.0), (1, -0.2)):
        pen.line([(0, height + 0.3), (side * 0.55, height + 0.3), (side * 0.55, height - 0.2)], 0.24, flesh)
        pen.dot(side * 0.55, height - 0.2, 0.12, flesh)
        pen.dot(side * 0.55, height + 0.3, 0.12, flesh)
    pen.blob([(-0.2, 0.9), (-0.22, -0.6), (0, -0.95), (0.22, -0.6), (0.2, 0.9)], flesh)
    for x in (-0.09, 0.09):
        pen.line([(x, -0.7), (x, 0.85)], 0.03, rib)
    for step in range(6):
        pen.line([(-0.28, -0.5 + 0.24 * step), (-0.18, -0.52 + 0.24 * step)], 0.025, WHITE)
        pen.line([(0.28, -0.6 + 0.24 * step), (0.18, -0.62 + 0.24 * step)], 0.025, WHITE)
    pen.polygon([(-0.4, 0.68), (0.4, 0.68), (0.3, 0.98), (-0.3, 0.98)], (190, 95, 55))
