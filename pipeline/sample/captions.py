"""Captions in the manner of the web's alt texts.

In: a scene and a stream of chance. Out: a caption, and the drawn synsets that an ideal English labeler finds in it.

`mentioned` judges the sample's own kinds and places only: a labeler is right to find a photo in "photo of a dog", and
such a label, whose synset the sample never draws, is neither a hit nor a false alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from pipeline.sample.chance import cumulative, pick, pick_weighted
from pipeline.sample.foreign import foreign_caption
from pipeline.sample.noise import EMPTY, fill_camera_name, roughen
from pipeline.sample.scenes import ObjectGroup, Scene

NUMBERS = {
    2: ("two ", "two ", "2 ", "a pair of ", "a couple of ", ""),
    3: ("three ", "three ", "3 ", "several ", "some ", ""),
    4: ("four ", "four ", "4 ", "many ", "a lot of ", ""),
}
# No "big": a big cat is a lion. For the same reason no tree of the sample is orange.
ADJECTIVES = ("cute ", "old ", "little ", "large ", "beautiful ", "vintage ", "funny ", "new ", "cartoon ", "tiny ")

# {what} is the list of things, {where} a place or nothing.
TEMPLATES = (
    "{what}{where}",
    "{what}{where}",
    "{what}{where}",
    "photo of {what}{where}",
    "a photo of {what}{where}",
    "picture of {what}{where}",
    "an illustration of {what}{where}",
    "{what}{where}, stock photo",
    "{what}{where} vector clipart",
    "close-up of {what}{where}",
    "my drawing of {what}{where}",
    "there is {what}{where}",
    "how to draw {what}{where} step by step",
    "{what}{where} by an unknown artist, 2015",
    "we saw {what}{where} last summer",
    "view of {what}{where} in the morning",
    "high resolution image of {what}{where}",
    "what a day: {what}{where}",
    "gift idea for mom - {what}{where}",
    "{what}{where}, watercolor",
)
UNTOLD = (
    "what a beautiful day",
    "click here to enlarge",
    "image may be subject to copyright",
    "from our last holiday",
    "wallpaper 1920x1080",
)
JOINTS = ((" and ", ", ", " with ", " & ", " next to "), cumulative((0.5, 0.2, 0.14, 0.08, 0.08)))


class Caption(NamedTuple):
    """A caption, and the synsets, ascending, of those drawn kinds and places that its English words name."""

    text: str
    mentioned: list[int]


def write_caption(scene: Scene, chance: Random) -> Caption:
    """Write a caption for the scene: most captions name all of it in English, some a part, a few nothing."""
    sort = chance.random()
    if sort < 0.02:
        return Caption(pick(chance, EMPTY), [])
    if sort < 0.05:
        return Caption(fill_camera_name(chance), [])
    if sort < 0.09:
        return Caption(foreign_caption(scene, chance), [])
    if sort < 0.11:
        return Caption(roughen(pick(chance, UNTOLD), chance), [])
    return _english(scene, chance)


def _english(scene: Scene, chance: Random) -> Caption:
    told = _told(scene.groups, chance)
    mentioned = {group.kind.synset for group in told}
    what = _name(told[0], chance)
    for group in told[1:]:
        what += pick_weighted(chance, *JOINTS) + _name(group, chance)
    where = ""
    if scene.place is not None and chance.random() < 0.5:
        where = " " + pick(chance, scene.place.phrases)
        mentioned.add(scene.place.synset)
    text = pick(chance, TEMPLATES).format(what=what, where=where)
    return Caption(roughen(text, chance), sorted(mentioned))


def _told(groups: Sequence[ObjectGroup], chance: Random) -> Sequence[ObjectGroup]:
    """The groups that the caption names: three times in ten it leaves some out, though never all."""
    if len(groups) == 1 or chance.random() < 0.7:
        return groups
    told = [group for group in groups if chance.random() < 0.5]
    return told or groups[:1]


def _name(group: ObjectGroup, chance: Random) -> str:
    """Name a group of objects: "two old red bikes", "a crane lifting steel beams"."""
    kind, number, colour = group
    noun = pick(chance, kind.nouns)
    dice = chance.random()
    words = pick(chance, ADJECTIVES) if dice < 0.2 else ""
    # Unless the name says it already, as the golden retriever's does.
    if colour and chance.random() < 0.5 and colour not in kind.name:
        words += colour + " "
    if number > 1:
        phrase = pick(chance, NUMBERS[number]) + words + noun.plural
    else:
        phrase = words + noun.singular
        # Alt texts often drop the article.
        if dice > 0.45:
            phrase = ("an " if phrase[0] in "aeiou" else "a ") + phrase
        elif dice > 0.38:
            phrase = "the " + phrase
    if kind.clues and chance.random() < 0.85:
        phrase += " " + pick(chance, kind.clues)
    return phrase
