"""Backgrounds: the named places, and plain ones that nobody would name."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from pipeline.sample.chance import between
from pipeline.sample.pen import RGB, jitter, shade

PLAIN = ("plain", "gradient", "noise", "stripes")


def paint_background(name: str, side: int, chance: Random) -> Image.Image:
    """A square image of the background; the name is a place's or one of `PLAIN`."""
    match name:
        case "plain":
            return Image.new("RGB", (side, side), _any_colour(chance))
        case "gradient":
            return _gradient(side, _any_colour(chance), _any_colour(chance))
        case "noise":
            return _noise(side, _any_colour(chance), chance)
        case "stripes":
            return _stripes(side, chance)
        case "grass":
            return _grass(side, chance)
        case "sky":
            return _sky(side, chance)
        case "beach":
            return _beach(side, chance)
        case "snow":
            return _snow(side, chance)
        case "room":
            return _room(side, chance)
        case "road":
            return _road(side, chance)
        case "mountain":
            return _mountain(side, chance)
        case _:
            raise ValueError(f"no background is named {name!r}")


def _any_colour(chance: Random) -> RGB:
    # Half the plain backgrounds are the near-white of product photographs.
    if chance.random() < 0.5:
        return jitter((242, 242, 240), chance, 13)
    return (int(between(chance, 60, 250)), int(between(chance, 60, 250)), int(between(chance, 60, 250)))


def _gradient(side: int, top: RGB, bottom: RGB) -> Image.Image:
    ramp = np.linspace(0, 1, side)[:, None]
    column = (np.array(top) * (1 - ramp) + np.array(bottom) * ramp).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None, :], (side, side, 3))))


def _noise(side: int, colour: RGB, chance: Random) -> Image.Image:
    grains = np.random.default_rng(int(chance.random() * 2**53)).integers(-24, 25, (32, 32, 1))
    coarse = np.clip(np.array(colour) + grains, 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)


def _stripes(side: int, chance: Random) -> Image.Image:
    colour = _any_colour(chance)
    image = Image.new("RGB", (side, side), colour)
    draw, step = ImageDraw.Draw(image), between(chance, 0.1, 0.25) * side
    other = shade(colour, between(chance, 0.8, 0.93))
    for i in range(int(side / step) + 1):
        draw.rectangle((0, i * step, side, (i + 0.5) * step), fill=other)
    return image


def _heaven(side: int, chance: Random) -> Image.Image:
    # Most skies are blue; some are of the evening, some grey.
    top, bottom = ((90, 155, 230), (190, 220, 245))
    mood = chance.random()
    if mood > 0.9:
        top, bottom = (110, 90, 160), (250, 180, 130)
    elif mood > 0.8:
        top, bottom = (165, 172, 182), (205, 210, 215)
    return _gradient(side, jitter(top, chance), jitter(bottom, chance))


def _sky(side: int, chance: Random) -> Image.Image:
    if chance.random() < 0.25:
        image = _gradient(side, jitter((12, 16, 48), chance, 8), jitter((45, 50, 105), chance, 12))
        draw = ImageDraw.Draw(image)
        for _ in range(25):
            x, y = chance.random() * side, chance.random() * side
            draw.rectangle((x, y, x + side // 120, y + side // 120), fill=(255, 255, 240))
        return image
    image = _heaven(side, chance)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = chance.random() * side, chance.random() * side
        for step in range(4):
            r = between(chance, 0.05, 0.09) * side
            draw.ellipse(
                (x + step * 0.06 * side - r, y - r, x + step * 0.06 * side + r, y + r * 0.7), fill=(246, 249, 252)
            )
    return image


def _ground(image: Image.Image, horizon: float, colour: RGB, chance: Random) -> ImageDraw.ImageDraw:
    """Lay rough ground below the horizon (a share of the height) and hand back the brush."""
    side = image.width
    top = int(horizon * side)
    image.paste(_noise(side, colour, chance).crop((0, top, side, side)), (0, top))
    return ImageDraw.Draw(image)


def _grass(side: int, chance: Random) -> Image.Image:
    image, horizon = _heaven(side, chance), between(chance, 0.2, 0.5)
    green = jitter((95, 165, 70), chance)
    draw = _ground(image, horizon, green, chance)
    for _ in range(40):
        x, y = chance.random() * side, between(chance, horizon, 1) * side
        draw.line(
            (x, y, x + between(chance, -0.02, 0.02) * side, y - 0.05 * side), fill=shade(green, 0.75), width=side // 90
        )
    return image


def _beach(side: int, chance: Random) -> Image.Image:
    image, horizon, shore = _heaven(side, chance), between(chance, 0.2, 0.35), between(chance, 0.5, 0.62)
    _ground(image, horizon, jitter((50, 130, 185), chance), chance)
    draw = _ground(image, shore, jitter((232, 208, 150), chance, 10), chance)
    foam = [(side * x / 12, side * (shore + 0.015 * math.sin(x * 1.7))) for x in range(13)]
    draw.line(foam, fill=(245, 250, 250), width=max(1, side // 45), joint="curve")
    return image


def _snow(side: int, chance: Random) -> Image.Image:
    image, horizon = _gradient(side, (160, 180, 205), (215, 225, 235)), between(chance, 0.25, 0.5)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, horizon * side, side, side), fill=jitter((240, 244, 250), chance, 6))
    draw.ellipse((-0.3 * side, (horizon - 0.07) * side, 0.7 * side, (horizon + 0.25) * side), fill=(240, 244, 250))
    for _ in range(45):
        x, y, r = chance.random() * side, chance.random() * side, between(chance, 0.006, 0.014) * side
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return image


def _room(side: int, chance: Random) -> Image.Image:
    wall = jitter((215, 200, 178), chance, 32)
    image, floor = _gradient(side, shade(wall, 1.1), wall), between(chance, 0.55, 0.72)
    draw = ImageDraw.Draw(image)
    wood = jitter((165, 120, 80), chance, 20)
    draw.rectangle((0, floor * side, side, side), fill=wood)
    for step in range(-6, 13):
        line = (side * (0.5 + (step - 3.5) * 0.1), floor * side, side * (0.5 + (step - 3.5) * 0.22), side)
        draw.line(line, fill=shade(wood, 0.8), width=max(1, side // 120))
    draw.rectangle((0, (floor - 0.03) * side, side, floor * side), fill=(242, 240, 235))
    left = between(chance, 0.08, 0.6) * side
    draw.rectangle(
        (left, 0.1 * side, left + 0.28 * side, 0.4 * side),
        fill=(185, 215, 238),
        outline=(250, 250, 250),
        width=side // 50,
    )
    return image


def _road(side: int, chance: Random) -> Image.Image:
    image, horizon = _heaven(side, chance), between(chance, 0.3, 0.45)
    draw = _ground(image, horizon, jitter((120, 150, 85), chance), chance)
    middle, far = between(chance, 0.35, 0.65) * side, horizon * side
    draw.polygon(
        [(middle - 0.03 * side, far), (middle + 0.03 * side, far), (side * 1.05, side), (-0.05 * side, side)],
        fill=jitter((95, 97, 102), chance, 12),
    )
    for near, end in ((0.1, 0.22), (0.36, 0.55), (0.72, 1.0)):
        x0, x1 = middle + (0.5 * side - middle) * near, middle + (0.5 * side - middle) * end
        y0, y1 = far + (side - far) * near, far + (side - far) * end
        draw.line((x0, y0, x1, y1), fill=(240, 235, 210), width=max(1, int(0.035 * side * end)))
    return image


def _mountain(side: int, chance: Random) -> Image.Image:
    image, foot = _heaven(side, chance), between(chance, 0.55, 0.7)
    draw = ImageDraw.Draw(image)
    for x, height in (
        (between(chance, 0.1, 0.35), 0.38),
        (between(chance, 0.6, 0.95), 0.44),
        (between(chance, 0.35, 0.65), 0.52),
    ):
        rock = jitter((112, 112, 128), chance)
        top, half = (foot - height) * side, height * 0.75 * side
        draw.polygon([(x * side - half, foot * side), (x * side, top), (x * side + half, foot * side)], fill=rock)
        cap = 0.32
        ridge = [(-cap, cap), (-cap * 0.4, cap * 0.75), (0, cap * 1.1), (cap * 0.45, cap * 0.7), (cap, cap), (0, 0)]
        draw.polygon([(x * side + dx * half, top + dy * height * side) for dx, dy in ridge], fill=(246, 248, 252))
    _ground(image, foot, jitter((100, 140, 80), chance), chance)
    return image
