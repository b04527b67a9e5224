"""A user's own words in the labeler's tables: found wherever they stand, before everything that is built in.

In: the labeler and a `UserLexicon`. Out: a labeler whose tables have the entries too, so that they cost no more than
any other noun:

- A word that the tagger's table lacks gets a row of its own, alike to that of its ending, and counts as English.
- An entry is a lemma, of one sense, as a common noun and as a name. `Labeler.find_nouns` asks no part of speech of it.
- Its words, and those with the plural of the last, lead to it in the tables of `lexicon`; an entry without a synset
  leads to no noun.

The plurals are WordNet's irregular ones and those in -s, -es, -ies, -men. An entry is not found in a plural that is an
entry itself, that is a word of grammar (*has*), or that the built-in lists read otherwise than as its plural: `glass`
says nothing of *glasses*, which are spectacles, but `man` does of *men*.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab.arrays import places_in, sorted_unique
from vocab.entries import extended
from vocab.errors import InputError
from vocab.lexicon import MAX_WORDS, ROW_BITS, Edges, Lexicon, lexicon_from
from vocab.nouns import FUNCTION_WORDS, NOUNS_TOO, PLURAL_ENDINGS
from vocab.senses import NO_SENSE, Senses
from vocab.tagger import Tagger
from vocab.taxonomy import rows_of
from vocab.user_lexicon import ANY_SIGN, UserLexicon
from vocab.word_table import NONE
from vocab.wordnet import WordNet

T = TypeVar("T", bound=np.generic)

GRAMMAR = FUNCTION_WORDS - NOUNS_TOO
WORD = re.compile("[a-z0-9]+")


@dataclass(frozen=True, eq=False)
class UserTables:
    """Facts about the entries that the labeler's other tables have no place for."""

    lexicon: UserLexicon
    first: int
    """lemma of the first entry: those from here on are the user's"""
    english: NDArray[np.int64]
    """rows of words that are entries, and of their plurals: evidence of English"""
    silent: NDArray[np.bool_]
    """[W] words that the user has no label for"""
    any_sign: NDArray[np.bool_]
    """[L] entries that are found whatever signs part their words"""


@dataclass(frozen=True, eq=False)
class Extended:
    """Tables with the entries."""

    nouns: WordNet
    tagger: Tagger
    lexicon: Lexicon
    senses: Senses
    user: UserTables


def with_entries(
    nouns: WordNet, tagger: Tagger, lexicon: Lexicon, senses: Senses, kind_of: NDArray[np.uint8], user: UserLexicon
) -> Extended:
    """Add a user's entries to the tables. `kind_of` [S]: kind of each synset, for cues.

    Raises InputError for more words than the tables can hold.
    """
    first, entries = len(nouns.lemmas), user.entries
    synsets = np.full(len(entries), NO_SENSE)
    has = np.array([synset is not None for _, synset in entries])
    synsets[has] = rows_of(nouns, np.array([synset for _, synset in entries if synset is not None], dtype=np.int64))
    spelled = [words.replace(ANY_SIGN, " ").split(" ") for words, _ in entries]
    plurals = [plurals_of(words[-1], nouns) for words in spelled]
    grown, like = with_rows(tagger, sorted({form for words in (*spelled, *plurals) for form in words}))
    row_of = grown.row_of
    forms = Forms(
        first=first,
        rows=[[row_of[form] for form in words] for words in spelled],
        plurals=[[row_of[form] for form in of_entry] for of_entry in plurals],
        built_in=BuiltIn(nouns, lexicon, senses),
        names=["_".join(words) for words in spelled],
    )
    words, numbers = _single_words(forms, lexicon)
    lemma_of_word = _with_rows(lexicon.lemma_of_word, like, fill=NONE)
    lemma_of_word[words] = np.where(synsets[numbers] == NO_SENSE, NONE, first + numbers)
    silent = np.zeros(len(grown.words), dtype=bool)
    silent[words] = synsets[numbers] == NO_SENSE
    node_of_word = _with_rows(lexicon.node_of_word, like, fill=NONE)
    edges = _with_phrases(forms, lexicon, node_of_word)
    none = np.zeros(len(entries), dtype=bool)
    with_lemmas = extended(
        nouns,
        pa.array([" ".join(words) for words in spelled], pa.string()),
        np.concatenate([[0], np.cumsum(synsets != NO_SENSE)]).astype(np.int32),
        synsets[synsets != NO_SENSE].astype(np.int32),
    )
    return Extended(
        nouns=with_lemmas,
        tagger=grown,
        lexicon=lexicon_from(
            lemma_of_word=lemma_of_word,
            node_of_word=node_of_word,
            edges=edges,
            names=np.concatenate([lexicon.names, none]),
            own=lexicon.own,
            stops=np.concatenate([lexicon.stops, synsets == NO_SENSE]),
            titles=np.concatenate([lexicon.titles, none]),
        ),
        senses=_with_senses(senses, synsets, like, kind_of),
        user=UserTables(
            lexicon=user,
            first=first,
            english=words,
            silent=silent,
            any_sign=np.concatenate([np.zeros(first, dtype=bool), [ANY_SIGN in words for words, _ in entries]]),
        ),
    )


@dataclass(frozen=True, eq=False)
class BuiltIn:
    """The built-in readings, which tell whether a form is read as the plural of an entry."""

    nouns: WordNet
    lexicon: Lexicon
    senses: Senses

    def word(self, row: int) -> int:
        """Lemma of a single word, else NONE; a row that the user's words made has none."""
        return int(self.lexicon.lemma_of_word[row]) if row < len(self.lexicon.lemma_of_word) - 1 else NONE

    def agree(self, plural: int, singular: int, name: str) -> bool:
        """Tell whether the lemma of a plural means what the singular means, whose lemma and spelling are given."""
        if plural in (NONE, singular) or str(self.nouns.lemmas[plural]) == name:
            return True
        starts, synsets = self.nouns.sense_starts, self.nouns.sense_synsets
        chosen = int(self.senses.chosen[plural])
        if chosen == NO_SENSE:
            # Words that are no noun have no sense at all.
            if starts[plural] == starts[plural + 1]:
                return True
            chosen = int(starts[plural])
        return singular != NONE and synsets[chosen] in synsets[starts[singular] : starts[singular + 1]]


@dataclass(frozen=True, eq=False)
class Forms:
    """The entries by the rows of their words. An entry's number is added to `first` to make its lemma."""

    first: int
    rows: Sequence[Sequence[int]]
    """of the words of each entry"""
    plurals: Sequence[Sequence[int]]
    """of the plurals of its last word"""
    built_in: BuiltIn
    names: Sequence[str]
    """spelling of each entry as a lemma"""


def _single_words(forms: Forms, lexicon: Lexicon) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the words that are entries, and of their plurals; number of the entry of each."""
    exact = {rows[0]: number for number, rows in enumerate(forms.rows) if len(rows) == 1}
    inflected: dict[int, int] = {}
    for row, number in exact.items():
        singular = forms.built_in.word(row)
        for plural in forms.plurals[number]:
            if forms.built_in.agree(forms.built_in.word(plural), singular, forms.names[number]):
                inflected.setdefault(plural, number)
    found = inflected | exact
    return np.array(list(found), dtype=np.int64), np.array(list(found.values()), dtype=np.int64)


def _with_phrases(forms: Forms, lexicon: Lexicon, node_of_word: NDArray[np.int32]) -> Edges:
    """Edges with the entries of several words; makes nodes of their first words in `node_of_word`, in place."""
    phrases = np.array([number for number, rows in enumerate(forms.rows) if len(rows) > 1], dtype=np.int64)
    edges = Edges(lexicon.edge_keys, lexicon.edge_nodes, lexicon.edge_lemmas)
    if not len(phrases):
        return edges
    lengths = np.array([len(forms.rows[number]) for number in phrases])
    rows = np.full((len(phrases), MAX_WORDS), NONE, dtype=np.int64)
    for at, number in enumerate(phrases.tolist()):
        rows[at, : lengths[at]] = forms.rows[number]
    used = 1 + max(int(node_of_word.max()), int(edges.nodes.max()))
    starting = sorted_unique(rows[:, 0])
    starting = starting[node_of_word[starting] == NONE]
    node_of_word[starting] = used + np.arange(len(starting))
    used += len(starting)
    nodes = node_of_word[rows[:, 0]].astype(np.int64)
    for place in range(1, MAX_WORDS - 1):
        longer = np.flatnonzero(lengths > place + 1)
        keys = nodes[longer] << ROW_BITS | rows[longer, place]
        edges = _with_keys(edges, keys)
        level = np.searchsorted(edges.keys, sorted_unique(keys))
        ends = level[edges.nodes[level] == NONE]
        edges.nodes[ends] = used + np.arange(len(ends))
        used += len(ends)
        nodes[longer] = edges.nodes[np.searchsorted(edges.keys, keys)]
    exact = nodes << ROW_BITS | rows[np.arange(len(phrases)), lengths - 1]
    return _with_lemmas(forms, edges, phrases, nodes, exact)


def _with_lemmas(
    forms: Forms, edges: Edges, phrases: NDArray[np.int64], nodes: NDArray[np.int64], exact: NDArray[np.int64]
) -> Edges:
    """Edges that the last words of the entries complete: first with their plurals, then as they are written."""
    pairs = [(at, row) for at, number in enumerate(phrases.tolist()) for row in forms.plurals[number]]
    of_plural = np.array([at for at, _ in pairs], dtype=np.int64)
    keys = nodes[of_plural] << ROW_BITS | np.array([row for _, row in pairs], dtype=np.int64)
    before = edges
    edges = _with_keys(edges, np.concatenate([keys, exact]))
    built_in = _lemmas_at(before, keys), _lemmas_at(before, exact[of_plural])
    agree = [
        forms.built_in.agree(plural, singular, forms.names[phrases[at]])
        for at, plural, singular in zip(of_plural.tolist(), *(lemmas.tolist() for lemmas in built_in), strict=True)
    ]
    # Of entries with the same plural the first counts.
    chosen = np.flatnonzero(agree)[::-1]
    edges.lemmas[np.searchsorted(edges.keys, keys[chosen])] = forms.first + phrases[of_plural[chosen]]
    edges.lemmas[np.searchsorted(edges.keys, exact)] = forms.first + phrases
    return edges


def _lemmas_at(edges: Edges, keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """Lemma that each key completes, else NONE."""
    places = places_in(edges.keys, keys)
    lemmas: NDArray[np.int32] = np.where(places == NONE, NONE, edges.lemmas[places])
    return lemmas


def _with_keys(edges: Edges, keys: NDArray[np.int64]) -> Edges:
    """A copy of the edges, with those keys that they lack."""
    wanted = sorted_unique(keys)
    places = np.searchsorted(edges.keys, wanted)
    new = edges.keys[np.minimum(places, len(edges.keys) - 1)] != wanted
    at = places[new]
    return Edges(
        np.insert(edges.keys, at, wanted[new]),
        np.insert(edges.nodes, at, NONE),
        np.insert(edges.lemmas, at, NONE),
    )


def _with_senses(
    senses: Senses, synsets: NDArray[np.int64], like: NDArray[np.int64], kind_of: NDArray[np.uint8]
) -> Senses:
    """Senses with one more for each entry that has a synset, in either reading of its lemma, whatever stands around."""
    count, has = len(senses.kinds), synsets != NO_SENSE
    own = count + np.arange(has.sum())
    chosen = np.full(len(synsets), NO_SENSE)
    chosen[has] = own
    common, named = np.split(senses.chosen, 2)
    middle = senses.candidate_starts[senses.lemmas]
    more = np.cumsum(has)
    starts = senses.candidate_starts
    nothing = np.zeros(len(synsets), dtype=bool)
    unsure, cued = (np.split(table, 2) for table in (senses.is_unsure, senses.needs_cue))
    return replace(
        senses,
        synsets=np.concatenate([senses.synsets[:-1], synsets[has], [NO_SENSE]]),
        kinds=np.concatenate([senses.kinds, kind_of[synsets[has]].astype(np.int64)]),
        scores=np.concatenate([senses.scores, np.zeros(len(own), dtype=senses.scores.dtype)]),
        chosen=np.concatenate([common, chosen, named, chosen]),
        candidate_starts=np.concatenate(
            [
                starts[: senses.lemmas + 1],
                middle + more,
                starts[senses.lemmas + 1 :] + len(own),
                starts[-1] + len(own) + more,
            ]
        ),
        candidates=np.concatenate([senses.candidates[:middle], own, senses.candidates[middle:], own]),
        may_mean=np.concatenate([senses.may_mean, np.ones((2, len(own)), dtype=bool)], axis=1),
        needs_cue=np.concatenate([cued[0], nothing, cued[1], nothing]),
        is_unsure=np.concatenate([unsure[0], nothing, unsure[1], nothing]),
        cue_of=_with_rows(senses.cue_of, like),
        is_cue=_with_rows(senses.is_cue, like),
    )


def plurals_of(word: str, wordnet: WordNet) -> list[str]:
    """Plurals of a word, irregular ones first: man -> men; hobby -> hobbies, hobbys; box -> boxes, boxs."""
    regular = [word.removesuffix(singular) + plural for plural, singular in PLURAL_ENDINGS if word.endswith(singular)]
    if word.endswith("o"):
        regular.append(f"{word}es")
    if not word.endswith("s") and len(word) > 1:
        regular.append(f"{word}s")
    found = dict.fromkeys([*_irregular(wordnet).get(word, ()), *regular])
    return [form for form in found if WORD.fullmatch(form) and form not in GRAMMAR]


@cache
def _irregular(wordnet: WordNet) -> Mapping[str, Sequence[str]]:
    """Irregular plurals of each word: goose -> geese."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for form, base in zip(wordnet.exception_forms.to_pylist(), wordnet.exception_bases.to_pylist(), strict=True):
        found[base].append(form)
    return dict(found)


def with_rows(tagger: Tagger, forms: Sequence[str]) -> tuple[Tagger, NDArray[np.int64]]:
    """The tagger with rows for those forms that it lacks, and the row of the ending that each new row is like.

    Raises InputError for more words than a row's bits can number.
    """
    new = [form for form in forms if form not in tagger.row_of]
    if len(tagger.words) + len(new) > 1 << ROW_BITS:
        raise InputError(
            "--lexicon",
            found=f"{len(new):,} words and plurals that the tagger does not know",
            wanted=f"at most {(1 << ROW_BITS) - len(tagger.words):,}",
            remedy="Leave out entries that captions do not hold.",
        )
    added = pa.array(new, pa.string())
    like = tagger.rows(added) if new else np.zeros(0, dtype=np.int64)
    pad = tagger.pad
    words = pa.concat_arrays([tagger.words.slice(0, pad), added, tagger.words.slice(pad)])
    grown = replace(
        tagger, words=words, profile_of=_with_rows(tagger.profile_of, like), class_of=_with_rows(tagger.class_of, like)
    )
    return grown, like


def _with_rows(table: NDArray[T], like: NDArray[np.int64], *, fill: int | None = None) -> NDArray[T]:
    """A table by row with new rows before the last, the empty place: those of endings, or `fill`."""
    new = table[like] if fill is None else np.full(len(like), fill, dtype=table.dtype)
    return np.concatenate([table[:-1], new, table[-1:]])
