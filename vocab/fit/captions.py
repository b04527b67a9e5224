"""Captions whose words were judged by people: common noun, name, or neither.

In: judged captions, one JSON object a line. Out: sentences of a treebank, more text for the tagger to learn from.

    {"id": 5, "caption": "Max the dog", "items": [{"text": "max", "kind": "name"}, {"text": "dog", "kind": "noun"}]}

Captions with an even id are left out: they are measured with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vocab.cleaning import clean
from vocab.errors import FormatError, InputError
from vocab.fit.inflection import ADJECTIVE, VERB, Readings
from vocab.fit.semcor import UNTAGGED
from vocab.fit.treebank import GoldToken

PIECE = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9\s]")
UPOS_OF_KIND = {"noun": "NOUN", "none": "NOUN", "name": "PROPN", "colour": "ADJ", "adjective": "ADJ", "verb": "VERB",
    "other": "X"}  # fmt: skip


def read_captions(path: Path, readings: Mapping[str, Readings]) -> list[list[GoldToken]]:
    """Sentences; words that nobody judged are UNTAGGED. Raises InputError or FormatError for a bad file."""
    if not path.is_file():
        raise InputError(path, found="no such file", wanted="judged captions as JSON lines", remedy="Pass such a file.")
    return list(_sentences(path, readings))


def _sentences(path: Path, readings: Mapping[str, Readings]) -> Iterator[list[GoldToken]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            items = [(str(item["text"]), str(item["kind"])) for item in record["items"]]
            caption, is_measured = str(record["caption"]), record["id"] % 2 == 0
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}:{number}", found=f"{type(error).__name__}: {error}",
                wanted='{"id": ..., "caption": ..., "items": [{"text": ..., "kind": ...}, ...]}',
                remedy="Mend the line.",
            ) from error  # fmt: skip
        if not is_measured and not any(kind == "foreign" for _, kind in items):
            yield sentence(caption, items, readings)


def sentence(caption: str, items: list[tuple[str, str]], readings: Mapping[str, Readings]) -> list[GoldToken]:
    """The caption's words with a tag where an item, in the caption's order, judges them."""
    text = clean(caption)[0]
    pieces = [(match[0], match.end()) for match in PIECE.finditer(text)]
    words = [piece.lower() for piece, _ in pieces]
    tags = [UNTAGGED] * len(pieces)
    begin: dict[tuple[str, ...], int] = {}
    for surface, kind in items:
        looked_for = tuple(PIECE.findall(surface.lower()))
        start = begin.get(looked_for, 0)
        place = next(
            (i for i in range(start, len(words)) if tuple(words[i : i + len(looked_for)]) == looked_for and tags[i] == UNTAGGED), None
        )
        if place is None:
            continue
        begin[looked_for] = place + 1
        last = place + len(looked_for) - 1
        for i in range(place, last + 1):
            if kind == "not":
                tags[i] = _not_a_noun(words[i], readings)
            elif kind == "name" or i == last:
                tags[i] = UPOS_OF_KIND[kind]
    return [GoldToken(piece, piece, tag, text[end : end + 1].isspace()) for (piece, end), tag in zip(pieces, tags, strict=True)]


def _not_a_noun(word: str, readings: Mapping[str, Readings]) -> str:
    known = readings[word] if word in readings else Readings()
    if ADJECTIVE in known.itself and not word.endswith(("ing", "s")):
        return "ADJ"
    return "VERB" if VERB in known.parts_of_speech else "X"
