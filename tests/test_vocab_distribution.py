"""Vectors of words by their neighbours in plain text."""

from __future__ import annotations

import numpy as np
import pytest

from vocab.fit.distribution import DIMENSIONS, word_vectors

pytest.importorskip("scipy", reason="tables are fitted with SciPy, the extra `fit`")

TEXTS = [
    f"the {adjective} {noun} {verb} slowly; a {noun}, they {verb}"
    for adjective in ("red", "green", "small")
    for noun in ("dog", "cat", "horse")
    for verb in ("sleep", "walk", "run")
]


def likeness(one: str, other: str) -> float:
    a, b = word_vectors(TEXTS).of([one, other])
    return float(a @ b)


def test_words_that_are_used_alike_have_vectors_alike() -> None:
    assert likeness("dog", "horse") > 0.9
    assert likeness("sleep", "run") > 0.9
    assert likeness("dog", "run") < 0.5
    assert likeness("red", "dog") < 0.5


def test_a_sign_is_a_neighbour_and_the_word_beyond_is_not() -> None:
    beyond = word_vectors(["big dog, red"] * 3 + ["big cat, green"] * 3 + ["big tree blue"] * 3)
    dog, cat, tree = beyond.of(["dog", "cat", "tree"])
    assert dog @ cat == pytest.approx(1, abs=1e-5)
    assert dog @ tree < 0.9


def test_vectors_have_length_one_and_a_rare_word_has_none() -> None:
    vectors = word_vectors([*TEXTS, "the zebra"])
    assert "zebra" not in vectors.words
    assert np.linalg.norm(vectors.vectors, axis=1) == pytest.approx(np.ones(len(vectors.words)), abs=1e-6)
    assert not vectors.of(["zebra"]).any()
    assert vectors.vectors.shape[1] <= DIMENSIONS


def test_the_same_texts_give_the_same_bytes() -> None:
    first, second = word_vectors(TEXTS), word_vectors(TEXTS)
    assert first.words == second.words
    assert first.vectors.tobytes() == second.vectors.tobytes()


@pytest.mark.parametrize("texts", [[], [""], ["dog"], ["dog dog dog"]])
def test_too_little_text_gives_words_without_vectors(texts: list[str]) -> None:
    vectors = word_vectors(texts)
    assert vectors.of(["dog", "cat"]).shape == (2, vectors.vectors.shape[1])
