"""WordNet 3.0's nouns, as arrays.

In: the packed file `vocab/data/wordnet-3.0-nouns.npz`, which `python -m vocab build` makes from WordNet's own database
files. Out: one `WordNet`, read in well under half a second, with no Python object per synset or lemma.

Synsets and lemmas are addressed by *row*: their place in the arrays below. The identity that leaves this package is
the synset's offset in WordNet 3.0's `data.noun`, written `n02084071` (ImageNet calls it wnid) or 2084071.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab import packing
from vocab.errors import InputError
from vocab.packing import Kind

PACKED = Kind(
    file="wordnet-3.0-nouns.npz",
    version=3,
    holds="the packed nouns of WordNet 3.0",
    made_by="python -m vocab build --wordnet /usr/share/wordnet",
)

# Lexicographer files 3..28 hold the nouns (wnlexnames(5WN)); "noun.Tops" is file 3.
LEXICOGRAPHER_FILES: dict[int, str] = {
    3: "Tops", 4: "act", 5: "animal", 6: "artifact", 7: "attribute", 8: "body", 9: "cognition", 10: "communication",
    11: "event", 12: "feeling", 13: "food", 14: "group", 15: "location", 16: "motive", 17: "object", 18: "person",
    19: "phenomenon", 20: "plant", 21: "possession", 22: "process", 23: "quantity", 24: "relation", 25: "shape",
    26: "state", 27: "substance", 28: "time",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class WordNet:
    """Nouns of WordNet 3.0. S synsets (82,115), L lemmas (117,798), N senses (146,312: pairs of the two).

    Lists of varying length are stored one after another, with the place where each begins: the senses of lemma i are
    `sense_synsets[sense_starts[i]:sense_starts[i + 1]]`.
    """

    synsets: NDArray[np.int32]
    """[S] offset in data.noun, ascending"""
    lexicographer_files: NDArray[np.uint8]
    """[S] key of `LEXICOGRAPHER_FILES`"""
    hypernym_starts: NDArray[np.int32]
    """[S + 1]"""
    hypernyms: NDArray[np.int32]
    """synset rows, one level up: dog -> canine"""
    instance_starts: NDArray[np.int32]
    """[S + 1]"""
    instance_hypernyms: NDArray[np.int32]
    """synset rows of what this is an instance of: Paris -> national capital"""
    word_starts: NDArray[np.int32]
    """[S + 1]"""
    word_lemmas: NDArray[np.int32]
    """lemma rows of each synset's words, in data.noun's order; 35 more than senses, which know no capitals"""
    words: pa.StringArray
    """the same words with data.noun's capitals: dog, domestic_dog, Canis_familiaris"""
    lemmas: pa.StringArray
    """[L] lower case, parts joined by "_", in index.noun's order"""
    sense_starts: NDArray[np.int32]
    """[L + 1]"""
    sense_synsets: NDArray[np.int32]
    """[N] synset rows, a lemma's most frequent sense first"""
    sense_counts: NDArray[np.int32]
    """[N] how often the sense was tagged in WordNet's own corpora (index.sense)"""
    exception_forms: pa.StringArray
    """irregular plurals (noun.exc), sorted: geese"""
    exception_bases: pa.StringArray
    """their singulars, aligned with the forms: goose"""
    version: str
    """version of WordNet: "3.0" """

    def find(self, synset: int) -> int | None:
        """Row of a synset offset; None for an offset that is not a noun of WordNet 3.0."""
        # searchsorted would copy the array for each Python integer.
        row = bisect_left(self.synsets, synset)
        return row if row < len(self.synsets) and self.synsets[row] == synset else None

    def row_of(self, synset: int) -> int:
        """Row of a synset offset. Raises InputError for an offset that is not a noun of WordNet 3.0."""
        row = self.find(synset)
        if row is None:
            raise InputError(
                f"synset {wnid_of(synset)}",
                found="no such noun",
                wanted="an offset in WordNet 3.0's data.noun",
                remedy="Labels and wnids must be made with WordNet 3.0, not 2.1, 3.1 or Open English WordNet.",
            )
        return row

    def words_of(self, row: int) -> list[str]:
        """The words of a synset with their capitals: ["dog", "domestic_dog", "Canis_familiaris"]."""
        words: list[str] = self.words.slice(
            self.word_starts[row], self.word_starts[row + 1] - self.word_starts[row]
        ).to_pylist()
        return words

    def name_of(self, row: int) -> str:
        """The usual name of a synset, as NLTK writes it: first word, part of speech, number of that word's sense."""
        lemma = int(self.word_lemmas[self.word_starts[row]])
        senses = self.sense_synsets[self.sense_starts[lemma] : self.sense_starts[lemma + 1]]
        number = int(np.flatnonzero(senses == row)[0]) + 1
        return f"{self.lemmas[lemma].as_py()}.n.{number:02d}"

    def lemma_counts(self) -> NDArray[np.int64]:
        """[L] how often each lemma was tagged as a noun, over all its senses."""
        totals = np.concatenate([[0], np.cumsum(self.sense_counts, dtype=np.int64)])
        counts: NDArray[np.int64] = totals[self.sense_starts[1:]] - totals[self.sense_starts[:-1]]
        return counts


def words_of_name(name: str) -> str:
    """Return the name of a synset in plain words: "traffic_light.n.01" -> "traffic light"."""
    return name.rsplit(".", 2)[0].replace("_", " ")


def wnid_of(synset: int) -> str:
    """2084071 -> "n02084071"."""
    return f"n{synset:08d}"


def synset_of_wnid(wnid: str) -> int:
    """ "n02084071" -> 2084071. Raises InputError for anything but n and eight digits."""
    if re.fullmatch(r"n[0-9]{8}", wnid) is None:
        raise InputError("wnid", found=repr(wnid), wanted='"n" and eight digits', remedy="Write dog as n02084071.")
    return int(wnid[1:])


@cache
def load() -> WordNet:
    """The packed nouns that come with the package, read once per process.

    Raises FormatError if the file is missing or is not the version this code reads.
    """
    return unpack(packing.read(PACKED))


def pack(wordnet: WordNet) -> bytes:
    """The packed file's bytes."""
    tables = {name: value for name, value in vars(wordnet).items() if name != "version"}
    return packing.pack(PACKED, tables, {"wordnet": wordnet.version, "licence": "LICENSE.wordnet"})


def unpack(content: bytes) -> WordNet:
    """The inverse of `pack`. Raises FormatError for bytes that are not such a file, or another version of it."""
    tables, about = packing.unpack(PACKED, content)
    return WordNet(**tables, version=about["wordnet"])
