"""Synsets that the tests speak of, by their WordNet offsets, and vocabularies of them."""

from __future__ import annotations

import numpy as np

from vocab.vocabulary import Vocabulary

DOG, CAT, CAR, COUCH, PERSON = 2084071, 2121620, 2958343, 4256520, 7846
ANIMAL, CANINE, DOMESTIC_ANIMAL, FISH, CHURCH, AIRPLANE, CABIN, HOT_DOG = (
    15388, 2083346, 1317541, 2512053, 3028079, 2691156, 2932019, 7697537,
)  # fmt: skip
POODLE, TENCH, GOLDFISH = 2113335, 1440764, 1443537


def vocabulary_of(*synsets: int, rows: int = 1000) -> Vocabulary:
    """Make a vocabulary of these synsets, the most frequent first."""
    captions = np.arange(len(synsets), 0, -1).astype(np.int64)
    return Vocabulary(np.array(synsets, np.int32), captions, rows=rows, min_count=1)


def counted_vocabulary(*captions: int, rows: int = 100) -> Vocabulary:
    """Make a vocabulary of dog, cat and car, as many of them as there are caption counts."""
    synsets = np.array([DOG, CAT, CAR], dtype=np.int32)[: len(captions)]
    return Vocabulary(synsets, np.array(captions, dtype=np.int64), rows=rows, min_count=1)
