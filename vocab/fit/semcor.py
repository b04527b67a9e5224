"""SemCor's sentences: words with the WordNet senses that annotators gave them, and with tags for the tagger.

In: one JSON object per sentence and line (plain or gzip), made from the Princeton release with WordNet 3.0's senses.
Out: sentences of `SenseToken`s, with the document each is from; and the same as sentences of a treebank, more text for
the tagger to learn from. SemCor draws lines elsewhere than the treebank (participles, ordinals, names), and tags only
the whole of a phrase that is one entry of WordNet; words without a known tag are tagged UNTAGGED.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vocab.errors import FormatError, InputError
from vocab.fit.treebank import GoldToken


@dataclass(frozen=True)
class SenseToken:
    """One token.

    {"w": "primary_election", "pos": "NN", "lemma": "primary_election", "wnsn": "1", "lexsn": "1:04:00::"}
    """

    form: str
    """spelling in the text; words of one noun are joined by "_" """
    pos: str | None
    """Penn Treebank's part of speech, shortened (VB for all forms of verbs); None for punctuation"""
    lemma: str | None
    senses: tuple[int, ...]
    """numbers of the lemma's senses, from 1; empty where none was tagged"""


@dataclass(frozen=True)
class Sentence:
    """One sentence."""

    document: str
    tokens: tuple[SenseToken, ...]


def read_semcor(path: Path) -> Iterator[Sentence]:
    """Sentences in order. Raises InputError for a missing file, FormatError for a line that is not such a sentence."""
    if not path.is_file():
        raise InputError(path, found="no such file", wanted="SemCor's sentences as JSON lines", remedy=HOW_TO_MAKE)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                tokens = tuple(_token(token) for token in record["tokens"])
                document = str(record["doc"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FormatError(
                    f"{path}:{number}",
                    found=f"{type(error).__name__}: {error}",
                    wanted='{"doc": ..., "tokens": [{"w": ..., "pos": ..., "lemma": ..., "wnsn": ...}, ...]}',
                    remedy=HOW_TO_MAKE,
                ) from error
            yield Sentence(document, tokens)


HOW_TO_MAKE = "Write each sentence of SemCor 3.0 as one JSON object per line; vocab/fit/semcor.py shows a token."


def _token(record: dict[str, str]) -> SenseToken:
    numbers = [int(number) for number in record.get("wnsn", "").split(";") if number]
    # Zero and below: the annotators found no fitting sense.
    return SenseToken(record["w"], record.get("pos"), record.get("lemma"), tuple(n for n in numbers if n > 0))


UNTAGGED = "_"
UPOS_OF_PENN = {
    "NN": "NOUN", "JJ": "ADJ", "VB": "VERB", "MD": "AUX", "RB": "ADV", "CD": "NUM", "FW": "X", "UH": "INTJ",
}  # fmt: skip
"""tag of Universal Dependencies by the first two letters of a Penn tag; all other words are words of grammar"""
GRAMMAR = "ADP"


def silver_sentences(sentences: Iterable[Sentence]) -> list[list[GoldToken]]:
    """Sentences with a tag of Universal Dependencies for each word; `primary_election` is two words."""
    return [[part for token in sentence.tokens for part in _parts(token)] for sentence in sentences]


def _parts(token: SenseToken) -> list[GoldToken]:
    parts = [part for part in token.form.split("_") if part]
    upos = "PUNCT" if token.pos is None else UPOS_OF_PENN.get(token.pos[:2], GRAMMAR)
    if token.pos == "NNP":
        upos = "PROPN"
    if len(parts) == 1 or token.pos == "NNP":
        tags = [upos] * len(parts)
    else:
        # The last word of a noun is a noun; other words' tags, and a phrasal verb's, are unknown.
        tags = [*[UNTAGGED] * (len(parts) - 1), upos if upos == "NOUN" else UNTAGGED]
    return [GoldToken(part, part, tag, True) for part, tag in zip(parts, tags[: len(parts)], strict=True)]
