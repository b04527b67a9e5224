"""The sense of a noun that a caption means.

In: the nouns of a batch and the words around them. Out: a synset for each. Every sense has a score of its own, fitted
so that WordNet's counts decide where they are strong, and what pictures show where they are weak; to it the words
around add their cues, each for one of about thirty kinds of thing (device, vertebrate, food, ...), so that a mouse
beside a keyboard is a device. All scores are integers: sums come out the same in any order, on any machine.
`vocab.fit.senses_fit` fits the tables.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cache, cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab import packing
from vocab.arrays import ranges
from vocab.context import EMPTY
from vocab.entries import EntryKind, is_colour, is_genus, is_proper
from vocab.hints import PAIR_BITS, Hints, build_hints
from vocab.packing import Kind
from vocab.wordnet import LEXICOGRAPHER_FILES, WordNet

PACKED = Kind(
    file="senses.npz",
    version=2,
    holds="the tables of senses",
    made_by="python -m vocab fit-senses --semcor semcor.jsonl --listed imagenet22k_synsets.txt --names lexical",
)
FILES = tuple(LEXICOGRAPHER_FILES)
PERSON = 18
NO_SENSE = -1
REACH = EMPTY
"""words on either side that give cues"""
SCALE = 32
"""a score of 32 is one unit of log odds"""
PAIR = 256
"""added to a sense by each nearby word that is listed for it"""
FILTER_BITS = 21
LIMIT = 32
"""all cues together change a sense's score by no more than this"""
NEVER = 1 << 20
"""lead that no cues can make up"""
FEATURES = (
    "log count", "is first", "is second", "log rank", "lemma is first word", "log words of synset", "is individual",
    *(f"file {name}" for name in LEXICOGRAPHER_FILES.values()),
    *(f"file {name}, weakly counted lemma" for name in LEXICOGRAPHER_FILES.values()),
)  # fmt: skip
WEAK = 20.0
"""tagged uses of a lemma at which the weight of its kind is halved"""


@dataclass(frozen=True, eq=False)
class SenseTables:
    """Fitted tables, kept in the package. N senses, C words with cues."""

    scores: NDArray[np.int32]
    """[N] score of each sense by itself"""
    kinds: NDArray[np.int32]
    """[K] synset row that names each kind: the kind is all below it, down to the next kind"""
    kind_of: NDArray[np.uint8]
    """[S] kind of each synset"""
    cue_words: NDArray[np.int32]
    """[C] rows of the tagger's words that have cues"""
    cues: NDArray[np.int8]
    """[C, K] what the word adds to senses of each kind"""
    pair_keys: NDArray[np.int64]
    """[P] sense << PAIR_BITS | row of a word listed for it, ascending: from `vocab.fit.caption_senses`"""
    weights: NDArray[np.float64]
    """[features + 1] by which the scores were made: of `FEATURES`, then of the cues"""
    entries: pa.StringArray
    """[E] words of captions' own entries (`vocab.entries`), parted by spaces"""
    entry_starts: NDArray[np.int32]
    """[E + 1] where each entry's senses begin"""
    entry_synsets: NDArray[np.int32]
    """synset rows"""
    entry_kinds: NDArray[np.uint8]
    """[E] `EntryKind`"""


@dataclass(frozen=True, eq=False)
class Senses:
    """The tables, ready for look-ups."""

    synsets: NDArray[np.int64]
    """[N + 1] synset row of each sense, `NO_SENSE` for a colour, which is a label of nothing; the last is NO_SENSE's"""
    kinds: NDArray[np.int64]
    """[N] kind of each sense"""
    scores: NDArray[np.int32]
    """[N]"""
    chosen: NDArray[np.int64]
    """[2 L] for each reading of a lemma, as a common noun and then as a name, the sense with the highest score, the
    first of equals; `NO_SENSE` where there is none"""
    candidate_starts: NDArray[np.int64]
    """[2 L + 1] where a reading's candidates begin: the senses that cues can make win, all others left out"""
    candidates: NDArray[np.int64]
    """senses"""
    may_mean: NDArray[np.bool_]
    """[2, N] senses that a common noun may have, and a name"""
    needs_cue: NDArray[np.bool_]
    """[2 L] readings that have a sense only if a word nearby is listed for it"""
    cue_of: NDArray[np.int64]
    """[W] where the word's cues begin in `cues`; those without have the first, which are zero"""
    cues: NDArray[np.int8]
    """[(C + 1) * K]"""
    is_unsure: NDArray[np.bool_]
    """[2 L] readings with more than one candidate, or that need a cue"""
    is_cue: NDArray[np.bool_]
    """[W] words that are listed for a sense"""
    pair_filter: NDArray[np.bool_]
    """[2 ** FILTER_BITS] false where no lemma and word listed for one of its senses have that hash: a quick negative"""
    pair_keys: NDArray[np.int64]
    """[P] as in `SenseTables`"""

    def choose(
        self, rows: NDArray[np.int64], firsts: NDArray[np.int64], lasts: NDArray[np.int64], readings: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """[nouns] synset row of each noun, `NO_SENSE` for those that have none here.

        `rows` [places] are those of the batch's `Context`, whose empty places part captions by REACH or more and have
        no cues; `firsts` and `lasts` are the places of each noun's first and last word; `readings` are its lemma as a
        common noun, or L + its lemma as a name.
        """
        chosen = self.chosen.take(readings)
        unsure = np.flatnonzero(self.is_unsure.take(readings))
        firsts, lasts = firsts.take(unsure), lasts.take(unsure)
        around = np.stack([edge for far in range(1, REACH + 1) for edge in (firsts - far, lasts + far)])
        chosen[unsure] = self._choose_by_words(rows.take(around), readings.take(unsure))
        return self.synsets.take(chosen)

    def _choose_by_words(self, around: NDArray[np.int64], readings: NDArray[np.int64]) -> NDArray[np.int64]:
        """[nouns] sense of each, by the rows of the words `around` [2 * REACH, nouns].

        Cues are added up only where they may change the sense: where their sum can reach the lead of the highest score,
        or a word is listed for a candidate. All other nouns keep the sense with the highest score.
        """
        noun, candidate = self._find_hints(around, readings)
        may_change = self.sways.take(around).sum(axis=0, dtype=np.int32) >= self.leads.take(readings)
        may_change[noun] = True
        changing = np.flatnonzero(may_change)
        number_of = np.empty(len(readings), dtype=np.int64)
        number_of[changing] = np.arange(len(changing))
        chosen = self.chosen.take(readings)
        chosen[np.flatnonzero(self.needs_cue.take(readings))] = NO_SENSE
        chosen[changing] = self._choose_by_cues(
            around.take(changing, axis=1), readings.take(changing), number_of.take(noun), candidate
        )
        return chosen

    def _find_hints(
        self, around: NDArray[np.int64], readings: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of a noun, and place in `candidates` of one of its candidates, for each word around that is listed."""
        lemmas = readings % self.lemmas
        nouns, words = [], []
        for rows in around:
            noun = np.flatnonzero(self.is_cue.take(rows))
            word = rows.take(noun)
            likely = np.flatnonzero(self.pair_filter.take(_hash(lemmas.take(noun), word)))
            nouns.append(noun.take(likely))
            words.append(word.take(likely))
        noun = np.concatenate(nouns)
        found, candidate = self.hints.find(readings.take(noun), np.concatenate(words))
        return noun.take(found), candidate

    def _choose_by_cues(
        self,
        around: NDArray[np.int64],
        readings: NDArray[np.int64],
        hinted: NDArray[np.int64],
        hints: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """[nouns] sense of each: all candidates are laid out one after another, and each word around adds its cues.

        `hinted` and `hints` are nouns and candidates of theirs, once for each word around that is listed.
        """
        begin = self.candidate_starts.take(readings)
        counts = self.candidate_starts.take(readings + 1) - begin
        first_of = np.cumsum(counts) - counts
        noun_of = np.repeat(np.arange(len(readings)), counts)
        senses = self.candidates.take(ranges(begin, counts))
        kinds = self.kinds.take(senses)
        total = np.zeros(len(senses), dtype=np.int32)
        for cues in self.cue_of.take(around):
            total += self.cues.take(cues.take(noun_of) + kinds)
        np.clip(total, -LIMIT, LIMIT, out=total)
        total += self.scores.take(senses)
        listed = np.bincount(hints + (first_of - begin).take(hinted), minlength=len(senses))
        total += (PAIR * listed).astype(np.int32)
        best = np.maximum.reduceat(total, first_of)
        # The first of the best senses: the place of the first hit in each run.
        hits = np.flatnonzero(total == best.take(noun_of))[::-1]
        winner = np.empty(len(readings), dtype=np.int64)
        winner[noun_of.take(hits)] = hits
        silent = self.needs_cue.take(readings) & (listed.take(winner) == 0)
        return np.where(silent, NO_SENSE, senses.take(winner))

    @property
    def lemmas(self) -> int:
        """Number of lemmas."""
        return len(self.chosen) // 2

    @cached_property
    def hints(self) -> Hints:
        """The words listed for each reading."""
        return build_hints(self.pair_keys, self.candidates, self.candidate_starts)

    @cached_property
    def leads(self) -> NDArray[np.int32]:
        """[2 L] lead of a reading's highest score over its next candidate's; NEVER where no cues can make it up."""
        reading_of = np.repeat(np.arange(2 * self.lemmas), np.diff(self.candidate_starts))
        others = np.flatnonzero(self.candidates != self.chosen.take(reading_of))
        second = np.full(2 * self.lemmas, -NEVER, dtype=np.int32)
        np.maximum.at(second, reading_of.take(others), self.scores.take(self.candidates.take(others)))
        leads = self.scores.take(self.chosen) - second
        leads[(leads > 2 * LIMIT) | self.needs_cue] = NEVER
        return leads

    @cached_property
    def sways(self) -> NDArray[np.uint8]:
        """[W] greatest difference between what the word adds to two kinds."""
        # `cues` is one row of all kinds after another, and some word has the last row.
        kinds = len(self.cues) - int(self.cue_of.max())
        cues = self.cues.reshape(-1, kinds)
        sways: NDArray[np.uint8] = (cues.max(axis=1).astype(np.int16) - cues.min(axis=1)).astype(np.uint8)
        return sways.take(self.cue_of // kinds)

    @cached_property
    def pair_set(self) -> frozenset[int]:
        """`pair_keys`, to look single ones up."""
        return frozenset(self.pair_keys.tolist())

    def fingerprint(self) -> str:
        """sha256 of the tables."""
        digest = hashlib.sha256(f"{REACH} {PAIR} {LIMIT}".encode())
        for table in (getattr(self, field.name) for field in fields(self)):
            digest.update(table.astype(table.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def _hash(lemmas: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return (lemmas * 0x9E3779B1 + rows) & ((1 << FILTER_BITS) - 1)


def file_of_senses(wordnet: WordNet) -> NDArray[np.int64]:
    """[N] lexicographer file of each sense, from 0."""
    return wordnet.lexicographer_files[wordnet.sense_synsets].astype(np.int64) - min(FILES)


def features_of_senses(wordnet: WordNet) -> NDArray[np.float64]:
    """[N, FEATURES] summands of a sense's score."""
    lengths = np.diff(wordnet.sense_starts)
    lemma_of = np.repeat(np.arange(len(lengths)), lengths)
    rank = np.arange(len(lemma_of)) - wordnet.sense_starts[lemma_of]
    counts = wordnet.sense_counts.astype(np.float64)
    lemma_counts = wordnet.lemma_counts()[lemma_of]
    synsets = wordnet.sense_synsets
    first_word = wordnet.word_lemmas[wordnet.word_starts[synsets]] == lemma_of
    words = np.diff(wordnet.word_starts)[synsets]
    individual = np.diff(wordnet.instance_starts)[synsets] > 0
    files = np.eye(len(FILES))[file_of_senses(wordnet)]
    weak = WEAK / (WEAK + lemma_counts)
    return np.column_stack(
        [
            np.log(counts + 0.5),
            rank == 0,
            rank == 1,
            np.log1p(rank),
            first_word,
            np.log(words),
            individual,
            files,
            files * weak[:, None],
        ]
    ).astype(np.float64)


def build_senses(wordnet: WordNet, tables: SenseTables, words: int) -> Senses:
    """Lay the tables out for look-ups. `wordnet` has the entries; `words` is the number of the tagger's rows."""
    lengths = np.diff(wordnet.sense_starts)
    lemmas = len(lengths)
    lemma_of = np.repeat(np.arange(lemmas), lengths)
    kinds = tables.kind_of[wordnet.sense_synsets].astype(np.int64)
    paired = np.zeros(len(lemma_of), dtype=bool)
    paired[tables.pair_keys >> PAIR_BITS] = True
    reading_of, sense_of = _readings(wordnet, lemma_of, tables.entry_kinds)
    may_mean = np.zeros((2, len(lemma_of)), dtype=bool)
    may_mean[reading_of // lemmas, sense_of] = True
    needs_cue = np.zeros(2 * lemmas, dtype=bool)
    cued = lemmas - len(tables.entry_kinds) + np.flatnonzero(tables.entry_kinds == EntryKind.CUED)
    needs_cue[np.concatenate([cued, cued + lemmas])] = True

    best = np.full(2 * lemmas, np.iinfo(np.int32).min)
    np.maximum.at(best, reading_of, tables.scores[sense_of])
    # "Man" is the island only beside a word that says so: WordNet's corpora have none, and mostly it is part of another
    # name. "Turkey" is the country, which they have.
    counts_as_name = np.zeros(2 * lemmas, dtype=np.int64)
    np.maximum.at(counts_as_name, reading_of, wordnet.sense_counts[sense_of])
    needs_cue[lemmas:] |= (best[lemmas:] < best[:lemmas]) & (counts_as_name[lemmas:] == 0)
    hits = np.flatnonzero(tables.scores[sense_of] == best[reading_of])[::-1]
    chosen = np.full(2 * lemmas, NO_SENSE)
    chosen[reading_of[hits]] = sense_of[hits]
    can_win = tables.scores[sense_of] >= best[reading_of] - 2 * LIMIT
    # Of senses of one kind, which get the same cues, only the first of the best can.
    order = np.lexsort((sense_of, -tables.scores[sense_of], kinds[sense_of], reading_of))
    same = (np.diff(reading_of[order]) == 0) & (np.diff(kinds[sense_of][order]) == 0)
    can_win[order[1:][same]] = False
    kept = can_win | paired[sense_of]
    candidate_starts = np.searchsorted(reading_of[kept], np.arange(2 * lemmas + 1))
    cue_of = np.zeros(words, dtype=np.int64)
    cue_of[tables.cue_words] = (np.arange(len(tables.cue_words)) + 1) * len(tables.kinds)
    cues = np.concatenate([np.zeros((1, len(tables.kinds)), dtype=np.int8), tables.cues]).ravel()
    is_cue = np.zeros(words, dtype=bool)
    is_cue[tables.pair_keys & ((1 << PAIR_BITS) - 1)] = True
    pair_filter = np.zeros(1 << FILTER_BITS, dtype=bool)
    pair_filter[_hash(lemma_of[tables.pair_keys >> PAIR_BITS], tables.pair_keys & ((1 << PAIR_BITS) - 1))] = True
    counts = np.diff(candidate_starts)
    shown = np.where(is_colour(wordnet), NO_SENSE, np.arange(len(wordnet.synsets)))
    return Senses(
        synsets=np.append(shown[wordnet.sense_synsets], NO_SENSE),
        kinds=kinds,
        scores=tables.scores,
        chosen=chosen,
        candidate_starts=candidate_starts,
        candidates=sense_of[kept],
        may_mean=may_mean,
        needs_cue=needs_cue,
        cue_of=cue_of,
        cues=cues,
        is_unsure=(counts > 1) | (needs_cue & (counts > 0)),
        is_cue=is_cue,
        pair_filter=pair_filter,
        pair_keys=tables.pair_keys,
    )


def _readings(
    wordnet: WordNet, lemma_of: NDArray[np.int64], entry_kinds: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a reading and a sense that it may have, ascending.

    A common noun has the common senses of its lemma, or all where all are proper, or all of captions' own entry; a name
    the proper ones, but a person only by more than one word, for a surname alone is mostly somebody else's, or all of
    captions' own word.
    """
    # A genus is meant only where the word has no other sense.
    genus = is_genus(wordnet)[wordnet.sense_synsets]
    wanted = ~genus | (np.bincount(lemma_of, ~genus) == 0)[lemma_of]
    proper = is_proper(wordnet)
    lemmas = len(wordnet.sense_starts) - 1
    own, own_word = np.zeros((2, lemmas), dtype=bool)
    own[lemmas - len(entry_kinds) :] = True
    own_word[lemmas - len(entry_kinds) :] = entry_kinds == EntryKind.WORD
    has_common = np.zeros(lemmas, dtype=bool)
    has_common[lemma_of[~proper & wanted]] = True
    files = wordnet.lexicographer_files[wordnet.sense_synsets]
    individual = np.diff(wordnet.instance_starts)[wordnet.sense_synsets] > 0
    single = ~np.asarray(pc.match_substring(wordnet.lemmas, "_"), dtype=bool)
    surname = individual & (files == PERSON) & single[lemma_of]
    common = np.flatnonzero((~proper | ~has_common[lemma_of] | own[lemma_of]) & wanted)
    named = np.flatnonzero(((proper & ~surname) | own_word[lemma_of]) & wanted)
    return np.concatenate([lemma_of[common], lemmas + lemma_of[named]]), np.concatenate([common, named])


@cache
def load() -> SenseTables:
    """The tables that come with the package, read once per process. Raises FormatError if they cannot be."""
    return unpack(packing.read(PACKED))


def pack(tables: SenseTables, about: dict[str, str]) -> bytes:
    """The packed file's bytes; `about` names what the tables were fitted on, and the licences."""
    return packing.pack(PACKED, vars(tables), about)


def unpack(content: bytes) -> SenseTables:
    """The inverse of `pack`. Raises FormatError for bytes that are not such a file, or another version of it."""
    arrays, _ = packing.unpack(PACKED, content)
    return SenseTables(**arrays)
