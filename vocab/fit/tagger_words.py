"""The words and endings that the tagger knows, with the features of each alone.

In: tags of words in a treebank, `Readings` from WordNet, vectors from plain text. Out: `KnownWords`, in the order of
the tagger's rows. A word's *class* stands in for it in tables over pairs of neighbours.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vocab.fit.distribution import Vectors
from vocab.fit.inflection import NOUN, Readings
from vocab.fit.regression import NO_ROW
from vocab.language import FOREIGN_WORDS, SHARED_WORDS
from vocab.tagger import MAX_ENDING, UNKNOWN

MIN_WORD = 2
"""uses in the treebank from which a word is a feature of its own"""
MIN_SILVER_WORD = 3
"""and in other tagged text, of a word that is known anyway"""
MIN_ENDING = 3
"""words that end so from which an ending has a row for unknown words"""
CLOSED_WORDS = 150
MIN_CLASS = 8
"""uses from which a word's class is taken from the treebank and not from WordNet"""
CLASS_TAGS = 2
CLASS_SHARE = 0.08
"""a tag counts among those of a word from this share of its uses"""
FOLDS = 10
"""parts of the treebank, each of which sees its words in the classes that the other parts give them"""

ENDINGS = (
    "able", "tion", "ness", "ment", "ing", "est", "ous", "ive", "ful", "less", "ity", "ism", "ist", "ies", "ish",
    "man", "ed", "ly", "er", "al", "ic", "es", "ss", "us", "an", "s", "y",
)  # fmt: skip
"""endings that part unknown words into classes, the longer first"""

Tags = dict[str, collections.Counter[str]]
"""word -> how many times it has each tag"""


@dataclass(frozen=True, eq=False)
class TaggedWords:
    """Tags of a treebank's words."""

    tags: Tags
    of_fold: list[Tags]
    """[FOLDS] the same in each part of the treebank"""

    @classmethod
    def count(cls, words: Sequence[str], tags: Sequence[str], folds: Sequence[int]) -> TaggedWords:
        found = cls(collections.defaultdict(collections.Counter), [{} for _ in range(FOLDS)])
        for word, tag, fold in zip(words, tags, folds, strict=True):
            found.tags[word][tag] += 1
            found.of_fold[fold].setdefault(word, collections.Counter())[tag] += 1
        return cls(dict(found.tags), found.of_fold)

    def closed(self) -> set[str]:
        """The most frequent words of grammar, each of which is a class of its own."""
        closed = [word for word, tags in self.tags.items() if 2 * tags["closed"] > tags.total() >= MIN_WORD]
        return set(sorted(closed, key=lambda word: (-self.tags[word]["closed"], word))[:CLOSED_WORDS])

    def endings(self) -> list[str]:
        """Endings that enough words have."""
        types = collections.Counter(
            word[-length:] for word in self.tags for length in range(1, MAX_ENDING + 1) if length <= len(word)
        )
        return sorted(UNKNOWN + ending for ending, count in types.items() if count >= MIN_ENDING)


@dataclass(frozen=True, eq=False)
class KnownWords:
    """Known words and endings in the order of the tagger's rows; the last is the empty place."""

    words: list[str]
    classes: list[str]
    class_of: NDArray[np.int64]
    """[W]"""
    class_without: NDArray[np.int64]
    """[FOLDS, W] what the class would be without the sentences of one fold: to learn from those sentences"""
    known_nouns: NDArray[np.bool_]
    """[W] words that WordNet knows as nouns and as nothing else"""
    keys: dict[str, NDArray[np.int64]]
    """feature -> [W] number of its value, NO_ROW for none"""
    vectors: NDArray[np.float32]
    """[W, D]"""

    @classmethod
    def build(
        cls,
        tagged: TaggedWords,
        readings: Mapping[str, Readings],
        listed: Iterable[str],
        silver: Mapping[str, int],
        vectors: Vectors,
        names: Mapping[str, str],
        grades: Mapping[str, str],
    ) -> KnownWords:
        """Words in `listed` are known in any case; `silver` are uses in tagged text beside the treebank."""
        tags = tagged.tags
        frequent = {word for word in tags if tags[word].total() >= MIN_WORD}
        known = sorted(frequent | set(readings) | set(listed) | set(names) | FOREIGN_WORDS | SHARED_WORDS)
        words = [*known, UNKNOWN, *tagged.endings(), ""]
        own_names, *fold_names = _names(words, tagged, readings, names)
        classes = sorted({*own_names, *(name for fold in fold_names for name in fold)})
        numbers = {name: number for number, name in enumerate(classes)}
        class_of, *class_without = (np.array([numbers[name] for name in column]) for column in (own_names, *fold_names))
        weighed = frequent | {word for word in known if silver.get(word, 0) >= MIN_SILVER_WORD}
        return cls(
            words,
            classes,
            class_of,
            np.stack(class_without),
            np.array([word in readings and readings[word].parts_of_speech == {NOUN} for word in words]),
            _features(words, weighed, readings, names, grades),
            vectors.of(words),
        )

    def class_at(self, rows: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.int64]:
        """[len(rows)] class of each row without the sentences of a fold; of all sentences where the fold is FOLDS."""
        found: NDArray[np.int64] = np.vstack([self.class_without, self.class_of])[folds, rows]
        return found

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    def rows(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Results of `Tagger.rows`: the row of each word, or of its longest known ending."""

        def row(word: str) -> int:
            endings = (UNKNOWN + word[-length:] for length in range(MAX_ENDING, 0, -1) if length <= len(word))
            return next(self._row_of[form] for form in (word, *endings, UNKNOWN) if form in self._row_of)

        return np.array([row(word) for word in words], dtype=np.int64)


def _names(
    words: Sequence[str], tagged: TaggedWords, readings: Mapping[str, Readings], on_lists: Mapping[str, str]
) -> list[list[str]]:
    """[1 + FOLDS, W] names of the words' classes: by the whole treebank, and without each of its folds."""
    closed = tagged.closed()

    def names(without: Tags) -> list[str]:
        found = []
        for word in words[:-1]:
            tags = tagged.tags.get(word)
            left = tags - without.get(word, collections.Counter()) if tags is not None else None
            found.append(
                f"word {word}" if word in closed else class_name(word, left, readings.get(word), on_lists.get(word))
            )
        return [*found, "empty place"]

    return [names({}), *(names(fold) for fold in tagged.of_fold)]


def class_name(word: str, tags: collections.Counter[str] | None, readings: Readings | None, lists: str | None) -> str:
    """The class of a word that is not one by itself: by its tags in the treebank, or by what WordNet knows of it."""
    ending = next((e for e in ENDINGS if word.endswith(e) and len(word) > len(e) + 1), "")
    if "0" in word:
        return "number"
    if tags is not None and tags.total() >= MIN_CLASS:
        common = [(count, tag) for tag, count in tags.items() if count >= CLASS_SHARE * tags.total()]
        main = "+".join(tag for _, tag in sorted(common, key=lambda pair: (-pair[0], pair[1]))[:CLASS_TAGS])
        return f"treebank {main} {ending if ending in ('ing', 'ed') else ''}".rstrip()
    if readings is not None:
        itself, inflected, share = readings.kind.split(".")
        form = ("form" if inflected else "") if itself else f"form of {inflected}"
        known = f"{itself}.{form}.{share if itself != NOUN else ''}"
        return f"wordnet {known} {ending if ending in ('ing', 'ed', 's', 'ly') else ''}".rstrip()
    if lists is not None:
        return f"name {lists[0]}"
    return f"unknown {ending}".rstrip()


def _features(
    words: Sequence[str],
    weighed: set[str],
    readings: Mapping[str, Readings],
    names: Mapping[str, str],
    grades: Mapping[str, str],
) -> dict[str, NDArray[np.int64]]:
    values: dict[str, list[str | None]] = {
        "word": [word if word in weighed else None for word in words],
        "kind": [readings[word].kind if word in readings else "unknown" for word in words],
        "names": [names.get(word) for word in words],
        "grade": [grades.get(word) for word in words],
        "beginning": [word[:3] if len(word) > 4 and word[0] != UNKNOWN else None for word in words],
        **{f"ending{length}": [_ending(word, length) for word in words] for length in range(1, MAX_ENDING + 1)},
    }
    for column in values.values():
        column[-1] = None
    return {name: _numbered(column) for name, column in values.items()}


def _ending(word: str, length: int) -> str | None:
    """The last letters of a word; the longest only of words that have more than them."""
    bare = word.removeprefix(UNKNOWN)
    if len(bare) < length or (length == MAX_ENDING and len(bare) <= length + 1 and bare == word):
        return None
    return bare[-length:]


def _numbered(values: Sequence[str | None]) -> NDArray[np.int64]:
    numbers = {value: number for number, value in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([NO_ROW if value is None else numbers[value] for value in values], dtype=np.int64)


def fold_of_sentences(count: int) -> NDArray[np.int64]:
    """[count] fold of each sentence: runs of neighbours, which share their words, fall into one."""
    return np.arange(count) * FOLDS // max(1, count)
