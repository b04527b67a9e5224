"""The hash table over words equals a dictionary, whatever the words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vocab.word_table import NONE, PADDING, build_word_table, eight_bytes, spread

EDGES = ["a" * length for length in (1, 2, 7, 8, 9, 15, 16, 17, 20)]
# Few letters, so that words share beginnings and ends; any length up to beyond the two numbers of a word.
words = st.text(alphabet="abz", max_size=20)
lists = st.lists(words.filter(bool), unique=True, max_size=40)


def found(table_words: list[str], asked: list[str]) -> list[int]:
    return build_word_table(pa.array(table_words, pa.string())).find(*spread(pa.array(asked, pa.string()))).tolist()


@settings(max_examples=150, deadline=None)
@given(lists, st.lists(words, max_size=20))
@example(EDGES, ["b" * len(word) for word in EDGES])
@example(EDGES[::2], EDGES[1::2])
@example([], ["a", "a" * 9, "a" * 17, ""])
@example(["abcdefgh", "abcdefghi", "abcdefghijklmnop", "abcdefghijklmnopq"], ["abcdefg", "abcdefghijklmno"])
@example(["abcdefghijklmnopq"], ["abcdefghijklmnopr"])
def test_looking_up_equals_a_dictionary(table_words: list[str], others: list[str]) -> None:
    asked = table_words + others
    row_of = {word: row for row, word in enumerate(table_words)}
    assert found(table_words, asked) == [row_of.get(word, NONE) for word in asked]


def test_many_words_find_their_rows() -> None:
    table_words = [f"{'word' * (row % 6)}{row}" for row in range(5000)]
    assert found(table_words, table_words) == list(range(5000))
    assert found(table_words, [word + "x" for word in table_words]) == [NONE] * 5000


def test_the_empty_word_and_no_words_are_found_nowhere() -> None:
    assert found(["a", "b"], ["", "b", ""]) == [NONE, 1, NONE]
    assert found(["a", "b"], []) == []


def test_the_empty_word_takes_up_a_row_but_is_not_found() -> None:
    assert found(["a", "", "b"], ["a", "", "b"]) == [0, NONE, 2]


def test_what_follows_a_word_in_the_text_does_not_matter() -> None:
    table = build_word_table(pa.array(["dog", "doghouse", "doghouses", "doghousekeepings"], pa.string()))
    text = np.frombuffer(b"doghousekeepings" + bytes(PADDING), dtype=np.uint8)
    ends = np.array([3, 4, 8, 16])
    assert table.find(text, np.zeros(4, dtype=np.int64), ends).tolist() == [0, NONE, 1, 3]


@pytest.mark.parametrize(("offset", "length"), [(0, 2), (1, 3), (2, 0), (4, 1), (0, 5)])
def test_a_slice_of_an_array_is_spread_as_a_copy_of_it(offset: int, length: int) -> None:
    whole = pa.array(["cat", "", "a" * 17, "doghouse", "x"], pa.string())
    sliced = whole.slice(offset, length)
    copied = pa.array(sliced.to_pylist(), pa.string())
    assert [part.tolist() for part in spread(sliced)] == [part.tolist() for part in spread(copied)]


def test_a_slice_can_be_the_table_and_the_question() -> None:
    whole = pa.array(["no", "cat", "doghousekeeping", "a" * 17, "no more"], pa.string())
    table = build_word_table(whole.slice(1, 3))
    assert table.find(*spread(whole)).tolist() == [NONE, 0, 1, 2, NONE]
    assert table.find(*spread(whole.slice(2, 2))).tolist() == [1, 2]


def test_eight_bytes_are_one_number_the_first_lowest() -> None:
    assert eight_bytes(np.array([1, 2, 0, 0, 0, 0, 0, 0, 1], dtype=np.uint8)).tolist() == [513, 2 + (1 << 56)]
