"""page.html: one run on one self-contained page, to open without a network; written anew at every evaluation.

In: a run directory's log and an `Evaluation`. Out: numbers against what frequencies alone would give, the curves of the
log, held-out pictures with their labelled and predicted synsets, the best and worst classes, the vocabulary.

Captions and keys are strangers' text: everything passes through `in_html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.data.source import Source
from trainer.evaluation import Evaluation
from trainer.records.curves import LOSS, PACE, SCORES, draw
from trainer.records.gallery import Picture, Probabilities, pictures
from trainer.records.log import FILE as LOG_FILE
from trainer.records.log import read_log
from trainer.records.page_style import STYLE
from trainer.records.page_tables import account_table, class_table, vocabulary_table
from vocab.pages.text import duration, in_html
from vocab.store.files import write_whole
from vocab.vocabulary import Vocabulary

PREDICTIONS = 5
LONGEST_KEY = 240
# Two figures stand side by side where there is room.
HALF = {"width": 560, "height": 260}


def write_page(
    run: Path,
    source: Source,
    result: Evaluation,
    results: Mapping[str, Any],
    *,
    gallery: int,
    model: str,
    steps: int,
    probabilities: Probabilities = torch.sigmoid,
) -> list[Picture]:
    """Write page.html of a run as it stands, whole or not at all; the pictures on it.

    `results`: what results.json holds, or would hold now; its `steps` are those taken. `gallery`: pictures to show.
    `steps`: steps of the whole run. `probabilities`: makes probabilities of logits, as the run's loss has them.
    """
    shown = pictures(source, result, count=gallery, predictions=PREDICTIONS, probabilities=probabilities)
    content = page(
        title=run.name,
        lines=read_log(run / LOG_FILE),
        vocabulary=source.vocabulary,
        result=result,
        results=results,
        shown=shown,
        model=model,
        total_steps=steps,
    )
    with write_whole(run / "page.html") as file:
        file.write(content.encode())
    return shown


def page(
    *,
    title: str,
    lines: Sequence[Mapping[str, Any]],
    vocabulary: Vocabulary,
    result: Evaluation,
    results: Mapping[str, Any],
    shown: Sequence[Picture],
    model: str,
    total_steps: int,
) -> str:
    """The page's HTML."""
    sections = [
        _summary(title, model, result, results, lines, total_steps=total_steps),
        _curves(lines),
        "<h2>Held-out pictures</h2><p class=soft>Not chosen by how well they went. Predicted synsets with their "
        "probability; green where the caption names them too. A right guess that the caption leaves out stays grey."
        f"</p><div class=gallery>{''.join(map(_card, shown))}</div>",
        class_table(vocabulary, result),
        vocabulary_table(vocabulary, result),
        account_table(results),
    ]
    finished = "results.json, model.safetensors, " if int(results["steps"]) >= total_steps else ""
    return (
        '<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{in_html(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}"
        f"<footer class=soft>Everything behind this page is in the same folder: {finished}metrics.jsonl, "
        "environment.json, config.json, vocabulary.parquet, bad_samples.jsonl.</footer></body></html>\n"
    )


def _summary(
    title: str,
    model: str,
    result: Evaluation,
    results: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    *,
    total_steps: int,
) -> str:
    scored, steps = result.report, int(results["steps"])
    figures = [
        (_share(scored.macro), "mean average precision"),
        (_share(scored.baseline_macro), "from class frequencies alone"),
        (_share(scored.head), "head: most frequent third of the classes"),
        (_share(scored.torso), "torso: middle third"),
        (_share(scored.tail), "tail: least frequent third"),
        (_share(scored.micro), f"micro average; frequencies alone {_share(scored.baseline_micro)}"),
    ]
    probed = next((line for line in reversed(lines) if line.get("probe_top1") is not None), None)
    if probed is not None:
        five = probed.get("probe_top5")
        among = f"; among its first five {five:.1%}" if five is not None else ""
        figures.append((f"{probed['probe_top1']:.1%}", f"linear probe's accuracy{among}"))
    cards = "".join(f"<div><b class=number>{value}</b><span>{in_html(what)}</span></div>" for value, what in figures)
    state = ""
    if steps < total_steps:
        state = (
            f"<p class=running>As of step {steps:,} of {total_steps:,} ({steps / total_steps:.0%}): "
            "the run goes on, and this page is written again at its next evaluation.</p>"
        )
    return (
        f"<header><h1>{in_html(title)}</h1><p>{in_html(model)}, {results['parameters'] / 1e6:.1f} million parameters, "
        f"{results['classes']:,} classes. {steps:,} steps over {results['images_seen']:,} images in "
        f"{duration(float(results['seconds']))} on {in_html(str(results['device']))} x {results['processes']}. Judged "
        f"on {scored.images:,} held-out images, in which {scored.classes:,} of the classes occur.</p>{state}</header>"
        f"<div class=figures>{cards}</div>"
    )


def _curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """The loss over the whole width, then what else the log has, by twos."""
    loss = draw(LOSS, lines) or "<p class=soft>Fewer than two lines with a loss in metrics.jsonl: no curve.</p>"
    others = [drawn for figure in (*SCORES, *PACE) if (drawn := draw(figure, lines, **HALF)) is not None]
    more = f"<div class=curves>{''.join(others)}</div>" if others else ""
    return f"<h2>Training</h2>{loss}{more}"


def _card(picture: Picture) -> str:
    truth = "".join(f"<li>{in_html(name)}</li>" for name in picture.labelled) or "<li>none</li>"
    guesses = "".join(
        f"<li{' class=right' if guess.right else ''}>{in_html(guess.name)} "
        f"<span class=number>{_percent(guess.probability)}</span></li>"
        for guess in picture.predicted
    )
    return (
        f'<article class=picture><img alt="" src="data:image/jpeg;base64,{picture.jpeg}"><div>'
        f"<p class=caption>{in_html(picture.caption) or '<span class=soft>no caption</span>'}</p>"
        f"<small>labelled</small><ul class=synsets>{truth}</ul>"
        f"<small>predicted</small><ul class=synsets>{guesses}</ul>"
        f"<small>{in_html(picture.key, longest=LONGEST_KEY)}</small></div></article>"
    )


def _percent(probability: float) -> str:
    """88%; 3.1%, as a softmax over thousands of classes has them; <0.1%."""
    if probability < 0.001:
        return "&lt;0.1%"
    return f"{probability:.0%}" if probability >= 0.1 else f"{probability:.1%}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
