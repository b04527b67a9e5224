"""Fit the tables by which a noun's sense is chosen.

In: WordNet with its glosses, SemCor, and a list of synsets that pictures are known to show (ImageNet's). Out: a
`SenseTables`. Two things are fitted. *Cues*: how much more often a word stands near nouns of each of about a
hundred kinds than elsewhere, counted in the glosses and in SemCor. *Weights*: how much a sense's count, rank,
place among its synset's words, kind, and the cues around it count, by conditional logistic regression over the senses
of a lemma: on SemCor's tagged nouns, and on the lemmas of the listed synsets, where a listed sense should win.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab.cleaning import clean_all
from vocab.entries import extended
from vocab.errors import FormatError
from vocab.fit.caption_senses import (
    SENSES_FILE,
    WORDS_FILE,
    CaptionSenses,
    Entry,
    entries_of,
    read_senses,
    read_words,
)
from vocab.fit.inflection import plural
from vocab.fit.names import read_long_names
from vocab.fit.regression import require_scipy
from vocab.fit.semcor import Sentence, read_semcor
from vocab.fit.wordnet_files import read_glosses
from vocab.hints import PAIR_BITS
from vocab.senses import REACH, SCALE, Senses, SenseTables, features_of_senses
from vocab.tagger import Tagger
from vocab.tokens import split_words
from vocab.wordnet import WordNet, synset_of_wnid

SMOOTHING = 100.0
"""uses that a word is given beforehand, in the proportions of all words"""
MIN_CUE = 5
"""uses from which a word has cues"""
SEMCOR_SHARE = 5
"""a noun's neighbour in SemCor counts as much as this many words of glosses"""
LIST_WEIGHT = 0.1
"""weight of one lemma of the listed synsets; a tagged noun of SemCor has weight 1"""
LISTED_LEAD = 48
"""score by which a sense that captions mean is put above the others"""
DIGITS = str.maketrans("123456789", "0" * 9)
KIND_SIZE = 1500
"""synsets that a kind has at least"""
PENALTY = 1.0
TEST_SHARE = 5
"""one document of this many is held out"""


def is_test_document(document: str) -> bool:
    """Tell whether a document of SemCor is held out: one in five is, by a checksum of its name."""
    return zlib.crc32(document.encode()) % TEST_SHARE == 0


@dataclass(frozen=True, eq=False)
class Tagged:
    """SemCor's nouns of which WordNet has more than one sense. T nouns."""

    lemmas: NDArray[np.int64]
    """[T] lemma row"""
    senses: NDArray[np.int64]
    """[T] sense that was tagged, numbered as in `WordNet.sense_synsets`"""
    around: list[NDArray[np.int64]]
    """[T] rows of the words around"""
    documents: list[str]
    """[T]"""


def read_tagged(sentences: Iterable[Sentence], wordnet: WordNet, tagger: Tagger, *, alone: bool = False) -> Tagged:
    """SemCor's nouns with the words around them, at most REACH on either side; those of one sense only if `alone`."""
    row_of_lemma = {lemma: row for row, lemma in enumerate(wordnet.lemmas.to_pylist())}
    found = Tagged(*(np.zeros(0, dtype=np.int64),) * 2, [], [])
    lemmas, senses = [], []
    for sentence in sentences:
        parts = [[part.lower() for part in token.form.split("_")] for token in sentence.tokens]
        words = [part for token in parts for part in token if part.isalnum()]
        rows = tagger.rows(pa.array(words, pa.string()))
        begin = np.cumsum([0, *(sum(part.isalnum() for part in token) for token in parts)])
        for number, token in enumerate(sentence.tokens):
            lemma = row_of_lemma.get((token.lemma or "").lower())
            if lemma is None or not token.senses or token.pos is None or not token.pos.startswith("NN"):
                continue
            first, last = int(wordnet.sense_starts[lemma]), int(wordnet.sense_starts[lemma + 1])
            if first + token.senses[0] > last or (last - first == 1 and not alone):
                continue
            lemmas.append(lemma)
            senses.append(first + token.senses[0] - 1)
            a, b = int(begin[number]), int(begin[number + 1])
            found.around.append(np.concatenate([rows[max(0, a - REACH) : a], rows[b : b + REACH]]))
            found.documents.append(sentence.document)
    return Tagged(np.array(lemmas), np.array(senses), found.around, found.documents)


def count_in_glosses(tagger: Tagger, glosses: Sequence[str], kinds: Kinds) -> NDArray[np.float64]:
    """[W, K] times each word stands in the gloss of a synset of each kind."""
    tokens = split_words(clean_all(pa.array(glosses, pa.string())))
    encoded = tokens.words.dictionary_encode()
    rows = tagger.rows(encoded.dictionary)[np.asarray(encoded.indices)]
    return _counted(rows, np.repeat(kinds.of, np.diff(tokens.starts)), len(tagger.words), kinds)


def count_nearby(
    tagger: Tagger, synsets: NDArray[np.int64], around: Sequence[NDArray[np.int64]], kinds: Kinds
) -> NDArray[np.float64]:
    """[W, K] times each word stands near a noun whose synset is of each kind."""
    near = np.repeat(kinds.of[synsets], [len(rows) for rows in around])
    return _counted(np.concatenate(around), near, len(tagger.words), kinds)


def _counted(rows: NDArray[np.int64], of_kind: NDArray[np.int64], words: int, kinds: Kinds) -> NDArray[np.float64]:
    flat = np.bincount(rows * len(kinds.roots) + of_kind, minlength=words * len(kinds.roots))
    return flat.reshape(words, len(kinds.roots)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Kinds:
    """A partition of the synsets. K kinds."""

    roots: NDArray[np.int64]
    """[K] synset row"""
    of: NDArray[np.int64]
    """[S]"""


def kinds_of(wordnet: WordNet, least: int) -> Kinds:
    """Cut the tree of synsets, each under its first hypernym, into parts of at least `least` synsets, lowest first.

    Synsets that are left under no cut go to the part of entity.n.01.
    """
    parents = _first_hypernyms(wordnet)
    order = _by_depth(parents)
    left = np.ones(len(parents), dtype=np.int64)
    is_root = np.zeros(len(parents), dtype=bool)
    for row in order[::-1].tolist():
        if left[row] >= least or parents[row] < 0:
            is_root[row] = True
        else:
            left[parents[row]] += left[row]
    roots = np.flatnonzero(is_root)
    of = np.zeros(len(parents), dtype=np.int64)
    of[roots] = np.arange(len(roots))
    for row in order.tolist():
        if not is_root[row]:
            of[row] = of[parents[row]]
    return Kinds(roots, of)


def _first_hypernyms(wordnet: WordNet) -> NDArray[np.int64]:
    """[S] first hypernym of each synset, or first class it is an instance of, -1 for the root."""
    parents = np.full(len(wordnet.synsets), -1, dtype=np.int64)
    for starts, values in (
        (wordnet.instance_starts, wordnet.instance_hypernyms), (wordnet.hypernym_starts, wordnet.hypernyms)
    ):  # fmt: skip
        some = np.flatnonzero(np.diff(starts))
        parents[some] = values[starts[some]]
    return parents


def _by_depth(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """[S] synset rows, every one after its parent."""
    depths = np.full(len(parents), -1, dtype=np.int64)
    level, depth = np.flatnonzero(parents < 0), 0
    while len(level):
        depths[level] = depth
        level, depth = np.flatnonzero((depths < 0) & (depths[parents] == depth)), depth + 1
    return np.argsort(depths, kind="stable")


def cues_of(counts: NDArray[np.float64], *, ignored: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[W, K] log of how many times as likely each kind is beside the word; 0 for rare and for `ignored` words."""
    overall = counts.sum(axis=0) / max(1.0, counts.sum())
    totals = counts.sum(axis=1, keepdims=True)
    cues: NDArray[np.float64] = np.log(
        (counts + SMOOTHING * overall) / ((totals + SMOOTHING) * overall + 1e-12) + 1e-12
    )
    cues[(totals[:, 0] < MIN_CUE) | ignored] = 0
    return cues


def fit(
    wordnet_folder: Path, semcor: Path, listed: Path, names: Path | None, wordnet: WordNet, tagger: Tagger
) -> SenseTables:
    """Fit on files. Raises InputError for a missing one."""
    training = [sentence for sentence in read_semcor(semcor) if not is_test_document(sentence.document)]
    tagged = read_tagged(training, wordnet, tagger)
    everything = read_tagged(training, wordnet, tagger, alone=True)
    glosses = read_glosses(wordnet_folder, "noun")
    shown = np.isin(
        wordnet.synsets, [synset_of_wnid(line.split()[0]) for line in listed.read_text().splitlines() if line]
    )
    listed_senses = read_senses(SENSES_FILE.read_text(encoding="utf-8"))
    words = read_words(WORDS_FILE.read_text(encoding="utf-8"), wordnet)
    entries = entries_of(wordnet, tagger.words, listed_senses, words, read_long_names(names))
    return fit_tables(wordnet, tagger, glosses, tagged, everything, shown, listed_senses, entries)


def fit_tables(
    wordnet: WordNet,
    tagger: Tagger,
    glosses: Sequence[str],
    tagged: Tagged,
    everything: Tagged,
    shown: NDArray[np.bool_],
    listed: Sequence[CaptionSenses] = (),
    entries: Sequence[Entry] = (),
) -> SenseTables:
    """Count the cues, then fit the weights."""
    kinds = kinds_of(wordnet, KIND_SIZE)
    in_glosses = count_in_glosses(tagger, glosses, kinds)
    synsets = wordnet.sense_synsets[everything.senses].astype(np.int64)
    nearby = count_nearby(tagger, synsets, everything.around, kinds)
    grammar = np.array([name.startswith("word ") for name in tagger.classes])[tagger.class_of]
    grammar |= np.array([word.startswith("*") or not word for word in tagger.words.to_pylist()])
    groups = _groups_of_tagged(wordnet, tagged), _groups_of_listed(wordnet, shown)
    entry_tables = {
        "entries": pa.array([entry.words for entry in entries], pa.string()),
        "entry_starts": np.cumsum([0, *(len(entry.synsets) for entry in entries)]).astype(np.int32),
        "entry_synsets": np.array([row for entry in entries for row in entry.synsets], dtype=np.int32),
        "entry_kinds": np.array([entry.kind for entry in entries], dtype=np.uint8),
    }
    of_captions = extended(wordnet, *list(entry_tables.values())[:3])
    static = features_of_senses(of_captions)
    # Cues counted on a noun's own sentence would know the answer: each half is judged by the other half's.
    halves = np.array([zlib.crc32(document.encode()) % 2 for document in tagged.documents])
    all_halves = np.array([zlib.crc32(document.encode()) % 2 for document in everything.documents])
    around = np.zeros((len(tagged.senses), len(kinds.roots)))
    for half in (0, 1):
        others = np.flatnonzero(all_halves != half)
        near = count_nearby(tagger, synsets[others], [everything.around[i] for i in others.tolist()], kinds)
        cues = cues_of(in_glosses + SEMCOR_SHARE * near, ignored=grammar)
        for number in np.flatnonzero(halves == half):
            around[number] = cues[tagged.around[number]].sum(axis=0)
    weights = _weigh(static, groups, around, kinds.of[of_captions.sense_synsets])
    cues = cues_of(in_glosses + SEMCOR_SHARE * nearby, ignored=grammar)
    scores = np.rint(static @ weights[:-1] * SCALE).astype(np.int32)
    scaled = np.clip(np.rint(cues * weights[-1] * SCALE), -127, 127).astype(np.int8)
    used = np.flatnonzero(scaled.any(axis=1))
    rows = rows_of_listed(of_captions, listed)
    prefer_listed(scores, of_captions, rows)
    return SenseTables(
        pair_keys=listed_pairs(of_captions, tagger, rows),
        scores=scores,
        kinds=kinds.roots.astype(np.int32),
        kind_of=kinds.of.astype(np.uint8),
        cue_words=used.astype(np.int32),
        cues=scaled[used],
        weights=weights.astype(np.float64),
        **entry_tables,
    )


def prefer_listed(scores: NDArray[np.int32], wordnet: WordNet, listed: Iterable[tuple[int, CaptionSenses]]) -> None:
    """Put, in place, the senses that captions mean above the others of their lemma."""
    for lemma, line in listed:
        if line.default is not None:
            first, last = int(wordnet.sense_starts[lemma]), int(wordnet.sense_starts[lemma + 1])
            sense = first + line.default - 1
            others = np.delete(scores[first:last], line.default - 1)
            scores[sense] = max(int(scores[sense]), int(others.max(initial=scores[sense])) + LISTED_LEAD)


def listed_pairs(wordnet: WordNet, tagger: Tagger, listed: Iterable[tuple[int, CaptionSenses]]) -> NDArray[np.int64]:
    """Keys of the senses and the words that are listed as speaking for them, with their plurals, ascending."""
    nouns = set(wordnet.lemmas.to_pylist())
    keys = {
        int(wordnet.sense_starts[lemma]) + number - 1 << PAIR_BITS | row
        for lemma, line in listed
        for number, words in line.cues.items()
        for word in words
        for form in ((word, plural(word)) if word in nouns else (word,))
        if (row := tagger.row_of.get(form.translate(DIGITS))) is not None
    }
    return np.array(sorted(keys), dtype=np.int64)


def rows_of_listed(wordnet: WordNet, listed: Iterable[CaptionSenses]) -> list[tuple[int, CaptionSenses]]:
    """Lemma of each listed line that has senses: captions' own entry before WordNet's."""
    row_of = {lemma: row for row, lemma in enumerate(wordnet.lemmas.to_pylist())}
    found = []
    for line in listed:
        lemma = row_of.get(line.lemma)
        if lemma is None or (not line.is_noun and not line.cues):
            continue
        count = int(wordnet.sense_starts[lemma + 1] - wordnet.sense_starts[lemma])
        for number in (1 if line.default is None else line.default, *line.cues):
            if not 1 <= number <= count:
                raise FormatError(
                    f"{SENSES_FILE.name}, {line.lemma}", found=f"sense {number}", wanted=f"1 to {count}",
                    remedy="Mend the line.",
                )  # fmt: skip
        found.append((lemma, line))
    return found


@dataclass(frozen=True, eq=False)
class Groups:
    """Choices among the senses of one lemma. G groups."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    right: list[NDArray[np.int64]]
    """[G] the senses any of which is right"""


def _groups_of_tagged(wordnet: WordNet, tagged: Tagged) -> Groups:
    return Groups(
        wordnet.sense_starts[tagged.lemmas].astype(np.int64),
        wordnet.sense_starts[tagged.lemmas + 1].astype(np.int64),
        [np.array([sense]) for sense in tagged.senses],
    )


def _groups_of_listed(wordnet: WordNet, shown: NDArray[np.bool_]) -> Groups:
    """Lemmas of which some senses are listed and others not."""
    listed = shown[wordnet.sense_synsets]
    first, last, right = [], [], []
    for a, b in zip(wordnet.sense_starts[:-1].tolist(), wordnet.sense_starts[1:].tolist(), strict=True):
        if b - a > 1 and listed[a:b].any() and not listed[a:b].all():
            first.append(a)
            last.append(b)
            right.append(a + np.flatnonzero(listed[a:b]))
    return Groups(np.array(first), np.array(last), right)


def _weigh(
    static: NDArray[np.float64],
    groups: Sequence[Groups],
    around: NDArray[np.float64],
    kinds: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[features + 1] weights by which the right senses win; the last is that of the cues."""
    require_scipy()
    from scipy.optimize import minimize

    rows, values, right, importance = [], [], [], []
    for number, (part, weight) in enumerate(zip(groups, (1.0, LIST_WEIGHT), strict=True)):
        for choice, (a, b) in enumerate(zip(part.first.tolist(), part.last.tolist(), strict=True)):
            cue = around[choice, kinds[a:b]] if number == 0 else np.zeros(b - a)
            values.append(np.column_stack([static[a:b], cue]))
            is_right = np.zeros(b - a)
            is_right[part.right[choice] - a] = 1
            right.append(is_right)
            rows.append(b - a)
            importance.append(weight)
    matrix, is_right = np.concatenate(values), np.concatenate(right)
    starts = np.cumsum([0, *rows])[:-1]
    group_of = np.repeat(np.arange(len(rows)), rows)
    weight_of = np.array(importance)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = matrix @ weights
        logits -= np.maximum.reduceat(logits, starts)[group_of]
        likely = np.exp(logits)
        total = np.add.reduceat(likely, starts)
        hit = np.add.reduceat(likely * is_right, starts)
        value = float((weight_of * (np.log(total) - np.log(hit))).sum())
        slope = likely / total[group_of] - likely * is_right / hit[group_of]
        return value + PENALTY / 2 * float(weights @ weights), matrix.T @ (
            slope * weight_of[group_of]
        ) + PENALTY * weights

    found = minimize(loss, np.zeros(matrix.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    weights: NDArray[np.float64] = found
    return weights


def accuracy(
    senses: Senses, sentences: Iterable[Sentence], wordnet: WordNet, tagger: Tagger
) -> tuple[float, float, int]:
    """Share of SemCor's nouns, also those of one sense, that get the tagged sense; the first sense's; and how many."""
    tagged = read_tagged(sentences, wordnet, tagger, alone=True)
    # Each noun among its own words, with as many empty places behind them as cues reach.
    rows = np.full((len(tagged.lemmas), 3 * REACH + 1), tagger.pad)
    for row, around in zip(rows, tagged.around, strict=True):
        row[: len(around[:REACH])] = around[:REACH]
        row[REACH + 1 : REACH + 1 + len(around[REACH:])] = around[REACH:]
    places = np.arange(len(rows)) * rows.shape[1] + REACH
    right = wordnet.sense_synsets[tagged.senses]
    ours = senses.choose(rows.ravel(), places, places, tagged.lemmas) == right
    first = wordnet.sense_synsets[wordnet.sense_starts[tagged.lemmas]] == right
    return float(ours.mean()), float(first.mean()), len(rows)
