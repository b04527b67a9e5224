"""Tables of results as Markdown: one for several tasks, and the pages of single verbs.

In: records. Out: for a suite, a cell for each task, method, init and share of the images, and the differences made by
Transfer Init; for `probe`, a row for each share and seed; for `zeroshot`, numbers over scorable and over all classes.

    | task | method | init | metric | 1 % | 100 % |
    |---|---|---|---|---|---|
    | imagenet | probe | random | top1 | 16.2 ± 0.5 (3 seeds) | 80.8 ± 0.1 (3 seeds) |
    | imagenet | probe | transfer | top1 | 41.0 ± 0.4 (3 seeds) | 80.9 [80.6, 81.2] (1 seed) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.records.intervals import LEVEL
from trainer.records.record import (
    NOTES,
    PRECISION,
    SCORE_NAMES,
    Cell,
    Record,
    RecordGroup,
    cells_of,
    differences_of,
    score_text,
)
from vocab.pages.tables import Markdown, in_markdown, markdown_list, markdown_table
from vocab.pages.text import counted

POINTS = 100
"""percentage points of a share of 1"""
HEADINGS = {"top1": "top-1", "top5": "top-5", "map_macro": "mAP, macro", "map_micro": "mAP, micro"}


def results_table(records: Sequence[Record]) -> str:
    """Write results, differences and notes. Raises as `cells_of`."""
    cells, differences = cells_of(records), differences_of(records)
    parts = [_markdown(cells, signed=False), _explained(cells)]
    if differences:
        parts += [
            "Transfer Init minus random init, seed by seed; accuracies in points:",
            _markdown(differences, signed=True),
        ]
    parts.append(markdown_list(notes_on(records)))
    return _page(parts)


def probe_page(records: Sequence[Record], *, init: str, setting: str, notes: Sequence[str]) -> str:
    """Write the page of a probe: a row for each share and seed, beside its nearest neighbours'.

    `init`: the classifiers' first weights; `setting`: classes, images and schedule.
    """
    nearest = {(record.percent, record.seed): record for record in records if record.method == "knn"}
    probes = [record for record in records if record.method == "probe"]
    names = [name for name in HEADINGS if name in probes[0].extra]
    head = ["share", "seed", "images", *(HEADINGS[name] for name in names)]
    head += [f"neighbours' {HEADINGS[probes[0].metric]}"] if nearest else []
    rows = []
    for record in probes:
        cells = [f"{record.percent:g} %", f"{record.seed}", f"{record.extra['train_images']:,}"]
        cells += [score_text(name, record.extra[name]) for name in names]
        cells += [score_text(record.metric, nearest[record.percent, record.seed].value)] if nearest else []
        rows.append([*cells, f"{record.extra['learning_rate']:g}", f"{record.extra['weight_decay']:g}"])
    table = markdown_table([*head, "learning rate", "weight decay"], rows)
    return _page([f"# Linear probe from {init}", setting, table, markdown_list(notes)])


def zero_shot_page(record: Record, *, title: str, notes: Sequence[str], classes: str) -> str:
    """Write the page of zero-shot classification. `classes`: the table of all classes."""
    extra, several = record.extra, record.metric == "map_macro"
    rows = [
        ("classes", f"{extra['scorable_classes']:,}", f"{extra['classes']:,}"),
        ("images", f"{extra['images' if several else 'scorable_images']:,}", f"{extra['images']:,}"),
    ]
    for name, text in SCORE_NAMES.items():
        shares = [extra.get(name), extra.get(f"{name}_all")]
        if shares != [None, None]:
            rows.append((text, score_text(name, shares[0]), score_text(name, shares[1])))
    numbers = markdown_table(("", "scorable classes", "all classes"), rows)
    return _page([f"# {in_markdown(title)}", numbers, markdown_list(notes), classes])


def notes_on(records: Sequence[Record]) -> list[str]:
    """List what a reader of the table should know, task by task, each note once: how many classes zero-shot could not
    score, and the notes of the methods.
    """
    notes: dict[str, dict[str, None]] = {record.task: {} for record in records}
    for record in records:
        missing = _not_scored(record)
        notes[record.task] |= dict.fromkeys([*([missing] if missing else []), *record.extra.get(NOTES, ())])
    return [f"{task}: {note}" for task, own in notes.items() for note in own]


def _not_scored(record: Record) -> str | None:
    """Write a note on classes that zero-shot cannot score, or None."""
    classes, scorable = (record.extra.get(name) for name in ("classes", "scorable_classes"))
    if record.method != "zeroshot" or classes is None or scorable is None or scorable == classes:
        return None
    count = "images of the others count as wrong" if record.metric == "top1" else "the others count with precision 0"
    return f"zeroshot: {scorable:,} of {counted(classes, 'class', 'classes')} can be scored, and {count}"


def text_of(cell: Cell, *, signed: bool = False) -> str:
    """Write a cell: an accuracy in percent, "16.2 ± 0.5 (3 seeds)", "80.9 [80.6, 81.2] (1 seed)"; a mean
    average precision as it is, "0.333 ± 0.012 (3 seeds)".
    """
    interval = cell.interval
    unit, digits = (1, 3) if cell.row.metric.startswith(PRECISION) else (POINTS, 1)
    value = f"{unit * interval.value:{'+' if signed else ''}.{digits}f}"
    seeds = f"({interval.seeds} seed{'s' if interval.seeds > 1 else ''})"
    if interval.low is None or interval.high is None or interval.half_width is None:
        return f"{value} {seeds}"
    if interval.over == "images":
        return f"{value} [{unit * interval.low:.{digits}f}, {unit * interval.high:.{digits}f}] {seeds}"
    return f"{value} ± {unit * interval.half_width:.{digits}f} {seeds}"


def _markdown(cells: Sequence[Cell], *, signed: bool) -> str:
    """Write a table with a row for each `RecordGroup` and a column for each share."""
    percents = sorted({cell.percent for cell in cells})
    rows: dict[RecordGroup, Mapping[float, str]] = {}
    for cell in cells:
        text = Markdown(text_of(cell, signed=signed))
        rows[cell.row] = {**rows.get(cell.row, {}), cell.percent: text}
    head = ["task", "method", "init", "metric", *(f"{percent:g} %" for percent in percents)]
    body = [
        [row.task, row.method, row.init, Markdown(row.metric), *(texts.get(percent, "") for percent in percents)]
        for row, texts in rows.items()
    ]
    return markdown_table(head, body)


def _explained(cells: Sequence[Cell]) -> str:
    """Explain the kinds of intervals that occur."""
    kinds = {cell.interval.over for cell in cells}
    said = {
        "seeds": f"± is half of a {LEVEL:.0%} interval over seeds (Student's t).",
        "images": f"[low, high] is a {LEVEL:.0%} interval over test images (bootstrap).",
    }
    return " ".join(text for kind, text in said.items() if kind in kinds)


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
