"""The corpus of the tests (tests/corpus.py) holds the labels and the vocabulary that it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.corpus import make_corpus
from vocab.vocabulary import Vocabulary


def test_the_corpus_holds_what_it_says(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tars=2, samples=5)
    vocabulary = Vocabulary.load(corpus.vocabulary)
    assert vocabulary.names == ["dog.n.01", "cat.n.01", "car.n.01"]
    assert vocabulary.captions.tolist() == [4, 2, 2]
    assert vocabulary.rows == 10
    assert np.array_equal(corpus.source().labels[0].read_shard("00001")["key"], [f"00001{n:04d}" for n in range(5)])
