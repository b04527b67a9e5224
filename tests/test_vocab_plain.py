"""The labeler over whole batches and the plain rule for one caption give the same labels, whatever the text."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_captions import HOSTILE, captions
from vocab import labeler, plain
from vocab.cleaning import clean, clean_all
from vocab.tokens import split_words


def both(batch: list[str | None]) -> tuple[list[list[int]], list[list[int]]]:
    ours = labeler.load()
    return ours.label(pa.array(batch, pa.string())).to_pylist(), plain.label(ours, batch)


@pytest.mark.parametrize("caption", HOSTILE)
def test_a_hostile_caption_is_labelled_as_by_the_plain_rule(caption: str | None) -> None:
    fast, slow = both([caption])
    assert fast == slow


def test_captions_side_by_side_are_labelled_as_by_the_plain_rule() -> None:
    fast, slow = both(HOSTILE + HOSTILE[::-1])
    assert dict(enumerate(fast)) == dict(enumerate(slow))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), captions), max_size=8))
def test_any_batch_is_labelled_as_by_the_plain_rule(batch: list[str | None]) -> None:
    fast, slow = both(batch)
    assert fast == slow


@settings(max_examples=300, deadline=None)
@given(st.lists(captions.filter(lambda caption: caption is not None), max_size=8))
def test_any_batch_falls_into_the_words_of_the_plain_rule(batch: list[str]) -> None:
    """Labels alone would not show every difference: most words are no nouns."""
    tagger = labeler.load().tagger
    cleaned = clean_all(pa.array(batch, pa.string()))
    tokens = split_words(cleaned)
    words = [plain.find_words(tagger, clean(caption)[0]) for caption in batch]
    every = [word for of_caption in words for word in of_caption]
    assert np.diff(tokens.starts).tolist() == [len(of_caption) for of_caption in words]
    assert tokens.words.to_pylist() == [word.form for word in every]
    assert tokens.gaps.tolist() == [word.gap for word in every]
    assert tokens.shapes.tolist() == [word.shape for word in every]
    assert cleaned.accents.tolist() == [clean(caption)[1] for caption in batch]


def test_a_megabyte_is_labelled_as_by_the_plain_rule() -> None:
    fast, slow = both(
        ["<" * 100_000 + "dog's hot dog " * 10_000 + "." * 100_000 + "a" * 100_000 + " cat" + "'s" * 100_000]
    )
    assert fast == slow


def web(folder: Path) -> list[str | None]:
    texts: list[str | None] = pq.read_table(folder / "img2dataset_test_10000.parquet").column("TEXT").to_pylist()
    return texts[::5]


def conceptual(folder: Path) -> list[str | None]:
    with (folder / "cc3m_validation.tsv").open(encoding="utf-8", newline="") as lines:
        return [row[0] for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)][::10]


@pytest.mark.parametrize("corpus", [web, conceptual])
def test_real_captions_are_labelled_as_by_the_plain_rule(real_data: Path, corpus: object) -> None:
    assert callable(corpus)
    texts = corpus(real_data / "captions")
    fast, slow = both(texts)
    assert {texts[i]: fast[i] for i in range(len(texts)) if fast[i] != slow[i]} == {}


def test_a_reading_shows_every_step() -> None:
    ours = labeler.load()
    reading = plain.read(ours, "Two Golden Retrievers&#39; ball")
    assert reading.cleaned == "Two Golden Retrievers' ball"
    assert [word.form for word in reading.words] == ["two", "golden", "retrievers", "ball"]
    assert [word.gap.name for word in reading.words] == ["START", "SPACE", "SPACE", "SPACE"]
    assert reading.english
    assert [(noun.first, noun.last) for noun in reading.nouns] == [(1, 2), (3, 3)]
    assert [ours.nouns.name_of(row) for row in reading.synsets] == ["golden_retriever.n.01", "ball.n.01"]


def test_the_features_of_a_word_add_up_to_its_scores() -> None:
    ours = labeler.load()
    words = plain.find_words(ours.tagger, "They saw a saw")
    features = plain.features(ours.tagger, words, 3)
    assert plain.score(ours.tagger, words, 3) == tuple(map(sum, zip(*features.values(), strict=True)))
