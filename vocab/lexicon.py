"""WordNet's nouns by their words: single words that are nouns, and sequences of words that are one noun.

All inflection is resolved when the lexicon is built, so that a plural costs no more than a singular.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.arrays import places_in, ranges, sorted_unique
from vocab.cleaning import clean_all
from vocab.entries import EntryKind
from vocab.nouns import (
    PHRASE_OPENERS,
    are_among,
    is_described_name,
    is_function_word,
    is_number_or_code,
    is_plain_description,
    singular_forms,
)
from vocab.tokens import split_words
from vocab.word_table import NONE, WordTable, build_word_table, spread
from vocab.wordnet import WordNet

MAX_WORDS = 4
ROW_BITS = 20  # a key is node << ROW_BITS | row
FILTER_BITS = 21

# A plural with an entry of its own (glasses, arms) keeps it unless its singular is used this many times as often, as
# with hands, which WordNet knows as guardianship.
SINGULAR_USE_RATIO = 8


@dataclass(frozen=True, eq=False)
class Lexicon:
    """W words, N nodes (beginnings of nouns of several words), E edges (one more word each)."""

    lemma_of_word: NDArray[np.int32]
    """[W] lemma of WordNet that the word is a form of and that may be a label, else NONE"""
    node_of_word: NDArray[np.int32]
    """[W] node of the nouns of several words that begin with the word, else NONE"""
    edge_keys: NDArray[np.int64]
    """[E] node << ROW_BITS | row of the next word, ascending"""
    edge_nodes: NDArray[np.int32]
    """[E] node that the edge leads to, NONE if no longer noun continues"""
    edge_lemmas: NDArray[np.int32]
    """[E] lemma that the edge completes, else NONE"""
    filter: NDArray[np.bool_]
    """[2 ** FILTER_BITS] false where no edge has that hash: a quick negative"""
    is_noun: NDArray[np.bool_]
    """[W] words with a lemma"""
    opens: NDArray[np.bool_]
    """[W] words with a node"""
    goes_on: NDArray[np.bool_]
    """[W] words that an edge is labelled with"""
    names: NDArray[np.bool_]
    """[L] names that read like a description: White House"""
    own: int
    """number of WordNet's lemmas: those from here on are captions' own entries"""
    stops: NDArray[np.bool_]
    """[L] words that are no noun together: in front of"""
    titles: NDArray[np.bool_]
    """[L] of these, names: no noun if each word has a capital"""

    def edges(self, nodes: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Edge from each node by each word, else NONE."""
        found = np.full(len(nodes), NONE, dtype=np.int64)
        likely = np.flatnonzero(self.filter.take(_hash(nodes, rows)))
        found[likely] = places_in(self.edge_keys, nodes.take(likely) << ROW_BITS | rows.take(likely))
        return found

    def fingerprint(self) -> str:
        """sha256 of the tables."""
        digest = hashlib.sha256()
        for table in (np.asarray(getattr(self, field.name)) for field in fields(self)):
            digest.update(table.astype(table.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Spellings:
    """Words of every lemma, split by the rules for captions."""

    parts: pa.StringArray
    starts: NDArray[np.int64]
    """[L + 1]"""


def spellings_of(wordnet: WordNet) -> Spellings:
    """Every lemma, split into words."""
    tokens = split_words(clean_all(pc.replace_substring(wordnet.lemmas, "_", " ")))
    return Spellings(tokens.words, tokens.starts)


def build_lexicon(wordnet: WordNet, known: pa.StringArray, entry_kinds: NDArray[np.uint8]) -> Lexicon:
    """Resolve every lemma to rows of `known`; a lemma with a word without a row becomes unreachable.

    `entry_kinds` are those of captions' own entries, the last lemmas: they go before all others of the same words.
    """
    spelled = spellings_of(wordnet)
    starts = spelled.starts
    table = build_word_table(known)
    part_rows = table.find(*spread(spelled.parts))
    lengths = np.diff(starts)
    # Of lemmas with the same words the one used most comes last, and stays; captions' own entry before all.
    own = len(lengths) - len(entry_kinds)
    counts = wordnet.lemma_counts()
    counts[own:] = np.iinfo(counts.dtype).max
    order = np.lexsort((np.arange(len(lengths)), -counts))[::-1]
    single = order[(lengths[order] == 1) & (part_rows[starts[:-1][order].clip(max=len(part_rows) - 1)] >= 0)]
    forms = _rows_of(singular_forms(known, wordnet), table)
    kinds = np.concatenate([np.full(own, EntryKind.WORD, dtype=np.uint8), entry_kinds])
    inflected = kinds[single] == EntryKind.WORD
    lemma_of_word = _single_words(
        wordnet, known, forms, part_rows[starts[single[inflected]]], single[inflected], own=own
    )
    exact = single[~inflected]
    lemma_of_word[part_rows[starts[exact]]] = np.where(kinds[exact] == EntryKind.NO_NOUN, NONE, exact)
    phrases = order[_may_be_phrase(wordnet, spelled, part_rows, own=own)[order]]
    node_of_word, edge_keys, edge_nodes, edge_lemmas = _edges(spelled, phrases, part_rows, forms, len(known))
    edge_lemmas[np.isin(edge_lemmas, np.flatnonzero(kinds == EntryKind.PARTED))] = NONE
    return lexicon_from(
        lemma_of_word=lemma_of_word,
        node_of_word=node_of_word,
        edges=Edges(edge_keys, edge_nodes, edge_lemmas),
        names=is_described_name(wordnet),
        own=own,
        stops=np.isin(kinds, (EntryKind.NO_NOUN, EntryKind.NAME)),
        titles=kinds == EntryKind.NAME,
    )


@dataclass(frozen=True, eq=False)
class Edges:
    """The columns of a `Lexicon`'s edges."""

    keys: NDArray[np.int64]
    nodes: NDArray[np.int32]
    lemmas: NDArray[np.int32]


def lexicon_from(
    *,
    lemma_of_word: NDArray[np.int32],
    node_of_word: NDArray[np.int32],
    edges: Edges,
    names: NDArray[np.bool_],
    own: int,
    stops: NDArray[np.bool_],
    titles: NDArray[np.bool_],
) -> Lexicon:
    """A lexicon with the tables that follow from these, by which words are passed over quickly."""
    edge_rows = edges.keys & ((1 << ROW_BITS) - 1)
    may_be = np.zeros(1 << FILTER_BITS, dtype=bool)
    may_be[_hash(edges.keys >> ROW_BITS, edge_rows)] = True
    goes_on = np.zeros(len(lemma_of_word), dtype=bool)
    goes_on[edge_rows] = True
    return Lexicon(
        lemma_of_word=lemma_of_word,
        node_of_word=node_of_word,
        edge_keys=edges.keys,
        edge_nodes=edges.nodes,
        edge_lemmas=edges.lemmas,
        filter=may_be,
        is_noun=lemma_of_word != NONE,
        opens=node_of_word != NONE,
        goes_on=goes_on,
        names=names,
        own=own,
        stops=stops,
        titles=titles,
    )


def _hash(nodes: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return (nodes * 0x9E3779B1 + rows) & ((1 << FILTER_BITS) - 1)


def _rows_of(forms: Sequence[pa.StringArray], table: WordTable) -> NDArray[np.int64]:
    """[W, forms] row of each form, NONE if it is null or unknown."""
    rows = np.full((len(forms[0]), len(forms)), NONE, dtype=np.int64)
    there = np.stack([np.asarray(form.is_valid()) for form in forms], axis=1)
    rows.T[there.T] = table.find(*spread(pa.concat_arrays([form.drop_null() for form in forms])))
    return rows


def _single_words(
    wordnet: WordNet,
    known: pa.StringArray,
    forms: NDArray[np.int64],
    rows: NDArray[np.int64],
    lemmas_of_rows: NDArray[np.int64],
    *,
    own: int,
) -> NDArray[np.int32]:
    """[W] lemma of each word alone: the first of its forms that is one.

    The forms are the irregular singulars, the word itself, and its regular singulars; see `singular_forms`. `rows` are
    the words that spell a lemma, and the lemmas; of several for one word the last counts. From `own` on, lemmas are
    captions' own entries.
    """
    counts = wordnet.lemma_counts()
    lemma = np.full(len(known) + 1, NONE, dtype=np.int64)
    lemma[rows] = lemmas_of_rows
    dropped = (is_function_word(known) | is_number_or_code(known)) & (lemma[:-1] < own)
    lemma[:-1][dropped] = NONE

    lemmas = lemma[forms]  # [W, forms]; NONE picks the extra row
    first = np.argmax(lemmas >= 0, axis=1)
    itself = forms.shape[1] - 3
    uses = np.where(lemmas >= 0, counts[lemmas], 0)
    singular = itself + 1 + np.argmax(uses[:, itself + 1 :], axis=1)
    every = np.arange(len(known))
    rare_plural = (first == itself) & (uses[every, singular] > SINGULAR_USE_RATIO * (uses[:, itself] + 1))
    chosen: NDArray[np.int32] = lemmas[every, np.where(rare_plural, singular, first)].astype(np.int32)
    chosen[dropped] = NONE
    return chosen


def _may_be_phrase(
    wordnet: WordNet, spelled: Spellings, part_rows: NDArray[np.int64], *, own: int
) -> NDArray[np.bool_]:
    """[L] true for lemmas of two to MAX_WORDS words that may be labels."""
    starts, lengths = spelled.starts, np.diff(spelled.starts)
    first = spelled.parts.take(pa.array(starts[:-1].clip(max=len(spelled.parts) - 1)))
    opener = are_among(first, PHRASE_OPENERS)
    missing = np.concatenate([[0], np.cumsum(part_rows < 0)])
    complete = missing[starts[1:]] == missing[starts[:-1]]
    # Digits fold to 0, so that *20/20* is any date or range.
    digits = np.asarray(pc.match_substring_regex(spelled.parts, "^0+$"), dtype=np.int64)
    numbers = np.diff(np.concatenate([[0], np.cumsum(digits)])[starts]) == lengths
    unwanted = opener | numbers | is_plain_description(wordnet)
    unwanted[own:] = False
    may_be: NDArray[np.bool_] = (lengths >= 2) & (lengths <= MAX_WORDS) & complete & ~unwanted
    return may_be


def _edges(
    spelled: Spellings,
    phrases: NDArray[np.int64],
    part_rows: NDArray[np.int64],
    forms: NDArray[np.int64],
    words: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Make nodes level by level, then every form of the last words; of equal phrases the last of `phrases` counts."""
    starts = spelled.starts
    lengths = starts[phrases + 1] - starts[phrases]
    node_of_word = np.full(words, NONE, dtype=np.int32)
    firsts = sorted_unique(part_rows[starts[phrases]])
    node_of_word[firsts] = np.arange(len(firsts))
    nodes = node_of_word[part_rows[starts[phrases]]].astype(np.int64)
    used = len(firsts)
    inner_keys = [np.zeros(0, dtype=np.int64)]
    for place in range(1, MAX_WORDS - 1):
        longer = np.flatnonzero(lengths > place + 1)
        keys = (nodes[longer] << ROW_BITS) | part_rows[starts[phrases[longer]] + place]
        level = sorted_unique(keys)
        number = np.searchsorted(level, keys)
        nodes[longer] = used + number
        inner_keys.append(level)
        used += len(level)
    inner = np.concatenate(inner_keys)

    last = part_rows[starts[phrases + 1] - 1]
    rows, phrase_of = _forms_of(last, forms)
    inflected_keys, inflected_phrases = (nodes[phrase_of] << ROW_BITS) | rows, phrases[phrase_of]
    exact_keys = (nodes << ROW_BITS) | last
    edge_keys = sorted_unique(np.concatenate([inner, inflected_keys, exact_keys]))
    edge_nodes = np.full(len(edge_keys), NONE, dtype=np.int32)
    edge_nodes[np.searchsorted(edge_keys, inner)] = len(firsts) + np.arange(len(inner))
    edge_lemmas = np.full(len(edge_keys), NONE, dtype=np.int32)
    for keys, which in ((inflected_keys, inflected_phrases), (exact_keys, phrases)):
        edge_lemmas[np.searchsorted(edge_keys, keys)] = which
    return node_of_word, edge_keys, edge_nodes, edge_lemmas


def _forms_of(lasts: NDArray[np.int64], forms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All words that are forms of a word in `lasts`, and the index in `lasts` of that word."""
    inflected, place = np.nonzero(forms >= 0)
    bases = forms[inflected, place]
    order = np.argsort(bases, kind="stable")
    bases, inflected = bases[order], inflected[order]
    begin, end = np.searchsorted(bases, lasts), np.searchsorted(bases, lasts, side="right")
    return inflected[ranges(begin, end - begin)], np.repeat(np.arange(len(lasts)), end - begin)
