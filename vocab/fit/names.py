"""Words that are names: given names, surnames, places, brands.

In: the folder with lists of names, and `caption_names.txt` beside this module. Out: for each word of the lists, in
lower case, one short text that says on which lists it is and how common it is there, and for nouns that are names as
well a grade: features of the tagger. And the names of several words, which are no nouns.
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

NAMES_FILE = Path(__file__).parent / "caption_names.txt"
GRADES = ("a", "b", "c")
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


def read_long_names(folder: Path | None) -> list[str]:
    """Names of two to four words in lower case: those of `caption_names.txt`, and with a folder its brands, places,
    persons, teams, companies and works.

    Raises InputError for a missing list.
    """
    names = [line for line in _own_lines() if _grade_of(line) is None]
    if folder is not None:
        names += [row["name"] for row in _rows(folder / "places.tsv")]
        names += [row["name"] for row in _rows(folder / "brands_nsi.tsv.gz") if row["scope"] in ("world", "en")]
        names += [row["name"] for row in _rows(folder / "brands_simple_icons.tsv")]
        names += [row["name"] for row in _rows(folder / "names_misc.tsv.gz") if row["kind"] in LONG]
    tokens = split_words(clean_all(pa.array(names)))
    words, starts = tokens.words.to_pylist(), tokens.starts.tolist()
    spelled = (words[begin:end] for begin, end in pairwise(starts))
    return sorted({" ".join(name) for name in spelled if 2 <= len(name) <= MAX_WORDS and all(map(str.isalpha, name))})


def read_grades() -> dict[str, str]:
    """Noun that is a name as well -> its grade: {"silverado": "a"}."""
    found = {}
    for line in _own_lines():
        grade = _grade_of(line)
        if grade is not None:
            found[line.split()[0]] = grade
    return found


def _own_lines() -> list[str]:
    return [line for line in NAMES_FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def _grade_of(line: str) -> str | None:
    """The grade of a line such as `hornet b`, None for a name of several words."""
    words = line.split()
    return words[1] if len(words) == 2 and words[1] in GRADES else None


def _step(rank: int) -> int:
    return sum(rank >= limit for limit in RANKS)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    if not file.is_file():
        raise InputError(file, found="no such file", wanted="a list of names", remedy="Pass the folder with all lists.")
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
