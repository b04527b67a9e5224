"""The words that the tagger knows, and the features of each alone."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from vocab.fit.distribution import Vectors
from vocab.fit.inflection import NOUN, VERB, Readings
from vocab.fit.tagger_words import FOLDS, KnownWords, TaggedWords, class_name, fold_of_sentences

DUCK = Readings({NOUN, VERB})
TAGGED = TaggedWords.count(
    ["the", "duck", "the", "duck", "swims", "eventful"] * 5,
    ["closed", "noun", "closed", "verb", "verb", "adjective"] * 5,
    [0, 0, 0, 1, 1, 1] * 5,
)
VECTORS = Vectors(["duck"], np.array([[0.6, 0.8]], dtype=np.float32))
NAMES = {"kowalski": "s2", "paris": "g3p0", "goose": "d2"}
GRADES = {"duck": "c"}


def known(silver: dict[str, int] | None = None) -> KnownWords:
    readings = {"duck": DUCK, "goose": Readings({NOUN})}
    return KnownWords.build(TAGGED, readings, ["pond"], silver or {}, VECTORS, NAMES, GRADES)


def test_the_last_row_is_the_empty_place() -> None:
    words = known()
    assert words.words[-1] == ""
    assert words.classes[words.class_of[-1]] == "empty place"
    assert [column[-1] for column in words.keys.values()] == [-1] * len(words.keys)


def test_an_unknown_word_has_the_row_of_its_longest_known_ending() -> None:
    words = KnownWords.build(
        TaggedWords.count(["waiting", "sitting", "eating"], ["verb"] * 3, [0, 0, 0]), {}, [], {}, VECTORS, {}, {}
    )
    assert [words.words[row] for row in words.rows(["zorbing", "tig", "xyz", ""])] == ["*ing", "*g", "*", ""]


def test_a_fold_sees_a_word_in_the_class_that_the_others_give_it() -> None:
    words = known()
    row = words.rows(["duck"])
    names = [words.classes[words.class_at(row, np.array([fold]))[0]] for fold in (0, 1, 2, FOLDS)]
    assert names == ["wordnet 12..-", "wordnet 12..-", "treebank noun+verb", "treebank noun+verb"]


def test_a_word_of_grammar_is_a_class_of_its_own() -> None:
    words = known()
    assert words.classes[words.class_of[words.rows(["the"])[0]]] == "word the"


def test_a_known_word_is_a_feature_where_any_text_has_it_often() -> None:
    row = known().rows(["goose"])[0]
    assert known().keys["word"][row] == -1
    assert known({"goose": 2}).keys["word"][row] == -1
    assert known({"goose": 3}).keys["word"][row] != -1


def test_words_have_vectors_and_endings_have_none() -> None:
    words = known()
    assert words.vectors[words.rows(["duck"])[0]].tolist() == pytest.approx([0.6, 0.8])
    assert np.count_nonzero(words.vectors) == 2


@pytest.mark.parametrize(
    ("word", "tags", "lists", "wanted"),
    [
        ("000", {}, None, "number"),
        ("running", {"verb": 9, "noun": 1}, None, "treebank verb+noun ing"),
        ("dog", {"noun": 7}, None, "unknown"),
        ("zorbness", {}, None, "unknown ness"),
        ("garden", {"noun": 8}, "s2", "treebank noun"),
        ("kowalski", {"name": 7}, "s2", "name s"),
        ("paris", {}, "g3p0", "name g"),
    ],
)
def test_a_class_is_named_for_tags_or_for_a_list_of_names_or_else_for_the_ending(
    word: str, tags: dict[str, int], lists: str | None, wanted: str
) -> None:
    assert class_name(word, collections.Counter(tags), None, lists) == wanted


def test_what_a_dictionary_knows_of_a_word_goes_before_lists_of_names() -> None:
    assert class_name("goose", None, Readings({NOUN}), "d2") == "wordnet 1.."


def test_a_name_has_a_row_and_its_lists_are_a_feature() -> None:
    words = known()
    of_lists = words.keys["names"]
    kowalski, paris, goose, duck = words.rows(["kowalski", "paris", "goose", "duck"])
    assert words.words[kowalski] == "kowalski"
    assert words.classes[words.class_of[paris]] == "name g"
    assert len({of_lists[kowalski], of_lists[paris], of_lists[goose]}) == 3
    assert of_lists[duck] == -1


def test_a_noun_that_is_a_name_as_well_has_its_grade_as_a_feature() -> None:
    words = known()
    duck, goose = words.rows(["duck", "goose"])
    assert words.keys["grade"][duck] >= 0
    assert words.keys["grade"][goose] == -1


def test_folds_are_runs_of_neighbours() -> None:
    assert fold_of_sentences(20).tolist() == [fold for fold in range(10) for _ in range(2)]
