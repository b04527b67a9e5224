"""Words to rows equals a dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from vocab.word_table import NONE, build_word_table, spread

# Few letters and lengths around eight and sixteen bytes, so that words share beginnings.
words = st.text(alphabet="ab*0", max_size=20)


@settings(deadline=None)
@given(st.lists(words, unique=True, max_size=60), st.lists(words, max_size=60))
def test_every_word_gets_what_a_dictionary_gives(known: list[str], asked: list[str]) -> None:
    table = build_word_table(pa.array(known, pa.string()))
    row_of = {word: row for row, word in enumerate(known) if word}
    asked = asked + known
    found = table.find(*spread(pa.array(asked, pa.string())))
    assert found.tolist() == [row_of.get(word, NONE) for word in asked]


def test_words_that_begin_alike_are_told_apart() -> None:
    known = ["keyboard", "keyboards", "keyboardist", "keyboardistically", "keyboardistically2"]
    table = build_word_table(pa.array(known))
    assert table.find(*spread(pa.array([*known, "keyboar", "keyboardis", "keyboardistical"]))).tolist() == [
        0, 1, 2, 3, 4, NONE, NONE, NONE,
    ]  # fmt: skip


def test_a_slice_is_spread_like_a_copy() -> None:
    text, places, ends = spread(pa.array(["x", "dog", "", "cat", "y"]).slice(1, 3))
    assert [text[a:b].tobytes() for a, b in zip(places, ends, strict=True)] == [b"dog", b"", b"cat"]
    assert len(text) >= ends[-1] + 16
    assert np.all(text[ends[-1] :] == 0)
