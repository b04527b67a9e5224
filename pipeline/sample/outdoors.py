"""Buildings, clothes, toys and instruments, drawn with a pen.

In: a pen at the thing's place. Out: paint.
"""

from __future__ import annotations

import math

from pipeline.sample.pen import BLACK, WHITE, Pen, shade

GOLD = (240, 195, 60)


def house(pen: Pen) -> None:
    """A gabled house with a door, two windows and a chimney."""
    pen.rectangle(0.38, -0.9, 0.58, -0.4, (150, 80, 65))
    pen.rectangle(-0.72, -0.15, 0.72, 0.85, pen.colour)
    pen.polygon([(-0.95, -0.12), (0, -0.88), (0.95, -0.12)], (165, 65, 50))
    pen.rectangle(-0.15, 0.3, 0.15, 0.85, (105, 68, 40))
    for left in (-0.58, 0.3):
        pen.rectangle(left, 0.1, left + 0.28, 0.4, (180, 220, 240))
        pen.line([(left + 0.14, 0.1), (left + 0.14, 0.4)], 0.035, WHITE)


def lighthouse(pen: Pen) -> None:
    """A striped tower under its lantern, beams lit."""
    for side in (-1, 1):
        pen.polygon([(side * 0.1, -0.68), (side * 0.98, -0.9), (side * 0.98, -0.46)], (255, 240, 160), edge=False)
    stripes = 5
    for step in range(stripes):
        top, bottom = -0.5 + 1.35 * step / stripes, -0.5 + 1.35 * (step + 1) / stripes
        upper, lower = 0.2 + 0.14 * step / stripes, 0.2 + 0.14 * (step + 1) / stripes
        stripe = pen.colour if step % 2 == 0 else WHITE
        pen.polygon([(-upper, top), (upper, top), (lower, bottom), (-lower, bottom)], stripe)
    pen.rectangle(-0.27, -0.55, 0.27, -0.47, BLACK)
    pen.rectangle(-0.16, -0.8, 0.16, -0.55, (255, 235, 130))
    pen.polygon([(-0.22, -0.8), (0, -0.98), (0.22, -0.8)], pen.colour)
    pen.blob([(-0.7, 0.98), (-0.4, 0.82), (0.4, 0.82), (0.7, 0.98)], (110, 105, 100))


def traffic_light(pen: Pen) -> None:
    """Three lamps on a post, one of them lit brightest."""
    pen.rectangle(-0.08, 0.4, 0.08, 0.98, (95, 98, 102))
    pen.rectangle(-0.34, -0.95, 0.34, 0.5, (48, 50, 54))
    lit = int(3 * pen.chance.random())
    for step, lamp in enumerate(((230, 45, 40), (250, 195, 40), (50, 200, 85))):
        pen.dot(0, -0.68 + 0.45 * step, 0.2, lamp if step == lit else shade(lamp, 0.6))


def umbrella(pen: Pen) -> None:
    """An open canopy in two tones over a hooked handle."""
    cloth = pen.colour
    pen.line([(0, -0.9), (0, 0.7)], 0.07, (85, 65, 50))
    pen.ring(0.14, 0.72, 0.14, 0.07, (85, 65, 50), part=(0, 180))
    arch = [(math.cos(math.radians(turn)), math.sin(math.radians(turn))) for turn in range(180, 361, 15)]
    hem = [(0.65, -0.05), (0.33, 0.08), (0, -0.05), (-0.33, 0.08), (-0.65, -0.05)]
    pen.polygon([(0.97 * x, 0.08 + 0.85 * y) for x, y in arch] + hem, cloth)
    pen.blob([(0, -0.77), (0.25, -0.4), (0.33, 0.06), (0, -0.05), (-0.33, 0.06), (-0.25, -0.4)], shade(cloth, 1.45))


def hat(pen: Pen) -> None:
    """A tall crown with a band above a wide brim."""
    felt = pen.colour
    pen.oval(0, 0.5, 0.98, 0.2, felt)
    pen.blob(
        [(-0.52, 0.48), (-0.46, -0.45), (-0.2, -0.58), (0, -0.46), (0.2, -0.58), (0.46, -0.45), (0.52, 0.48)], felt
    )
    pen.polygon([(-0.52, 0.18), (0.52, 0.18), (0.54, 0.44), (-0.54, 0.44)], shade(felt, 0.4))


def crown(pen: Pen) -> None:
    """Five gold points with jewels."""
    points = [
        (-0.8, 0.6),
        (-0.95, -0.4),
        (-0.5, 0.1),
        (-0.42, -0.6),
        (0, 0.0),
        (0.42, -0.6),
        (0.5, 0.1),
        (0.95, -0.4),
        (0.8, 0.6),
    ]
    pen.polygon(points, GOLD)
    pen.rectangle(-0.8, 0.36, 0.8, 0.65, shade(GOLD, 0.85))
    for x, y in ((-0.95, -0.45), (-0.42, -0.65), (0.42, -0.65), (0.95, -0.45)):
        pen.oval(x * 0.97, y, 0.1, 0.1, (225, 60, 75))
    for x, jewel in ((-0.45, (60, 120, 210)), (0.0, (215, 40, 60)), (0.45, (60, 170, 90))):
        pen.oval(x, 0.5, 0.11, 0.09, jewel)


def guitar(pen: Pen) -> None:
    """A waisted body with a sound hole, neck and head."""
    wood = pen.colour
    pen.rectangle(-0.08, -0.8, 0.08, 0.1, (70, 45, 30))
    pen.polygon([(-0.14, -1.0), (0.14, -1.0), (0.1, -0.76), (-0.1, -0.76)], (70, 45, 30))
    half = [(0, 0.98), (0.42, 0.88), (0.5, 0.6), (0.28, 0.35), (0.36, 0.08), (0.22, -0.06)]
    pen.blob([*half, *[(-x, y) for x, y in reversed(half[1:])]], wood)
    pen.oval(0, 0.3, 0.15, 0.15, (45, 30, 22))
    pen.rectangle(-0.22, 0.66, 0.22, 0.74, (60, 38, 25))
    for x in (-0.04, 0.04):
        pen.line([(x, -0.9), (x, 0.7)], 0.018, (235, 230, 215))


def balloon(pen: Pen) -> None:
    """A shiny toy balloon on its string."""
    rubber = pen.colour
    pen.curve([(0, 0.4), (0.1, 0.6), (-0.08, 0.8), (0.03, 1.0)], 0.03, (95, 95, 95))
    pen.blob(
        [(0, -0.98), (0.45, -0.75), (0.55, -0.3), (0.3, 0.15), (0, 0.34), (-0.3, 0.15), (-0.55, -0.3), (-0.45, -0.75)],
        rubber,
    )
    pen.polygon([(-0.1, 0.45), (0.1, 0.45), (0, 0.3)], rubber)
    pen.oval(-0.25, -0.55, 0.1, 0.2, shade(rubber, 1.7), turn=25, edge=False)


def soccer_ball(pen: Pen) -> None:
    """White panels around black pentagons."""
    pen.oval(0, 0, 0.92, 0.92, WHITE)
    turns = [math.tau * step / 5 - math.pi / 2 for step in range(5)]
    pen.polygon([(0.33 * math.cos(turn), 0.33 * math.sin(turn)) for turn in turns], BLACK)
    for turn in turns:
        x, y = math.cos(turn), math.sin(turn)
        pen.line([(0.33 * x, 0.33 * y), (0.62 * x, 0.62 * y)], 0.05, BLACK)
        spread = ((0.62, 0.0), (0.74, 0.3), (0.9, 0.22), (0.9, -0.22), (0.74, -0.3))
        pen.polygon([(r * math.cos(turn + by), r * math.sin(turn + by)) for r, by in spread], BLACK)


def baseball_bat(pen: Pen) -> None:
    """A tapering wooden club with a taped grip, beside its ball."""
    wood = pen.colour
    pen.polygon(
        [
            (-0.9, -0.05),
            (-0.2, -0.07),
            (0.4, -0.19),
            (0.9, -0.2),
            (0.98, 0),
            (0.9, 0.2),
            (0.4, 0.19),
            (-0.2, 0.07),
            (-0.9, 0.05),
        ],
        wood,
    )
    pen.rectangle(-0.88, -0.07, -0.5, 0.07, BLACK)
    pen.oval(-0.93, 0, 0.06, 0.13, wood)
    pen.oval(0.3, 0.52, 0.24, 0.24, WHITE)
    pen.ring(0.06, 0.52, 0.2, 0.04, (205, 50, 50), part=(-45, 45))
