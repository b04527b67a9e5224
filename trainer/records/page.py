"""page.html: one run on one self-contained page, to open without a network.

In: a run directory's log and an `Evaluation`. Out: numbers against what frequencies alone would give, the loss curve,
held-out pictures with their labelled and predicted synsets, the best and worst classes, the vocabulary.

Captions and keys are strangers' text: everything passes through `html.escape`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.config import PretrainConfig
from trainer.data.source import Source
from trainer.evaluation import Evaluation
from trainer.records.gallery import Picture, pictures
from trainer.records.log import FILE as LOG_FILE
from trainer.records.log import read_log
from vocab.storage import write_whole
from vocab.vocabulary import Vocabulary

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #667079; --paper: #fbfbf9; --card: #fff; --line: #e2e3de;
  --accent: #2b6cb0; --right: #1f7a4d; --right-paper: #e2f3ea; --plain-paper: #eef0f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ea; --soft: #98a1a8; --paper: #15181b; --card: #1d2125;
  --line: #30363c; --accent: #7ab3ef; --right: #7fd6a8; --right-paper: #16382a; --plain-paper: #2a2f35; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .9rem; }
p { max-width: 46rem; } .soft { color: var(--soft); } .number { font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: .8rem; margin: 1.6rem 0; }
.figures div, .picture { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.figures div { padding: .9rem 1.1rem; } .figures b { display: block; font-size: 1.7rem; line-height: 1.2; }
.figures span { color: var(--soft); font-size: .87rem; }
svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .grid { stroke: var(--line); }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: 1rem; }
.picture { overflow: hidden; } .picture img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--plain-paper); } .picture > div { padding: .8rem .95rem 1rem; }
.caption { margin: 0 0 .6rem; overflow-wrap: anywhere; } .picture small { color: var(--soft); display: block; }
ul.synsets { list-style: none; margin: .2rem 0 .6rem; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem; }
ul.synsets li { background: var(--plain-paper); border-radius: 6px; padding: .05rem .5rem; font-size: .84rem; }
ul.synsets li.right { background: var(--right-paper); color: var(--right); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } td.number, th.number { text-align: right; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 2.5rem; }
details summary { cursor: pointer; color: var(--accent); } footer { margin-top: 4rem; font-size: .87rem; }
"""

LISTED_CLASSES = 10
# A page with 24,320 rows helps nobody; vocabulary.parquet has them all.
LISTED_VOCABULARY = 1000
PREDICTIONS = 5


def write_page(
    run: Path, config: PretrainConfig, source: Source, result: Evaluation, results: Mapping[str, Any]
) -> None:
    """Write page.html of a finished run, whole or not at all."""
    shown = pictures(source, result, count=config.run.gallery, predictions=PREDICTIONS)
    content = page(
        title=run.name,
        lines=read_log(run / LOG_FILE),
        vocabulary=source.vocabulary,
        result=result,
        results=results,
        shown=shown,
        model=config.model.model,
    )
    with write_whole(run / "page.html") as file:
        file.write(content.encode())


def page(
    *,
    title: str,
    lines: Sequence[Mapping[str, Any]],
    vocabulary: Vocabulary,
    result: Evaluation,
    results: Mapping[str, Any],
    shown: Sequence[Picture],
    model: str,
) -> str:
    """The page's HTML."""
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    sections = [
        _summary(title, model, result, results),
        f"<h2>Loss</h2>{loss_curve(losses)}",
        "<h2>Held-out pictures</h2><p class=soft>Not chosen by how well they went. Predicted synsets with their "
        "probability; green where the caption names them too. A right guess that the caption leaves out stays grey."
        f"</p><div class=gallery>{''.join(map(_card, shown))}</div>",
        _classes(vocabulary, result),
        _vocabulary_table(vocabulary, result),
        _account(results),
    ]
    return (
        '<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}"
        "<footer class=soft>Everything behind this page is in the same folder: results.json, metrics.jsonl, "
        "config.json, vocabulary.parquet, bad_samples.jsonl, model.safetensors.</footer></body></html>\n"
    )


def _summary(title: str, model: str, result: Evaluation, results: Mapping[str, Any]) -> str:
    scored = result.report
    figures = [
        (_share(scored.macro), "mean average precision"),
        (_share(scored.baseline_macro), "from class frequencies alone"),
        (_share(scored.head), "head: most frequent third of the classes"),
        (_share(scored.torso), "torso: middle third"),
        (_share(scored.tail), "tail: least frequent third"),
        (_share(scored.micro), f"micro average; frequencies alone {_share(scored.baseline_micro)}"),
    ]
    cards = "".join(f"<div><b class=number>{value}</b><span>{escape(what)}</span></div>" for value, what in figures)
    return (
        f"<header><h1>{escape(title)}</h1><p>{escape(model)}, {results['parameters'] / 1e6:.1f} million parameters, "
        f"{results['classes']:,} classes. {results['steps']:,} steps over {results['images_seen']:,} images in "
        f"{_duration(results['seconds'])} on {escape(str(results['device']))} x {results['processes']}. Judged on "
        f"{scored.images:,} held-out images, in which {scored.classes:,} of the classes occur.</p></header>"
        f"<div class=figures>{cards}</div>"
    )


def loss_curve(points: Sequence[tuple[int, float]], *, width: int = 960, height: int = 300) -> str:
    """Loss against steps as inline SVG with labelled axes; the loss axis is logarithmic."""
    points = [(step, loss) for step, loss in points if loss > 0 and math.isfinite(loss)]
    if len(points) < 2:
        return "<p class=soft>Fewer than two lines in metrics.jsonl: no curve.</p>"
    left, right, top, bottom = 64, 20, 18, 48
    steps = [step for step, _ in points]
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    low, high = (low / 1.05, high * 1.05)

    def across(step: int | float) -> float:
        return left + (width - left - right) * (step - steps[0]) / max(1, steps[-1] - steps[0])

    def down(loss: float) -> float:
        return top + (height - top - bottom) * math.log(high / loss) / math.log(high / low)

    path = " ".join(f"{across(step):.1f},{down(loss):.1f}" for step, loss in points)
    grid = ""
    for tick in range(5):
        loss = low * (high / low) ** (tick / 4)
        step = steps[0] + (steps[-1] - steps[0]) * tick / 4
        grid += (
            f'<line class=grid x1="{left}" x2="{width - right}" y1="{down(loss):.1f}" y2="{down(loss):.1f}"/>'
            f'<text x="{left - 8}" y="{down(loss) + 4:.1f}" text-anchor="end">{loss:.3g}</text>'
            f'<text x="{across(step):.1f}" y="{height - bottom + 20}" text-anchor="middle">{step:,.0f}</text>'
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Training loss by step">{grid}'
        f'<polyline class="curve" points="{path}"/>'
        f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">step</text>'
        f'<text transform="translate(16 {(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">'
        "loss, nats per image (log scale)</text></svg>"
    )


def _card(picture: Picture) -> str:
    truth = "".join(f"<li>{escape(name)}</li>" for name in picture.labelled) or "<li>none</li>"
    guesses = "".join(
        f"<li{' class=right' if guess.right else ''}>{escape(guess.name)} "
        f"<span class=number>{guess.probability:.0%}</span></li>"
        for guess in picture.predicted
    )
    return (
        f'<article class=picture><img alt="" src="data:image/jpeg;base64,{picture.jpeg}"><div>'
        f"<p class=caption>{escape(picture.caption) or '<span class=soft>no caption</span>'}</p>"
        f"<small>labelled</small><ul class=synsets>{truth}</ul>"
        f"<small>predicted</small><ul class=synsets>{guesses}</ul>"
        f"<small>{escape(picture.key)}</small></div></article>"
    )


def _classes(vocabulary: Vocabulary, result: Evaluation) -> str:
    precision = result.class_precision.tolist()
    counts = _positives(vocabulary, result)
    known = sorted((label for label in range(len(vocabulary)) if counts[label]), key=lambda label: -precision[label])

    def table(title: str, labels: Iterable[int]) -> str:
        rows = [
            (vocabulary.names[label], f"{precision[label]:.3f}", f"{counts[label] / result.report.images:.3f}")
            for label in labels
        ]
        head = ("class", "average precision", "its share of images")
        return f"<div><h3>{title}</h3>{_table(head, rows, numbers=(1, 2))}</div>"

    best, worst = known[:LISTED_CLASSES], known[::-1][:LISTED_CLASSES]
    return (
        "<h2>Best and worst classes</h2><p class=soft>A model that knows frequencies only has a class's share of "
        f"images as its average precision.</p><div class=halves>{table('Best', best)}{table('Worst', worst)}</div>"
    )


def _vocabulary_table(vocabulary: Vocabulary, result: Evaluation) -> str:
    precision, counts = result.class_precision.tolist(), _positives(vocabulary, result)
    rows = [
        (
            str(label),
            vocabulary.names[label],
            vocabulary.wnids[label],
            f"{int(vocabulary.captions[label]):,}",
            f"{counts[label]:,}",
            f"{precision[label]:.3f}" if counts[label] else "-",
        )
        for label in range(min(len(vocabulary), LISTED_VOCABULARY))
    ]
    head = ("label", "synset", "wnid", "captions", "held-out images", "average precision")
    rest = len(vocabulary) - len(rows)
    more = f"<p class=soft>and {rest:,} more in vocabulary.parquet</p>" if rest else ""
    return (
        f"<h2>Vocabulary</h2><details open><summary>{len(vocabulary):,} synsets seen in at least "
        f"{vocabulary.min_count:,} of {vocabulary.rows:,} captions</summary>"
        f"<div class=wide>{_table(head, rows, numbers=(0, 3, 4, 5))}</div>{more}</details>"
    )


def _account(results: Mapping[str, Any]) -> str:
    meanings = {
        "samples": "samples visited",
        "bad": "bad: no image, or one that cannot be used (bad_samples.jsonl)",
        "unmatched": "unmatched: no row in the labels",
        "unlabelled": "unlabelled: a caption without a noun of WordNet",
        "surplus_labels": "rows of the labels whose sample the tar lacks",
    }
    training, held_out = results["training_account"], results["evaluation_account"]
    rows = [(meaning, f"{training.get(n, 0):,}", f"{held_out.get(n, 0):,}") for n, meaning in meanings.items()]
    return (
        "<h2>Account of samples</h2><p class=soft>Training counts every epoch.</p>"
        f"<div class=wide>{_table(('', 'training', 'held out'), rows, numbers=(1, 2))}</div>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        mark = dict.fromkeys(numbers, " class=number")
        return "".join(f"<{tag}{mark.get(place, '')}>{escape(cell)}</{tag}>" for place, cell in enumerate(cells))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _positives(vocabulary: Vocabulary, result: Evaluation) -> list[int]:
    counts: list[int] = result.positives.bincount(minlength=len(vocabulary)).tolist()
    return counts


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
