"""The kinds of things that the sample draws: what each is in WordNet 3.0, what words.toml calls it, how it looks."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.sample import animals, household, outdoors, plants
from pipeline.sample.pen import RGB, Pen

WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))

COLOURS: dict[str, RGB] = {
    "black": (52, 52, 60),
    "white": (243, 242, 238),
    "gray": (142, 145, 152),
    "brown": (135, 88, 52),
    "orange": (238, 140, 45),
    "red": (212, 48, 45),
    "blue": (58, 105, 205),
    "green": (70, 160, 75),
    "yellow": (247, 212, 62),
    "pink": (243, 150, 180),
    "purple": (140, 82, 175),
    "golden": (224, 172, 88),
}

FUR = ("black", "white", "gray", "brown", "orange")
PAINT = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple")
WOODEN = ("brown", "white", "black", "red", "golden")


@dataclass(frozen=True)
class NounForms:
    """One way to name a kind."""

    singular: str
    plural: str


@dataclass(frozen=True, eq=False)
class ObjectKind:
    """One kind of thing: `synset` is the noun offset of the sense that is drawn, not of the word's commonest sense."""

    name: str
    synset: int
    draw: Callable[[Pen], None]
    colours: tuple[str, ...]
    tilt: float
    """degrees that it may lean to either side, at most"""
    nouns: tuple[NounForms, ...]
    foreign: tuple[str, ...]
    """names in the languages of words.toml"""
    clues: tuple[str, ...]
    """words that a caption adds when the noun alone could mean something else"""


@dataclass(frozen=True, eq=False)
class Place:
    """A background that a caption may name."""

    name: str
    synset: int
    phrases: tuple[str, ...]


def plural_of(noun: str) -> str:
    """The regular English plural; irregular ones are written out in the table."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _kind(
    name: str, synset: int, draw: Callable[[Pen], None], *, colours: tuple[str, ...] = (), tilt: float = 12
) -> ObjectKind:
    """A kind with its words, where nouns read "bike" or, with an irregular plural, "goose/geese"."""
    words = WORDS["kinds"][name]
    pairs = [noun.partition("/") for noun in words["nouns"]]
    nouns = tuple(NounForms(singular, plural or plural_of(singular)) for singular, _, plural in pairs)
    foreign, clues = tuple(words["foreign"]), tuple(words.get("clues", ()))
    return ObjectKind(name, synset, draw, colours, tilt, nouns, foreign, clues)


# The order is the frequency order; `scenes` turns it into Zipf-like weights.
OBJECTS = (
    _kind("dog", 2084071, animals.dog, colours=FUR),
    _kind("cat", 2121620, animals.cat, colours=FUR),
    _kind("car", 2958343, outdoors.car, colours=PAINT),
    _kind("tree", 13104059, plants.tree, colours=("green", "red", "yellow"), tilt=6),
    _kind("house", 3544360, outdoors.house, colours=("white", "yellow", "blue", "pink", "gray"), tilt=4),
    _kind("chair", 3001627, household.chair, colours=WOODEN),
    _kind("fish", 2512053, animals.fish, colours=("orange", "blue", "yellow", "red", "green")),
    _kind("bus", 2924116, outdoors.bus, colours=PAINT, tilt=6),
    _kind("book", 2870092, household.book, colours=PAINT, tilt=40),
    _kind("pizza", 7873807, household.pizza, tilt=180),
    _kind("bicycle", 2834778, outdoors.bicycle, colours=PAINT),
    _kind("table", 4379243, household.table, colours=WOODEN, tilt=6),
    _kind("clock", 3046257, household.clock, colours=PAINT),
    _kind("apple", 7739125, plants.apple, colours=("red", "green", "yellow"), tilt=25),
    _kind("sofa", 4256520, household.sofa, colours=("red", "blue", "green", "gray", "brown", "pink")),
    _kind("mouse", 2330245, animals.mouse, colours=("gray", "brown", "white")),
    _kind("airplane", 2691156, outdoors.airplane, colours=("white", "blue", "red", "gray"), tilt=35),
    _kind("umbrella", 4507155, household.umbrella, colours=PAINT, tilt=30),
    _kind("hat", 3497657, household.hat, colours=("black", "brown", "red", "blue", "pink", "purple"), tilt=20),
    _kind("cup", 3147509, household.cup, colours=("white", "red", "blue", "green", "yellow", "pink")),
    _kind("duck", 1846331, animals.duck, colours=("yellow", "white", "brown")),
    _kind("sunflower", 11978233, plants.sunflower),
    _kind("balloon", 2782329, outdoors.balloon, colours=("red", "blue", "green", "yellow", "pink", "purple"), tilt=25),
    _kind("guitar", 3467517, household.guitar, colours=("brown", "red", "black", "blue", "golden"), tilt=60),
    _kind("laptop", 3642806, household.laptop, colours=("gray", "black", "white", "pink")),
    _kind("computer mouse", 3793489, household.computer_mouse, colours=("black", "white", "gray", "red"), tilt=60),
    _kind("train", 4468005, outdoors.train, colours=("red", "green", "blue", "black"), tilt=6),
    _kind("butterfly", 2274259, animals.butterfly,
          colours=("blue", "orange", "yellow", "purple", "pink", "white"), tilt=60),
    _kind("banana", 7753592, plants.banana, tilt=180),
    _kind("traffic light", 6874185, outdoors.traffic_light, tilt=8),
    _kind("key", 3613294, household.key, colours=("golden", "gray", "brown"), tilt=180),
    _kind("golden retriever", 2099601, animals.golden_retriever, colours=("golden",)),
    _kind("wine glass", 4592099, household.wine_glass, colours=("red", "purple", "yellow")),
    _kind("sailboat", 4128499, outdoors.sailboat, colours=("red", "blue", "yellow", "white", "orange")),
    _kind("crane machine", 3126707, outdoors.tower_crane, colours=("yellow", "red", "orange"), tilt=4),
    _kind("lamp", 3636649, household.lamp, colours=("yellow", "red", "green", "blue", "pink", "white")),
    _kind("hot dog", 7697537, household.hot_dog, tilt=40),
    _kind("moon", 9358358, outdoors.moon, tilt=40),
    _kind("goose", 1855672, animals.goose, colours=("white", "gray")),
    _kind("soccer ball", 4254680, outdoors.soccer_ball, tilt=180),
    _kind("ice cream", 7614500, household.ice_cream, colours=("pink", "brown", "white", "green"), tilt=25),
    _kind("sheep", 2411705, animals.sheep, colours=("white", "gray", "brown")),
    _kind("cactus", 11842204, plants.cactus, tilt=6),
    _kind("crane bird", 2012849, animals.crane, colours=("white", "gray"), tilt=8),
    _kind("owl", 1621127, animals.owl, colours=("brown", "gray", "white")),
    _kind("star", 13881644, outdoors.star, colours=("yellow", "red", "blue", "pink", "golden"), tilt=36),
    _kind("mushroom", 13001041, plants.mushroom, colours=("red", "brown", "orange")),
    _kind("bat", 2139199, animals.bat, colours=("black", "brown", "gray", "purple")),
    _kind("loaf", 7683786, household.loaf),
    _kind("baseball bat", 2806379, outdoors.baseball_bat, colours=("golden", "brown", "black", "red"), tilt=180),
    _kind("snail", 1944390, animals.snail, colours=("brown", "orange", "pink", "purple")),
    _kind("lighthouse", 2814860, outdoors.lighthouse, colours=("red", "blue", "black"), tilt=4),
    _kind("crown", 3138669, household.crown, tilt=25),
    _kind("leaf", 13152742, plants.leaf, colours=("green", "red", "yellow", "orange"), tilt=180),
    _kind("knife", 3623556, household.knife, colours=("black", "brown", "red"), tilt=180),
    _kind("penguin", 2055803, animals.penguin),
)  # fmt: skip

PLACES = tuple(
    Place(name, synset, tuple(WORDS["places"][name]))
    for name, synset in (
        ("grass", 12102133),
        ("sky", 9436708),
        ("beach", 9217230),
        ("snow", 15043763),
        ("room", 4105893),
        ("road", 4096066),
        ("mountain", 9359803),
    )
)
