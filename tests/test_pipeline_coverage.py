"""Nearness of a corpus to the classes of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.report.coverage import AT_ONCE, coverage_of, found_at, nearest, read_classes
from pipeline.report.tally import tally_of
from tests.labels import label_table, write_five
from tests.synsets import CAT, COUCH, DOG
from vocab import wordnet
from vocab.errors import InputError
from vocab.taxonomy import path_similarity

PUPPY = 1322604
ROWS = label_table(("0", "a", [DOG]), ("0", "b", [DOG]), ("0", "c", [COUCH]))


def test_a_class_is_as_near_as_the_nearest_synset_of_the_corpus(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels", ROWS, parts=1))
    coverage = coverage_of(tally, np.array([DOG, CAT, COUCH], dtype=np.int32), min_count=2)
    assert coverage.captions.tolist() == [2, 0, 1]
    # dog and cat meet at carnivore, 2 + 2 steps; dog and couch at whole, 5 + 6 steps.
    assert coverage.nearest_seen.tolist() == pytest.approx([1.0, 0.2, 1.0])
    assert coverage.nearest_kept.tolist() == pytest.approx([1.0, 0.2, 1 / 12])
    assert found_at(coverage.nearest_seen) == [3, 3, 2, 2, 2, 2, 2, 2, 2, 2]
    assert found_at(coverage.nearest_kept) == [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]


def test_a_corpus_without_synsets_is_near_to_nothing(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels", label_table(("0", "a", [])), parts=1))
    coverage = coverage_of(tally, np.array([DOG], dtype=np.int32), min_count=1)
    assert (coverage.captions.tolist(), coverage.nearest_seen.tolist()) == ([0], [0.0])


def test_the_nearest_in_batches_equals_the_greatest_of_all() -> None:
    nouns = wordnet.load()
    many = np.random.default_rng(0).choice(nouns.synsets, AT_ONCE + 500, replace=False)
    classes = np.array([DOG, CAT, COUCH, PUPPY], dtype=np.int32)
    assert np.array_equal(nearest(classes, many), path_similarity(nouns, classes, many).max(axis=1))


def test_classes_are_read_in_the_file_s_order(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n02121620\n\nn02084071\r\n")
    assert read_classes(tmp_path / "classes.txt").tolist() == [CAT, DOG]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"n02084071\ndog\n", "found 'dog' in line 2"),
        (b"n02084071\nn02121620\nn02084071\n", "found n02084071 in line 1 and in line 3"),
        (b"\n", "found no wnid"),
        (b"\xff\xfe", "found no readable text file"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=found):
        read_classes(tmp_path / "classes.txt")


def test_a_missing_list_of_classes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt: found no readable text file"):
        read_classes(tmp_path / "nowhere.txt")


def test_a_class_of_another_wordnet_is_refused(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels", ROWS, parts=1))
    with pytest.raises(InputError, match="synset n00000012: found no such noun"):
        coverage_of(tally, np.array([12], dtype=np.int32), min_count=1)
