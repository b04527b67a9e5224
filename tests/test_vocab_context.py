"""Capitals of a word, and what they say in its caption."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vocab import labeler, plain
from vocab.cleaning import clean_all
from vocab.context import EMPTY, END, Case, context_of
from vocab.tokens import split_words


def cases(*captions: str) -> list[list[str]]:
    """Cases of the words of each caption, labelled as one batch."""
    tokens = split_words(clean_all(pa.array(captions)))
    ours = labeler.load().tagger
    context = context_of(tokens, ours.rows(tokens.words), ours.pad)
    names = [Case(case).name for case in context.cases[context.at].tolist()]
    return [names[begin:end] for begin, end in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


CASES = {
    # without capitals nothing is told
    "a dog in paris": "UNTOLD UNTOLD UNTOLD UNTOLD",
    "dog": "UNTOLD",
    # in a sentence few words have capitals, and what begins it has one anyway
    "A dog in Paris": "FIRST_CAPITAL LOWER LOWER CAPITAL",
    "a dog in NYC": "LOWER LOWER LOWER UPPER",
    "TV in a room": "FIRST_UPPER LOWER LOWER LOWER",
    "a dog. Rex sleeps here": "LOWER LOWER FIRST_CAPITAL LOWER LOWER",
    'a dog "Rex" asleep': "LOWER LOWER FIRST_CAPITAL LOWER",
    "a dog, Rex, asleep": "LOWER LOWER CAPITAL LOWER",
    # no more than half of three words or more
    "a dog in New York City": "LOWER LOWER LOWER CAPITAL CAPITAL CAPITAL",
    "a Golden dog": "LOWER CAPITAL LOWER",
    # in a title most have
    "a Golden Dog": "TITLE_LOWER TITLE_CAPITAL TITLE_CAPITAL",
    "Dog in Paris TX": "TITLE_CAPITAL TITLE_LOWER TITLE_CAPITAL TITLE_UPPER",
    "BIRDS OVER A LAKE": "TITLE_UPPER TITLE_UPPER TITLE_CAPITAL TITLE_UPPER",
    # and two words are too few to tell
    "the Cat": "TITLE_LOWER TITLE_CAPITAL",
    "Cat": "TITLE_CAPITAL",
    # a number has no case and counts for none
    "2 dogs in 2019": "NUMBER UNTOLD UNTOLD NUMBER",
    "2019 Ford on a road": "NUMBER CAPITAL LOWER LOWER LOWER",
    "the Cat 3": "TITLE_LOWER TITLE_CAPITAL NUMBER",
}


@pytest.mark.parametrize("caption", CASES)
def test_a_word_has_the_case_that_its_caption_gives_it(caption: str) -> None:
    assert cases(caption) == [CASES[caption].split()]


def test_the_captions_of_a_batch_have_cases_of_their_own() -> None:
    assert cases(*CASES, "", *CASES) == [words.split() for words in (*CASES.values(), "", *CASES.values())]


@pytest.mark.parametrize("caption", CASES)
def test_the_plain_rule_gives_the_same_cases(caption: str) -> None:
    words = plain.find_words(labeler.load().tagger, caption)
    assert [word.case.name for word in words] == CASES[caption].split()


def test_empty_places_stand_around_each_caption() -> None:
    tokens = split_words(clean_all(pa.array(["a dog", "", "cats"])))
    ours = labeler.load().tagger
    context = context_of(tokens, ours.rows(tokens.words), ours.pad)
    assert context.at.tolist() == [EMPTY, EMPTY + 1, 3 * EMPTY + 2]
    assert len(context.rows) == 4 * EMPTY + 3
    empty = sorted(set(range(len(context.rows))) - set(context.at.tolist()))
    assert set(context.rows[empty].tolist()) == {ours.pad}
    assert set(context.gaps[empty].tolist()) == {END}
    assert set(context.cases[empty].tolist()) == {Case.NONE}
