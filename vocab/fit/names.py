"""Words that are names: given names, surnames, places, brands.

In: the folder with lists of names. Out: for each word of the lists, in lower case, one short text that says on which
lists it is and how common it is there: a feature of the tagger. And the names of several words, which are no nouns.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from vocab.cleaning import clean, clean_all
from vocab.errors import InputError
from vocab.lexicon import MAX_WORDS
from vocab.tokens import split_words

RANKS = (300, 1500, 5000)
"""steps of how common a given name or a surname is"""
WORD = re.compile("[a-z]+")
LONG = ("person", "work", "team", "company", "newspaper")
MISCELLANEOUS = {
    "first_name": "g", "last_name": "s", "dog_name": "d", "place": "p", "company": "b", "newspaper": "b", "team": "b",
    "myth": "m", "nationality": "n",
}  # fmt: skip


def read_names(folder: Path) -> dict[str, str]:
    """Word -> the lists that it is on: {"paris": "g3p0"}. Raises InputError for a missing list."""
    found: dict[str, dict[str, int]] = {}

    def add(name: str, kind: str, step: int) -> None:
        word = clean(name)[0].strip().lower()
        if WORD.fullmatch(word) and len(word) > 1:
            steps = found.setdefault(word, {})
            steps[kind] = min(step, steps.get(kind, step))

    for rank, row in enumerate(_rows(folder / "given_names_us.tsv")):
        add(row["name"], "g", _step(rank))
    for rank, row in enumerate(_rows(folder / "surnames_us.tsv.gz")):
        add(row["name"], "s", _step(rank))
    for row in _rows(folder / "places.tsv"):
        add(row["name"], "p", 0)
    for row in _rows(folder / "brands_nsi.tsv.gz"):
        if row["scope"] in ("world", "en"):
            add(row["name"], "b", 0)
    for row in _rows(folder / "brands_simple_icons.tsv"):
        add(row["name"], "b", 0)
    for row in _rows(folder / "names_misc.tsv.gz"):
        if row["kind"] == "person":
            words = row["name"].split()
            for word in words[:1]:
                add(word, "g", 2)
            for word in words[1:][-1:]:
                add(word, "s", 2)
        elif row["kind"] in MISCELLANEOUS:
            add(row["name"], MISCELLANEOUS[row["kind"]], 2)
    return {word: "".join(f"{kind}{step}" for kind, step in sorted(steps.items())) for word, steps in found.items()}


def read_long_names(folder: Path) -> list[str]:
    """Brands, places, persons, teams, companies and works of two to four words, in lower case.

    Raises InputError for a missing list.
    """
    names = [row["name"] for row in _rows(folder / "places.tsv")]
    names += [row["name"] for row in _rows(folder / "brands_nsi.tsv.gz") if row["scope"] in ("world", "en")]
    names += [row["name"] for row in _rows(folder / "brands_simple_icons.tsv")]
    names += [row["name"] for row in _rows(folder / "names_misc.tsv.gz") if row["kind"] in LONG]
    tokens = split_words(clean_all(pa.array(names)))
    words, starts = tokens.words.to_pylist(), tokens.starts.tolist()
    spelled = (words[begin:end] for begin, end in pairwise(starts))
    return sorted({" ".join(name) for name in spelled if 2 <= len(name) <= MAX_WORDS and all(map(str.isalpha, name))})


def _step(rank: int) -> int:
    return sum(rank >= limit for limit in RANKS)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    if not file.is_file():
        raise InputError(file, found="no such file", wanted="a list of names", remedy="Pass the folder with all lists.")
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
