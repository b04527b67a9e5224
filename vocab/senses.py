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
from numpy.typing import NDArray

from vocab import packing
from vocab.context import EMPTY
from vocab.packing import Kind
from vocab.wordnet import LEXICOGRAPHER_FILES, WordNet

PACKED = Kind(
    file="senses.npz",
    version=1,
    holds="the tables of senses",
    made_by="python -m vocab fit-senses --semcor semcor.jsonl --listed imagenet22k_synsets.txt",
)
FILES = tuple(LEXICOGRAPHER_FILES)
REACH = EMPTY
"""words on either side that give cues"""
SCALE = 32
"""a score of 32 is one unit of log odds"""
PAIR = 256
"""added to a sense by each nearby word that is listed for it"""
PAIR_BITS = 20
FILTER_BITS = 17
LIMIT = 32
"""all cues together change a sense's score by no more than this"""
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
    """[P] sense << PAIR_BITS | row of a word listed for it, ascending: from `vocab.caption_senses`"""
    weights: NDArray[np.float64]
    """[features + 1] by which the scores were made: of `FEATURES`, then of the cues"""


@dataclass(frozen=True, eq=False)
class Senses:
    """The tables, ready for look-ups."""

    synsets: NDArray[np.int64]
    """[N] synset row of each sense"""
    kinds: NDArray[np.int64]
    """[N] kind of each sense"""
    scores: NDArray[np.int32]
    """[N]"""
    chosen: NDArray[np.int64]
    """[L] sense with the highest score, the first of equals"""
    candidate_starts: NDArray[np.int64]
    """[L + 1] where a lemma's candidates begin: the senses that cues can make win, all others left out"""
    candidates: NDArray[np.int64]
    """senses"""
    cue_of: NDArray[np.int64]
    """[W] where the word's cues begin in `cues`; those without have the first, which are zero"""
    cues: NDArray[np.int8]
    """[(C + 1) * K]"""
    is_unsure: NDArray[np.bool_]
    """[L] lemmas with more than one candidate"""
    pair_filter: NDArray[np.bool_]
    """[2 ** FILTER_BITS] false where no lemma and word listed for one of its senses have that hash: a quick negative"""
    pair_keys: NDArray[np.int64]
    """[P] as in `SenseTables`"""

    def choose(
        self, rows: NDArray[np.int64], firsts: NDArray[np.int64], lasts: NDArray[np.int64], lemmas: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """[nouns] synset row of each noun.

        `rows` [places] are those of the batch's `Context`, whose empty places part captions by REACH or more and have
        no cues; `firsts` and `lasts` are the places of each noun's first and last word.
        """
        chosen = self.chosen.take(lemmas)
        unsure = np.flatnonzero(self.is_unsure.take(lemmas))
        if len(unsure):
            chosen[unsure] = self._choose_by_cues(rows, firsts[unsure], lasts[unsure], lemmas[unsure])
        return self.synsets.take(chosen)

    def _choose_by_cues(
        self, rows: NDArray[np.int64], firsts: NDArray[np.int64], lasts: NDArray[np.int64], lemmas: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """[nouns] sense of each: all candidates are laid out one after another, and each word around adds its cues."""
        begin = self.candidate_starts.take(lemmas)
        counts = self.candidate_starts.take(lemmas + 1) - begin
        first_of = np.cumsum(counts) - counts
        noun_of = np.repeat(np.arange(len(lemmas)), counts)
        senses = self.candidates.take(np.arange(len(noun_of)) + (begin - first_of).take(noun_of))
        kinds = self.kinds.take(senses)
        around = [rows.take(edge) for distance in range(1, REACH + 1) for edge in (firsts - distance, lasts + distance)]
        total = np.zeros(len(senses), dtype=np.int32)
        for row in around:
            total += self.cues.take(self.cue_of.take(row).take(noun_of) + kinds)
        np.clip(total, -LIMIT, LIMIT, out=total)
        total += self.scores.take(senses)
        for row in around:
            noun = np.flatnonzero(self.pair_filter.take(_hash(lemmas, row)))
            self._add_pairs(total, senses, row[noun], first_of[noun], counts[noun])
        best = np.maximum.reduceat(total, first_of)
        # The first of the best senses: the place of the first hit in each run.
        hits = np.flatnonzero(total == best.take(noun_of))
        winner = np.empty(len(lemmas), dtype=np.int64)
        winner[noun_of[hits][::-1]] = senses[hits][::-1]
        return winner

    def _add_pairs(
        self, total: NDArray[np.int32], senses: NDArray[np.int64], row: NDArray[np.int64],
        first_of: NDArray[np.int64], counts: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Add, in place, the scores that one listed word beside each noun gives to single senses."""
        for number in range(int(counts.max(initial=0))):
            has = np.flatnonzero(number < counts)
            at = first_of[has] + number
            keys = senses[at] << PAIR_BITS | row[has]
            found = self.pair_keys[np.minimum(np.searchsorted(self.pair_keys, keys), len(self.pair_keys) - 1)]
            total[at[found == keys]] += PAIR

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
    """Lay the tables out for look-ups. `words` is the number of the tagger's rows."""
    starts = wordnet.sense_starts.astype(np.int64)
    lemma_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    best = np.maximum.reduceat(tables.scores, starts[:-1])
    hits = np.flatnonzero(tables.scores == best[lemma_of])
    chosen = np.empty(len(starts) - 1, dtype=np.int64)
    chosen[lemma_of[hits][::-1]] = hits[::-1]
    kinds = tables.kind_of[wordnet.sense_synsets].astype(np.int64)
    paired = np.zeros(len(lemma_of), dtype=bool)
    paired[tables.pair_keys >> PAIR_BITS] = True
    can_win = tables.scores >= best[lemma_of] - 2 * LIMIT
    # Of senses of one kind, which get the same cues, only the first of the best can.
    order = np.lexsort((np.arange(len(lemma_of)), -tables.scores, kinds, lemma_of))
    same = (lemma_of[order][1:] == lemma_of[order][:-1]) & (kinds[order][1:] == kinds[order][:-1])
    can_win[order[1:][same]] = False
    candidates = np.flatnonzero(can_win | paired)
    candidate_starts = np.searchsorted(candidates, starts)
    cue_of = np.zeros(words, dtype=np.int64)
    cue_of[tables.cue_words] = (np.arange(len(tables.cue_words)) + 1) * len(tables.kinds)
    cues = np.concatenate([np.zeros((1, len(tables.kinds)), dtype=np.int8), tables.cues]).ravel()
    pair_filter = np.zeros(1 << FILTER_BITS, dtype=bool)
    pair_filter[_hash(lemma_of[tables.pair_keys >> PAIR_BITS], tables.pair_keys & ((1 << PAIR_BITS) - 1))] = True
    return Senses(
        synsets=wordnet.sense_synsets.astype(np.int64),
        kinds=kinds,
        scores=tables.scores,
        chosen=chosen,
        candidate_starts=candidate_starts,
        candidates=candidates,
        cue_of=cue_of,
        cues=cues,
        is_unsure=np.diff(candidate_starts) > 1,
        pair_filter=pair_filter,
        pair_keys=tables.pair_keys,
    )


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
