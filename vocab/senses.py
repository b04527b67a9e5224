"""Which sense of a noun a caption means, where nothing but the noun is known.

In: WordNet. Out: one synset for each lemma. The sense does not depend on the words around it yet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocab.wordnet import LEXICOGRAPHER_FILES, WordNet

# Kinds of synset that a picture can show.
DEPICTABLE = ("animal", "artifact", "body", "food", "object", "plant")
# A lemma tagged fewer times than this in WordNet's corpora has no sense order worth trusting.
WEAK_COUNT = 5


def choose_senses(wordnet: WordNet) -> NDArray[np.int32]:
    """[L] synset row for each lemma: its first sense, or where the counts are weak its first depictable sense.

    WordNet orders senses by their counts in newswire-like text, so *tiger* (2 uses) is first a fierce person. A named
    individual is never preferred as depictable (*crane*: two writers come before the bird and the machine).
    """
    lemma_of_sense = np.repeat(np.arange(len(wordnet.lemmas)), np.diff(wordnet.sense_starts))
    depictable_files = [number for number, name in LEXICOGRAPHER_FILES.items() if name in DEPICTABLE]
    depictable = np.isin(wordnet.lexicographer_files, depictable_files) & (np.diff(wordnet.instance_starts) == 0)
    weak = wordnet.lemma_counts() < WEAK_COUNT
    preferred = np.flatnonzero(depictable[wordnet.sense_synsets] & weak[lemma_of_sense])
    chosen = wordnet.sense_starts[:-1].copy()
    # Written backwards, so that of several preferred senses the first remains.
    chosen[lemma_of_sense[preferred[::-1]]] = preferred[::-1]
    return wordnet.sense_synsets[chosen]
