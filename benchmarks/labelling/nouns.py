"""Nouns and labels on a treebank: the tagger alone, and the labeler.

In: a treebank's sentences. Out: precision and recall over its tokens, and the mistakes on the terminal.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab import wordnet
from vocab.cleaning import ADDRESS, FILE, HOST, clean
from vocab.context import Context, context_of
from vocab.fit.treebank import Aligned, GoldToken, align
from vocab.labeler import Labeler
from vocab.nouns import singular_forms
from vocab.tagger import Tag, Tagger

NOUN_UPOS = ("NOUN", "PROPN")
SHOWN = 30
"""mistakes to print"""


@dataclass(frozen=True)
class Match:
    """Tokens found, tokens wanted, and those that are both."""

    found: int
    wanted: int
    both: int

    @property
    def precision(self) -> float:
        """Share of the found that is wanted; 0 where nothing is found."""
        return self.both / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the wanted that is found; 0 where nothing is wanted."""
        return self.both / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.both / (self.found + self.wanted) if self.found + self.wanted else 0.0

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.4f} recall {self.recall:.4f} F1 {self.f1:.4f} "
            f"({self.both:,} of {self.found:,} found and {self.wanted:,} wanted)"
        )


def match(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Match:
    """Count two masks over the same tokens."""
    return Match(int(found.sum()), int(wanted.sum()), int((found & wanted).sum()))


def covered(first: NDArray[np.int64], last: NDArray[np.int64], tokens: int) -> NDArray[np.bool_]:
    """[tokens] which gold tokens words overlap; word i overlaps those from first[i] to last[i], both included."""
    steps = np.bincount(first, minlength=tokens + 1) - np.bincount(last + 1, minlength=tokens + 1)
    mask: NDArray[np.bool_] = np.cumsum(steps)[:tokens] > 0
    return mask


def is_gold_noun(tokens: Sequence[GoldToken]) -> NDArray[np.bool_]:
    """[tokens] NOUN and PROPN."""
    return np.array([token.upos in NOUN_UPOS for token in tokens], dtype=bool)


def is_taken_off(tokens: Sequence[GoldToken]) -> NDArray[np.bool_]:
    """[tokens] addresses and file names."""
    return np.array(
        [bool(ADDRESS.search(token.form) or HOST.search(token.form) or FILE.search(token.form)) for token in tokens],
        dtype=bool,
    )


def in_context(tagger: Tagger, aligned: Aligned) -> Context:
    """The words of a treebank as the tagger sees them."""
    encoded = aligned.tokens.words.dictionary_encode()
    rows = tagger.rows(encoded.dictionary)[np.asarray(encoded.indices)]
    return context_of(aligned.tokens, rows, tagger.pad)


def measure_nouns(ours: Labeler, sentences: list[list[GoldToken]]) -> dict[str, object]:
    """noun_f1 and noun_f1_lower."""
    tokens = [token for sentence in sentences for token in sentence]
    gold, taken_off = is_gold_noun(tokens), is_taken_off(tokens)
    cases: dict[str, Callable[[str], str]] = {"noun_f1": str, "noun_f1_lower": str.lower}
    result: dict[str, object] = {}
    for name, case in cases.items():
        aligned = align(sentences, case=case)
        context = in_context(ours.tagger, aligned)
        nouns = ours.scorer.scores(context, context.at).argmax(axis=1) == Tag.NOUN
        tagged = covered(aligned.first[nouns], aligned.last[nouns], len(tokens))
        counts, without = match(tagged | taken_off, gold), match(tagged, gold)
        sys.stdout.write(f"{name}: {counts}\n  without addresses and file names: {without}\n")
        print_mistakes(tokens, (tagged | taken_off) & ~gold, gold & ~(tagged | taken_off))
        result |= {name: round(counts.f1, 4), f"{name}_without_addresses": round(without.f1, 4)}
    return result | {"sentences": len(sentences), "tokens": len(tokens), "gold_nouns": int(gold.sum())}


def measure_labels(ours: Labeler, sentences: list[list[GoldToken]]) -> dict[str, object]:
    """label_precision and label_recall, on the treebank in lower case."""
    tokens = [token for sentence in sentences for token in sentence]
    gold = is_gold_noun(tokens)
    known = gold & is_known_noun(tokens, ours.nouns)
    aligned = align(sentences, case=str.lower)
    context = in_context(ours.tagger, aligned)
    accents = np.array([sum(clean(token.form)[1] for token in sentence) for sentence in sentences], dtype=np.int64)
    english = ours.is_english(context, accents)
    last_words, other_words = words_of_nouns(ours, ours.in_english(context, accents))
    lasts = covered(aligned.first[last_words], aligned.last[last_words], len(tokens))
    others = covered(aligned.first[other_words], aligned.last[other_words], len(tokens))
    lenient, strict = lasts | (others & gold), lasts | others
    result: dict[str, object] = {}
    for suffix, found in (("", lenient), ("_strict", strict)):
        precise, recalled = match(found, gold), match(found, known)
        sys.stdout.write(
            f"label_precision{suffix} {precise.precision:.4f} ({precise.both:,} of {precise.found:,} tokens)  "
            f"label_recall{suffix} {recalled.recall:.4f} ({recalled.both:,} of {recalled.wanted:,} tokens)\n"
        )
        result |= {f"label_precision{suffix}": round(precise.precision, 4)}
        result |= {f"label_recall{suffix}": round(recalled.recall, 4)}
    sys.stdout.write(
        f"  {int(gold.sum()):,} gold nouns, of which WordNet knows {int(known.sum()):,}; {int((~english).sum())} of "
        f"{len(english):,} sentences taken for another language\n"
    )
    print_mistakes(tokens, lenient & ~gold, known & ~lenient)
    return result | {"known_gold_nouns": int(known.sum()), "sentences_not_english": int((~english).sum())}


def words_of_nouns(ours: Labeler, context: Context) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words, numbered without the empty places, that are the last of a noun that is found, and its other words."""
    nouns = ours.find_nouns(context)
    word_at = np.full(len(context.rows), -1)
    word_at[context.at] = np.arange(len(context.at))
    lengths = nouns.lasts - nouns.firsts + 1
    others = [nouns.lasts[lengths > back] - back for back in range(1, int(lengths.max(initial=1)))]
    return word_at[nouns.lasts], word_at[np.concatenate([np.zeros(0, dtype=np.int64), *others])]


def is_known_noun(tokens: Sequence[GoldToken], nouns: wordnet.WordNet) -> NDArray[np.bool_]:
    """[tokens] whether WordNet has the token, lower-cased, its lemma or a singular of it among its nouns."""
    forms = pa.array([clean(token.form)[0].lower() for token in tokens], pa.string())
    lemmas = pa.array([clean(token.lemma)[0].lower() for token in tokens], pa.string())
    known = np.zeros(len(tokens), dtype=bool)
    for candidates in (lemmas, *singular_forms(forms, nouns)):
        known |= np.asarray(pc.is_in(candidates, value_set=nouns.lemmas, skip_nulls=True), dtype=bool)
    return known


def print_mistakes(tokens: Sequence[GoldToken], wrong: NDArray[np.bool_], missed: NDArray[np.bool_]) -> None:
    """The tokens that are most often wrong and missed, with their parts of speech."""
    for title, mask in (("wrong", wrong), ("missed", missed)):
        chosen = [tokens[index] for index in np.flatnonzero(mask).tolist()]
        counts = collections.Counter(f"{token.form.lower()}/{token.upos}" for token in chosen)
        head = " ".join(f"{word}:{count}" for word, count in counts.most_common(SHOWN))
        sys.stdout.write(f"  {title}, {int(mask.sum()):,}: {head}\n")
