"""Captions to noun synsets: the story of this room.

In: captions as an Arrow string array. Out: for each caption the WordNet 3.0 offsets of the nouns it holds, unique and
ascending, as an Arrow list<int32> array. A pure function of each caption: batch, order and machine do not matter.

    "Two Golden Retrievers asleep on a couch"  ->  [2099601, 4256520]     golden_retriever.n.01, sofa.n.01

A whole batch goes through every step at once: captions that only name a missing value are left out
(`missing_values`), text is cleaned (`cleaning`) and split (`tokens`), every word is looked up, and from there on a word
is a row of tables: which language (`language`), which words are one noun (`lexicon`), which are nouns where they stand
(`tagger`), in which sense (`senses`). `vocab.plain` is the same rule for one caption, written to be read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab import language, senses, tagger, wordnet
from vocab.arrays import among, ranges, sorted_unique
from vocab.cleaning import clean_all
from vocab.context import CAPITALS, SMALL, Case, Context, context_of
from vocab.empty_reasons import LABELLED, EmptyReason, Labelled
from vocab.entries import extended
from vocab.lexicon import MAX_WORDS, Lexicon, build_lexicon
from vocab.missing_values import without_missing
from vocab.nouns import COLOURS, SHADES, are_among
from vocab.scorer import Profiled, Scorer, build_scorer
from vocab.senses import NO_SENSE, Senses, build_senses
from vocab.tagger import STRONG_GAPS, Tag, Tagger
from vocab.tokens import ABBREVIATED, UNBROKEN, Gap, split_words
from vocab.user_lexicon import UserLexicon
from vocab.user_tables import UserTables, with_entries

# Part of the fingerprint: raised with every change of the rules that the tables do not show.
RULES_VERSION = 9

PHRASE_BONUS = 2 * tagger.SCALE
"""added to the noun score of the last word of a noun of several words"""
AT_ONCE = 16_384
"""captions processed together: any number gives the same labels; twice as many take more time, half as many no less"""
SYNSET_BITS = 17
"""bits of a synset's row; with the bits of a caption's number among AT_ONCE they must fit into 32"""


@dataclass(frozen=True, eq=False)
class Nouns:
    """Nouns of a batch, each by the places of its first and last word in the batch's `Context`."""

    firsts: NDArray[np.int64]
    lasts: NDArray[np.int64]
    readings: NDArray[np.int64]
    """lemma of a common noun; L + lemma of a name"""
    left_out: NDArray[np.int64]
    """places of the first words of those that the user has no label for; of several words each"""


@dataclass(frozen=True, eq=False)
class Labeler:
    """Caption -> noun synsets."""

    nouns: wordnet.WordNet
    tagger: Tagger
    lexicon: Lexicon
    senses: Senses
    user: UserTables | None = None
    """a user's own words, which are in the other tables too"""
    name: str = "catlip"

    @property
    def fingerprint(self) -> str:
        """sha256 of the tables and the rules' version; equal fingerprints give equal labels."""
        digest = hashlib.sha256(f"{self.name} {RULES_VERSION} {PHRASE_BONUS}".encode())
        for part in (self.tagger, self.lexicon, self.senses):
            digest.update(part.fingerprint().encode())
        for table in (self.language_values, self.abbreviations, self.shades, self.colours):
            digest.update(table.astype("<i4").tobytes())
        if self.user is not None:
            digest.update(self.user.lexicon.sha256.encode())
        return digest.hexdigest()

    def label(self, captions: pa.StringArray) -> pa.ListArray:
        """Labels of each caption: list<int32> [len(captions)], empty if there are none, also for a missing caption.

        `captions` must be valid UTF-8; `pipeline.labeling` sorts out what is not.
        """
        parts = [self._label_some(captions.slice(start, AT_ONCE))[0] for start in range(0, len(captions), AT_ONCE)]
        return pa.concat_arrays(parts or [pa.array([], pa.list_(pa.int32()))])

    def label_and_say_why(self, captions: pa.StringArray) -> Labelled:
        """`label`, and why captions have no label."""
        lists, why = [pa.array([], pa.list_(pa.int32()))], [np.zeros(0, dtype=np.int8)]
        for start in range(0, len(captions), AT_ONCE):
            some, english, words, nouns = self._label_some(captions.slice(start, AT_ONCE))
            lists.append(some)
            why.append(self._why_empty(some, english, words, nouns))
        return Labelled(pa.concat_arrays(lists), np.concatenate(why))

    def _label_some(self, captions: pa.StringArray) -> tuple[pa.ListArray, NDArray[np.bool_], Context, Nouns]:
        """`label` for at most AT_ONCE captions; also which are English, all words, and nouns of the English ones."""
        cleaned = clean_all(without_missing(captions))
        tokens = split_words(cleaned)
        words = context_of(tokens, self.tagger.rows_in(tokens.text, tokens.places, tokens.ends), self.tagger.pad)
        english = self.is_english(words, cleaned.accents)
        context = self.in_english(words, english)
        nouns = self.find_nouns(context)
        synsets = self.senses.choose(context.rows, nouns.firsts, nouns.lasts, nouns.readings)
        has = np.flatnonzero(synsets != NO_SENSE)
        lists = self._lists(context.caption_of.take(nouns.lasts[has]), synsets[has], len(captions))
        return lists, english, words, nouns

    def _why_empty(
        self, lists: pa.ListArray, english: NDArray[np.bool_], words: Context, nouns: Nouns
    ) -> NDArray[np.int8]:
        """[captions] `EmptyReason` of each caption without a label; of several reasons the greatest."""
        empty = np.asarray(pc.list_value_length(lists)) == 0
        why = np.full(len(lists), LABELLED, dtype=np.int8)
        why[empty] = EmptyReason.NO_NOUN
        why[empty & ~english] = EmptyReason.OTHER_LANGUAGE
        at = words.at[(empty & english).take(words.caption_of.take(words.at))]
        written = at[~among(words.cases.take(at), SMALL)]
        lead, is_name = self._noun_lead(self.scorer.look_up(words), written)
        why[words.caption_of.take(written[(lead >= 0) & is_name])] = EmptyReason.NAMES_ONLY
        if self.user is not None:
            silent = at[self.user.silent.take(words.rows.take(at))]
            left_out = words.caption_of.take(np.concatenate([silent, nouns.left_out]))
            why[left_out[empty[left_out]]] = EmptyReason.LEXICON
        return why

    def in_english(self, context: Context, english: NDArray[np.bool_]) -> Context:
        """Keep the words of English captions, `english` [captions]; those of others become empty places."""
        foreign = np.flatnonzero(~english)
        if not len(foreign):
            return context
        begin, lengths = context.caption_places[foreign], np.diff(context.caption_places)[foreign]
        rows = context.rows.copy()
        rows[ranges(begin, lengths)] = self.tagger.pad
        return replace(context, rows=rows)

    def is_english(self, context: Context, accents: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[captions] true if the values of words and accents add up to zero or more."""
        # Every caption has places (`reduceat` gives an empty range the value after it), and empty places have no value.
        values = np.add.reduceat(self.language_values.take(context.rows), context.caption_places[:-1])
        english: NDArray[np.bool_] = values + language.ACCENT * accents >= 0
        return english

    def find_nouns(self, context: Context) -> Nouns:
        """Find nouns of several words, the longest first, then single words among the rest."""
        starts, lengths, lemmas = self._phrases(context)
        singles = np.flatnonzero(self.lexicon.is_noun.take(context.rows))
        heads = starts + lengths - 1

        profiled = self.scorer.look_up(context)
        ahead, is_name = self._noun_lead(profiled, np.concatenate([heads, singles]))
        is_phrase = (ahead[: len(heads)] >= -PHRASE_BONUS) | self._hyphenated(context, starts, lengths)
        is_phrase &= self._are_unbroken(context, starts, lengths)
        names = np.flatnonzero(self.lexicon.names.take(lemmas))
        is_phrase[names] &= self._are_names_here(context, starts[names], heads[names])
        is_phrase[np.flatnonzero(self.lexicon.stops.take(lemmas))] = True
        titles = np.flatnonzero(self.lexicon.titles.take(lemmas))
        is_phrase[titles] = self._capitals(context, starts[titles], lengths[titles])
        if self.user is not None:
            is_phrase = self._beside_users(context, starts, lengths, lemmas, is_phrase)
        phrases = np.flatnonzero(is_phrase)
        starts, lengths, lemmas = starts[phrases], lengths[phrases], lemmas[phrases]
        won, taken = longest_first(starts, lengths, len(context.rows), preferred=self._are_users(lemmas))
        left_out = starts[won[self.lexicon.stops[lemmas[won]] & self._are_users(lemmas[won])]]
        won = won[~self.lexicon.stops[lemmas[won]]]
        single_lemmas = self.lexicon.lemma_of_word.take(context.rows.take(singles)).astype(np.int64)
        is_noun = (ahead[len(heads) :] >= 0) & ~self._are_shades(context, singles)
        is_noun = (is_noun | self._are_users(single_lemmas)) & ~taken.take(singles)
        single_is_name = is_name[len(heads) :]
        names = np.flatnonzero(is_noun & single_is_name & (single_lemmas < self.lexicon.own))
        is_noun[names] = ~self._is_beside_name(profiled, singles.take(names))
        kept = np.flatnonzero(is_noun)
        singles, readings = singles.take(kept), (single_lemmas + self.senses.lemmas * single_is_name).take(kept)
        return Nouns(
            np.concatenate([starts[won], singles]),
            np.concatenate([(starts + lengths - 1)[won], singles]),
            np.concatenate([lemmas[won], readings]),
            left_out,
        )

    def _are_users(self, lemmas: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which lemmas are entries of the user's."""
        users: NDArray[np.bool_] = lemmas >= (len(self.nouns.lemmas) if self.user is None else self.user.first)
        return users

    def _beside_users(
        self,
        context: Context,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        lemmas: NDArray[np.int64],
        is_phrase: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Tell which spans are nouns beside the user's entries.

        An entry is one wherever no sign parts its words. Built-in words that are no noun together (*in front of*, North
        Face) are none where they share a word with an entry that has a synset: the user knows better.
        """
        assert self.user is not None
        users, stops = self._are_users(lemmas), self.lexicon.stops[lemmas]
        entries = users & (self._are_unbroken(context, starts, lengths) | self.user.any_sign[lemmas])
        held = self._are_users(self.lexicon.lemma_of_word.take(context.rows).astype(np.int64))
        shared = np.zeros(len(starts), dtype=bool)
        spans = np.flatnonzero(entries & ~stops)
        for place in range(MAX_WORDS):
            held[starts[spans] + np.minimum(place, lengths[spans] - 1)] = True
        for place in range(MAX_WORDS):
            shared |= held[starts + np.minimum(place, lengths - 1)]
        beside: NDArray[np.bool_] = np.where(users, entries, is_phrase & ~(stops & shared))
        return beside

    def _is_beside_name(self, words: Profiled, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which words have a name beside them: *Jordan* in Michael Jordan is no country."""
        beside = np.concatenate([at - 1, at + 1])
        parted = among(words.context.gaps.take(np.concatenate([at, at + 1])), STRONG_GAPS)
        small = among(words.context.cases.take(beside), SMALL)
        may_be = np.flatnonzero(~parted & ~small)
        noun, name, adjective, other = self.scorer.scores(words, beside.take(may_be)).T
        is_name = np.zeros(len(beside), dtype=bool)
        is_name[may_be] = (name > noun) & (name >= adjective) & (name >= other)
        return is_name[: len(at)] | is_name[len(at) :]

    def _noun_lead(self, words: Profiled, at: NDArray[np.int64]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Lead of each word's score as a noun, common or name, over its best other score; and whether it is a name.

        A small letter beside capitals denies a name.
        """
        scores = self.scorer.scores(words, at)
        others = np.maximum(scores[:, Tag.ADJECTIVE], scores[:, Tag.OTHER])
        lead: NDArray[np.int16] = np.maximum(scores[:, Tag.NOUN], scores[:, Tag.NAME]) - others
        small = among(words.context.cases.take(at), SMALL)
        is_name: NDArray[np.bool_] = (scores[:, Tag.NAME] > scores[:, Tag.NOUN]) & ~small
        return lead, is_name

    def _are_shades(self, context: Context, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Words that name a shade of a colour: *light* in a light blue shirt."""
        shades = self.shades.take(context.rows.take(at))
        may_be = np.flatnonzero(shades)
        shades[may_be] = self.colours.take(context.rows.take(at.take(may_be) + 1))
        return shades

    def _are_names_here(
        self, context: Context, firsts: NDArray[np.int64], lasts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Tell which spans that read like descriptions are names: *the white house*, or capitals where they count."""
        capitals = (context.cases[firsts] == Case.CAPITAL) & (context.cases[lasts] == Case.CAPITAL)
        names: NDArray[np.bool_] = (context.rows[firsts - 1] == self.the) | capitals
        return names

    def _are_unbroken(
        self, context: Context, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Tell which spans have no sign between their words: *a dog, house* is not a dog house."""
        unbroken = np.ones(len(starts), dtype=bool)
        for place in range(1, MAX_WORDS):
            inside = np.flatnonzero(place < lengths)
            at = starts[inside] + place
            ends_sentence = (context.gaps[at] == Gap.STOP) & ~self.abbreviations[context.rows[at - 1]]
            unbroken[inside] &= among(context.gaps[at], UNBROKEN) & ~ends_sentence
        return unbroken

    def _capitals(self, context: Context, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which spans have a capital in each word: *North Face*."""
        capitals = np.ones(len(starts), dtype=bool)
        for place in range(MAX_WORDS):
            inside = np.flatnonzero(place < lengths)
            capitals[inside] &= among(context.cases[starts[inside] + place], CAPITALS)
        return capitals

    def _hyphenated(self, context: Context, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which spans are joined by hyphens alone: *close-up* is a noun, whatever *up* is."""
        joined = np.ones(len(starts), dtype=bool)
        for place in range(1, MAX_WORDS):
            inside = np.flatnonzero(place < lengths)
            joined[inside] &= context.gaps[starts[inside] + place] == Gap.HYPHEN
        return joined

    def _phrases(self, context: Context) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All nouns of several words: first place, words, lemma. They may overlap."""
        rows, lexicon = context.rows, self.lexicon
        starts = np.flatnonzero(lexicon.opens.take(rows[:-1]) & lexicon.goes_on.take(rows[1:]))
        nodes = lexicon.node_of_word.take(rows.take(starts)).astype(np.int64)
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        for length in range(2, MAX_WORDS + 1):
            edges = lexicon.edges(nodes, rows.take(starts + length - 1))
            known = np.flatnonzero(edges >= 0)
            starts, edges = starts.take(known), edges.take(known)
            lemmas = lexicon.edge_lemmas.take(edges).astype(np.int64)
            nodes = lexicon.edge_nodes.take(edges).astype(np.int64)
            complete, longer = np.flatnonzero(lemmas >= 0), np.flatnonzero(nodes >= 0)
            found.append((starts.take(complete), np.full(len(complete), length), lemmas.take(complete)))
            starts, nodes = starts.take(longer), nodes.take(longer)
        first, lengths, complete_lemmas = (np.concatenate(column) for column in zip(*found, strict=True))
        return first, lengths, complete_lemmas

    def _lists(self, captions: NDArray[np.int64], synsets: NDArray[np.int64], length: int) -> pa.ListArray:
        """Turn pairs of caption and synset row into one list of unique ascending synsets for each caption."""
        # A row is in the order of its offset, and small: both numbers fit into 32 bits, which sort twice as fast.
        pairs = sorted_unique((captions << SYNSET_BITS | synsets).astype(np.uint32))
        offsets = np.zeros(length + 1, dtype=np.int32)
        np.cumsum(np.bincount(pairs >> SYNSET_BITS, minlength=length), out=offsets[1:])
        values = self.nouns.synsets.take(pairs & ((1 << SYNSET_BITS) - 1))
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))

    @cached_property
    def language_values(self) -> NDArray[np.int32]:
        """[W] score of each word for English; an entry of the user's speaks for it."""
        values = language.values_of(self.tagger)
        if self.user is not None:
            values[self.user.english] = np.maximum(values[self.user.english], language.KNOWN)
        return values

    @cached_property
    def scorer(self) -> Scorer:
        """The tagger's tables, ready for look-ups."""
        return build_scorer(self.tagger)

    @cached_property
    def the(self) -> int:
        """Row of *the*."""
        row: int = self.tagger.words.index("the").as_py()
        return row

    @cached_property
    def abbreviations(self) -> NDArray[np.bool_]:
        """[W] words so short that a full stop after them does not end a sentence."""
        return np.asarray(pc.less_equal(pc.binary_length(self.tagger.words), ABBREVIATED), dtype=bool)

    @cached_property
    def shades(self) -> NDArray[np.bool_]:
        """[W] words that name a shade when they stand before a colour."""
        return are_among(self.tagger.words, SHADES)

    @cached_property
    def colours(self) -> NDArray[np.bool_]:
        """[W] colours."""
        return are_among(self.tagger.words, COLOURS)


def longest_first(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], places: int, *, preferred: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Choose among overlapping spans: the longer ones, of one length the preferred, then the left; and what they cover.

    `starts` of one length are ascending. Returns the chosen spans, and [places] true for those that they cover.
    """
    taken = np.zeros(places, dtype=bool)
    won: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for length, wanted in product(range(MAX_WORDS, 1, -1), (True, False)):
        of_length = np.flatnonzero((lengths == length) & (preferred == wanted))
        if not len(of_length):
            continue
        begin = starts[of_length]
        free = ~np.logical_or.reduce([taken[begin + place] for place in range(length)])
        of_length, begin = of_length[free], begin[free]
        # Those of one length overlap rarely; only such runs are gone through one by one.
        keep = np.ones(len(begin), dtype=bool)
        close = np.flatnonzero(np.diff(begin) < length) + 1
        for i in close.tolist():
            before = i - 1
            while before >= 0 and not keep[before]:
                before -= 1
            keep[i] = begin[i] - begin[before] >= length
        won.append(of_length[keep])
        for place in range(length):
            taken[begin[keep] + place] = True
    return np.concatenate(won), taken


@cache
def load() -> Labeler:
    """The labeler, built once per process (in about a second) and shared by everything in it."""
    tables, words = senses.load(), tagger.load()
    nouns = extended(wordnet.load(), tables.entries, tables.entry_starts, tables.entry_synsets)
    return Labeler(
        nouns,
        words,
        build_lexicon(nouns, words.words, tables.entry_kinds),
        build_senses(nouns, tables, len(words.words)),
    )


@lru_cache(maxsize=1)
def load_with(lexicon: UserLexicon) -> Labeler:
    """The labeler with a user's own words; the last one that was built is kept, for each takes 70 MB.

    Raises InputError for more words than the tables can hold.
    """
    ours = load()
    more = with_entries(ours.nouns, ours.tagger, ours.lexicon, ours.senses, senses.load().kind_of, lexicon)
    return Labeler(more.nouns, more.tagger, more.lexicon, more.senses, more.user)
