"""WordNet's own database files, parsed into arrays.

In: a folder with data.noun, index.noun, index.sense and noun.exc of WordNet 3.0 (Debian: wordnet-base and
wordnet-sense-index). Out: a `WordNet`. Runs once, when the packed file is built; formats in wndb(5WN).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab.errors import InputError
from vocab.wordnet import WordNet


@dataclass(frozen=True)
class SynsetLine:
    """One line of data.noun.

    00017222 03 n 02 plant 0 flora 0 ... 003 @ 00004475 n 0000 ~ 11529603 n 0000 @i 09820263 n 0000 | a living organism
    offset   file pos words(hex) word lex_id ... pointers(decimal) symbol offset pos source/target ... | gloss
    """

    offset: int
    lexicographer_file: int
    words: tuple[str, ...]
    hypernyms: tuple[int, ...]
    instance_hypernyms: tuple[int, ...]


def read_wordnet(folder: Path) -> WordNet:
    """Parse the files. Raises InputError if one is missing, is not WordNet 3.0's, or contradicts another."""
    synsets = [parse_synset(line) for line in read_lines(folder, "data.noun")]
    index = dict(parse_index(line) for line in read_lines(folder, "index.noun"))
    senses = map(parse_sense, read_lines(folder, "index.sense"))
    sense_counts = {(lemma, offset): count for lemma, pos, offset, count in senses if pos == "1"}
    lemmas = list(index)
    exceptions = [(form, base) for form, bases in sorted(read_exceptions(folder, "noun.exc").items()) for base in bases]
    row_of_synset = {synset.offset: row for row, synset in enumerate(synsets)}
    row_of_lemma = {lemma: row for row, lemma in enumerate(lemmas)}
    _check_versions(folder, synsets, lemmas)
    hypernym_starts, hypernyms = _joined([[row_of_synset[o] for o in s.hypernyms] for s in synsets])
    instance_starts, instances = _joined([[row_of_synset[o] for o in s.instance_hypernyms] for s in synsets])
    word_starts, word_lemmas = _joined([[row_of_lemma[w.lower()] for w in s.words] for s in synsets])
    sense_starts, sense_synsets = _joined([[row_of_synset[o] for o in index[lemma]] for lemma in lemmas])
    return WordNet(
        synsets=np.array([s.offset for s in synsets], dtype=np.int32),
        lexicographer_files=np.array([s.lexicographer_file for s in synsets], dtype=np.uint8),
        hypernym_starts=hypernym_starts,
        hypernyms=hypernyms,
        instance_starts=instance_starts,
        instance_hypernyms=instances,
        word_starts=word_starts,
        word_lemmas=word_lemmas,
        words=pa.array([word for s in synsets for word in s.words], pa.string()),
        lemmas=pa.array(lemmas, pa.string()),
        sense_starts=sense_starts,
        sense_synsets=sense_synsets,
        sense_counts=np.array([sense_counts[lemma, o] for lemma in lemmas for o in index[lemma]], dtype=np.int32),
        exception_forms=pa.array([form for form, _ in exceptions], pa.string()),
        exception_bases=pa.array([base for _, base in exceptions], pa.string()),
        version="3.0",
    )


def parse_synset(line: str) -> SynsetLine:
    """Parse one line of data.noun; the sample is in `SynsetLine`."""
    fields = line.split(" | ", 1)[0].split()
    word_count = int(fields[3], 16)
    pointers = fields[5 + 2 * word_count :]
    by_symbol: dict[str, list[int]] = defaultdict(list)
    for symbol, offset in zip(pointers[0::4], pointers[1::4], strict=True):
        by_symbol[symbol].append(int(offset))
    return SynsetLine(
        offset=int(fields[0]),
        lexicographer_file=int(fields[1]),
        words=tuple(fields[4 : 4 + 2 * word_count : 2]),
        hypernyms=tuple(by_symbol["@"]),
        instance_hypernyms=tuple(by_symbol["@i"]),
    )


def parse_index(line: str) -> tuple[str, list[int]]:
    """Parse one line of index.noun: the lemma and its synsets, most frequent sense first.

    acris n 1 3 @ #m %m 1 0 01651370
    lemma pos synsets pointers symbols... senses tagged offset...
    """
    fields = line.split()
    return fields[0], [int(offset) for offset in fields[-int(fields[2]) :]]


def parse_sense(line: str) -> tuple[str, str, int, int]:
    """Parse one line of index.sense: lemma, part of speech, offset, tagged uses. Satellite adjectives (5) count as 3.

    absorbing%5:00:00:interesting:00 01344171 1 0
    lemma%pos:file:id:head:id offset sense_number tag_count
    """
    key, offset, _, count = line.split()
    lemma, _, rest = key.rpartition("%")
    return lemma, "3" if rest[0] == "5" else rest[0], int(offset), int(count)


def read_lines(folder: Path, name: str) -> Iterator[str]:
    """Lines of a database file, without the licence at its head (whose lines begin with two spaces)."""
    path = folder / name
    if not path.is_file():
        raise InputError(
            path,
            found="no such file",
            wanted="WordNet 3.0's database files",
            remedy="On Debian or Ubuntu: apt-get install wordnet-base wordnet-sense-index (/usr/share/wordnet)",
        )
    with path.open(encoding="utf-8") as lines:
        yield from (line.rstrip("\n") for line in lines if not line.startswith("  "))


def read_glosses(folder: Path, *names: str) -> list[str]:
    """The gloss of each synset, definitions and examples, in the order of data.noun and its like."""
    return [line.split(" | ", 1)[1] for name in names for line in read_lines(folder, f"data.{name}")]


def read_exceptions(folder: Path, name: str) -> dict[str, list[str]]:
    """noun.exc and its like: "geese goose", sometimes with a second base."""
    rows = (line.split() for line in read_lines(folder, name))
    return {form: bases for form, *bases in rows}


def _joined(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    starts = np.concatenate([[0], np.cumsum([len(values) for values in lists])]).astype(np.int32)
    return starts, np.array([value for values in lists for value in values], dtype=np.int32)


def _check_versions(folder: Path, synsets: Sequence[SynsetLine], lemmas: Sequence[str]) -> None:
    """WordNet 2.1 and 3.1 parse as well, but their offsets mean other things: refuse them by their counts."""
    licence = (folder / "data.noun").read_text(encoding="utf-8")[:4000]
    version = re.search(r"WordNet (\d\.\d) Copyright", licence)
    found = (version.group(1) if version else "none", len(synsets), len(lemmas))
    if found != ("3.0", 82115, 117798):
        raise InputError(
            folder,
            found=f"WordNet {found[0]} with {found[1]:,} noun synsets and {found[2]:,} noun lemmas",
            wanted="WordNet 3.0 with 82,115 and 117,798",
            remedy="Offsets differ between versions; take WordNet 3.0 (Debian: wordnet-base).",
        )
