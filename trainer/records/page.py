"""page.html: one run on one self-contained page, to open without a network; written anew at every evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.dense.pictures import Prediction
from trainer.evaluation import Evaluation
from trainer.records.classes import ClassScores
from trainer.records.gallery import GalleryImage
from trainer.records.log import FILE as LOG_FILE
from trainer.records.log import read_log
from trainer.records.record import SCORE_NAMES, score_text
from vocab.pages.charts import Axis, drawable, line_chart
from vocab.pages.page import render
from vocab.pages.text import duration
from vocab.store.files import write_whole
from vocab.vocabulary import Vocabulary

LISTED_CLASSES = 10
"""classes of highest and of lowest average precision"""
WHOLE, HALF = (960, 300), (560, 260)
"""sizes of a figure that takes the page's width, and of two side by side"""

ACCOUNT = {
    "samples": "samples visited",
    "bad": "bad: no image, or one that cannot be used (bad_samples.jsonl)",
    "truncated": "truncated: images that break off, taken as far as they go",
    "unmatched": "unmatched: no row in the labels",
    "unlabelled": "unlabelled: a caption without a noun of WordNet",
    "surplus_labels": "rows of the labels whose sample the tar lacks",
}


@dataclass(frozen=True)
class Figure:
    """Numbers of the log that are drawn together, by step."""

    title: str
    series: Mapping[str, str]
    """label of a line -> name of its values in the log"""
    axis: Axis
    """the values, with their unit"""
    dots: bool = False
    """show each point: there are few"""


LOSS = Figure("Loss", {"loss": "loss"}, Axis("loss, nats per image (log scale)", log=True))
SCORES = (
    Figure(
        "Held-out images",
        {"all": "eval_macro", "head": "eval_head", "torso": "eval_torso", "tail": "eval_tail"},
        Axis("mean average precision"),
        dots=True,
    ),
    Figure(
        "Linear probe",
        {"first": "probe_top1", "first five": "probe_top5"},
        Axis("accuracy", percent=True),
        dots=True,
    ),
)
TEST_SCORES = (
    Figure("Test images", {"top-1": "eval_top1", "top-5": "eval_top5"}, Axis("accuracy", percent=True), dots=True),
    Figure(
        "Test images",
        {"macro": "eval_map_macro", "micro": "eval_map_micro"},
        Axis("mean average precision"),
        dots=True,
    ),
    Figure("Test images", {"sliding": "eval_miou_slide", "squashed": "eval_miou_squash"}, Axis("mean IoU"), dots=True),
    Figure("Test images", {"boxes": "eval_map_box", "masks": "eval_map_mask"}, Axis("average precision"), dots=True),
)
PACE = (
    Figure("Learning rate", {"rate": "learning_rate"}, Axis("learning rate")),
    Figure("Norm of the gradient", {"norm": "grad_norm"}, Axis("norm before clipping (log scale)", log=True)),
    Figure("Speed", {"speed": "images_per_second"}, Axis("images per second")),
    Figure("Use of the device", {"mfu": "mfu"}, Axis("share of its peak (MFU)", percent=True)),
)


def write_page(run: Path, content: str, classes: ClassScores) -> None:
    """Write page.html and classes.csv of a run as it stands, each whole or not at all."""
    classes.write(run)
    with write_whole(run / "page.html") as file:
        file.write(content.encode())


def finetune_page(
    run: Path,
    results: Mapping[str, Any],
    *,
    model: str,
    classes: ClassScores,
    total_steps: int,
    seconds: float,
    learnt: str = "fine-tuned",
    pictures: Sequence[Prediction] = (),
) -> str:
    """HTML of the page of a run on a task.

    `results`: scores and facts of results.json, or what they would be now. `model`: where the pre-trained model lies.
    `learnt`: participle of what the run did. `pictures`: test images with their predictions.
    """
    return render(
        "trainer/records/finetune.html",
        sortable=True,
        title=run.name,
        model=model,
        classes=classes,
        results=results,
        total_steps=total_steps,
        time=duration(seconds),
        learnt=learnt,
        pictures=pictures,
        numbers=[
            (score_text(name, results[name]), meaning) for name, meaning in SCORE_NAMES.items() if name in results
        ],
        **log_curves(read_log(run / LOG_FILE), TEST_SCORES),
    )


def page(
    *,
    title: str,
    lines: Sequence[Mapping[str, Any]],
    vocabulary: Vocabulary,
    result: Evaluation,
    classes: ClassScores,
    results: Mapping[str, Any],
    shown: Sequence[GalleryImage],
    model: str,
    total_steps: int,
    seconds: float,
) -> str:
    """HTML of the page of a pre-training run.

    `results`: details of results.json, or what they would be now; its `steps` are those taken. `model`: name of the
    architecture. `total_steps`: steps of the whole run; `seconds`: time spent on those taken.
    """
    best, worst = _extremes(vocabulary, result)
    return render(
        "trainer/records/page.html",
        sortable=True,
        title=title,
        model=model,
        results=results,
        total_steps=total_steps,
        time=duration(seconds),
        done=f"{int(results['steps']) / max(1, total_steps):.0%}",
        scored=result.report,
        numbers=_numbers(result, lines),
        **log_curves(lines, SCORES),
        pictures=shown,
        best=best,
        worst=worst,
        vocabulary=vocabulary,
        classes=classes,
        account=[
            (meaning, *(f"{results[side].get(name, 0):,}" for side in ("training_account", "evaluation_account")))
            for name, meaning in ACCOUNT.items()
        ],
    )


def log_curves(lines: Sequence[Mapping[str, Any]], scores: Sequence[Figure]) -> dict[str, Any]:
    """Values of curves.html for the lines of a log: the loss, `scores`, and the pace of the run."""
    drawn = [draw(figure, lines, size=HALF) for figure in (*scores, *PACE)]
    return {"loss": draw(LOSS, lines, size=WHOLE), "figures": [figure for figure in drawn if figure is not None]}


def draw(figure: Figure, lines: Sequence[Mapping[str, Any]], *, size: tuple[int, int]) -> dict[str, Any] | None:
    """Title, chart and last values of a figure; None where the log has fewer than two points of each line."""
    step = Axis("step")
    every = {
        label: drawable(points_of(lines, name), across=step, up=figure.axis) for label, name in figure.series.items()
    }
    series = {label: points for label, points in every.items() if len(points) > 1}
    if not series:
        return None
    chart = line_chart(
        list(series.values()), across=step, up=figure.axis, title=f"{figure.title} by step", size=size, dots=figure.dots
    )
    last = [(label, figure.axis.text(points[-1][1])) for label, points in series.items()]
    return {"title": figure.title, "series": last, "chart": chart}


def points_of(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Finite values of a name by step."""
    found = [(float(line["step"]), line[name]) for line in lines if name in line]
    return [(step, float(value)) for step, value in found if isinstance(value, int | float) and math.isfinite(value)]


def _numbers(result: Evaluation, lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Scores of the evaluation, and of the newest linear probe if the log has one, each with its meaning."""
    scored = result.report
    numbers = [
        (f"{scored.top1:.1%}", "of the images: the most probable class is one of the labels"),
        (_score(scored.macro), "mean average precision"),
        (_score(scored.baseline_macro), "from class frequencies alone"),
        (_score(scored.head), "head: most frequent third of the classes"),
        (_score(scored.torso), "torso: middle third"),
        (_score(scored.tail), "tail: least frequent third"),
        (_score(scored.micro), f"micro average; frequencies alone {_score(scored.baseline_micro)}"),
    ]
    probed = next((line for line in reversed(lines) if line.get("probe_top1") is not None), None)
    if probed is not None:
        five = probed.get("probe_top5")
        among = f"; among its first five {five:.1%}" if five is not None else ""
        numbers.append((f"{probed['probe_top1']:.1%}", f"linear probe's accuracy{among}"))
    return numbers


def _extremes(vocabulary: Vocabulary, result: Evaluation) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Rows of the classes of highest and of lowest average precision."""
    precision = result.class_precision.tolist()
    counts = result.positives.bincount(minlength=len(vocabulary)).tolist()
    known = sorted((label for label in range(len(vocabulary)) if counts[label]), key=lambda label: -precision[label])
    rows = {
        label: (vocabulary.names[label], f"{precision[label]:.3f}", f"{counts[label] / result.report.images:.3f}")
        for label in {*known[:LISTED_CLASSES], *known[-LISTED_CLASSES:]}
    }
    return [rows[label] for label in known[:LISTED_CLASSES]], [rows[label] for label in known[::-1][:LISTED_CLASSES]]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
