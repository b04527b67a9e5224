"""Food, drawn with a pen.

In: a pen at the dish's place. Out: paint.
"""

from __future__ import annotations

import math

from pipeline.sample.pen import RGB, WHITE, Pen, shade

CRUST: RGB = (205, 145, 75)


def pizza(pen: Pen) -> None:
    """A whole pizza from above, cut in slices."""
    pen.oval(0, 0, 0.95, 0.95, CRUST)
    pen.oval(0, 0, 0.8, 0.8, (245, 205, 90), edge=False)
    start = pen.chance.random() * math.tau
    for step in range(9):
        turn, reach = start + step * 2.4, 0.2 + 0.42 * math.sqrt(step / 8)
        pen.oval(reach * math.cos(turn), reach * math.sin(turn), 0.14, 0.14, (195, 50, 40))
        pen.dot(reach * math.cos(turn + 1.2), reach * math.sin(turn + 1.2), 0.055, (60, 125, 50))
    for step in range(4):
        x, y = 0.93 * math.cos(start + step * math.pi / 4), 0.93 * math.sin(start + step * math.pi / 4)
        pen.line([(-x, -y), (x, y)], 0.03, (165, 110, 50))


def apple(pen: Pen) -> None:
    """A round fruit with a stalk and one leaf."""
    skin = pen.colour
    half = ((0, -0.42), (0.4, -0.6), (0.85, -0.35), (0.85, 0.25), (0.45, 0.85))
    pen.blob([*half, (0, 0.78), *[(-x, y) for x, y in reversed(half[1:])]], skin)
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


def hot_dog(pen: Pen) -> None:
    """A sausage in a bun under a wave of mustard."""
    bun = (222, 165, 95)
    pen.blob([(-0.9, 0.0), (-0.7, -0.42), (0.7, -0.42), (0.9, 0.0), (0.6, 0.2), (-0.6, 0.2)], shade(bun, 0.85))
    pen.blob([(-0.98, 0.0), (-0.8, -0.2), (0.8, -0.2), (0.98, 0.0), (0.8, 0.2), (-0.8, 0.2)], (175, 70, 45))
    pen.blob([(-0.88, 0.12), (0, 0.2), (0.88, 0.12), (0.75, 0.5), (0, 0.56), (-0.75, 0.5)], bun)
    wave = [(-0.75 + 0.15 * step, -0.04 + (0.09 if step % 2 else -0.09)) for step in range(11)]
    pen.curve(wave, 0.09, (250, 205, 40))


def ice_cream(pen: Pen) -> None:
    """Two scoops on a wafer cone."""
    wafer = (220, 165, 90)
    pen.polygon([(-0.42, 0.0), (0.42, 0.0), (0, 0.98)], wafer)
    for shift in (-0.2, 0.0, 0.2):
        pen.line([(shift - 0.15, 0.05), (shift * 0.5 + 0.1, 0.6)], 0.03, shade(wafer, 0.65))
        pen.line([(shift + 0.15, 0.05), (shift * 0.5 - 0.1, 0.6)], 0.03, shade(wafer, 0.65))
    pen.oval(0, -0.12, 0.52, 0.36, pen.colour)
    pen.oval(0, -0.55, 0.4, 0.38, shade(pen.colour, 1.4))
    pen.dot(0.05, -0.92, 0.09, (200, 30, 45))


def loaf(pen: Pen) -> None:
    """A loaf of bread in profile, scored along its top."""
    pen.blob(
        [
            (-0.95, 0.3),
            (-0.85, -0.25),
            (-0.4, -0.45),
            (0.4, -0.45),
            (0.85, -0.25),
            (0.95, 0.3),
            (0.7, 0.5),
            (-0.7, 0.5),
        ],
        (190, 120, 60),
    )
    pen.line([(-0.75, 0.45), (0.75, 0.45)], 0.08, (150, 90, 45))
    for x in (-0.5, -0.1, 0.3):
        pen.curve([(x - 0.06, 0.05), (x + 0.08, -0.12), (x + 0.16, -0.34)], 0.11, (240, 205, 150))
    pen.dot(-0.7, 0.1, 0.05, WHITE)
