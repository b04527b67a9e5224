"""Synsets as people write them: wnids and names.

n02084071               dog.n.01 by its offset, as ImageNet names classes
dog.n.01  Dog.n.1       by word and number of the sense, as NLTK names it; any word of the synset
"""

from __future__ import annotations

import difflib
import re
from functools import cache

import pyarrow as pa

from vocab import wordnet
from vocab.nouns import singular_forms

WNID = re.compile(r"[nN]([0-9]{8})")
NAME = re.compile(r"(.+)\.[nN]\.([0-9]{1,3})")
OTHER_PART = re.compile(r".+\.[vasr]\.[0-9]{1,3}")
MOST_NEAR = 3
"""most names shown that are near one that is unknown"""


def synset_named(name: str) -> int | None:
    """Offset of the noun that a wnid or name stands for; None if WordNet 3.0 has no such noun."""
    if (match := WNID.fullmatch(name)) is not None:
        return None if wordnet.load().find(int(match[1])) is None else int(match[1])
    match = NAME.fullmatch(name)
    senses = [] if match is None else senses_of(match[1])
    return senses[int(match[2]) - 1] if match is not None and 1 <= int(match[2]) <= len(senses) else None


def lemma_of(word: str) -> str:
    """Spell a word or phrase as WordNet's index does: "Ice cream" -> ice_cream."""
    return "_".join(word.lower().split())


def senses_of(lemma: str) -> list[int]:
    """Offsets of a lemma's senses, in WordNet's order; none for a word that is no noun of WordNet 3.0."""
    nouns, row = wordnet.load(), _lemmas().get(lemma_of(lemma))
    if row is None:
        return []
    rows = nouns.sense_synsets[nouns.sense_starts[row] : nouns.sense_starts[row + 1]]
    senses: list[int] = nouns.synsets[rows].tolist()
    return senses


def near_names(name: str) -> list[str]:
    """Names of synsets that may be meant by an unknown one, likeliest first.

    "dog" -> dog.n.01, dog.n.02, dog.n.03; "dgo.n.01" -> dog.n.01 and others; "dog.n.99" -> dog.n.01, ...;
    "dogs" -> dog.n.01, ...; "children" -> child.n.01, ...
    """
    match = NAME.fullmatch(name)
    lemma = lemma_of(name if match is None else match[1])
    lemma = re.sub(r"\.[nvasr](\.[0-9]*)?$", "", lemma)
    singulars = [form for forms in singular_forms(pa.array([lemma]), wordnet.load()) for form in forms.to_pylist()]
    for form in (lemma, *singulars):
        if form in _lemmas():
            return [f"{form}.n.{number:02d}" for number in range(1, len(senses_of(form)) + 1)][:MOST_NEAR]
    first, length = lemma[:1], len(lemma)
    # difflib takes a second for all lemmas.
    alike = [each for each in _lemmas() if each[:1] == first and abs(len(each) - length) <= 2]
    return [f"{each}.n.01" for each in difflib.get_close_matches(lemma, alike, n=MOST_NEAR)]


def remedy_for(name: str) -> str:
    """Sentence about an unknown synset: names that may be meant, or how synsets are written."""
    if OTHER_PART.fullmatch(name):
        return "Labels are nouns: name one of the form dog.n.01, or its wnid."
    if WNID.fullmatch(name):
        return "A wnid must be WordNet 3.0's, not that of 2.1, 3.1 or Open English WordNet."
    near = near_names(name)
    return f"Did you mean {', '.join(near)}?" if near else "Name a noun of WordNet 3.0, as dog.n.01 or n02084071."


@cache
def _lemmas() -> dict[str, int]:
    """Row of each lemma."""
    return {lemma: row for row, lemma in enumerate(wordnet.load().lemmas.to_pylist())}
