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
from vocab.entries import is_proper
from vocab.fit.treebank import Aligned, GoldToken, align
from vocab.labeler import Labeler
from vocab.nouns import singular_forms
from vocab.senses import NO_SENSE
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
        scores = ours.scorer.scores(ours.scorer.look_up(context), context.at)
        nouns = np.isin(scores.argmax(axis=1), (Tag.NOUN, Tag.NAME))
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
    name = np.array([token.upos == "PROPN" for token in tokens])
    aligned = align(sentences, case=str.lower)
    context = in_context(ours.tagger, aligned)
    accents = np.array([sum(clean(token.form)[1] for token in sentence) for sentence in sentences], dtype=np.int64)
    english = ours.is_english(context, accents)
    found = labelled_words(ours, ours.in_english(context, english))
    last, other, last_of_name, other_of_name = (
        covered(aligned.first[words], aligned.last[words], len(tokens)) for words in found
    )
    known, known_name = (gold & is_known_noun(tokens, lemmas) for lemmas in (ours.nouns.lemmas, proper_lemmas(ours)))
    individual = gold & (~name | last_of_name | other_of_name)
    result: dict[str, object] = {}
    for suffix, right, wanted in (
        ("", individual, known & (~name | known_name)), ("_of_any_name", gold, known)
    ):  # fmt: skip
        lenient, strict = last | (other & gold), last | other
        for how, labelled in ((suffix, lenient), (f"{suffix}_strict", strict)):
            precise, recalled = match(labelled, right), match(labelled, wanted)
            sys.stdout.write(
                f"label_precision{how} {precise.precision:.4f} ({precise.both:,} of {precise.found:,} tokens)  "
                f"label_recall{how} {recalled.recall:.4f} ({recalled.both:,} of {recalled.wanted:,} tokens)\n"
            )
            result |= {f"label_precision{how}": round(precise.precision, 4)}
            result |= {f"label_recall{how}": round(recalled.recall, 4)}
        print_mistakes(tokens, lenient & ~right, wanted & ~lenient)
    sys.stdout.write(
        f"  {int(gold.sum()):,} gold nouns, of which WordNet knows {int(known.sum()):,}; {int((~english).sum())} of "
        f"{len(english):,} sentences taken for another language\n"
    )
    return result | {"known_gold_nouns": int(known.sum()), "sentences_not_english": int((~english).sum())}


def labelled_words(ours: Labeler, context: Context) -> list[NDArray[np.int64]]:
    """Words, numbered without the empty places: the last of each noun with a label, and its other words; then the same
    of those whose label is an individual, or another synset that WordNet spells as a name."""
    nouns = ours.find_nouns(context)
    synsets = ours.senses.choose(context.rows, nouns.firsts, nouns.lasts, nouns.readings)
    word_at = np.full(len(context.rows), -1)
    word_at[context.at] = np.arange(len(context.at))
    named = np.isin(synsets, ours.nouns.sense_synsets[is_proper(ours.nouns)])
    found = []
    for chosen in (synsets != NO_SENSE, named):
        firsts, lasts = nouns.firsts[chosen], nouns.lasts[chosen]
        lengths = lasts - firsts + 1
        others = [lasts[lengths > back] - back for back in range(1, int(lengths.max(initial=1)))]
        found += [word_at[lasts], word_at[np.concatenate([np.zeros(0, dtype=np.int64), *others])]]
    return found


def proper_lemmas(ours: Labeler) -> pa.StringArray:
    """Lemmas with a sense that is an individual, or that WordNet spells as a name, and that a name may have: a person's
    surname alone is mostly somebody else's."""
    lemma_of = np.repeat(np.arange(len(ours.nouns.lemmas)), np.diff(ours.nouns.sense_starts))
    named = is_proper(ours.nouns) & ours.senses.may_mean[1]
    return ours.nouns.lemmas.take(pa.array(np.unique(lemma_of[named])))


def is_known_noun(tokens: Sequence[GoldToken], among: pa.StringArray) -> NDArray[np.bool_]:
    """[tokens] whether the token, lower-cased, its lemma or a singular of it is among some lemmas of WordNet."""
    forms = pa.array([clean(token.form)[0].lower() for token in tokens], pa.string())
    lemmas = pa.array([clean(token.lemma)[0].lower() for token in tokens], pa.string())
    known = np.zeros(len(tokens), dtype=bool)
    for candidates in (lemmas, *singular_forms(forms, wordnet.load())):
        known |= np.asarray(pc.is_in(candidates, value_set=among, skip_nulls=True), dtype=bool)
    return known


def print_mistakes(tokens: Sequence[GoldToken], wrong: NDArray[np.bool_], missed: NDArray[np.bool_]) -> None:
    """The tokens that are most often wrong and missed, with their parts of speech."""
    for title, mask in (("wrong", wrong), ("missed", missed)):
        chosen = [tokens[index] for index in np.flatnonzero(mask).tolist()]
        counts = collections.Counter(f"{token.form.lower()}/{token.upos}" for token in chosen)
        head = " ".join(f"{word}:{count}" for word, count in counts.most_common(SHOWN))
        sys.stdout.write(f"  {title}, {int(mask.sum()):,}: {head}\n")
