"""Captions to noun synsets: the story of this room.

In: captions as an Arrow string array. Out: for each caption the WordNet 3.0 offsets of the nouns it holds, unique and
ascending, as an Arrow list<int32> array. A pure function of each caption: batch, order and machine do not matter.

    "Two Golden Retrievers asleep on a couch"  ->  [2099601, 4256520]     golden_retriever.n.01, sofa.n.01
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab import wordnet
from vocab.lexicon import MAX_WORDS, ROOT, Lexicon, build_lexicon
from vocab.morphology import singular_forms
from vocab.nouns import is_function_word, is_number_or_letter
from vocab.tokens import split_words

# Part of the fingerprint: raised with every change of the rules that the tables do not show.
RULES_VERSION = 2

# A plural with an entry of its own (glasses, arms) keeps it unless its singular is used this many times as often, as
# with hands, which WordNet knows as guardianship.
SINGULAR_USE_RATIO = 8


@dataclass(frozen=True, eq=False)
class Labeler:
    """Caption -> noun synsets by dictionary: longest match first, plurals as singulars, one sense for each noun."""

    nouns: wordnet.WordNet
    lexicon: Lexicon
    name: str = "wordnet"

    @property
    def fingerprint(self) -> str:
        """sha256 of the tables and the rules' version; equal fingerprints give equal labels."""
        return hashlib.sha256(f"{self.name} {RULES_VERSION} {self.lexicon.fingerprint()}".encode()).hexdigest()

    def label(self, captions: pa.StringArray) -> pa.ListArray:
        """Labels of each caption: list<int32> [len(captions)], empty where there is none, also for a null caption.

        `captions` must be valid UTF-8; `pipeline.labeling` sorts out what is not.
        """
        words, starts = split_words(captions)
        encoded = words.dictionary_encode()
        token_of = np.asarray(encoded.indices, dtype=np.int64)  # [words] into the distinct words
        distinct = encoded.dictionary
        caption_of = np.repeat(np.arange(len(captions), dtype=np.int64), np.diff(starts))
        forms = np.stack([self.lexicon.word_rows(form) for form in singular_forms(distinct, self.nouns)], axis=1)
        rows = self.lexicon.word_rows(distinct)

        phrases = self._phrases(rows[token_of], forms, token_of, caption_of)
        taken, phrase_synsets, phrase_captions = self._longest_first(phrases, caption_of)
        single = self._single_words(distinct, forms)[token_of]
        alone = (single >= 0) & ~taken
        return _lists(
            np.concatenate([phrase_captions, caption_of[alone]]),
            np.concatenate([phrase_synsets, single[alone]]),
            len(captions),
        )

    def _single_words(self, distinct: pa.StringArray, forms: NDArray[np.int64]) -> NDArray[np.int64]:
        """[distinct] synset of each word on its own, -1 for none."""
        nodes = self.lexicon.children(np.full_like(forms, ROOT), forms)
        synsets = np.where(nodes >= 0, self.lexicon.synsets[nodes], -1).astype(np.int64)
        first = np.argmax(synsets >= 0, axis=1)
        every = np.arange(len(distinct))
        # The last three candidates are the word itself and its regular singulars; see `singular_forms`.
        itself = forms.shape[1] - 3
        counts = np.where(nodes >= 0, self.lexicon.counts[nodes], 0)
        singular = itself + 1 + np.argmax(counts[:, itself + 1 :], axis=1)
        rare_plural = counts[every, singular] > SINGULAR_USE_RATIO * (counts[:, itself] + 1)
        chosen = synsets[every, np.where((first == itself) & rare_plural, singular, first)]
        return np.where(is_function_word(distinct) | is_number_or_letter(distinct), -1, chosen)

    def _phrases(
        self,
        rows: NDArray[np.int64],
        forms: NDArray[np.int64],
        token_of: NDArray[np.int64],
        caption_of: NDArray[np.int64],
    ) -> list[tuple[int, int, int]]:
        """Nouns of two to four words, as (words, first word, synset); only the last word may be inflected."""
        found: list[tuple[int, int, int]] = []
        starts = np.arange(len(rows))
        nodes = self.lexicon.children(np.full_like(rows, ROOT), rows)
        for length in range(2, MAX_WORDS + 1):
            last = starts + length - 1
            inside = last < len(rows)
            inside[inside] &= caption_of[starts[inside]] == caption_of[last[inside]]
            grows = inside & (nodes >= 0) & self.lexicon.has_children[nodes]
            starts, nodes, last = starts[grows], nodes[grows], last[grows]
            ends = self.lexicon.children(np.repeat(nodes[:, None], forms.shape[1], axis=1), forms[token_of[last]])
            synsets = np.where(ends >= 0, self.lexicon.synsets[ends], -1)
            first = synsets[np.arange(len(synsets)), np.argmax(synsets >= 0, axis=1)]
            matched = np.flatnonzero(first >= 0)
            found += zip([length] * len(matched), starts[matched].tolist(), first[matched].tolist(), strict=True)
            nodes = self.lexicon.children(nodes, rows[last])
        return found

    def _longest_first(
        self, phrases: list[tuple[int, int, int]], caption_of: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """[words] taken by a phrase, and synsets and captions of the phrases that took them: longest, then leftmost."""
        taken = np.zeros(len(caption_of), dtype=bool)
        won: list[tuple[int, int]] = []
        for length, start, synset in sorted(phrases, key=lambda phrase: (-phrase[0], phrase[1])):
            if not taken[start : start + length].any():
                taken[start : start + length] = True
                won.append((synset, int(caption_of[start])))
        synsets, captions = np.array(won, dtype=np.int64).reshape(-1, 2).T
        return taken, synsets, captions


@cache
def load() -> Labeler:
    """The labeler over WordNet's nouns, built once per process (about half a second) and shared by everything in it."""
    nouns = wordnet.load()
    return Labeler(nouns, build_lexicon(nouns))


def _lists(captions: NDArray[np.int64], synsets: NDArray[np.int64], length: int) -> pa.ListArray:
    """Pairs of caption and synset as one list of unique ascending synsets for each caption."""
    pairs = np.unique(captions << 32 | synsets)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs >> 32, minlength=length))]).astype(np.int32)
    values = (pairs & 0xFFFFFFFF).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
