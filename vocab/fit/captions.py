"""Captions whose words were tagged by hand: common noun, name, or neither.

In: captions with a letter for each of their words, one JSON object a line. Out: sentences of a treebank, more text for
the tagger to learn from. `benchmarks.labelling.tagged_captions` writes the lines for the package's tables.

    {"caption": "Watch Max the black dog", "tags": "VP.AN"}       N noun, P name, A adjective, V verb, O other, . untold
    {"caption": "a dog on a couch"}                               plain text: which words stand beside each other
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from vocab.cleaning import clean
from vocab.errors import FormatError, InputError
from vocab.fit.semcor import UNTAGGED
from vocab.fit.treebank import GoldToken

UPOS_OF_LETTER = {"N": "NOUN", "P": "PROPN", "A": "ADJ", "V": "VERB", "O": "X", ".": UNTAGGED}
PIECE = re.compile(r"([A-Za-z0-9\x7f]+)|[^\s]")


@dataclass(frozen=True)
class Captions:
    """Captions of a file."""

    tagged: list[list[GoldToken]]
    """sentences"""
    texts: list[str]
    """captions without tags"""


def read_captions(path: Path) -> Captions:
    """Captions. Raises InputError for a missing file, FormatError for a line that is no such caption."""
    if not path.is_file():
        raise InputError(
            path, found="no such file", wanted="tagged captions as JSON lines",
            remedy="Make it with python -m benchmarks.labelling.tagged_captions.",
        )  # fmt: skip
    found = Captions([], [])
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            if "tags" in record:
                found.tagged.append(sentence(str(record["caption"]), str(record["tags"])))
            else:
                found.texts.append(str(record["caption"]))
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}:{number}", found=f"{type(error).__name__}: {error}",
                wanted='{"caption": ..., "tags": a letter of NPAVO. for each word}', remedy="Write the file again.",
            ) from error  # fmt: skip
    return found


def sentence(caption: str, tags: str) -> list[GoldToken]:
    """Words and signs of a caption. Raises ValueError if there are more or fewer letters than words."""
    text = clean(caption)[0]
    pieces = list(PIECE.finditer(text))
    words = sum(piece[1] is not None for piece in pieces)
    if words != len(tags):
        raise ValueError(f"{len(tags)} letters for {words} words")
    letters = iter(tags)
    return [
        GoldToken(
            piece[0], piece[0], UPOS_OF_LETTER[next(letters)] if piece[1] is not None else UNTAGGED,
            text[piece.end() : piece.end() + 1].isspace(),
        )
        for piece in pieces
    ]  # fmt: skip
