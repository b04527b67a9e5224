"""Captions of pictures whose class is known, as people might have written them.

In: synsets and a seed. Out: for each picture one caption, with a synonym, a plural, company, noise, or nothing to the
point.

    n02099601    a photo of two golden retrievers in a garden
    n02099601    A Golden Retriever And A School Bus, Stock Photo
    n02099601    IMG 2041
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vocab import wordnet

# Shares of captions, and of words in them.
SILENT, COMPANY, PLURAL, SYNONYM, CAPITAL = 0.12, 0.15, 0.25, 0.3, 0.2

FRAMES = (
    "a photo of {noun} {place}", "{noun} {place}", "{noun}", "my {adjective} {noun}", "{noun}, {tail}",
    "picture of {noun} {place}, {tail}", "we saw {noun} {place}", "{adjective} {noun} {place}", "close up of {noun}",
    "this is {noun}, {tail}",
)  # fmt: skip
PLACES = (
    "in a garden", "on a table", "on the beach", "at home", "in the street", "near a river", "on a white background",
    "in the snow", "at the museum", "next to a window", "on the grass", "in the kitchen", "at a market", "",
)  # fmt: skip
ADJECTIVES = ("old", "beautiful", "small", "new", "red", "black", "big", "cute", "vintage", "favourite")
TAILS = ("stock photo", "for sale", "summer 2012", "hd wallpaper", "free shipping", "taken last year", "royalty free")
SILENCE = (
    "IMG {number}",
    "untitled",
    "best of {number}",
    "photo by John",
    "click to enlarge",
    "holiday in Italy",
    "wow!",
)
COUNTS = ("two", "three", "some", "many", "several")


def captions_of(synsets: Sequence[int], *, seed: int) -> list[str]:
    """One caption for each picture, of the synset that it shows. Raises InputError for an offset that is no noun."""
    rng = np.random.default_rng(seed)
    nouns = wordnet.load()
    distinct = sorted(set(synsets))
    words = {synset: [word.replace("_", " ") for word in nouns.words_of(nouns.row_of(synset))] for synset in distinct}

    def named(synset: int) -> str:
        names = words[synset]
        name = names[int(rng.integers(len(names)))] if rng.random() < SYNONYM else names[0]
        if rng.random() < PLURAL:
            return f"{_one_of(COUNTS, rng)} {plural(name)}"
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

    def caption(synset: int) -> str:
        if rng.random() < SILENT:
            return _one_of(SILENCE, rng).format(number=rng.integers(1000, 9999))
        noun = named(synset)
        if rng.random() < COMPANY:
            noun += f" and {named(distinct[int(rng.integers(len(distinct)))])}"
        frame = _one_of(FRAMES, rng)
        if "{adjective}" in frame:
            noun = noun.split(" ", 1)[1]
        filled = frame.format(
            noun=noun, place=_one_of(PLACES, rng), adjective=_one_of(ADJECTIVES, rng), tail=_one_of(TAILS, rng)
        )
        text = " ".join(filled.split()).replace(" ,", ",")
        return text.title() if rng.random() < CAPITAL else text

    return [caption(synset) for synset in synsets]


def plural(name: str) -> str:
    """The usual plural of a noun's last word: buses, ladies, dogs."""
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return name + "es"
    return name[:-1] + "ies" if name.endswith("y") and name[-2:-1] not in "aeiou" else name + "s"


def _one_of(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
