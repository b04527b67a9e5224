"""Features of the tagger, in groups to fit.

In: `KnownWords` and tagged sentences. Out: for each word the features of the words around it, and pairs of their
classes: the same that `Tagger.scores` looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocab.context import CASES, GAPS, Context, context_of
from vocab.fit.regression import NO_ROW, Group, indicators
from vocab.fit.tagger_words import FOLDS, KnownWords
from vocab.fit.treebank import Aligned, GoldToken, align
from vocab.tagger import PROFILE_OF_CASE, STRONG_GAPS, WINDOW

SILVER = "silver"
"""place of the word itself in SemCor, and nowhere else: features there say how its annotators differ"""
# Which features of a word are looked at where: "-1" is the word before the one that is scored.
LOOKED_AT = {
    "word": ("-2", "-1", "+0", "+1", "+2", "capital", "lower", "title_capital", SILVER),
    "kind": ("-2", "-1", "+0", "+1", "+2", SILVER),
    "class": ("-1", "+0", "+1", SILVER),
    "beginning": ("+0",),
    "ending1": ("+0",),
    "ending2": ("-1", "+0", "+1", SILVER),
    "ending3": ("-1", "+0", "+1", SILVER),
    "ending4": ("+0",),
    "vector": ("-2", "-1", "+0", "+1", "+2"),
    "names": ("-2", "-1", "+0", "+1", "+2", "capital", "title_capital"),
    "grade": ("-1", "+0", "+1", "capital", "title_capital"),
}
PROFILE_PLACES = {
    **{f"{offset:+d}": place for place, offset in enumerate(WINDOW)},
    **{case.name.lower(): place for case, place in PROFILE_OF_CASE.items()},
}
PLACES = (*PROFILE_PLACES, SILVER)
PAIRS = ("before", "after", "around", "gap_before", "gap_after", "gaps", "case", "cases")
MIN_PAIR = 4
"""uses from which a pair of classes is a feature"""
VECTOR_SCALE = 0.8
"""the larger, the less a vector's weights are held back"""


@dataclass(frozen=True, eq=False)
class Text:
    """Sentences as the labeler sees them, with the treebank's tag of each word."""

    aligned: Aligned
    words: list[str]
    upos: list[str]
    folds: NDArray[np.int64]
    """[T] part of the treebank that the word is in; FOLDS where it is in none"""
    is_silver: bool

    @classmethod
    def read(
        cls, sentences: Sequence[Sequence[GoldToken]], folds: NDArray[np.int64] | None = None,
        *, case: Callable[[str], str], is_silver: bool = False,
    ) -> Text:  # fmt: skip
        """`folds`: of each sentence of the treebank; none for others, which no class was made of."""
        aligned = align(sentences, case=case)
        upos = [token.upos for sentence in sentences for token in sentence]
        of_sentence = np.full(len(sentences), FOLDS) if folds is None else folds
        return cls(
            aligned,
            aligned.tokens.words.to_pylist(),
            [upos[token] for token in aligned.first.tolist()],
            np.repeat(of_sentence, np.diff(aligned.tokens.starts)),
            is_silver,
        )


@dataclass(frozen=True, eq=False)
class Features:
    """All that is looked at for the words of some texts, one text after another."""

    places: dict[str, Group]
    """group of each of `PLACES`"""
    pairs: dict[str, Group]
    """group of each of `PAIRS`"""
    pair_values: dict[str, NDArray[np.int64]]
    """which place in the tagger's flat table each feature of a pair is"""


def features_of(known: KnownWords, texts: Sequence[Text]) -> Features:
    """The features of every word."""
    seen = [_look(known, text) for text in texts]
    columns = {name: np.concatenate([part[name] for part in seen]) for name in seen[0]}
    pairs, values = {}, {}
    for name in PAIRS:
        pairs[name], values[name] = _frequent(columns[name])
    return Features({place: _distinct(known, place, columns[place]) for place in PLACES}, pairs, values)


def word_features(known: KnownWords, place: str, rows: NDArray[np.int64], folds: NDArray[np.int64]) -> Any:
    """[len(rows), features] csr_matrix of what is looked at of each word where it stands at a place."""
    from scipy import sparse

    named = [name for name, places in LOOKED_AT.items() if place in places]
    columns, sizes = [], []
    for name in named:
        if name == "class":
            columns.append(known.class_at(rows, folds))
            sizes.append(len(known.classes))
        elif name != "vector":
            columns.append(known.keys[name][rows])
            sizes.append(int(known.keys[name].max(initial=NO_ROW)) + 1)
    table = indicators(columns, sizes)
    if "vector" in named:
        table = sparse.hstack([table, sparse.csr_matrix(VECTOR_SCALE * known.vectors[rows])])
    return table.tocsr().astype(np.float32)


def _look(known: KnownWords, text: Text) -> dict[str, NDArray[np.int64]]:
    """Place -> [T] row and fold of the word there as one number, NO_ROW for none; pair -> [T] its number."""
    encoded = text.aligned.tokens.words.dictionary_encode()
    distinct = known.rows(encoded.dictionary.to_pylist())
    context = context_of(text.aligned.tokens, distinct[np.asarray(encoded.indices)], len(known.words) - 1)
    at, rows = context.at, context.rows
    folds = np.full(len(rows), FOLDS)
    folds[at] = text.folds
    entries = rows * (FOLDS + 1) + folds
    found = {f"{offset:+d}": entries[at + offset] for offset in WINDOW}
    for case in PROFILE_OF_CASE:
        found[case.name.lower()] = np.where(context.cases[at] == case, entries[at], NO_ROW)
    found[SILVER] = entries[at] if text.is_silver else np.full(len(at), NO_ROW)
    return found | _pairs(len(known.classes), context, known.class_at(rows, folds))


def _pairs(classes: int, context: Context, class_at: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    at, gaps, cases = context.at, context.gaps.astype(np.int64), context.cases.astype(np.int64)
    sides = classes + GAPS
    own = class_at[at]
    gap_before, gap_after = gaps[at], gaps[at + 1]
    before = np.where(np.isin(gap_before, STRONG_GAPS), classes + gap_before, class_at[at - 1])
    after = np.where(np.isin(gap_after, STRONG_GAPS), classes + gap_after, class_at[at + 1])
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


def _distinct(known: KnownWords, place: str, entries: NDArray[np.int64]) -> Group:
    """A table with one row for each word and fold that stands at a place."""
    has = np.flatnonzero(entries != NO_ROW)
    distinct, inverse = np.unique(entries[has], return_inverse=True)
    rows = np.full(len(entries), NO_ROW)
    rows[has] = inverse
    return Group(rows, word_features(known, place, *np.divmod(distinct, FOLDS + 1)))


def _frequent(numbers: NDArray[np.int64]) -> tuple[Group, NDArray[np.int64]]:
    """A feature for each number that occurs often enough, and those numbers."""
    from scipy import sparse

    values, inverse, uses = np.unique(numbers, return_inverse=True, return_counts=True)
    kept = uses >= MIN_PAIR
    feature = np.where(kept, np.cumsum(kept) - 1, NO_ROW)
    table = sparse.identity(int(kept.sum()), dtype=np.float32, format="csr")
    return Group(feature[inverse], table), values[kept]
