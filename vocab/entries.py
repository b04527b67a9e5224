"""Entries of captions' own beside WordNet's: words that WordNet lacks, and words that it reads otherwise.

In: WordNet and the tables of senses. Out: WordNet with more lemmas, each with senses of its own, so that everything
that looks a lemma up finds them:

    selfie       a word that WordNet lacks: the senses of the nearest entry, also for its plural
    drawers      a plural that WordNet knows by itself: its own senses, then those of its singular
    vintage      a word that is no noun in captions: senses that only a listed word nearby can bring up, or none
    in front of  words that are no noun: no sense
    red fire     words that belong to others, as in a red fire hydrant
    north face   a name, if each word has a capital
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.wordnet import WordNet

CHROMATIC_COLOUR, ACHROMATIC_COLOUR = 4959672, 4960079


class EntryKind(IntEnum):
    """How an entry is read."""

    WORD = 0
    """a noun with a plural"""
    FORM = 1
    """a noun in this form alone"""
    CUED = 2
    """a noun, in this form alone, if a word nearby is listed for one of its senses"""
    NO_NOUN = 3
    """no noun"""
    PARTED = 4
    """no noun together, whatever each word is"""
    NAME = 5
    """no noun if each word has a capital"""


def extended(
    wordnet: WordNet, entries: pa.StringArray, starts: NDArray[np.int32], synsets: NDArray[np.int32]
) -> WordNet:
    """WordNet with the entries as its last lemmas; each of their senses has its synset's highest count."""
    highest = np.zeros(len(wordnet.synsets), dtype=wordnet.sense_counts.dtype)
    np.maximum.at(highest, wordnet.sense_synsets, wordnet.sense_counts)
    return replace(
        wordnet,
        lemmas=pa.concat_arrays([wordnet.lemmas, pc.replace_substring(entries, " ", "_")]),
        sense_starts=np.concatenate([wordnet.sense_starts, wordnet.sense_starts[-1] + starts[1:]]),
        sense_synsets=np.concatenate([wordnet.sense_synsets, synsets]),
        sense_counts=np.concatenate([wordnet.sense_counts, highest[synsets]]),
    )


def is_proper(wordnet: WordNet) -> NDArray[np.bool_]:
    """[N] senses that WordNet writes with a capital and in no other way: individuals, months, languages, breeds.

    *Paris* is one, but not *sun*, nor *TV*. A sense of an entry is one if the first word of its synset is: China, which
    is also mainland China and the PRC.
    """
    synset_of = np.repeat(np.arange(len(wordnet.synsets)), np.diff(wordnet.word_starts))
    capital = np.asarray(pc.match_substring_regex(wordnet.words, "^[A-Z].*[a-z]"), dtype=bool)
    keys = wordnet.word_lemmas.astype(np.int64) * len(wordnet.synsets) + synset_of
    lemma_of = np.repeat(np.arange(len(wordnet.lemmas)), np.diff(wordnet.sense_starts))
    wanted = lemma_of * len(wordnet.synsets) + wordnet.sense_synsets
    own = lemma_of > wordnet.word_lemmas.max()
    proper: NDArray[np.bool_] = np.where(
        own,
        capital[wordnet.word_starts[wordnet.sense_synsets]],
        np.isin(wanted, keys[capital]) & ~np.isin(wanted, keys[~capital]),
    )
    return proper


def is_genus(wordnet: WordNet) -> NDArray[np.bool_]:
    """[S] synsets that are a genus of plants or animals: *Argentina*, the fish."""
    named = np.asarray(pc.starts_with(wordnet.words, "genus_"), dtype=bool)
    genus: NDArray[np.bool_] = np.bincount(
        np.repeat(np.arange(len(wordnet.synsets)), np.diff(wordnet.word_starts))[named], minlength=len(wordnet.synsets)
    ).astype(bool)
    return genus


def is_colour(wordnet: WordNet) -> NDArray[np.bool_]:
    """[S] colours: *red*, *navy*, but not *colour* itself."""
    below: dict[int, list[int]] = {}
    parents = np.repeat(np.arange(len(wordnet.synsets)), np.diff(wordnet.hypernym_starts))
    for child, parent in zip(parents.tolist(), wordnet.hypernyms.tolist(), strict=True):
        below.setdefault(parent, []).append(child)
    colour = np.zeros(len(wordnet.synsets), dtype=bool)
    todo = [wordnet.row_of(root) for root in (CHROMATIC_COLOUR, ACHROMATIC_COLOUR)]
    while todo:
        row = todo.pop()
        colour[row] = True
        todo += below.get(row, [])
    return colour
