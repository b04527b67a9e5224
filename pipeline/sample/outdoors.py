"""Buildings, vehicles, toys, the moon and a star, drawn with a pen."""

from __future__ import annotations

import math

from pipeline.sample.pen import BLACK, RGB, WHITE, Pen, shade, symmetric

GLASS: RGB = (175, 215, 235)
STEEL: RGB = (150, 155, 162)


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


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.oval(x, y, radius, radius, BLACK)
    pen.dot(x, y, radius * 0.5, (185, 188, 192))


def car(pen: Pen) -> None:
    """A saloon in profile."""
    body = pen.colour
    pen.polygon([(-0.6, -0.05), (-0.38, -0.45), (0.3, -0.45), (0.6, -0.05)], body)
    pen.polygon([(-0.46, -0.06), (-0.31, -0.37), (-0.03, -0.37), (-0.03, -0.06)], GLASS)
    pen.polygon([(0.06, -0.06), (0.06, -0.37), (0.25, -0.37), (0.46, -0.06)], GLASS)
    pen.blob([(-0.95, -0.02), (-0.4, -0.1), (0.5, -0.1), (0.95, 0.05), (0.98, 0.32), (0, 0.36), (-0.98, 0.32)], body)
    pen.oval(0.92, 0.1, 0.07, 0.07, (255, 240, 150))
    pen.rectangle(-0.98, 0.05, -0.9, 0.16, (200, 30, 30))
    pen.line([(-0.92, 0.22), (0.92, 0.22)], 0.03, shade(body, 0.6))
    for x in (-0.55, 0.55):
        _wheel(pen, x, 0.34, 0.23)


def bus(pen: Pen) -> None:
    """A long box with a row of windows."""
    body = pen.colour
    pen.rectangle(-0.98, -0.55, 0.98, 0.42, body)
    for left in (-0.9, -0.54, -0.18, 0.18):
        pen.rectangle(left, -0.42, left + 0.29, -0.06, GLASS)
    pen.rectangle(0.56, -0.42, 0.92, 0.38, shade(GLASS, 0.85))
    pen.line([(0.74, -0.42), (0.74, 0.38)], 0.03, BLACK)
    pen.rectangle(-0.98, 0.08, 0.5, 0.2, shade(body, 1.6), edge=False)
    for x in (-0.55, 0.42):
        _wheel(pen, x, 0.45, 0.19)


def bicycle(pen: Pen) -> None:
    """Two wheels and a diamond frame."""
    frame = pen.colour
    for x in (-0.56, 0.56):
        pen.ring(x, 0.3, 0.41, 0.08, BLACK)
        for dx, dy in ((0.38, 0), (0.27, 0.27), (0, 0.38), (-0.27, 0.27)):
            pen.line([(x - dx, 0.3 - dy), (x + dx, 0.3 + dy)], 0.02, STEEL)
    pen.line([(-0.56, 0.3), (-0.22, -0.28), (0.36, -0.28), (-0.05, 0.32), (-0.56, 0.3)], 0.09, frame, edge=True)
    pen.line([(-0.05, 0.32), (-0.28, -0.42)], 0.09, frame, edge=True)
    pen.line([(0.56, 0.3), (0.32, -0.5), (0.5, -0.6), (0.62, -0.5)], 0.09, frame, edge=True)
    pen.oval(-0.3, -0.46, 0.2, 0.07, BLACK)
    pen.oval(-0.05, 0.32, 0.1, 0.1, STEEL)


def train(pen: Pen) -> None:
    """A steam locomotive on its rails."""
    body, dark = pen.colour, shade(pen.colour, 0.6)
    pen.line([(-1.0, 0.78), (1.0, 0.78)], 0.06, (95, 75, 60))
    for x, y, radius in ((0.62, -0.72, 0.13), (0.42, -0.86, 0.16), (0.14, -0.9, 0.12)):
        pen.dot(x, y, radius, (205, 205, 210))
    pen.polygon([(0.48, -0.2), (0.42, -0.55), (0.78, -0.55), (0.72, -0.2)], BLACK)
    pen.rectangle(-0.95, -0.65, -0.25, 0.4, body)
    pen.rectangle(-1.0, -0.75, -0.2, -0.62, dark)
    pen.rectangle(-0.8, -0.48, -0.42, -0.1, GLASS)
    pen.rectangle(-0.25, -0.25, 0.85, 0.35, body)
    for x in (0.05, 0.4):
        pen.line([(x, -0.25), (x, 0.35)], 0.05, (235, 200, 80))
    pen.oval(0.86, 0.02, 0.1, 0.14, (255, 235, 140))
    pen.polygon([(0.72, 0.35), (0.98, 0.72), (0.6, 0.72)], dark)
    for x, radius in ((-0.62, 0.29), (-0.02, 0.2), (0.4, 0.2)):
        pen.oval(x, 0.74 - radius, radius, radius, (60, 60, 66))
        pen.dot(x, 0.74 - radius, radius * 0.45, (200, 60, 50))


def airplane(pen: Pen) -> None:
    """Climbs, seen from the side below, with swept wings."""
    body = pen.colour
    pen.polygon([(0.1, -0.06), (-0.3, -0.75), (-0.48, -0.75), (-0.22, -0.06)], shade(body, 0.75))
    pen.polygon([(-0.68, -0.08), (-0.98, -0.52), (-0.8, -0.52), (-0.45, -0.1)], shade(body, 0.6))
    pen.blob([(-0.98, -0.08), (-0.3, -0.16), (0.6, -0.16), (0.98, 0.04), (0.6, 0.16), (-0.4, 0.12)], body)
    pen.polygon([(0.2, 0.05), (-0.38, 0.8), (-0.58, 0.8), (-0.2, 0.05)], shade(body, 0.8))
    for x in (-0.35, -0.15, 0.05, 0.25, 0.45):
        pen.dot(x, -0.05, 0.045, (60, 100, 150))
    pen.polygon([(0.68, -0.12), (0.86, -0.03), (0.66, -0.01)], GLASS)


def sailboat(pen: Pen) -> None:
    """A hull under a main sail and a jib."""
    pen.line([(0.0, -0.98), (0.0, 0.5)], 0.06, (110, 75, 45))
    pen.polygon([(0.06, -0.92), (0.06, 0.38), (0.8, 0.38)], WHITE)
    pen.polygon([(-0.06, -0.75), (-0.06, 0.38), (-0.65, 0.38)], pen.colour)
    pen.polygon([(-0.9, 0.5), (0.95, 0.5), (0.65, 0.88), (-0.62, 0.88)], shade(pen.colour, 0.65))
    pen.line([(-0.84, 0.58), (0.88, 0.58)], 0.05, WHITE)


def tower_crane(pen: Pen) -> None:
    """A lattice mast with a jib that carries a load."""
    steel = pen.colour
    pen.line([(0.85, -0.52), (0.62, -0.52), (0.62, 0.1)], 0.03, BLACK)
    pen.rectangle(0.48, 0.1, 0.78, 0.32, (140, 110, 90))
    pen.line([(-0.85, -0.55), (-0.3, -0.98), (0.95, -0.55)], 0.035, shade(steel, 0.5))
    for x in (-0.4, -0.2):
        pen.line([(x, 0.95), (x, -0.6)], 0.07, steel)
    for step in range(6):
        y = 0.95 - 0.24 * step
        pen.line([(-0.4, y), (-0.2, y - 0.24)], 0.045, shade(steel, 0.75))
    pen.polygon([(-0.4, -0.6), (-0.3, -0.98), (-0.2, -0.6)], steel)
    pen.rectangle(-0.85, -0.62, 0.98, -0.48, steel)
    for step in range(7):
        pen.line([(-0.1 + 0.15 * step, -0.6), (0.0 + 0.15 * step, -0.5)], 0.035, shade(steel, 0.5))
    pen.rectangle(-0.9, -0.52, -0.62, -0.25, (95, 95, 100))
    pen.rectangle(-0.18, -0.48, 0.02, -0.25, GLASS)
    pen.rectangle(-0.58, 0.85, -0.02, 0.98, (120, 120, 125))


def balloon(pen: Pen) -> None:
    """A shiny toy balloon on its string."""
    rubber = pen.colour
    pen.curve([(0, 0.4), (0.1, 0.6), (-0.08, 0.8), (0.03, 1.0)], 0.03, (95, 95, 95))
    pen.blob(symmetric([(0, -0.98), (0.45, -0.75), (0.55, -0.3), (0.3, 0.15), (0, 0.34)]), rubber)
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
    edge = [(-0.9, -0.05), (-0.2, -0.07), (0.4, -0.19), (0.9, -0.2), (0.98, 0)]
    pen.polygon([*edge, *[(x, -y) for x, y in reversed(edge[:-1])]], wood)
    pen.rectangle(-0.88, -0.07, -0.5, 0.07, BLACK)
    pen.oval(-0.93, 0, 0.06, 0.13, wood)
    pen.oval(0.3, 0.52, 0.24, 0.24, WHITE)
    pen.ring(0.06, 0.52, 0.2, 0.04, (205, 50, 50), part=(-45, 45))


def moon(pen: Pen) -> None:
    """A crescent with craters."""
    turns = [math.radians(50 + 260 * step / 20) for step in range(21)]
    outer = [(0.9 * math.cos(turn), 0.9 * math.sin(turn)) for turn in turns]
    bends = [math.pi * step / 14 for step in range(1, 14)]
    inner = [(0.58 - 0.72 * math.sin(bend), -0.69 * math.cos(bend)) for bend in bends]
    pen.polygon([*outer, *inner], (250, 235, 165))
    for x, y, radius in ((-0.6, -0.25, 0.09), (-0.5, 0.2, 0.12), (-0.2, 0.62, 0.08)):
        pen.dot(x, y, radius, (222, 202, 125))


def star(pen: Pen) -> None:
    """A star with five points."""
    corners = [(math.tau * step / 10 - math.pi / 2, 0.42 if step % 2 else 1.0) for step in range(10)]
    pen.polygon([(reach * math.cos(turn), reach * math.sin(turn)) for turn, reach in corners], pen.colour)
