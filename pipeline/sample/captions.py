"""Captions in the manner of the web's alt texts, made of the texts in words.toml.

Synsets that a caption mentions are among the sample's own kinds and places: a labeler is right to find a photo in
"photo of a dog", and such a label, whose synset the sample never draws, is neither a hit nor a false alarm.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from random import Random
from typing import NamedTuple
from urllib.parse import quote

from pipeline.sample.chance import cumulative, pick, pick_weighted
from pipeline.sample.kinds import WORDS
from pipeline.sample.scenes import ObjectGroup, Scene

JOINTS = ((" and ", ", ", " with ", " & ", " next to "), cumulative((0.5, 0.2, 0.14, 0.08, 0.08)))


class Caption(NamedTuple):
    """A caption, and the synsets, ascending, of those drawn kinds and places that its English words name."""

    text: str
    mentioned: list[int]


def write_caption(scene: Scene, chance: Random) -> Caption:
    """Write a caption for the scene: most captions name all of it in English, some a part, a few nothing."""
    sort = chance.random()
    if sort < 0.02:
        return Caption(_text(chance, WORDS["empty"]), [])
    if sort < 0.05:
        return Caption(_text(chance, WORDS["camera_names"]).format(int(chance.random() * 10000)), [])
    if sort < 0.09:
        return Caption(_foreign(scene, chance), [])
    if sort < 0.11:
        return Caption(_roughen(_text(chance, WORDS["untold"]), chance), [])
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
    text = _text(chance, WORDS["templates"]).format(what=what, where=where)
    return Caption(_roughen(text, chance), sorted(mentioned))


def _text(chance: Random, texts: Sequence[str]) -> str:
    """One of the texts of a list in words.toml."""
    return pick(chance, texts)


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
    words = _text(chance, WORDS["adjectives"]) if dice < 0.2 else ""
    # Unless the name says it already, as the golden retriever's does.
    if colour and chance.random() < 0.5 and colour not in kind.name:
        words += colour + " "
    if number > 1:
        phrase = _text(chance, WORDS["numbers"][str(number)]) + words + noun.plural
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


def _foreign(scene: Scene, chance: Random) -> str:
    """Name the scene's objects in one of the other languages, in which an English labeler should find nothing."""
    number = int(chance.random() * len(WORDS["languages"]))
    language = WORDS["languages"][number]
    names = language["joint"].join(group.kind.foreign[number] for group in scene.groups)
    return _text(chance, language["templates"]).format(names)


DRESSES = (
    ("none", "product", "markup", "URL", "file name", "emoji", "quotes", "sentence"),
    cumulative((0.62, 0.13, 0.05, 0.015, 0.03, 0.045, 0.04, 0.07)),
)


def _roughen(text: str, chance: Random) -> str:
    """The caption as a crawler might find it: in some letter case and in at most one piece of web dress.

    The words that name things stay in it.
    """
    case = chance.random()
    if case < 0.3:
        text = text[:1].upper() + text[1:]
    elif case < 0.45:
        # Not str.title, which writes "Chef'S".
        text = " ".join([word[:1].upper() + word[1:] for word in text.split(" ")])
    elif case < 0.5:
        text = text.upper()
    match pick_weighted(chance, *DRESSES):
        case "product":
            return _text(chance, WORDS["products"]).format(text, 1000 + int(chance.random() * 9000))
        case "markup":
            return _markup(text, chance)
        case "URL":
            return quote(text) + pick(chance, ("", ".jpg", "%20%281%29.jpeg"))
        case "file name":
            name = pick(chance, ("-", "_")).join(text.lower().replace(",", "").split())
            return name + pick(chance, (".jpg", ".png", "_0342.jpg"))
        case "emoji":
            comes_last = chance.random() < 0.7
            emoji = _text(chance, WORDS["emoji"])
            return f"{text} {emoji}" if comes_last else f"{emoji}{text}"
        case "quotes":
            return f"“{text}”" if chance.random() < 0.6 else f"{text} – it’s today’s picture…"
        case "sentence":
            return f"{text}. {_text(chance, WORDS['sentences'])}"
    return text


def _markup(text: str, chance: Random) -> str:
    style = chance.random()
    if style < 0.4:
        words = text.split(" ")
        bold = int(chance.random() * len(words))
        words[bold] = f"<b>{words[bold]}</b>"
        return " ".join(words)
    if style < 0.7:
        return html.escape(f"{text} & more")
    return f'<p class="alt">{text}</p><br/>' if style < 0.85 else f"{text}&nbsp;&#8211; &quot;HD&quot;"
