"""The join: each sample gets its own caption's classes, and what does not join is counted or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import label_table
from tests.test_trainer_corpus import CAR, CAT, DOG, Corpus, label, make_corpus, picture, write_tar
from trainer.labels import check_matched, check_vocabulary, find_shards, join
from trainer.shards import Sample, list_tars
from vocab.errors import MismatchError
from vocab.label_shards import LabelShards, write_label_shards
from vocab.vocabulary import Vocabulary

ROWS = [
    ("00000", "a", [DOG, CAT]),
    ("00000", "b", []),
    ("00000", "c", [CAR]),
    ("00000", "gone", [DOG]),
    ("00001", "a", [DOG]),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_tar(tmp_path / "images" / "00000.tar", {f"{key}.png": picture() for key in "abcd"})
    return label(tmp_path, ROWS)


def narrow(corpus: Corpus) -> Vocabulary:
    """dog and cat, without car."""
    vocabulary = Vocabulary.load(corpus.vocabulary)
    return Vocabulary.from_counts(LabelShards.open(corpus.labels).counts(), rows=5, top_k=2, sources=vocabulary.sources)


def test_samples_get_the_classes_of_their_own_key(corpus: Corpus) -> None:
    vocabulary = Vocabulary.load(corpus.vocabulary)
    assert vocabulary.names == ["dog.n.01", "cat.n.01", "car.n.01"]
    # In the tar's order, which need not be the labels'.
    samples = [Sample(key, place) for place, key in enumerate("cabd")]
    joined = join(LabelShards.open(corpus.labels), vocabulary, shard="00000", samples=samples)
    assert [None if c is None else c.tolist() for c in joined.classes] == [[2], [0, 1], [], None]
    assert joined.empty == [False, False, True, False]
    assert (joined.unmatched, joined.surplus) == (1, 1)


def test_synsets_outside_the_vocabulary_are_no_classes_and_no_empty_caption(corpus: Corpus) -> None:
    samples = [Sample(key, place) for place, key in enumerate("abc")]
    joined = join(LabelShards.open(corpus.labels), narrow(corpus), shard="00000", samples=samples)
    assert [None if c is None else c.tolist() for c in joined.classes] == [[0, 1], [], []]
    assert joined.empty == [False, True, False]


def test_a_tar_that_the_labels_lack_is_named(corpus: Corpus, tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "images" / "00007.tar", {"a.png": picture()})
    with pytest.raises(MismatchError, match=r"00007.tar: found no shard .*labels; wanted labels of shard '00007'"):
        find_shards(LabelShards.open(corpus.labels), [tar])


def test_two_tars_never_share_labels(corpus: Corpus, tmp_path: Path) -> None:
    write_tar(tmp_path / "other" / "00000.tar", {"a.png": picture()})
    tars = list_tars([str(tmp_path / "images"), str(tmp_path / "other")])
    with pytest.raises(MismatchError, match="wanted one tar for each shard"):
        find_shards(LabelShards.open(corpus.labels), tars)


def test_tars_of_equal_stem_are_told_apart_by_folder(tmp_path: Path) -> None:
    rows = label_table(("emoji/00000", "a", [DOG]), ("photos/00000", "a", [CAT]))
    write_label_shards(tmp_path / "labels", rows, labeler="test", fingerprint="f")
    tars = [write_tar(tmp_path / folder / "00000.tar", {"a.png": picture()}) for folder in ("emoji", "photos")]
    found = find_shards(LabelShards.open(tmp_path / "labels"), tars)
    assert list(found.values()) == ["emoji/00000", "photos/00000"]


def test_a_vocabulary_from_another_corpus_is_refused_unless_allowed(corpus: Corpus, tmp_path: Path) -> None:
    labels = LabelShards.open(corpus.labels)
    foreign = Vocabulary.load(make_corpus(tmp_path / "other").vocabulary)
    with pytest.raises(MismatchError, match=r"python -m pipeline prune --labels .* or pass --allow-foreign-vocabulary"):
        check_vocabulary(labels, foreign, allow_foreign=False)
    check_vocabulary(labels, foreign, allow_foreign=True)
    check_vocabulary(labels, narrow(corpus), allow_foreign=False)


def test_labels_of_other_images_are_refused(corpus: Corpus) -> None:
    labels, vocabulary = LabelShards.open(corpus.labels), Vocabulary.load(corpus.vocabulary)
    samples = [Sample(key, place) for place, key in enumerate("axyz")]
    joined = {Path("00000.tar"): join(labels, vocabulary, shard="00000", samples=samples)}
    with pytest.raises(MismatchError, match="found no row for 3 of 4 samples"):
        check_matched(joined, place="labels", max_unmatched_share=0.5)
    check_matched(joined, place="labels", max_unmatched_share=0.75)
