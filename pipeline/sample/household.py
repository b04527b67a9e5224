"""Furniture, food and tableware, clothes and things on a desk, drawn with a pen."""

from __future__ import annotations

import math

from pipeline.sample.pen import BLACK, RGB, WHITE, Pen, shade, symmetric

CRUST: RGB = (205, 145, 75)
GOLD: RGB = (240, 195, 60)
STEEL: RGB = (178, 184, 190)
WOOD: RGB = (150, 100, 60)


def chair(pen: Pen) -> None:
    """A straight chair in three-quarter view."""
    wood, dark = pen.colour, shade(pen.colour, 0.7)
    pen.line([(0.32, 0.1), (0.32, 0.75)], 0.1, dark, edge=True)
    pen.line([(-0.2, 0.1), (-0.2, 0.72)], 0.1, dark, edge=True)
    for x in (-0.5, 0.02):
        pen.line([(x, -0.95), (x, 0.15)], 0.11, wood, edge=True)
    for y in (-0.85, -0.55, -0.25):
        pen.line([(-0.5, y), (0.02, y)], 0.1, wood, edge=True)
    pen.polygon([(-0.55, 0.1), (0.05, 0.1), (0.5, 0.25), (-0.3, 0.28)], shade(wood, 1.2))
    for x, y in ((-0.48, 0.15), (-0.25, 0.25), (0.45, 0.25)):
        pen.line([(x, y), (x, 0.95)], 0.1, wood, edge=True)


def table(pen: Pen) -> None:
    """A wide flat top on four legs."""
    wood = pen.colour
    for x in (-0.5, 0.5):
        pen.rectangle(x - 0.06, -0.05, x + 0.06, 0.5, shade(wood, 0.6))
    for x in (-0.86, 0.86):
        pen.rectangle(x - 0.07, 0.0, x + 0.07, 0.75, shade(wood, 0.85))
    pen.polygon([(-0.7, -0.32), (0.7, -0.32), (0.98, 0.0), (-0.98, 0.0)], shade(wood, 1.25))
    pen.rectangle(-0.98, 0.0, 0.98, 0.14, wood)


def sofa(pen: Pen) -> None:
    """Two cushions between two arms."""
    cloth, dark = pen.colour, shade(pen.colour, 0.75)
    for x in (-0.75, 0.75):
        pen.rectangle(x - 0.06, 0.5, x + 0.06, 0.7, WOOD)
    pen.blob([(-0.8, 0.4), (-0.82, -0.4), (0, -0.5), (0.82, -0.4), (0.8, 0.4)], dark)
    pen.line([(0, -0.45), (0, 0.1)], 0.04, shade(cloth, 0.45))
    for left in (-0.72, 0.0):
        pen.rectangle(left, 0.02, left + 0.72, 0.3, shade(cloth, 1.2))
    pen.rectangle(-0.8, 0.28, 0.8, 0.56, cloth)
    for side in (-1, 1):
        pen.blob([(side * x, y) for x, y in ((0.68, -0.1), (0.98, -0.1), (0.98, 0.58), (0.7, 0.58))], cloth)


def lamp(pen: Pen) -> None:
    """A shade on a slim foot, lit."""
    pen.line([(0, -0.2), (0, 0.85)], 0.1, (120, 95, 60))
    pen.oval(0, 0.88, 0.38, 0.1, (120, 95, 60))
    pen.oval(0, -0.18, 0.16, 0.16, (255, 245, 170))
    pen.polygon([(-0.3, -0.92), (0.3, -0.92), (0.65, -0.2), (-0.65, -0.2)], pen.colour)
    pen.polygon([(-0.08, -0.88), (0.08, -0.88), (0.2, -0.24), (-0.2, -0.24)], shade(pen.colour, 1.5), edge=False)


def clock(pen: Pen) -> None:
    """A round face with hands at some hour."""
    pen.oval(0, 0, 0.95, 0.95, pen.colour)
    pen.oval(0, 0, 0.78, 0.78, WHITE)
    for step in range(12):
        turn, inner = math.tau * step / 12, 0.55 if step % 3 == 0 else 0.63
        x, y = math.cos(turn), math.sin(turn)
        pen.line([(inner * x, inner * y), (0.72 * x, 0.72 * y)], 0.06, BLACK)
    for reach, width in ((0.4, 0.1), (0.6, 0.065)):
        turn = pen.chance.random() * math.tau
        pen.line([(0, 0), (reach * math.cos(turn), reach * math.sin(turn))], width, BLACK)
    pen.dot(0, 0, 0.08, (200, 40, 40))


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
    pen.blob(symmetric([(0.4, -0.45), (0.85, -0.25), (0.95, 0.3), (0.7, 0.5)]), (190, 120, 60))
    pen.line([(-0.75, 0.45), (0.75, 0.45)], 0.08, (150, 90, 45))
    for x in (-0.5, -0.1, 0.3):
        pen.curve([(x - 0.06, 0.05), (x + 0.08, -0.12), (x + 0.16, -0.34)], 0.11, (240, 205, 150))
    pen.dot(-0.7, 0.1, 0.05, WHITE)


def cup(pen: Pen) -> None:
    """A cup with a handle on a saucer, steaming."""
    china = pen.colour
    pen.oval(-0.1, 0.75, 0.85, 0.14, shade(china, 0.85))
    pen.ring(0.52, 0.1, 0.27, 0.12, shade(china, 0.8), part=(-100, 110))
    pen.polygon([(-0.65, -0.25), (0.5, -0.25), (0.36, 0.6), (0.15, 0.75), (-0.3, 0.75), (-0.5, 0.6)], china)
    pen.oval(-0.075, -0.25, 0.575, 0.14, (85, 52, 32))
    for x in (-0.25, 0.1):
        pen.curve([(x, -0.45), (x + 0.1, -0.6), (x, -0.75), (x + 0.1, -0.92)], 0.05, (200, 205, 212))


def wine_glass(pen: Pen) -> None:
    """A stemmed bowl, half full."""
    glass = (222, 235, 242)
    pen.blob([(-0.4, -0.95), (0.4, -0.95), (0.47, -0.4), (0.2, 0.02), (-0.2, 0.02), (-0.47, -0.4)], glass)
    pen.blob(symmetric([(0.42, -0.5), (0.36, -0.22), (0.12, -0.03)]), pen.colour, edge=False)
    pen.line([(0, 0.0), (0, 0.85)], 0.09, shade(glass, 0.85))
    pen.oval(0, 0.88, 0.4, 0.09, glass)


def knife(pen: Pen) -> None:
    """A kitchen knife: a broad blade and a riveted handle."""
    pen.polygon([(-0.1, -0.17), (0.7, -0.17), (0.98, 0.03), (0.8, 0.2), (-0.1, 0.2)], STEEL)
    pen.line([(-0.05, 0.14), (0.8, 0.14)], 0.05, WHITE)
    pen.polygon([(-0.98, -0.17), (-0.1, -0.17), (-0.1, 0.1), (-0.92, 0.14)], pen.colour)
    for x in (-0.75, -0.5, -0.25):
        pen.dot(x, -0.03, 0.05, STEEL)


def key(pen: Pen) -> None:
    """A bow, a shank and two bits."""
    metal = pen.colour
    pen.ring(-0.6, 0, 0.29, 0.17, metal, edge=True)
    pen.rectangle(-0.32, -0.08, 0.95, 0.08, metal)
    for left, length in ((0.5, 0.38), (0.76, 0.3)):
        pen.rectangle(left, 0.06, left + 0.15, length, metal)


def book(pen: Pen) -> None:
    """A closed book, its pages showing."""
    cover = pen.colour
    pen.polygon(
        [(-0.62, -0.7), (-0.45, -0.85), (0.75, -0.85), (0.75, 0.7), (0.58, 0.85), (-0.62, 0.85)], shade(cover, 0.6)
    )
    pen.polygon([(0.58, -0.66), (0.7, -0.8), (0.7, 0.68), (0.58, 0.8)], (245, 240, 222))
    pen.polygon([(-0.55, -0.72), (-0.42, -0.82), (0.7, -0.82), (0.58, -0.7)], (245, 240, 222))
    pen.rectangle(-0.62, -0.7, 0.58, 0.85, cover)
    pen.line([(-0.45, -0.7), (-0.45, 0.85)], 0.05, shade(cover, 0.6))
    for y, reach in ((-0.3, 0.4), (-0.1, 0.25)):
        pen.line([(-0.25, y), (reach, y)], 0.09, (245, 225, 150))


def laptop(pen: Pen) -> None:
    """An open laptop with text on its screen."""
    shell = pen.colour
    pen.polygon([(-0.7, -0.75), (0.7, -0.75), (0.72, 0.3), (-0.72, 0.3)], shell)
    pen.rectangle(-0.6, -0.65, 0.6, 0.2, (55, 110, 180))
    for y, reach in ((-0.48, 0.3), (-0.28, 0.42), (-0.08, 0.05)):
        pen.line([(-0.45, y), (reach, y)], 0.07, (215, 232, 248))
    pen.polygon([(-0.72, 0.3), (0.72, 0.3), (0.98, 0.7), (-0.98, 0.7)], shade(shell, 1.2))
    for y in (0.38, 0.46, 0.54):
        pen.line([(-0.6 - (y - 0.38), y), (0.6 + (y - 0.38), y)], 0.04, (70, 72, 78))


def computer_mouse(pen: Pen) -> None:
    """The pointing device from above, with its cable."""
    shell = pen.colour
    pen.curve([(0, -0.5), (0.1, -0.75), (-0.25, -0.85), (-0.15, -1.0)], 0.07, (60, 60, 66))
    pen.blob(symmetric([(0, -0.58), (0.4, -0.45), (0.52, 0.4), (0.28, 0.88)]), shell)
    pen.line([(-0.46, 0.05), (0.46, 0.05)], 0.045, shade(shell, 0.45))
    pen.line([(0, -0.52), (0, 0.05)], 0.045, shade(shell, 0.45))
    pen.oval(0, -0.25, 0.08, 0.16, (70, 160, 220))


def guitar(pen: Pen) -> None:
    """A waisted body with a sound hole, neck and head."""
    wood = pen.colour
    pen.rectangle(-0.08, -0.8, 0.08, 0.1, (70, 45, 30))
    pen.polygon([(-0.14, -1.0), (0.14, -1.0), (0.1, -0.76), (-0.1, -0.76)], (70, 45, 30))
    pen.blob(symmetric([(0, 0.98), (0.42, 0.88), (0.5, 0.6), (0.28, 0.35), (0.36, 0.08), (0.22, -0.06)]), wood)
    pen.oval(0, 0.3, 0.15, 0.15, (45, 30, 22))
    pen.rectangle(-0.22, 0.66, 0.22, 0.74, (60, 38, 25))
    for x in (-0.04, 0.04):
        pen.line([(x, -0.9), (x, 0.7)], 0.018, (235, 230, 215))


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
    pen.blob(symmetric([(0, -0.46), (0.2, -0.58), (0.46, -0.45), (0.52, 0.48)]), felt)
    pen.polygon([(-0.52, 0.18), (0.52, 0.18), (0.54, 0.44), (-0.54, 0.44)], shade(felt, 0.4))


def crown(pen: Pen) -> None:
    """Five gold points with jewels."""
    pen.polygon(symmetric([(0, 0.0), (0.42, -0.6), (0.5, 0.1), (0.95, -0.4), (0.8, 0.6)]), GOLD)
    pen.rectangle(-0.8, 0.36, 0.8, 0.65, shade(GOLD, 0.85))
    for x, y in ((-0.95, -0.45), (-0.42, -0.65), (0.42, -0.65), (0.95, -0.45)):
        pen.oval(x * 0.97, y, 0.1, 0.1, (225, 60, 75))
    for x, jewel in ((-0.45, (60, 120, 210)), (0.0, (215, 40, 60)), (0.45, (60, 170, 90))):
        pen.oval(x, 0.5, 0.11, 0.09, jewel)
