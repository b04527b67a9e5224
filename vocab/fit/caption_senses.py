"""Senses of nouns in captions, and nouns that captions have beside WordNet's: lists written by hand.

In: the lists, `caption_senses.txt` and `caption_words.txt` beside this module. Out: `Entry`s, and for a lemma or entry
the sense that a caption means if nothing else is known, and words nearby that speak for a sense.

    crane 4 | 5: bird flying wing nest          sense 4 of WordNet 3.0, but sense 5 beside one of these words
    vintage x                                   no noun in captions: no label
    selfie = self-portrait.n.01                 a word that WordNet lacks; its plural is read so too
    0*mm = millimeter.n.01                      a unit after a number of one to four digits: 70mm
    in front of = -                             words that are no noun
    red fire = +                                words that are no noun together, each may be one: a red fire hydrant
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vocab.entries import EntryKind, is_proper
from vocab.errors import FormatError
from vocab.nouns import singular_forms
from vocab.wordnet import WordNet

SENSES_FILE = Path(__file__).parent / "caption_senses.txt"
WORDS_FILE = Path(__file__).parent / "caption_words.txt"
CODE = 2
"""letters of words that are no nouns unless they are listed"""
ANY_NUMBER = "0*"
MAX_DIGITS = 4
NO_SYNSETS = {"-": EntryKind.NO_NOUN, "+": EntryKind.PARTED}


@dataclass(frozen=True)
class CaptionSenses:
    """One line of the list of senses."""

    lemma: str
    is_noun: bool
    """false if the word has a sense only beside one of the cues"""
    default: int | None
    """number of the sense, from 1; None if WordNet's counts and what pictures show decide"""
    cues: dict[int, tuple[str, ...]]


@dataclass(frozen=True)
class Entry:
    """A lemma of captions' own: words, parted by spaces, and the rows of its synsets."""

    words: str
    kind: EntryKind
    synsets: tuple[int, ...]


def read_senses(text: str) -> list[CaptionSenses]:
    """Parse the list of senses. Raises FormatError for a line that cannot be read."""
    return [_senses(line) for line in _lines(text)]


def read_words(text: str, wordnet: WordNet) -> list[Entry]:
    """Parse the list of words. Raises FormatError for a line that cannot be read."""
    row_of = {lemma: row for row, lemma in enumerate(wordnet.lemmas.to_pylist())}
    return [_word(form, wordnet, row_of) for line in _lines(text) for form in _forms(line)]


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def _senses(line: str) -> CaptionSenses:
    head, *groups = (part.strip() for part in line.split("|"))
    try:
        lemma, default = head.split()
        cues = {int(number): tuple(words.split()) for number, words in (group.split(":") for group in groups)}
        return CaptionSenses(lemma, default != "x", None if default in ("-", "x") else int(default), cues)
    except ValueError as error:
        raise FormatError(
            f"{SENSES_FILE.name}: {line!r}", found=str(error), wanted="lemma default | sense: words | ...",
            remedy="Mend the line.",
        ) from error  # fmt: skip


def _forms(line: str) -> list[str]:
    """The line, or one for each number of digits that may stand before a unit: every digit is a 0 to the labeler."""
    unit = line.removeprefix(ANY_NUMBER)
    return [line] if unit == line else ["0" * digits + unit for digits in range(1, MAX_DIGITS + 1)]


def _word(line: str, wordnet: WordNet, row_of: Mapping[str, int]) -> Entry:
    words, _, names = (part.strip() for part in line.partition("="))
    if names in NO_SYNSETS:
        return Entry(words, NO_SYNSETS[names], ())
    synsets = []
    for name in names.split() or [""]:
        lemma, _, number = name.rpartition(".n.")
        senses = _senses_of(wordnet, row_of[lemma]) if lemma in row_of else ()
        if not number.isdigit() or not 0 < int(number) <= len(senses):
            raise FormatError(
                f"{WORDS_FILE.name}: {line!r}", found=repr(name), wanted="a synset of WordNet 3.0, as dog.n.01, or -",
                remedy="Mend the line.",
            )  # fmt: skip
        synsets.append(senses[int(number) - 1])
    return Entry(words, EntryKind.WORD, tuple(synsets))


def entries_of(
    wordnet: WordNet,
    known: pa.StringArray,
    listed: Sequence[CaptionSenses],
    words: Sequence[Entry],
    names: Sequence[str] = (),
) -> list[Entry]:
    """All entries: the listed words, plurals with a lemma of their own, lemmas that are no nouns in captions, and names
    of several words that hold a noun."""
    row_of = {lemma: row for row, lemma in enumerate(wordnet.lemmas.to_pylist())}
    lines = {line.lemma for line in listed}
    pools = {
        word: _pool(wordnet, [row_of[form] for form in forms])
        for word, forms in _plurals(known, wordnet, row_of)
        if len(forms) > 1 or word in lines
    }
    own = {entry.words: entry.synsets for entry in words}
    no_nouns = {line.lemma: line for line in listed if not line.is_noun}
    found = list(words)
    for lemma, line in no_nouns.items():
        synsets = own.get(lemma) or pools.get(lemma) or (_pool(wordnet, [row_of[lemma]]) if lemma in row_of else ())
        spelled = lemma.replace("_", " ")
        found.append(Entry(spelled, EntryKind.CUED, synsets) if line.cues else Entry(spelled, EntryKind.NO_NOUN, ()))
    proper = is_proper(wordnet)
    for line in listed:
        row = row_of.get(line.lemma)
        if row is not None and line.is_noun and line.lemma not in own and line.lemma not in pools:
            mixed = not proper[wordnet.sense_starts[row] : wordnet.sense_starts[row + 1]].all()
            means_proper = line.default is not None and proper[wordnet.sense_starts[row] + line.default - 1]
            if len(line.lemma) <= CODE or (mixed and means_proper):
                kind = EntryKind.FORM if len(line.lemma) <= CODE else EntryKind.WORD
                found.append(Entry(line.lemma.replace("_", " "), kind, _pool(wordnet, [row])))
    found += [
        Entry(word, EntryKind.FORM, synsets)
        for word, synsets in pools.items()
        if word not in no_nouns and word not in own and len(word) > CODE
    ]
    spelled_out = {entry.words for entry in found}
    for name in names:
        is_new = name not in spelled_out and name.replace(" ", "_") not in row_of
        if is_new and any(word in row_of for word in name.split()):
            found.append(Entry(name, EntryKind.NAME, ()))
    return found


def _plurals(known: pa.StringArray, wordnet: WordNet, row_of: Mapping[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Words that are the plural of a lemma: that lemma, after the word's own if it has one."""
    columns = [forms.to_pylist() for forms in singular_forms(known, wordnet)]
    for place, word in enumerate(known.to_pylist()):
        others = dict.fromkeys(column[place] for column in columns if column[place] in row_of and column[place] != word)
        if others:
            yield word, [word, *others] if word in row_of else list(others)


def _pool(wordnet: WordNet, lemmas: Sequence[int]) -> tuple[int, ...]:
    """Synsets of some lemmas, each once."""
    return tuple(dict.fromkeys(synset for lemma in lemmas for synset in _senses_of(wordnet, lemma)))


def _senses_of(wordnet: WordNet, lemma: int) -> tuple[int, ...]:
    return tuple(wordnet.sense_synsets[wordnet.sense_starts[lemma] : wordnet.sense_starts[lemma + 1]].tolist())
