"""Fit the tagger's tables on a treebank and on captions.

In: a CoNLL-U treebank, tagged captions, WordNet's database files, SemCor, lists of names. Out: a `Tagger`. Every
sentence is read as it is written and in lower case, the treebank's also with the capitals of a title, because captions
come in all three ways. SemCor's tags count less, and only where they do not contradict what the treebank and
the captions teach; what is peculiar to its annotators is fitted apart, and dropped.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab import wordnet
from vocab.cleaning import clean_all
from vocab.context import CASES, GAPS
from vocab.fit.caption_senses import WORDS_FILE, read_words
from vocab.fit.captions import Captions, read_captions
from vocab.fit.distribution import word_vectors
from vocab.fit.inflection import FILES, Readings, plural, read_readings
from vocab.fit.names import read_grades, read_long_names, read_names
from vocab.fit.regression import Group, first_observations, probabilities, regress, require_scipy
from vocab.fit.semcor import UNTAGGED, read_semcor, silver_sentences
from vocab.fit.tagger_features import PROFILE_PLACES, Features, Text, features_of, word_features
from vocab.fit.tagger_words import FOLDS, KnownWords, TaggedWords, fold_of_sentences
from vocab.fit.treebank import GoldToken, read_treebank
from vocab.fit.wordnet_files import read_glosses
from vocab.lexicon import spellings_of
from vocab.tagger import SCALE, Tag, Tagger, pack_lanes
from vocab.tokens import split_words

TAG_OF_UPOS = {"NOUN": Tag.NOUN, "PROPN": Tag.NAME, "ADJ": Tag.ADJECTIVE}
CLASS_OF_UPOS = {
    "NOUN": "noun", "PROPN": "name", "ADJ": "adjective", "VERB": "verb", "ADV": "adverb", "NUM": "number",
    "DET": "closed", "PRON": "closed", "ADP": "closed", "CCONJ": "closed", "SCONJ": "closed", "PART": "closed",
    "AUX": "closed", "INTJ": "other", "SYM": "other", "PUNCT": "other", "X": "other",
}  # fmt: skip
"""finer than the tags, because a number or an adverb is another neighbour than a preposition"""

# Tuned on the development part of the treebank, on a fifth of its training part, and on half of the tagged captions.
PENALTY = 3.0
ITERATIONS = 80
SILVER_WEIGHT = 0.2
"""weight of a word of SemCor; a word of the treebank has weight 1"""
SMALL_WORDS = frozenset("a an and as at by for from in of on or the to with".split())
TITLE_WEIGHT = 0.5
"""weight of a word of the treebank written as a title, beside 1 for the same word as it is"""
CAPTION_WEIGHT = 2.0
"""weight of a tagged word of a caption"""
MIN_AGREEMENT = 0.05
"""probability, by the treebank and the captions alone, from which a tag of SemCor is believed"""
KNOWN_NOUN = SCALE
"""added to the noun score of a word that is only a noun in WordNet: "geese, mice" is not a greeting, though "yes,
thanks" is one in the treebank"""


def fit(
    treebank: Path,
    wordnet_folder: Path,
    semcor: Path | None = None,
    captions: Path | None = None,
    names: Path | None = None,
) -> Tagger:
    """Fit on files. Raises InputError for a missing one, MissingRequirementError without SciPy."""
    nouns = wordnet.load()
    entries = [entry.words for entry in read_words(WORDS_FILE.read_text(encoding="utf-8"), nouns)]
    own = split_words(clean_all(pa.array(entries))).words.to_pylist()
    silver = silver_sentences(read_semcor(semcor)) if semcor is not None else []
    of_captions = read_captions(captions) if captions is not None else Captions([], [])
    texts = [
        *read_glosses(wordnet_folder, *FILES.values()),
        *of_captions.texts,
        *(" ".join(token.form for token in sentence) for sentence in silver),
    ]
    return fit_sentences(
        read_treebank(treebank),
        read_readings(wordnet_folder),
        [*spellings_of(nouns).parts.to_pylist(), *own, *map(plural, own), *" ".join(read_long_names(names)).split()],
        captions=of_captions.tagged,
        silver=silver,
        texts=texts,
        names=read_names(names) if names is not None else {},
        grades=read_grades(),
    )


def fit_sentences(
    gold: Sequence[Sequence[GoldToken]],
    readings: Mapping[str, Readings],
    listed: Iterable[str],
    *,
    captions: Sequence[Sequence[GoldToken]] = (),
    silver: Sequence[Sequence[GoldToken]] = (),
    texts: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    grades: Mapping[str, str] | None = None,
) -> Tagger:
    """Fit on sentences, on what a dictionary says of words, and on untagged texts beside the sentences.

    Words in `listed` get rows of their own in any case. `silver` are `silver_sentences`; `names` are `read_names`,
    `grades` are `read_grades`.
    """
    require_scipy()
    folds = fold_of_sentences(len(gold))
    of_gold = [Text.read(gold, folds, case=case) for case in (str, str.lower, as_title)]
    caption_folds = fold_of_sentences(len(captions))
    of_captions = [Text.read(captions, caption_folds, case=case) for case in (str, str.lower)] if captions else []
    of_silver = [Text.read(silver, case=case, is_silver=True) for case in (str, str.lower)] if silver else []
    lower = of_gold[1]
    tagged = [
        (word, CLASS_OF_UPOS[upos], fold)
        for text in (lower, *of_captions[1:])
        for word, upos, fold in zip(text.words, text.upos, text.folds.tolist(), strict=True)
        if upos != UNTAGGED
    ]
    known = KnownWords.build(
        TaggedWords.count(*zip(*tagged, strict=True)),
        readings,
        listed,
        collections.Counter(word for text in (*of_captions[1:], *of_silver[1:]) for word in text.words),
        word_vectors([*texts, *lower.aligned.captions]),
        names or {},
        grades or {},
    )
    parts = [*of_gold, *of_captions, *of_silver]
    features = features_of(known, parts)
    upos = [upos for text in parts for upos in text.upos]
    targets = np.array([TAG_OF_UPOS.get(name, Tag.OTHER) for name in upos], dtype=np.int64)
    known_tag = np.array([name != UNTAGGED for name in upos])
    groups = features.places | features.pairs
    weights = (1.0, 1.0, TITLE_WEIGHT, *[CAPTION_WEIGHT] * len(of_captions))
    trusted = np.repeat(weights, [len(text.words) for text in (*of_gold, *of_captions)])
    found = _weigh(list(groups.values()), targets, known_tag, trusted)
    return _tagger(known, features, dict(zip(groups, found, strict=True)))


def as_title(word: str) -> str:
    """The word with a capital, as in a title; small words of grammar stay small."""
    return word if word in SMALL_WORDS else word[:1].upper() + word[1:]


def _weigh(
    groups: Sequence[Group], targets: NDArray[np.int64], known_tag: NDArray[np.bool_], trusted: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """[features, tags] weights of each group; `trusted` are the weights of the first words, the others are SemCor's."""

    def fitted(importance: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        count = len(importance)
        # Half, because every sentence is there twice.
        return regress(
            first_observations(groups, count),
            targets[:count],
            importance / 2,
            answers=len(Tag),
            penalty=PENALTY,
            iterations=ITERATIONS,
        )

    first = known_tag[: len(trusted)] * trusted
    weights = fitted(first)
    if len(trusted) == len(targets):
        return weights
    by_trusted = probabilities(groups, weights)[np.arange(len(targets)), targets]
    importance = np.where(known_tag & (by_trusted >= MIN_AGREEMENT), SILVER_WEIGHT, 0.0)
    importance[: len(trusted)] = first
    return fitted(importance)


def _tagger(known: KnownWords, features: Features, weights: Mapping[str, NDArray[np.float64]]) -> Tagger:
    """Add up what depends on one word, spread the rest over dense tables."""
    unique, profile_of = np.unique(_profiles(known, weights), axis=0, return_inverse=True)
    classes = len(known.classes)
    sides = classes + GAPS
    shapes = {
        "before": (sides, classes), "after": (classes, sides), "around": (sides, sides),
        "gap_before": (GAPS, classes), "gap_after": (GAPS, classes), "gaps": (GAPS, GAPS),
        "case": (CASES, classes), "cases": (CASES, CASES, CASES),
    }  # fmt: skip
    tables = {}
    for name, shape in shapes.items():
        table = np.zeros((int(np.prod(shape)), len(Tag)), dtype=np.int16)
        table[features.pair_values[name]] = _scores(weights[name])
        tables[name] = pack_lanes(table.reshape(*shape, len(Tag)))
    return Tagger(
        words=pa.array(known.words, pa.string()),
        classes=known.classes,
        profile_of=profile_of.reshape(-1).astype(np.int32),
        class_of=known.class_of.astype(np.int32),
        profiles=pack_lanes(unique.reshape(-1, len(PROFILE_PLACES), len(Tag))),
        **tables,
    )


def _profiles(known: KnownWords, weights: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int16]:
    """[W, places and tags] what each word adds to the scores."""
    rows = np.arange(len(known.words))
    folds = np.full(len(rows), FOLDS)
    profiles = np.zeros((len(rows), len(PROFILE_PLACES), len(Tag)), dtype=np.int16)
    for place, number in PROFILE_PLACES.items():
        profiles[:, number] = _scores(word_features(known, place, rows, folds) @ weights[place])
    profiles[known.known_nouns, PROFILE_PLACES["+0"], Tag.NOUN] += KNOWN_NOUN
    return profiles.reshape(len(rows), -1)


def _scores(log_odds: NDArray[np.float64]) -> NDArray[np.int16]:
    """Scores in units of 1 / SCALE."""
    scores: NDArray[np.int16] = np.rint(log_odds * SCALE).astype(np.int16)
    return scores
