"""Animals, drawn with a pen."""

from __future__ import annotations

import math

from pipeline.sample.pen import BLACK, RGB, WHITE, Pen, shade, symmetric

BILL: RGB = (240, 150, 40)
PINK: RGB = (238, 160, 170)


def dog(pen: Pen) -> None:
    """Sits and faces the viewer, with hanging ears and its tongue out."""
    coat, dark = pen.colour, shade(pen.colour, 0.65)
    pen.curve([(0.45, 0.75), (0.8, 0.6), (0.85, 0.25)], 0.14, dark)
    pen.blob([(-0.3, -0.1), (0.3, -0.1), (0.55, 0.6), (0.45, 0.95), (-0.45, 0.95), (-0.55, 0.6)], coat)
    for side in (-1, 1):
        pen.oval(side * 0.22, 0.85, 0.14, 0.13, shade(coat, 1.3))
    pen.oval(0, -0.4, 0.46, 0.46, coat)
    for side in (-1, 1):
        pen.blob([(side * 0.3, -0.8), (side * 0.55, -0.75), (side * 0.68, -0.2), (side * 0.5, 0.02)], dark)
        pen.dot(side * 0.18, -0.5, 0.075, WHITE)
        pen.dot(side * 0.18, -0.49, 0.05, BLACK)
    pen.oval(0, -0.2, 0.24, 0.2, shade(coat, 1.5))
    pen.oval(0, 0.02, 0.09, 0.15, (225, 90, 100))
    pen.oval(0, -0.3, 0.11, 0.08, BLACK)


def golden_retriever(pen: Pen) -> None:
    """Stands in profile, long-haired, with a feathered tail."""
    coat, dark = pen.colour, shade(pen.colour, 0.8)
    pen.blob([(-0.65, -0.1), (-0.95, -0.45), (-1.0, -0.7), (-0.8, -0.55), (-0.6, -0.25)], shade(coat, 1.25))
    for x in (-0.55, -0.35, 0.25, 0.42):
        pen.rectangle(x - 0.09, 0.2, x + 0.09, 0.85, dark if x in (-0.35, 0.25) else coat)
    pen.blob([(-0.75, -0.15), (0, -0.22), (0.45, -0.3), (0.6, 0.1), (0.4, 0.4), (0, 0.34), (-0.6, 0.35)], coat)
    pen.blob([(0.35, -0.3), (0.5, -0.7), (0.8, -0.6), (0.65, 0.1), (0.4, 0.35)], shade(coat, 1.2))
    pen.blob([(0.4, -0.75), (0.65, -0.85), (0.82, -0.65), (1.05, -0.58), (1.0, -0.4), (0.7, -0.38), (0.45, -0.5)], coat)
    pen.blob([(0.42, -0.75), (0.58, -0.75), (0.6, -0.4), (0.46, -0.28), (0.36, -0.45)], shade(coat, 0.65))
    pen.dot(1.03, -0.56, 0.06, BLACK)
    pen.dot(0.76, -0.66, 0.045, BLACK)
    pen.oval(0.92, -0.33, 0.05, 0.1, (225, 90, 100))


def cat(pen: Pen) -> None:
    """Sits and faces the viewer, with pointed ears, whiskers and a striped brow."""
    coat, dark = pen.colour, shade(pen.colour, 0.55)
    pen.curve([(0.3, 0.8), (0.8, 0.85), (0.9, 0.4), (0.7, 0.1)], 0.13, dark)
    pen.blob([(-0.25, 0), (0.25, 0), (0.5, 0.6), (0.45, 0.95), (-0.45, 0.95), (-0.5, 0.6)], coat)
    for side in (-1, 1):
        pen.polygon([(side * 0.12, -0.7), (side * 0.48, -1.0), (side * 0.5, -0.4)], coat)
        pen.polygon([(side * 0.24, -0.7), (side * 0.42, -0.86), (side * 0.42, -0.52)], PINK, edge=False)
    pen.oval(0, -0.35, 0.52, 0.4, coat)
    for x in (-0.14, 0, 0.14):
        pen.line([(x, -0.72), (x * 0.8, -0.52)], 0.06, dark)
    for side in (-1, 1):
        pen.oval(side * 0.2, -0.38, 0.11, 0.1, (170, 215, 70))
        pen.oval(side * 0.2, -0.38, 0.035, 0.09, BLACK, edge=False)
        for drop in (-0.04, 0.06):
            pen.line([(side * 0.12, -0.18), (side * 0.75, -0.2 + 2 * drop)], 0.025, shade(coat, 0.35))
    pen.polygon([(-0.07, -0.25), (0.07, -0.25), (0, -0.16)], PINK)


def mouse(pen: Pen) -> None:
    """A small rodent in profile, with a round ear and a long bare tail."""
    coat = pen.colour
    pen.curve([(-0.6, 0.35), (-0.95, 0.4), (-1.0, 0.0), (-0.75, -0.15), (-0.7, -0.5)], 0.08, PINK)
    pen.blob([(-0.7, 0.2), (-0.35, -0.3), (0.25, -0.25), (0.65, 0.0), (0.98, 0.3), (0.6, 0.45), (-0.5, 0.47)], coat)
    pen.oval(0.2, -0.32, 0.27, 0.29, coat)
    pen.oval(0.2, -0.31, 0.17, 0.19, PINK, edge=False)
    pen.dot(0.62, 0.1, 0.065, BLACK)
    pen.dot(0.97, 0.29, 0.07, (220, 110, 125))
    for x in (-0.35, 0.4):
        pen.oval(x, 0.48, 0.15, 0.07, PINK)
    for drop in (0.2, 0.42):
        pen.line([(0.8, 0.3), (1.0, drop + 0.1)], 0.02, BLACK)


def bat(pen: Pen) -> None:
    """Flies towards the viewer, scalloped wings spread."""
    fur = pen.colour
    for side in (-1, 1):
        wing = (
            (0.08, -0.1),
            (0.4, -0.5),
            (0.98, -0.45),
            (0.92, 0.3),
            (0.72, 0.08),
            (0.55, 0.38),
            (0.38, 0.12),
            (0.15, 0.4),
        )
        pen.polygon([(side * x, y) for x, y in wing], shade(fur, 1.12))
        for x, y in ((0.92, 0.3), (0.55, 0.38)):
            pen.line([(side * 0.4, -0.5), (side * x, y)], 0.03, shade(fur, 0.5))
        pen.polygon([(side * 0.04, -0.3), (side * 0.24, -0.68), (side * 0.22, -0.2)], fur)
    pen.oval(0, 0.15, 0.18, 0.38, fur)
    pen.oval(0, -0.2, 0.22, 0.2, fur)
    for side in (-1, 1):
        pen.dot(side * 0.09, -0.22, 0.05, (250, 220, 90))
        pen.polygon([(side * 0.02, -0.08), (side * 0.1, -0.08), (side * 0.06, 0.02)], WHITE, edge=False)


def sheep(pen: Pen) -> None:
    """A woolly cloud on dark legs."""
    wool, face = pen.colour, (60, 52, 50)
    for x in (-0.45, -0.25, 0.2, 0.4):
        pen.rectangle(x - 0.06, 0.3, x + 0.06, 0.85, face)
    for step in range(10):
        turn = math.tau * step / 10
        pen.oval(-0.05 + 0.55 * math.cos(turn), 0.05 + 0.32 * math.sin(turn), 0.22, 0.22, wool)
    pen.oval(-0.05, 0.05, 0.6, 0.38, wool, edge=False)
    pen.blob([(0.5, -0.4), (0.75, -0.45), (0.98, -0.1), (0.85, 0.05), (0.6, -0.05)], face)
    pen.oval(0.5, -0.22, 0.16, 0.07, face, turn=-20)
    pen.oval(0.58, -0.45, 0.18, 0.13, wool)
    pen.dot(0.74, -0.26, 0.05, WHITE)


def fish(pen: Pen) -> None:
    """Swims in profile, striped."""
    scales, fin = pen.colour, shade(pen.colour, 0.7)
    pen.polygon([(-0.5, 0), (-0.98, -0.45), (-0.85, 0), (-0.98, 0.45)], fin)
    pen.blob([(-0.25, -0.35), (0.05, -0.7), (0.4, -0.3)], fin)
    pen.blob([(-0.1, 0.35), (-0.05, 0.62), (0.25, 0.35)], fin)
    pen.blob([(-0.62, 0), (-0.2, -0.38), (0.4, -0.4), (0.95, 0), (0.4, 0.4), (-0.2, 0.38)], scales)
    for x in (-0.2, 0.1):
        pen.curve([(x, -0.34), (x + 0.1, 0), (x, 0.34)], 0.11, shade(scales, 1.6))
    pen.dot(0.6, -0.1, 0.12, WHITE)
    pen.dot(0.63, -0.1, 0.065, BLACK)
    pen.curve([(0.88, 0.1), (0.75, 0.16), (0.68, 0.14)], 0.04, shade(scales, 0.4))


def snail(pen: Pen) -> None:
    """Crawls under a spiral shell."""
    skin, shell = (205, 190, 130), pen.colour
    for x in (0.72, 0.92):
        pen.line([(0.75, 0.2), (x, -0.3)], 0.06, skin)
        pen.dot(x, -0.32, 0.07, BLACK)
    pen.blob([(-0.98, 0.72), (-0.4, 0.5), (0.45, 0.45), (0.6, 0.05), (0.9, 0.05), (0.95, 0.4), (0.7, 0.75)], skin)
    pen.oval(-0.12, -0.02, 0.58, 0.56, shell)
    spiral = [(-0.12 + r * math.cos(9 * r * 1.6), r * math.sin(9 * r * 1.6)) for r in (i / 48 for i in range(2, 24))]
    pen.curve(spiral, 0.08, shade(shell, 0.5))


def butterfly(pen: Pen) -> None:
    """Spreads four spotted wings."""
    wing, spot = pen.colour, shade(pen.colour, 1.65)
    for side in (-1, 1):
        pen.blob([(side * x, y) for x, y in ((0.06, 0), (0.4, -0.75), (0.95, -0.75), (0.8, -0.1))], wing)
        pen.blob([(side * x, y) for x, y in ((0.06, 0.05), (0.7, 0.1), (0.65, 0.7), (0.3, 0.75))], shade(wing, 0.75))
        pen.dot(side * 0.66, -0.5, 0.13, spot)
        pen.dot(side * 0.48, 0.42, 0.11, spot)
        pen.curve([(0, -0.4), (side * 0.12, -0.75), (side * 0.28, -0.9)], 0.035, BLACK)
    pen.oval(0, 0.05, 0.075, 0.5, BLACK)


def duck(pen: Pen) -> None:
    """Floats in profile with a broad bill."""
    down = pen.colour
    pen.blob([(-0.98, -0.1), (-0.6, 0.05), (0.1, 0.0), (0.55, 0.2), (0.45, 0.6), (-0.1, 0.72), (-0.7, 0.5)], down)
    pen.oval(0.42, -0.3, 0.34, 0.33, down)
    pen.blob([(0.68, -0.32), (0.98, -0.3), (1.0, -0.18), (0.68, -0.12)], BILL)
    pen.blob([(-0.55, 0.2), (0.1, 0.15), (0.2, 0.4), (-0.3, 0.48)], shade(down, 0.75))
    pen.dot(0.5, -0.4, 0.07, BLACK)


def goose(pen: Pen) -> None:
    """Stands in profile with its long neck upright."""
    down = pen.colour
    for x in (-0.2, 0.08):
        pen.line([(x, 0.4), (x, 0.9), (x + 0.18, 0.92)], 0.08, BILL)
    pen.blob([(-0.98, 0.05), (-0.4, -0.02), (0.3, -0.1), (0.48, 0.2), (0.2, 0.5), (-0.4, 0.52)], down)
    pen.blob([(0.18, 0.1), (0.3, -0.4), (0.26, -0.75), (0.46, -0.8), (0.52, -0.3), (0.48, 0.25)], down, edge=False)
    pen.oval(0.42, -0.8, 0.2, 0.15, down)
    pen.polygon([(0.56, -0.88), (0.9, -0.74), (0.56, -0.7)], BILL)
    pen.blob([(-0.75, 0.12), (0.1, 0.08), (0.05, 0.3), (-0.4, 0.36)], shade(down, 0.78))
    pen.dot(0.45, -0.84, 0.045, BLACK)


def crane(pen: Pen) -> None:
    """Wades on very long legs, with a long thin neck and a red cap."""
    down = pen.colour
    for x in (-0.2, 0.0):
        pen.line([(x, 0.1), (x + 0.04, 0.55), (x - 0.02, 1.0), (x + 0.14, 1.0)], 0.045, (60, 60, 60))
    pen.blob([(-0.75, 0.2), (-0.7, 0.0), (-0.3, -0.22), (0.2, -0.18), (0.28, 0.02), (-0.2, 0.2)], down)
    pen.blob([(-0.85, 0.4), (-0.75, 0.05), (-0.4, -0.02), (-0.5, 0.22)], shade(down, 0.4))
    pen.curve([(0.15, -0.1), (0.38, -0.35), (0.22, -0.65), (0.36, -0.88)], 0.12, shade(down, 0.55))
    pen.oval(0.38, -0.88, 0.13, 0.09, WHITE)
    pen.oval(0.36, -0.95, 0.11, 0.05, (205, 40, 40))
    pen.polygon([(0.48, -0.92), (0.95, -0.82), (0.48, -0.83)], (90, 85, 70))
    pen.dot(0.4, -0.88, 0.03, BLACK)


def owl(pen: Pen) -> None:
    """Faces the viewer with great round eyes and ear tufts."""
    feathers = pen.colour
    for side in (-1, 1):
        pen.polygon([(side * 0.15, -0.65), (side * 0.55, -0.98), (side * 0.55, -0.4)], feathers)
    pen.blob(symmetric([(0, -0.72), (0.5, -0.55), (0.6, 0.3), (0.3, 0.9)]), feathers)
    pen.oval(0, 0.35, 0.36, 0.48, shade(feathers, 1.5))
    for y in (0.15, 0.35, 0.55):
        for x in (-0.18, 0, 0.18):
            pen.ring(x, y, 0.07, 0.035, feathers, part=(0, 180))
    for side in (-1, 1):
        pen.blob([(side * 0.45, -0.1), (side * 0.7, 0.2), (side * 0.45, 0.75)], shade(feathers, 0.65))
        pen.oval(side * 0.23, -0.35, 0.23, 0.23, (250, 235, 190))
        pen.dot(side * 0.23, -0.35, 0.14, (245, 180, 30))
        pen.dot(side * 0.23, -0.35, 0.08, BLACK)
        pen.oval(side * 0.18, 0.9, 0.12, 0.06, BILL)
    pen.polygon([(-0.08, -0.25), (0.08, -0.25), (0, -0.05)], BILL)


def penguin(pen: Pen) -> None:
    """Stands upright in black and white."""
    for side in (-1, 1):
        pen.oval(side * 0.2, 0.92, 0.2, 0.08, BILL)
        pen.blob([(side * 0.35, -0.25), (side * 0.75, 0.3), (side * 0.6, 0.4), (side * 0.38, 0.2)], (50, 52, 62))
    pen.blob(symmetric([(0, -0.95), (0.3, -0.75), (0.5, 0.3), (0.35, 0.88)]), (45, 47, 57))
    pen.blob([(-0.18, -0.3), (0.18, -0.3), (0.36, 0.35), (0.2, 0.8), (-0.2, 0.8), (-0.36, 0.35)], WHITE, edge=False)
    for side in (-1, 1):
        pen.dot(side * 0.13, -0.65, 0.11, WHITE)
        pen.dot(side * 0.11, -0.65, 0.055, BLACK)
    pen.polygon([(-0.12, -0.54), (0.12, -0.54), (0, -0.36)], BILL)
