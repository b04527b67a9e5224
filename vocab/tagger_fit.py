"""Fit the tagger's tables on a treebank.

In: a CoNLL-U treebank and WordNet's database files. Out: a `Tagger`. Every sentence is read twice, as it is written and
in lower case, because captions come both ways. Multinomial logistic regression with an L2 penalty, by L-BFGS from zero:
no chance is involved, and the same data give the same bytes.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab import wordnet
from vocab.context import CASES, GAPS, Case, Context, context_of
from vocab.errors import MissingRequirementError
from vocab.inflection import NOUN, Readings, read_readings
from vocab.language import FOREIGN_WORDS, SHARED_WORDS
from vocab.lexicon import spellings_of
from vocab.tagger import (
    CAPITAL_PROFILE,
    LOWER_PROFILE,
    MAX_ENDING,
    SCALE,
    STRONG,
    UNKNOWN,
    WINDOW,
    Tag,
    Tagger,
    pack_lanes,
)
from vocab.tokens import Tokens
from vocab.treebank import Aligned, GoldToken, align, read_treebank

TAG_OF_UPOS = {
    "NOUN": Tag.NOUN, "PROPN": Tag.NOUN, "ADJ": Tag.ADJECTIVE, "VERB": Tag.VERB, "AUX": Tag.VERB,
}  # fmt: skip
CLASS_OF_UPOS = {
    "NOUN": "noun", "PROPN": "name", "ADJ": "adjective", "VERB": "verb", "ADV": "adverb", "NUM": "number",
    "DET": "closed", "PRON": "closed", "ADP": "closed", "CCONJ": "closed", "SCONJ": "closed", "PART": "closed",
    "AUX": "closed", "INTJ": "other", "SYM": "other", "PUNCT": "other", "X": "other",
}  # fmt: skip
"""finer than the tags, because a number or an adverb is another neighbour than a preposition"""

# Tuned on the development part of the treebank.
PENALTY = 3.0
ITERATIONS = 80
MIN_WORD = 2
"""uses in the treebank from which a word is a feature of its own"""
MIN_PAIR = 4
"""and a pair of classes"""
MIN_ENDING = 3
"""words that end so from which an ending has a row for unknown words"""
CLOSED_WORDS = 150
MIN_CLASS = 8
"""uses from which a word's class is taken from the treebank and not from WordNet"""
CLASS_TAGS = 2
CLASS_SHARE = 0.08
"""a tag counts among those of a word from this share of its uses"""

ENDINGS = (
    "able", "tion", "ness", "ment", "ing", "est", "ous", "ive", "ful", "less", "ity", "ism", "ist", "ies", "ish",
    "man", "ed", "ly", "er", "al", "ic", "es", "ss", "us", "an", "s", "y",
)  # fmt: skip
"""endings that part unknown words into classes, the longer first"""
NO_ROW = -1
NONE: collections.Counter[str] = collections.Counter()
KNOWN_NOUN = 3 * SCALE // 4
"""what being nothing but a noun in WordNet adds: "geese, mice" is no greeting, as "yes, thanks" is in the treebank"""
FOLDS = 10
"""parts of the treebank, each of which sees its words in the classes that the other parts give them"""


def fit(treebank: Path, wordnet_folder: Path) -> Tagger:
    """Fit on files. Raises InputError for a missing one, MissingRequirementError without SciPy."""
    parts = spellings_of(wordnet.load()).parts
    return fit_sentences(read_treebank(treebank), read_readings(wordnet_folder), parts.to_pylist())


def fit_sentences(
    sentences: Sequence[Sequence[GoldToken]], readings: Mapping[str, Readings], listed: Iterable[str]
) -> Tagger:
    """Fit on sentences and on what a dictionary says of words. Words in `listed` get rows of their own in any case."""
    gold = [TAG_OF_UPOS.get(token.upos, Tag.OTHER) for sentence in sentences for token in sentence]
    upos = [token.upos for sentence in sentences for token in sentence]
    copies = [align(sentences), align(sentences, case=str.lower)]
    lexicon = _Words.build(copies[1], upos, readings, listed)
    folds = fold_of_sentences(len(sentences))
    features = [_features(lexicon, copy.tokens, folds) for copy in copies]
    targets = np.concatenate([np.array(gold, dtype=np.int64)[copy.first] for copy in copies])
    columns = {name: np.concatenate([part[name] for part in features]) for name in features[0]}
    weights = _regress(columns, targets)
    return lexicon.tagger(weights)


@dataclass(frozen=True, eq=False)
class _Words:
    """Known words and endings in the order of the tagger's rows, with the features of each alone."""

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

    @classmethod
    def build(
        cls, lower: Aligned, upos: Sequence[str], readings: Mapping[str, Readings], listed: Iterable[str]
    ) -> _Words:
        seen = lower.tokens.words.to_pylist()
        tags: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        held_out: list[dict[str, collections.Counter[str]]] = [
            collections.defaultdict(collections.Counter) for _ in range(FOLDS)
        ]
        fold_of = np.repeat(fold_of_sentences(len(lower.captions)), np.diff(lower.tokens.starts))
        for word, token, fold in zip(seen, lower.first.tolist(), fold_of.tolist(), strict=True):
            tags[word][CLASS_OF_UPOS[upos[token]]] += 1
            held_out[fold][word][CLASS_OF_UPOS[upos[token]]] += 1
        known = sorted(
            {word for word in tags if tags[word].total() >= MIN_WORD}
            | set(readings)
            | set(listed)
            | FOREIGN_WORDS
            | SHARED_WORDS
        )
        types = collections.Counter(
            word[-length:] for word in tags for length in range(1, MAX_ENDING + 1) if length <= len(word)
        )
        endings = sorted(UNKNOWN + ending for ending, count in types.items() if count >= MIN_ENDING)
        words = [*known, UNKNOWN, *endings, ""]
        closed = [word for word in known if word in tags and 2 * tags[word]["closed"] > tags[word].total()]
        closed = sorted(closed, key=lambda word: (-tags[word]["closed"], word))[:CLOSED_WORDS]
        closed_class = set(closed)

        def names(without: Mapping[str, collections.Counter[str]]) -> list[str]:
            found = [
                f"word {word}"
                if word in closed_class
                else class_name(
                    word, tags[word] - without.get(word, NONE) if word in tags else None, readings.get(word)
                )
                for word in words
            ]
            return [*found[:-1], "empty place"]

        own_names = names({})
        fold_names = [names(without) for without in held_out]
        classes = sorted({*own_names, *(name for fold in fold_names for name in fold)})
        numbers = {name: number for number, name in enumerate(classes)}
        values: dict[str, list[str | None]] = {
            "word": [word if word in tags and tags[word].total() >= MIN_WORD else None for word in words],
            "kind": [readings[word].kind if word in readings else "unknown" for word in words],
            "beginning": [word[:3] if len(word) > 4 and word[0] != UNKNOWN else None for word in words],
            **{f"ending{length}": [_ending(word, length) for word in words] for length in range(1, MAX_ENDING + 1)},
        }
        for column in values.values():
            column[-1] = None
        keys = {name: _numbered(column) for name, column in values.items()}
        class_of, *class_without = (np.array([numbers[name] for name in column]) for column in (own_names, *fold_names))
        known_nouns = np.array([word in readings and readings[word].parts_of_speech == {NOUN} for word in words])
        return cls(words, classes, class_of, np.stack(class_without), known_nouns, keys)

    def rows(self, words: Sequence[str]) -> NDArray[np.int64]:
        """What `Tagger.rows` will give: the row of each word, or of its longest known ending."""
        row_of = {word: row for row, word in enumerate(self.words)}

        def row(word: str) -> int:
            endings = (UNKNOWN + word[-length:] for length in range(MAX_ENDING, 0, -1) if length <= len(word))
            return next(row_of[form] for form in (word, *endings, UNKNOWN) if form in row_of)

        return np.array([row(word) for word in words], dtype=np.int64)

    def tagger(self, weights: Mapping[str, Mapping[int, NDArray[np.int16]]]) -> Tagger:
        """Add up what depends on one word, spread the rest over dense tables."""
        profiles = np.zeros((len(self.words), CASE_PROFILES, len(Tag)), dtype=np.int16)
        for name, rows in weights.items():
            feature, _, place = name.partition("@")
            if place and feature in WORD_FEATURES:
                table = np.zeros((int(self._size(feature)) + 1, len(Tag)), dtype=np.int16)
                for key, row in rows.items():
                    table[key] = row
                profiles[:, PROFILE_PLACES[place]] += table[self._keys(feature)]
        profiles[self.known_nouns, PROFILE_PLACES["+0"], Tag.NOUN] += KNOWN_NOUN
        unique, inverse = np.unique(profiles.reshape(len(profiles), -1), axis=0, return_inverse=True)
        classes = len(self.classes)
        sides = classes + GAPS
        shapes = {
            "before": (sides, classes), "after": (classes, sides), "around": (sides, sides),
            "gap_before": (GAPS, classes), "gap_after": (GAPS, classes), "gaps": (GAPS, GAPS),
            "case": (CASES, classes), "cases": (CASES, CASES, CASES),
        }  # fmt: skip
        tables = {}
        for name, shape in shapes.items():
            table = np.zeros((int(np.prod(shape)), len(Tag)), dtype=np.int16)
            for key, row in weights[name].items():
                table[key] = row
            tables[name] = pack_lanes(table.reshape(*shape, len(Tag)))
        return Tagger(
            words=pa.array(self.words, pa.string()),
            classes=self.classes,
            profile_of=inverse.reshape(-1).astype(np.int32),
            class_of=self.class_of.astype(np.int32),
            profiles=pack_lanes(unique.reshape(-1, CASE_PROFILES, len(Tag)).astype(np.int16)),
            **tables,
        )

    def _keys(self, feature: str) -> NDArray[np.int64]:
        return self.class_of if feature == "class" else self.keys[feature]

    def _size(self, feature: str) -> int:
        return int(self._keys(feature).max()) + 1


CASE_PROFILES = len(WINDOW) + 2
WORD_FEATURES = ("word", "kind", "class", "beginning", *(f"ending{length}" for length in range(1, MAX_ENDING + 1)))
PROFILE_PLACES = {
    **{f"{offset:+d}": place for place, offset in enumerate(WINDOW)}, "capital": CAPITAL_PROFILE, "lower": LOWER_PROFILE
}  # fmt: skip
# Which features of a word are looked at where: "-1" is the word before the one that is scored.
LOOKED_AT = {
    "word": ("-2", "-1", "+0", "+1", "+2", "capital", "lower"),
    "kind": ("-1", "+0", "+1"),
    "class": ("-1", "+0", "+1"),
    "beginning": ("+0",),
    "ending1": ("+0",),
    "ending2": ("-1", "+0", "+1"),
    "ending3": ("-1", "+0", "+1"),
    "ending4": ("+0",),
}


def class_name(word: str, tags: collections.Counter[str] | None, readings: Readings | None) -> str:
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
    return f"unknown {ending}".rstrip()


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


def _features(lexicon: _Words, tokens: Tokens, folds: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Feature -> [T] number of its value for each word, NO_ROW for none. The same that `Scorer.scores` looks up."""
    encoded = tokens.words.dictionary_encode()
    distinct = lexicon.rows(encoded.dictionary.to_pylist())
    context = context_of(tokens, distinct[np.asarray(encoded.indices)], len(lexicon.words) - 1)
    at, rows = context.at, context.rows
    fold_at = np.zeros(len(rows), dtype=np.int64)
    fold_at[at] = np.repeat(folds, np.diff(tokens.starts))
    class_at = lexicon.class_without[fold_at, rows]
    found: dict[str, NDArray[np.int64]] = {}
    for feature, places in LOOKED_AT.items():
        key_at = class_at if feature == "class" else lexicon.keys[feature][rows]
        for place in places:
            if place in ("capital", "lower"):
                wanted = Case.CAPITAL if place == "capital" else Case.LOWER
                found[f"{feature}@{place}"] = np.where(context.cases[at] == wanted, key_at[at], NO_ROW)
            else:
                found[f"{feature}@{place}"] = key_at[at + int(place)]
    return found | _pairs(len(lexicon.classes), context, class_at)


def _pairs(classes: int, context: Context, class_at: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    at, gaps, cases = context.at, context.gaps.astype(np.int64), context.cases.astype(np.int64)
    sides = classes + GAPS
    own = class_at[at]
    gap_before, gap_after = gaps[at], gaps[at + 1]
    before = np.where(STRONG[gap_before], classes + gap_before, class_at[at - 1])
    after = np.where(STRONG[gap_after], classes + gap_after, class_at[at + 1])
    return {
        "before": before * classes + own,
        "after": own * sides + after,
        "around": before * sides + after,
        "gap_before": gap_before * classes + own,
        "gap_after": gap_after * classes + own,
        "gaps": gap_before * GAPS + gap_after,
        "case": cases[at] * classes + own,
        "cases": (cases[at] * CASES + cases[at - 1]) * CASES + cases[at + 1],
    }


def _regress(
    columns: Mapping[str, NDArray[np.int64]], targets: NDArray[np.int64]
) -> dict[str, dict[int, NDArray[np.int16]]]:
    """Feature -> number of its value -> scores of the tags, in units of 1 / SCALE."""
    try:
        from scipy import sparse
        from scipy.optimize import minimize
    except ImportError as error:
        raise MissingRequirementError(
            "scipy", found="not installed", wanted="SciPy, to fit tables", remedy="pip install 'open-catlip[fit]'"
        ) from error
    rows, places = [], []
    meaning: list[tuple[str, int]] = []
    for name in sorted(columns):
        values, inverse, counts = np.unique(columns[name], return_inverse=True, return_counts=True)
        least = MIN_WORD if "@" in name else MIN_PAIR
        kept = (values != NO_ROW) & (counts >= least)
        number = np.cumsum(kept) - 1 + len(meaning)
        meaning += [(name, int(value)) for value in values[kept]]
        words = np.flatnonzero(kept[inverse])
        rows.append(words)
        places.append(number[inverse[words]])
    shape = (len(targets), len(meaning))
    ones = np.ones(sum(map(len, rows)), dtype=np.float32)
    design = sparse.csr_matrix((ones, (np.concatenate(rows), np.concatenate(places))), shape=shape)
    transposed = design.T.tocsr()
    wanted = np.zeros((len(targets), len(Tag)), dtype=np.float32)
    wanted[np.arange(len(targets)), targets] = 1

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = design @ flat.reshape(len(meaning), len(Tag)).astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(axis=1, keepdims=True)
        value = -float(((logits * wanted).sum(axis=1, keepdims=True) - np.log(total)).sum(dtype=np.float64))
        # Every sentence is there twice.
        slope = transposed @ (likely / total - wanted) / 2
        return value / 2 + PENALTY / 2 * float(flat @ flat), slope.ravel().astype(np.float64) + PENALTY * flat

    start = np.zeros(len(meaning) * len(Tag))
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 6}).x
    weights = best.reshape(len(meaning), len(Tag))
    # Only differences between tags matter; centred rows stay small.
    weights -= weights.mean(axis=1, keepdims=True)
    scores = np.rint(weights * SCALE).astype(np.int16)
    found: dict[str, dict[int, NDArray[np.int16]]] = {name: {} for name in columns}
    for (name, value), row in zip(meaning, scores, strict=True):
        found[name][value] = row
    return found
