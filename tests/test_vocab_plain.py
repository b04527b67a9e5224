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

from vocab import labeler, plain
from vocab.cleaning import clean, clean_all
from vocab.tokens import split_words

HOSTILE = [
    "", None, " ", "'", "''", "'s", "s", "s's", "a's's dog", "dog's", "DOG'S ball", "dog's's's", "dogs' ball",
    "dog'", "'dog", "x'", "'s's", "cat's-paw", "cat 's paw", "don't", "dog'sun", "dog's1", "1's dog", "dog\x7f's",
    "\x7f", "\x7fdog", "dog\x7f", "\x7f\x7f cat", "\x00", "dog\x00cat", "\x01\x02", "\x1fdog", "\x85dog\x85",
    "\u2028dog\u2029cat", "www.", "www. dog", "WWW.-cat", "dog www", ".net", " .net dog", "-.info cat", ".jpg",
    "dog.jpg", "dog.JPG cat", "dog.jp", "dog.", ".dog", "...dog", "dog...cat", "http://", "http:// dog",
    "http:/dog", "ftp://x dog", "a://b://c dog", "://", "@", "@dog cat", "dog@cat bird", "x @ y", "%", "%%", "%4",
    "%41", "%2", "dog%20cat", "%E9t%C3%A9", "%ff dog", "100% dog", "%c3", "&", "&&", "&amp", "&amp;", "&ampdog",
    "&amp;amp;", "&amp;lt;b&amp;gt; dog", "&#100;og", "&#x64;og", "&#xD800;", "&#;", "&#0; dog", "&bogus; dog",
    "&notit;", "&eacute;t&eacute;", "<", ">", "<>", "<b", "a<b dog>c", "<<b>dog>", "<a href='x'>dog</a>",
    "e\u0301te\u0301", "\u0301", "dog\u0301", "d\u00f6g", "\u00df", "\ufb01sh", "\uff24\uff2f\uff27", "\ufeffdog",
    "d\u00adog", "dog\u200bcat", "dog\u200dcat", "犬", "犬 dog", "dog犬", "собака", "🐶", "dog🐶cat", "👩🏽‍🦰 dog",
    "№1 dog", "½ cup", "2² dog", "dog™", "“dog”", "‘dog’s’", "dog–cat", "dog—cat", "dog…cat", "«chien»",
    "\ufffd dog", "close-up", "close - up", "close_up of a dog", "hot-dog stand", "hot dogs dog",
    "ice cream cream", "cup of tea of tea", "traffic light lights", "a white house", "the White House",
    "some new york", "united states of america of america", "two golden retriever retrievers", "a b c d e f g",
    "A B C", "DOG CAT", "Dog Cat bird", "iPhone 6S 3D 2nd", "0", "1.5", "dog. Cat sat", 'dog "Cat" sat',
    "dog & cat + bird", "(dog) [cat] {bird}", "dog/cat|bird\\fish*", "dog, cat; bird: fish!", "un chien noir",
    "der Hund die Katze", "le la les", "dog der", "a dog and les chats", "zorbification", "q", "zzzz", "aaa1zz",
    "the run", "to run", "they run", "a run.", "saw", "the saw saw a saw", "can can can", "May may",
    "light lights up the light",
]  # fmt: skip

PIECES = (
    *"abcdogswnt", *"ASWNDX", *"0129", *"''--__\"\"``..,,  /|&+<>()%@#;:!?*\\\t\n", "\x00", "\x7f", "\x1c",
    "\x85", *"éßøÅçñ№½™’“–…\u0301\u200b\u00a0犬ж🐶", "'s", "'S ", "s'", "n't ", "&amp;", "&#39;", "&eacute;",
    "&lt;b&gt;", "&am", "%41", "%20", "%C3%A9", "%f", "<b>", "</b>", "<br", "http://", "www.", ".com", ".jpg",
    ".info", "@x", " the ", " a ", " an ", " his ", " of ", " le ", " und ", " not ", " is ", " to ", "dog",
    " dogs", " Dog", "hot", " hot dog", "cat", "ice", " cream", " cup of tea", "white", " White House", "New",
    " York", " City", "golden", " retriever", "mouse", " mice", " running", " runs", " light", " close", "-up",
    " saw", " crane", " bank", " keyboard", " river", " zorbing",
)  # fmt: skip

captions = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.text(max_size=30),
    st.sampled_from(HOSTILE),
)


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
