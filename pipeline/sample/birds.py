"""Birds, drawn with a pen.

In: a pen at the bird's place. Out: paint.
"""

from __future__ import annotations

from pipeline.sample.pen import BLACK, RGB, WHITE, Pen, shade

BILL: RGB = (240, 150, 40)


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
    pen.blob([(-0.5, -0.55), (0, -0.72), (0.5, -0.55), (0.6, 0.3), (0.3, 0.9), (-0.3, 0.9), (-0.6, 0.3)], feathers)
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
    pen.blob(
        [(-0.3, -0.75), (0, -0.95), (0.3, -0.75), (0.5, 0.3), (0.35, 0.88), (-0.35, 0.88), (-0.5, 0.3)], (45, 47, 57)
    )
    pen.blob([(-0.18, -0.3), (0.18, -0.3), (0.36, 0.35), (0.2, 0.8), (-0.2, 0.8), (-0.36, 0.35)], WHITE, edge=False)
    for side in (-1, 1):
        pen.dot(side * 0.13, -0.65, 0.11, WHITE)
        pen.dot(side * 0.11, -0.65, 0.055, BLACK)
    pen.polygon([(-0.12, -0.54), (0.12, -0.54), (0, -0.36)], BILL)
