"""Senses: the tables, the list written by hand, and the batch rule beside the rule for one."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vocab import caption_senses, labeler, plain, wordnet
from vocab.context import Case
from vocab.errors import FormatError
from vocab.senses import REACH
from vocab.tokens import Gap, Shape


def test_every_listed_lemma_and_sense_is_wordnets_and_stands_once() -> None:
    nouns = wordnet.load()
    row_of = {lemma: row for row, lemma in enumerate(nouns.lemmas.to_pylist())}
    listed = list(caption_senses.listed())
    assert len({line.lemma for line in listed}) == len(listed) > 100
    for line in listed:
        row = row_of[line.lemma]
        count = nouns.sense_starts[row + 1] - nouns.sense_starts[row]
        assert all(1 <= number <= count for number in (line.default or 1, *line.cues)), line
    assert set(caption_senses.ADDED.values()) <= row_of.keys()


def test_a_line_that_is_no_entry_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_senses, "LISTED", "dog 1 | hound\n")
    with pytest.raises(FormatError, match="caption senses"):
        list(caption_senses.listed())


def test_a_batch_of_nouns_gets_what_each_gets_alone() -> None:
    ours = labeler.load()
    chance = random.Random(0)
    several = np.flatnonzero(np.diff(ours.senses.candidate_starts) > 1)
    lemmas = np.array(chance.sample(several.tolist(), 200))
    # Each noun in the middle of a caption of its own, nine words long, with as many empty places behind as cues reach.
    length, middle = 2 * REACH + 1, REACH
    rows = np.array([chance.randrange(len(ours.tagger.words)) for _ in range((length + REACH) * len(lemmas))])
    captions = rows.reshape(len(lemmas), length + REACH)
    captions[:, length:] = ours.tagger.pad
    places = np.arange(len(lemmas)) * (length + REACH) + middle
    together = ours.senses.choose(rows, places, places, lemmas)
    alone = [
        plain.choose_sense(
            ours,
            [plain.Word("", "", 0, Gap.SPACE, Shape.LOWER, Case.NONE, row) for row in caption[:length].tolist()],
            plain.Noun(middle, middle, lemma),
        )
        for lemma, caption in zip(lemmas.tolist(), captions, strict=True)
    ]
    assert together.tolist() == alone
