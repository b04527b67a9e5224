"""Captions to noun synsets where a spaCy pipeline says which words are nouns: what our own tagger is compared with.

Everything but the parts of speech is our own: cleaning, words, which captions are English, which words are one noun,
which sense it has. A word is a noun where spaCy's token at its last letter is tagged NOUN or PROPN; several words are
one noun where the last of them is, or where hyphens join them. Runs caption by caption, hundreds of times as slow as
`vocab.labeler`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vocab import labeler, plain
from vocab.cleaning import clean
from vocab.empty_reasons import LABELLED, EmptyReason, Labelled
from vocab.errors import InputError, MissingRequirementError
from vocab.labeler import Labeler
from vocab.missing_values import is_missing
from vocab.plain import Word
from vocab.senses import NO_SENSE
from vocab.user_lexicon import UserLexicon

# Part of the fingerprint: raised with every change of the rules below.
RULES_VERSION = 2

NAME_TAG = "PROPN"
NOUN_TAGS = ("NOUN", NAME_TAG)
UNUSED = ("parser", "ner", "lemmatizer", "senter", "textcat", "entity_linker")
"""components that no part of speech depends on"""
PROBE = "A dog sleeps on the sofa."
BATCH = 256
"""captions that spaCy tags at a time"""
MAX_LETTERS = 1 << 31
"""instead of spaCy's limit of a million, which guards the memory of parsers"""


@dataclass(frozen=True, eq=False)
class SpacyLabeler:
    """Caption -> noun synsets, with spaCy's parts of speech."""

    nlp: Any
    """a spaCy `Language`"""
    tools: str
    """versions of what the nouns depend on: "spacy 3.8.7 en_core_web_sm 3.8.0" """
    ours: Labeler
    """whose words, lexicon and senses are used"""
    name: str = "spacy"

    @property
    def fingerprint(self) -> str:
        """sha256 of the rules' version, spaCy's, the pipeline's, and our own labeler's fingerprint."""
        return hashlib.sha256(f"{self.name} {RULES_VERSION} {self.tools} {self.ours.fingerprint}".encode()).hexdigest()

    def label(self, captions: pa.StringArray) -> pa.ListArray:
        """Labels of each caption: list<int32> [len(captions)], empty where there is none, also for a null caption.

        `captions` must be valid UTF-8; `pipeline.labeling` sorts out what is not.
        """
        return self.label_and_say_why(captions).synsets

    def label_and_say_why(self, captions: pa.StringArray) -> Labelled:
        """`label`, and why captions have no label."""
        lists: list[list[int]] = [[] for _ in range(len(captions))]
        why = np.full(len(captions), EmptyReason.NO_NOUN, dtype=np.int8)
        english: list[tuple[str, tuple[int, list[Word]]]] = []
        for place, caption in enumerate(captions.to_pylist()):
            text, words, is_english = self._words(caption or "")
            if is_english and words:
                english.append((text, (place, words)))
            elif not is_english:
                why[place] = EmptyReason.OTHER_LANGUAGE
        for doc, (place, words) in self.nlp.pipe(english, as_tuples=True, batch_size=BATCH):
            tags = tags_of(doc, words)
            lists[place] = self._synsets(words, tags)
            if lists[place]:
                why[place] = LABELLED
            elif plain.is_left_out(self.ours, words, [tag in NOUN_TAGS for tag in tags]):
                why[place] = EmptyReason.LEXICON
            elif NAME_TAG in tags:
                why[place] = EmptyReason.NAMES_ONLY
        return Labelled(pa.array(lists, pa.list_(pa.int32())), why)

    def _words(self, caption: str) -> tuple[str, list[Word], bool]:
        """The cleaned text, its words, and whether it is English."""
        text, accents = ("", 0) if is_missing(caption) else clean(caption)
        words = plain.find_words(self.ours.tagger, text)
        return text, words, plain.language_value(self.ours, words, accents) >= 0

    def _synsets(self, words: Sequence[Word], tags: Sequence[str]) -> list[int]:
        """Unique ascending synsets of one caption."""
        is_noun = [tag in NOUN_TAGS for tag in tags]
        nouns = plain.find_nouns(self.ours, words, is_noun, is_noun, [tag == NAME_TAG for tag in tags])
        senses = {plain.choose_sense(self.ours, words, noun) for noun in nouns} - {NO_SENSE}
        return sorted(int(self.ours.nouns.synsets[row]) for row in senses)


def tags_of(doc: Any, words: Sequence[Word]) -> list[str]:
    """Tags of the tokens at each word's last letter; `doc` is a spaCy `Doc`.

    spaCy parts "cannot" and joins "AT&T", where our words are cannot, at, t.
    """
    tokens = iter(doc)
    token = next(tokens)
    found = []
    for word in words:
        last = word.start + len(word.text) - 1
        while token.idx + len(token) <= last:
            token = next(tokens)
        found.append(token.pos_)
    return found


@cache
def load(model: str, lexicon: UserLexicon | None = None) -> SpacyLabeler:
    """The labeler over a spaCy pipeline, named by its package (en_core_web_sm) or its folder; once per process.

    `lexicon`: the user's own words.

    Raises MissingRequirementError if spaCy or the pipeline is not installed, and InputError for one that tags no parts
    of speech.
    """
    try:
        import spacy
    except ModuleNotFoundError as error:
        raise MissingRequirementError(
            f"package {error.name}",
            found="not installed",
            wanted="spaCy, for the labeler spacy",
            remedy="Run: pip install 'open-catlip[spacy]'",
        ) from error
    if not spacy.util.is_package(model) and not Path(model, "config.cfg").is_file():
        raise MissingRequirementError(
            f"spaCy pipeline {model}",
            found="neither an installed package nor the folder of a pipeline",
            wanted="a pipeline that tags parts of speech, for the labeler spacy",
            remedy=f"Run: python -m spacy download {model if model.isidentifier() else 'en_core_web_sm'}",
        )
    nlp = spacy.load(model, exclude=list(UNUSED))
    nlp.max_length = MAX_LETTERS
    refuse_without_tags(nlp, model)
    tools = f"spacy {spacy.about.__version__} {nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
    return SpacyLabeler(nlp, tools, labeler.load() if lexicon is None else labeler.load_with(lexicon))


def refuse_without_tags(nlp: Any, model: str) -> None:
    """Raise InputError if the pipeline leaves parts of speech open."""
    if not nlp(PROBE).has_annotation("POS"):
        raise InputError(
            f"spaCy pipeline {model}",
            found=f"no parts of speech from its components ({', '.join(nlp.pipe_names) or 'none'})",
            wanted="a pipeline that sets them, such as en_core_web_sm",
            remedy="Choose another pipeline; spaCy sets them in tagger and attribute_ruler, or in morphologizer.",
        )
