"""WordNet's nouns as a tree of words: golden -> retriever, traffic -> light.

In: WordNet and the rules of `nouns` and `senses`. Out: a `Lexicon`, whose nodes are the beginnings of nouns of one to
four words. Look-ups take whole arrays.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.nouns import PHRASE_OPENERS, is_function_word, is_number_or_letter, is_short_name, mostly_nouns
from vocab.senses import choose_senses
from vocab.tokens import split_words
from vocab.wordnet import WordNet

MAX_WORDS = 4
ROOT = 0
WORD_BITS = 20  # an edge's key is parent << WORD_BITS | word; about 70,000 words need 17


@dataclass(frozen=True, eq=False)
class Lexicon:
    """A tree whose edges are words. W words, E edges, one node per edge and the root."""

    words: pa.StringArray
    """[W] every word that occurs in a noun, sorted"""
    edge_keys: NDArray[np.int64]
    """[E] parent << WORD_BITS | word, ascending; edge i leads to node i + 1"""
    has_children: NDArray[np.bool_]
    """[E + 1]"""
    synsets: NDArray[np.int32]
    """[E + 1] the synset a caption gets where it holds the node's words, -1 where that is none"""
    counts: NDArray[np.int64]
    """[E + 1] tagged uses of the noun, 0 where the node is none"""

    def word_rows(self, words: pa.StringArray) -> NDArray[np.int64]:
        """Row of each word in `words`, -1 for words that no noun holds and for nulls."""
        rows = pc.index_in(words, value_set=self.words, skip_nulls=True)
        return np.asarray(rows.fill_null(-1), dtype=np.int64)

    def children(self, parents: NDArray[np.int64], words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Node reached from each parent by each word (arrays of one shape), -1 where there is none."""
        keys = (parents << WORD_BITS) | words
        edges = np.searchsorted(self.edge_keys, keys)
        found = (words >= 0) & (parents >= 0)
        found &= self.edge_keys[np.minimum(edges, len(self.edge_keys) - 1)] == keys
        return np.where(found, edges + 1, -1)

    def fingerprint(self) -> str:
        """sha256 of the tables."""
        digest = hashlib.sha256("\n".join(self.words.to_pylist()).encode())
        for table in (self.edge_keys, self.synsets, self.counts):
            digest.update(table.astype(table.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def build_lexicon(wordnet: WordNet) -> Lexicon:
    """Build the tree; takes about a quarter of a second."""
    spoken = pc.replace_substring(wordnet.lemmas, "_", " ")
    parts, starts = split_words(spoken)
    words = pc.unique(parts).sort()
    lengths = np.diff(starts)
    lemmas = np.flatnonzero((lengths >= 1) & (lengths <= MAX_WORDS))
    part_rows = np.asarray(pc.index_in(parts, value_set=words), dtype=np.int64)
    nodes, edge_keys = _grow(part_rows, starts, lemmas)

    synsets = np.full(len(edge_keys) + 1, -1, dtype=np.int32)
    counts = np.zeros(len(edge_keys) + 1, dtype=np.int64)
    senses = choose_senses(wordnet)
    allowed = _allowed(wordnet, parts, starts, senses)
    lemma_counts = wordnet.lemma_counts()
    # Spellings that differ only in signs (t-shirt, T_shirt) share a node; the one used most wins, then the first.
    order = np.lexsort((lemmas, -lemma_counts[lemmas]))[::-1]
    best = lemmas[order]
    synsets[nodes[order]] = np.where(allowed[best], wordnet.synsets[senses[best]], -1)
    counts[nodes[order]] = np.where(allowed[best], lemma_counts[best], 0)
    has_children = np.zeros(len(edge_keys) + 1, dtype=bool)
    has_children[edge_keys >> WORD_BITS] = True
    return Lexicon(words=words, edge_keys=edge_keys, has_children=has_children, synsets=synsets, counts=counts)


def _grow(
    part_rows: NDArray[np.int64], starts: NDArray[np.int64], lemmas: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The node of each lemma in `lemmas`, and the sorted edge keys: level by level, parents before children."""
    lengths = starts[lemmas + 1] - starts[lemmas]
    nodes = np.full(len(lemmas), ROOT, dtype=np.int64)
    edge_keys = np.zeros(0, dtype=np.int64)
    for depth in range(MAX_WORDS):
        deep = np.flatnonzero(lengths > depth)
        keys = (nodes[deep] << WORD_BITS) | part_rows[starts[lemmas[deep]] + depth]
        level, edge = np.unique(keys, return_inverse=True)
        nodes[deep] = len(edge_keys) + edge + 1
        edge_keys = np.concatenate([edge_keys, level])
    return nodes, edge_keys


def _allowed(
    wordnet: WordNet, parts: pa.StringArray, starts: NDArray[np.int64], senses: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """[L] lemmas that may become labels, by the rules of `nouns`."""
    single = np.diff(starts) == 1
    # Lemmas whose every sign is a break (there is none in WordNet 3.0) would have no first word.
    first = parts.take(pa.array(np.minimum(starts[:-1], len(parts) - 1)))
    opener = np.asarray(pc.is_in(first, value_set=pa.array(sorted(PHRASE_OPENERS))), dtype=bool)
    word = mostly_nouns(wordnet) & ~is_function_word(first) & ~is_number_or_letter(first)
    word &= ~is_short_name(wordnet, senses)
    allowed: NDArray[np.bool_] = np.where(single, word, ~opener)
    return allowed
