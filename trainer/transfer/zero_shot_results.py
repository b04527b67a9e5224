"""What zero-shot classification reached: over the classes that can be scored, over all, and class by class.

In: scores of the classes that have rows, and the images with their classes. Out: `ZeroShotResult`, and its tables.

    results.json   results.md      the numbers, and what they are of
    classes.csv                    a row for every class of the task
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from trainer.data.labelled_images import LabelledImages
from trainer.metrics import average_precision, micro_average_precision
from trainer.transfer.match_table import cell, spelt
from trainer.transfer.synset_scores import ClassRows
from trainer.transfer.transfer_init import ClassMatch
from trainer.transfer.words import counted, listed
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary

FORMAT_VERSION = 1
TOP = 5


@dataclass(frozen=True)
class ZeroShotReport:
    """Shares of images, or mean average precisions where an image shows any number of classes."""

    images: int
    """that could be decoded"""
    bad_images: int
    classes: int
    scorable_classes: int
    """with a row of their own or, where that is asked for, of a hyponym"""
    scorable_images: int
    """that show such a class"""
    top1: float | None = None
    """share of the scorable images whose class comes first among the scorable classes"""
    top5: float | None = None
    """share whose class is among the first five; None with five scorable classes or fewer"""
    top1_all: float | None = None
    """share of all images, where those of other classes are wrong"""
    top5_all: float | None = None
    map_macro: float | None = None
    """mean of the average precisions of the scorable classes that an image shows"""
    map_micro: float | None = None
    """average precision of all pairs of an image and a scorable class, as one ranking"""
    map_macro_all: float | None = None
    """mean over all classes that an image shows, where those that cannot be scored have 0"""

    @property
    def metric(self) -> tuple[str, float]:
        """The number that is beside a probe's: of all images and classes."""
        if self.top1_all is not None:
            return "top1", self.top1_all
        return "map_macro", self.map_macro_all or 0.0


@dataclass(frozen=True, eq=False)
class ZeroShotResult:
    """The numbers, and what they are made of."""

    report: ZeroShotReport
    by_class: tuple[float | None, ...]
    """top-1 accuracy or average precision of each class; None of one without images, or that cannot be scored"""
    correct: Bool[np.ndarray, " images"] | None
    """whether each image's class comes first, of one class an image"""


def evaluate(
    scores: Float32[Tensor, "images scorable"], classes: Sequence[ClassRows], images: LabelledImages, *, bad_images: int
) -> ZeroShotResult:
    """Compare scores of the scorable ones of `classes`, in their order, with what the images show.

    Of equal scores the class of the lower number comes first. Raises InputError for scores that are no numbers.
    """
    bad = int((~scores.isfinite()).any(1).sum())
    if bad:
        raise InputError(
            "the model's features",
            found=f"{bad:,} of {len(scores):,} images with scores that are no finite numbers",
            wanted="numbers",
            remedy="Look at the model's run: its loss may have become no number.",
        )
    scorable = np.array([rows.scorable for rows in classes], np.bool_)
    owners = np.repeat(np.arange(len(images)), np.diff(images.offsets))
    report = ZeroShotReport(
        images=len(images),
        bad_images=bad_images,
        classes=len(classes),
        scorable_classes=int(scorable.sum()),
        scorable_images=len(np.unique(owners[scorable[images.classes]])),
    )
    # A class's place among the scorable ones, -1 for the others.
    places = np.where(scorable, np.cumsum(scorable) - 1, -1)
    return (_several if images.multi_label else _one)(scores, places, images, report)


def _one(
    scores: Float32[Tensor, "images scorable"],
    places: Int64[np.ndarray, " classes"],
    images: LabelledImages,
    report: ZeroShotReport,
) -> ZeroShotResult:
    own = torch.from_numpy(places[images.one_class])
    known = (own >= 0).numpy()
    ranks = np.full(len(images), len(places))
    if known.any():
        ranks[known] = ranks_of(scores[known], own[known]).numpy()
    first, among = ranks < 1, ranks < TOP
    several = report.scorable_classes > TOP
    counts, right = images.images_by_class, np.bincount(images.one_class[first], minlength=len(places))
    by_class = [
        float(hits) / float(count) if place >= 0 and count else None
        for place, hits, count in zip(places.tolist(), right.tolist(), counts.tolist(), strict=True)
    ]
    report = replace(
        report,
        top1=float(first[known].mean()) if known.any() else None,
        top5=float(among[known].mean()) if known.any() and several else None,
        top1_all=float(first.mean()),
        top5_all=float(among.mean()) if several else None,
    )
    return ZeroShotResult(report, tuple(by_class), first)


def ranks_of(scores: Float32[Tensor, "images scorable"], own: Int64[Tensor, " images"]) -> Int64[Tensor, " images"]:
    """How many classes come before each image's own: those that score more, and of equal ones those before it."""
    mine = scores.gather(1, own[:, None])
    earlier = torch.arange(scores.shape[1]) < own[:, None]
    return ((scores > mine) | ((scores == mine) & earlier)).sum(1)


def _several(
    scores: Float32[Tensor, "images scorable"],
    places: Int64[np.ndarray, " classes"],
    images: LabelledImages,
    report: ZeroShotReport,
) -> ZeroShotResult:
    kept = places[images.classes] >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets, positives = torch.from_numpy(before[images.offsets]), torch.from_numpy(places[images.classes[kept]])
    average = average_precision(scores, offsets, positives)
    by_class = [None if place < 0 or average[place].isnan() else float(average[place]) for place in places.tolist()]
    found = [precision for precision in by_class if precision is not None]
    shown = int((images.images_by_class > 0).sum())
    report = replace(
        report,
        map_macro=sum(found) / len(found) if found else None,
        map_micro=micro_average_precision(scores, offsets, positives) if found else None,
        map_macro_all=sum(found) / shown if shown else 0.0,
    )
    return ZeroShotResult(report, tuple(by_class), None)


def as_json(
    result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows], vocabulary: Vocabulary
) -> dict[str, Any]:
    """The content of results.json, but for what was asked for."""
    entries = [
        {
            "name": match.name,
            "synsets": match.synsets,
            "rows": [[vocabulary.wnids[label] for label in group] for group in rows.groups],
            "shared_with": match.shared_with,
            "value": value,
        }
        for match, rows, value in zip(matches, classes, result.by_class, strict=True)
    ]
    return {"version": FORMAT_VERSION, **vars(result.report), "by_class": entries}


def markdown(
    result: ZeroShotResult,
    matches: Sequence[ClassMatch],
    classes: Sequence[ClassRows],
    *,
    title: str,
    notes: Sequence[str],
) -> str:
    """The content of results.md. `notes`: on the data."""
    report = result.report
    lines = [f"# {cell(title)}", ""]
    lines += ["| | scorable classes | all classes |", "| --- | --- | --- |"]
    lines += [f"| classes | {report.scorable_classes:,} | {report.classes:,} |"]
    lines += [f"| images | {report.scorable_images:,} | {report.images:,} |"]
    lines += [
        f"| {name} | {_percent(one)} | {_percent(every)} |"
        for name, one, every in (
            ("top-1 accuracy", report.top1, report.top1_all),
            ("top-5 accuracy", report.top5, report.top5_all),
            ("mean average precision, macro", report.map_macro, report.map_macro_all),
            ("mean average precision, micro", report.map_micro, None),
        )
        if one is not None or every is not None
    ]
    said = [f"{counted(report.bad_images, 'image')} could not be decoded."] if report.bad_images else []
    said += [*notes, *remarks(matches, classes)]
    lines += ["", *(f"- {cell(line)}" for line in said)]
    lines += ["", "| class | synsets | rows | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {cell(match.name)} | {cell(', '.join(map(spelt, match.synsets)))} | "
        f"{sum(map(len, rows.groups)):,} | {_percent(value)} |"
        for match, rows, value in zip(matches, classes, result.by_class, strict=True)
    ]
    return "\n".join(lines) + "\n"


def remarks(matches: Sequence[ClassMatch], classes: Sequence[ClassRows]) -> list[str]:
    """Which classes cannot be scored, and which are scored alike."""
    pairs = list(zip(matches, classes, strict=True))
    nameless = [match.name for match, rows in pairs if not rows.scorable and not match.synsets]
    absent = [match.name for match, rows in pairs if not rows.scorable and match.synsets]
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    for _, rows in pairs:
        seen[rows.groups] = seen.get(rows.groups, 0) + 1
    alike = [match.name for match, rows in pairs if rows.scorable and seen[rows.groups] > 1]
    groups = (
        (nameless, "class has no synset by its name", "classes have no synset by their names"),
        (absent, "class has a synset that the vocabulary lacks", "classes have synsets that the vocabulary lacks"),
        (alike, "", "classes are scored by the same rows as another, so that the first of them always comes before it"),
    )
    return [f"{counted(len(names), one, many)}: {listed(names)}." for names, one, many in groups if names]


def csv_table(result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows]) -> str:
    """The content of classes.csv."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("class", "synsets", "rows", "value", "shared_with"))
    for match, rows, value in zip(matches, classes, result.by_class, strict=True):
        shown = "" if value is None else f"{value:.6f}"
        count = sum(map(len, rows.groups))
        writer.writerow((match.name, "; ".join(match.synsets), count, shown, "; ".join(match.shared_with)))
    return buffer.getvalue()


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
