"""classes.csv and the table of classes on a page."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.labelled_images import images_of
from tests.run_page import VOCABULARY, evaluation, html
from trainer.probe.measures import measure
from trainer.records.classes import ClassScores, of_task, of_vocabulary

COLUMNS = ("class", "images", "accuracy")


def test_every_class_of_the_vocabulary_has_a_row(tmp_path: Path) -> None:
    of_vocabulary(VOCABULARY, evaluation()).write(tmp_path)
    assert (tmp_path / "classes.csv").read_text() == (
        "synset,name,captions,images,average_precision\n"
        "n02084071,dog.n.01,1200,1,1.000000\n"
        "n02121620,cat.n.01,34,1,1.000000\n"
    )


def test_classes_of_a_task_have_accuracies_and_one_without_an_image_has_none(tmp_path: Path) -> None:
    measured = measure([torch.eye(3)[[0, 1, 0]]], images_of([[0], [0], [1]], count=3))
    of_task(("dog", "-1", "=1+1"), measured).write(tmp_path)
    assert (tmp_path / "classes.csv").read_text() == "class,images,accuracy\ndog,2,0.500000\n'-1,1,0.000000\n'=1+1,0,\n"


def test_classes_of_images_with_several_have_average_precisions(tmp_path: Path) -> None:
    measured = measure([torch.tensor([[1.0, 0.0], [0.0, 1.0]])], images_of([[0], [0]], count=2, multi_label=True))
    of_task(("dog", "cat"), measured).write(tmp_path)
    assert (tmp_path / "classes.csv").read_text() == "class,images,average_precision\ndog,2,1.000000\ncat,0,\n"


def test_a_later_evaluation_renews_the_file_and_one_that_breaks_off_leaves_it(tmp_path: Path) -> None:
    ClassScores(COLUMNS, [("dog", 2)], [0.5]).write(tmp_path)
    ClassScores(COLUMNS, [("dog", 2)], [1.0]).write(tmp_path)
    with pytest.raises(ValueError, match="shorter"):
        ClassScores(COLUMNS, [("dog", 2), ("cat", 1)], [0.0]).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]
    assert (tmp_path / "classes.csv").read_text() == "class,images,accuracy\ndog,2,1.000000\n"


def test_a_page_lists_the_best_and_the_worst_of_many_classes() -> None:
    count = 24_320
    # The best are the last of the rarer half; every third class has no image.
    scores = [math.nan if number % 3 == 2 else number / count for number in range(count)]
    every = ClassScores(COLUMNS, [(f"{number}", 1) for number in range(count)], scores)
    listed = [int(name) for name, _, _ in every.listed()]
    assert len(listed) == 1000
    assert listed == sorted(listed)
    known = [number for number in range(count) if number % 3 != 2]
    assert set(listed) >= {*known[:300], *known[-300:]}
    assert set(listed) - {*known[:300], *known[-300:]} == {*range(2, 450, 3), *range(450, 700)}
    assert [len(ClassScores(COLUMNS, every.rows[:few], scores[:few]).listed()) for few in (999, 1000)] == [999, 1000]


def test_the_table_of_classes_can_be_sorted_and_names_the_file() -> None:
    text = html()
    assert "<table class=sortable>" in text
    assert "<th class=number>average precision</th>" in text
    assert "<td class=number>1,200</td>" in text
    assert text.count("<script>") == 1
    assert "classes.csv" in text
