"""SemCor's sentences: words with the WordNet senses that annotators gave them.

In: one JSON object per sentence and line (plain or gzip), made from the Princeton release with WordNet 3.0's senses.
Out: sentences of `SenseToken`s, with the document each is from.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vocab.errors import FormatError, InputError


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
    """Sentences in order. Raises InputError for a missing file, FormatError for a line that is no such sentence."""
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
