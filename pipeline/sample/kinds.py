"""The kinds of things that the sample draws: what each is in WordNet 3.0, what people call it, how it looks.

In: nothing. Out: `OBJECTS`, most frequent first, and `PLACES`, the backgrounds that have a name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.sample import animals, birds, food, household, nature, outdoors, vehicles
from pipeline.sample.pen import RGB, Pen

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
    nouns: tuple[NounForms, ...]
    colours: tuple[str, ...]
    tilt: float
    """degrees that it may lean to either side, at most"""
    clues: tuple[str, ...]
    """Words that a caption adds when the noun alone could mean something else."""


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
    name: str,
    synset: int,
    draw: Callable[[Pen], None],
    nouns: str = "",
    *,
    colours: tuple[str, ...] = (),
    tilt: float = 12,
    clues: tuple[str, ...] = (),
) -> ObjectKind:
    """A kind from a row of the table, where nouns read "bike|bicycle" or, with an irregular plural, "goose/geese"."""
    pairs = [noun.partition("/") for noun in (nouns or name).split("|")]
    return ObjectKind(
        name, synset, draw, tuple(NounForms(s, p or plural_of(s)) for s, _, p in pairs), colours, tilt, clues
    )


RODENT = ("nibbling a piece of cheese", "hiding in the barn", "with tiny whiskers", "in a field of wheat")
DEVICE = ("for your PC", "with USB cable and scroll wheel", "wireless 2.4 GHz", "next to the keyboard")
FLYING_MAMMAL = ("hanging in a cave", "flying at night with spread wings", "hunting insects after dusk")
CLUB = ("made of maple wood for baseball practice", "swung by the batter", "aluminum, youth league")
WADER = ("wading in the marsh", "spreading its feathers", "migrating south for the winter", "nesting in the wetlands")
MACHINE = ("lifting steel beams", "at a construction site", "with a 40 ton load", "above the harbour containers")
FURNITURE = ("with four legs", "for the dining area", "handmade from solid oak")

# The order is the frequency order; `scenes` turns it into Zipf-like weights.
OBJECTS = (
    _kind("dog", 2084071, animals.dog, "dog|dog|domestic dog", colours=FUR),
    _kind("cat", 2121620, animals.cat, colours=FUR),
    _kind("car", 2958343, vehicles.car, "car|automobile|auto|motorcar", colours=PAINT),
    _kind("tree", 13104059, nature.tree, colours=("green", "red", "yellow"), tilt=6),
    _kind("house", 3544360, outdoors.house, colours=("white", "yellow", "blue", "pink", "gray"), tilt=4),
    _kind("chair", 3001627, household.chair, colours=WOODEN),
    _kind("fish", 2512053, animals.fish, "fish/fish|fish/fishes", colours=("orange", "blue", "yellow", "red", "green")),
    _kind("bus", 2924116, vehicles.bus, "bus|bus|coach", colours=PAINT, tilt=6),
    _kind("book", 2870092, household.book, "book|book|volume", colours=PAINT, tilt=40),
    _kind("pizza", 7873807, food.pizza, "pizza|pizza|pizza pie", tilt=180),
    _kind("bicycle", 2834778, vehicles.bicycle, "bicycle|bike", colours=PAINT),
    _kind("table", 4379243, household.table, colours=WOODEN, tilt=6, clues=FURNITURE),
    _kind("clock", 3046257, household.clock, colours=PAINT),
    _kind("apple", 7739125, food.apple, colours=("red", "green", "yellow"), tilt=25),
    _kind("sofa", 4256520, household.sofa, "sofa|couch", colours=("red", "blue", "green", "gray", "brown", "pink")),
    _kind("mouse", 2330245, animals.mouse, "mouse/mice", colours=("gray", "brown", "white"), clues=RODENT),
    _kind("airplane", 2691156, vehicles.airplane, "airplane|aeroplane|plane",
          colours=("white", "blue", "red", "gray"), tilt=35),
    _kind("umbrella", 4507155, outdoors.umbrella, colours=PAINT, tilt=30),
    _kind("hat", 3497657, outdoors.hat, colours=("black", "brown", "red", "blue", "pink", "purple"), tilt=20),
    _kind("cup", 3147509, household.cup, colours=("white", "red", "blue", "green", "yellow", "pink")),
    _kind("duck", 1846331, birds.duck, colours=("yellow", "white", "brown")),
    _kind("sunflower", 11978233, nature.sunflower),
    _kind("balloon", 2782329, outdoors.balloon,
          colours=("red", "blue", "green", "yellow", "pink", "purple"), tilt=25),
    _kind("guitar", 3467517, outdoors.guitar,
          colours=("brown", "red", "black", "blue", "golden"), tilt=60),
    _kind("laptop", 3642806, household.laptop, "laptop|laptop computer", colours=("gray", "black", "white", "pink")),
    _kind("computer mouse", 3793489, household.computer_mouse, "mouse/mice|computer mouse/computer mice",
          colours=("black", "white", "gray", "red"), tilt=60, clues=DEVICE),
    _kind("train", 4468005, vehicles.train, "train|train|railroad train",
          colours=("red", "green", "blue", "black"), tilt=6),
    _kind("butterfly", 2274259, animals.butterfly,
          colours=("blue", "orange", "yellow", "purple", "pink", "white"), tilt=60),
    _kind("banana", 7753592, food.banana, tilt=180),
    _kind("traffic light", 6874185, outdoors.traffic_light, "traffic light|traffic signal|stoplight", tilt=8),
    _kind("key", 3613294, household.key, colours=("golden", "gray", "brown"), tilt=180, clues=("for the door",)),
    _kind("golden retriever", 2099601, animals.golden_retriever, colours=("golden",)),
    _kind("wine glass", 4592099, household.wine_glass, "wine glass|wineglass", colours=("red", "purple", "yellow")),
    _kind("sailboat", 4128499, vehicles.sailboat, "sailboat|sailing boat",
          colours=("red", "blue", "yellow", "white", "orange")),
    _kind("crane machine", 3126707, vehicles.tower_crane, "crane",
          colours=("yellow", "red", "orange"), tilt=4, clues=MACHINE),
    _kind("lamp", 3636649, household.lamp,
          colours=("yellow", "red", "green", "blue", "pink", "white")),
    _kind("hot dog", 7697537, food.hot_dog, "hot dog|hotdog", tilt=40),
    _kind("moon", 9358358, nature.moon, tilt=40),
    _kind("goose", 1855672, birds.goose, "goose/geese", colours=("white", "gray")),
    _kind("soccer ball", 4254680, outdoors.soccer_ball, tilt=180),
    _kind("ice cream", 7614500, food.ice_cream, "ice cream|icecream|ice cream cone",
          colours=("pink", "brown", "white", "green"), tilt=25),
    _kind("sheep", 2411705, animals.sheep, "sheep/sheep", colours=("white", "gray", "brown")),
    _kind("cactus", 11842204, nature.cactus, "cactus/cacti|cactus/cactuses", tilt=6),
    _kind("crane bird", 2012849, birds.crane, "crane", colours=("white", "gray"), tilt=8, clues=WADER),
    _kind("owl", 1621127, birds.owl, colours=("brown", "gray", "white")),
    _kind("star", 13881644, nature.star, colours=("yellow", "red", "blue", "pink", "golden"), tilt=36,
          clues=("with five points", "shape for kids to color")),
    _kind("mushroom", 13001041, nature.mushroom, colours=("red", "brown", "orange")),
    _kind("bat", 2139199, animals.bat, "bat", colours=("black", "brown", "gray", "purple"), clues=FLYING_MAMMAL),
    _kind("loaf", 7683786, food.loaf, "loaf of bread/loaves of bread|loaf/loaves"),
    _kind("baseball bat", 2806379, outdoors.baseball_bat, "bat",
          colours=("golden", "brown", "black", "red"), tilt=180, clues=CLUB),
    _kind("snail", 1944390, animals.snail, colours=("brown", "orange", "pink", "purple")),
    _kind("lighthouse", 2814860, outdoors.lighthouse, colours=("red", "blue", "black"), tilt=4),
    _kind("crown", 3138669, outdoors.crown, tilt=25, clues=("with jewels", "fit for a queen")),
    _kind("leaf", 13152742, nature.leaf, "leaf/leaves", colours=("green", "red", "yellow", "orange"), tilt=180),
    _kind("knife", 3623556, household.knife, "knife/knives", colours=("black", "brown", "red"), tilt=180),
    _kind("penguin", 2055803, birds.penguin),
)  # fmt: skip

PLACES = (
    Place("grass", 12102133, ("on the grass", "in the green grass", "in tall grass")),
    Place("sky", 9436708, ("under a blue sky", "in the sky", "against the sky")),
    Place("beach", 9217230, ("on the beach", "at the beach", "on a sandy beach")),
    Place("snow", 15043763, ("in the snow", "on fresh snow", "in deep snow")),
    Place("room", 4105893, ("in a room", "in an empty room", "in a bright room")),
    Place("road", 4096066, ("on the road", "beside a country road", "on an open road")),
    Place("mountain", 9359803, ("in front of a mountain", "below the mountains", "near a snowy mountain")),
)
