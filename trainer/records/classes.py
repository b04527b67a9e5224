"""Results class by class: classes.csv beside an evaluation, and the rows of it that a page lists.

synset,name,captions,images,average_precision
n02084071,dog.n.01,1200,31,0.812345
n02121620,cat.n.01,34,0,
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vocab.pages.tables import csv_table
from vocab.store.files import write_whole
from vocab.vocabulary import Vocabulary

if TYPE_CHECKING:  # readers of records need no torch
    from trainer.evaluation import Evaluation
    from trainer.probe.measures import Measured

FILE = "classes.csv"
LISTED = 1000
"""classes in the table of a page: one of 24,320 rows makes the page slow, and classes.csv has them all"""
EXTREMES = 300
"""best classes, and worst ones, in a table of `LISTED` rows; its other rows are the first classes"""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one evaluation, class by class."""

    columns: tuple[str, ...]
    """names of the columns of `rows`, and of the score"""
    rows: Sequence[tuple[str | int | float, ...]]
    """a row for each class: its names, then numbers, NaN where there is none"""
    scores: Sequence[float]
    """score of each class; NaN where no image shows it"""

    @property
    def headings(self) -> list[str]:
        """Names of the columns for people."""
        return [column.replace("_", " ") for column in self.columns]

    @property
    def numeric(self) -> list[int]:
        """Places of the columns that hold numbers."""
        texts = sum(isinstance(cell, str) for cell in self.rows[0])
        return list(range(texts, len(self.columns)))

    def scored_rows(self) -> list[tuple[str | int | float, ...]]:
        """Return all rows, each with its score."""
        return [(*row, score) for row, score in zip(self.rows, self.scores, strict=True)]

    def write(self, folder: Path) -> None:
        """Write classes.csv into a folder that exists, whole or not at all."""
        with write_whole(folder / FILE) as file:
            file.write(csv_table(self.columns, self.scored_rows()).encode())

    def listed(self) -> list[tuple[str, ...]]:
        """Return the texts of at most `LISTED` rows, in their order, with the best and the worst classes among them."""
        chosen = list(range(len(self.rows)))
        if len(chosen) > LISTED:
            scored = [number for number in chosen if not math.isnan(self.scores[number])]
            scored.sort(key=lambda number: self.scores[number])
            ranked = dict.fromkeys([*scored[:EXTREMES], *scored[-EXTREMES:], *chosen])
            chosen = sorted(list(ranked)[:LISTED])
        rows = self.scored_rows()
        return [tuple(map(_shown, rows[number])) for number in chosen]


def of_vocabulary(vocabulary: Vocabulary, result: Evaluation) -> ClassScores:
    """Average precision of every class of a vocabulary, the most frequent first."""
    images = result.positives.bincount(minlength=len(vocabulary)).tolist()
    rows = list(zip(vocabulary.wnids, vocabulary.names, vocabulary.captions.tolist(), images, strict=True))
    columns = ("synset", "name", "captions", "images", "average_precision")
    return ClassScores(columns, rows, result.class_precision.tolist())


def of_task(class_names: Sequence[str], measured: Measured) -> ClassScores:
    """Accuracy or average precision of every class of a task, in the order of its classes."""
    assert measured.by_class is not None
    assert measured.images_by_class is not None
    rows = list(zip(class_names, measured.images_by_class.tolist(), strict=True))
    return ClassScores(("class", "images", measured.class_metric), rows, measured.by_class.tolist())


def _shown(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if math.isnan(value) else f"{value:.3f}"
