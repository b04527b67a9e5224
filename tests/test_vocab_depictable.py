"""The mark of synsets that a picture can show, and the rules that it is compiled from."""

from __future__ import annotations

import numpy as np
import pytest

from vocab import depictable, packing, wordnet
from vocab.depictable import are_depictable
from vocab.errors import FormatError, InputError
from vocab.fit.depictable import RULES_FILE, marks_of
from vocab.synset_names import synset_named
from vocab.wordnet import LEXICOGRAPHER_FILES

NO_FILE = "\n".join(f"no noun.{name}" for name in LEXICOGRAPHER_FILES.values())


def mark(rules: str, name: str) -> bool:
    nouns = wordnet.load()
    return bool(marks_of(f"{NO_FILE}\n{rules}", nouns)[nouns.row_of(offset(name))])


def offset(name: str) -> int:
    synset = synset_named(name)
    assert synset is not None
    return synset


@pytest.mark.parametrize(
    "name",
    [
        "dog.n.01", "man.n.01", "beach.n.01", "wedding.n.01", "sunset.n.02", "sky.n.01", "snow.n.02", "basketball.n.01",
        "poster.n.01", "crowd.n.01", "city.n.01", "smile.n.01", "portrait.n.02", "santa_claus.n.01", "thames.n.01",
    ],
)  # fmt: skip
def test_a_picture_can_show(name: str) -> None:
    assert are_depictable(np.array([offset(name)])).tolist() == [True]


@pytest.mark.parametrize(
    "name",
    [
        "price.n.02", "day.n.01", "manner.n.01", "quality.n.01", "transportation.n.05", "photograph.n.01", "view.n.02",
        "background.n.02", "red.n.01", "company.n.01", "system.n.01", "europe.n.01", "van_gogh.n.01", "entity.n.01",
    ],
)  # fmt: skip
def test_no_picture_can_show(name: str) -> None:
    assert are_depictable(np.array([offset(name)])).tolist() == [False]


def test_the_packed_marks_are_those_of_the_rules() -> None:
    expected = marks_of(RULES_FILE.read_text(encoding="utf-8"), wordnet.load())
    assert np.array_equal(depictable.load(), expected)
    assert packing.read(depictable.PACKED) == depictable.pack(expected)


def test_a_synset_that_wordnet_lacks_has_no_mark() -> None:
    with pytest.raises(InputError, match="synset n00000001: found no such noun"):
        are_depictable(np.array([1]))


def test_the_file_decides_where_no_other_rule_does() -> None:
    assert mark("yes names of noun.animal", "dog.n.01") is False
    assert mark("yes names of noun.animal", "mickey_mouse.n.01") is True


def test_a_subtree_reaches_all_below_it_and_individuals_too() -> None:
    assert mark("yes animal.n.01+", "poodle.n.01") is True
    assert mark("yes animal.n.01+", "person.n.01") is False
    assert mark("yes river.n.01+", "thames.n.01") is True


def test_the_nearest_subtree_wins() -> None:
    assert mark("yes animal.n.01+\nno dog.n.01+", "poodle.n.01") is False
    assert mark("no animal.n.01+\nyes dog.n.01+", "poodle.n.01") is True


def test_a_synset_s_own_line_wins_over_the_subtree_that_begins_with_it() -> None:
    assert mark("yes dog.n.01+\nno dog.n.01", "dog.n.01") is False
    assert mark("yes dog.n.01+\nno dog.n.01", "poodle.n.01") is True


def test_two_subtrees_at_equal_steps_say_yes() -> None:
    # A dog is a canine and a domestic animal.
    assert mark("no canine.n.02+\nyes domestic_animal.n.01+", "dog.n.01") is True
    assert mark("yes canine.n.02+\nno domestic_animal.n.01+", "dog.n.01") is True


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("maybe dog.n.01", "found 'maybe'; wanted yes or no"),
        ("yes dgo.n.01", "dgo.n.01: found no such synset"),
        ("yes dog.n.01\nno cat.n.01 dog.n.01", "found dog.n.01 once more"),
        ("yes noun.beast", "noun.beast: found no such lexicographer file"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(rules: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        marks_of(f"{NO_FILE}\n{rules}", wordnet.load())


def test_every_lexicographer_file_needs_a_line() -> None:
    with pytest.raises(FormatError, match=r"found no line for noun\.Tops"):
        marks_of("yes noun.animal", wordnet.load())


def test_the_rules_call_each_synset_by_its_usual_name() -> None:
    nouns = wordnet.load()
    lines = [line for line in RULES_FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    names = [rule.removesuffix("+") for line in lines if "noun." not in line for rule in line.split()[1:]]
    assert [name for name in names if nouns.name_of(nouns.row_of(offset(name))) != name] == []
