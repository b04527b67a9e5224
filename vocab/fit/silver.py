"""SemCor's parts of speech, as more text for the tagger to learn from.

In: SemCor's sentences. Out: the same as a treebank's. Its annotators drew lines elsewhere (participles, ordinals,
names), and of a phrase that is one entry of WordNet only the whole has a tag; words that nothing is known of are
tagged UNTAGGED.
"""

from __future__ import annotations

from collections.abc import Iterable

from vocab.fit.semcor import SenseToken, Sentence
from vocab.fit.treebank import GoldToken

UNTAGGED = "_"
UPOS_OF_PENN = {
    "NN": "NOUN", "JJ": "ADJ", "VB": "VERB", "MD": "AUX", "RB": "ADV", "CD": "NUM", "FW": "X", "UH": "INTJ",
}  # fmt: skip
"""by the first two letters; all others are words of grammar"""
GRAMMAR = "ADP"


def silver_sentences(sentences: Iterable[Sentence]) -> list[list[GoldToken]]:
    """Sentences with a tag of Universal Dependencies for each word; `primary_election` is two words."""
    return [[part for token in sentence.tokens for part in _parts(token)] for sentence in sentences]


def _parts(token: SenseToken) -> list[GoldToken]:
    parts = [part for part in token.form.split("_") if part]
    upos = "PUNCT" if token.pos is None else UPOS_OF_PENN.get(token.pos[:2], GRAMMAR)
    if len(parts) == 1 or token.pos == "NNP":
        tags = [upos] * len(parts)
    else:
        # The last word of a noun is a noun; what the others are, and the words of a phrasal verb, is not said.
        tags = [*[UNTAGGED] * (len(parts) - 1), upos if upos == "NOUN" else UNTAGGED]
    return [GoldToken(part, part, tag, True) for part, tag in zip(parts, tags[: len(parts)], strict=True)]
