"""One table of results for several tasks, as Markdown.

In: records. Out: a page with a cell for each task, method, init and share of the images, and the differences that
Transfer Init makes.

    | task | method | init | metric | 1 % | 100 % |
    |---|---|---|---|---|---|
    | imagenet | probe | random | top1 | 16.2 ± 0.5 (3 seeds) | 80.8 ± 0.1 (3 seeds) |
    | imagenet | probe | transfer | top1 | 41.0 ± 0.4 (3 seeds) | 80.9 [80.6, 81.2] (1 seed) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.transfer.intervals import LEVEL, Interval
from trainer.transfer.record import NOTES, Cell, Record, RecordGroup, cells_of, differences_of
from vocab.pages.tables import Markdown, markdown_list, markdown_table
from vocab.pages.text import counted

POINTS = 100


def results_table(records: Sequence[Record]) -> str:
    """The tables as Markdown, in percent; of differences, in points; and notes. Raises as `cells_of`."""
    cells, differences = cells_of(records), differences_of(records)
    parts = [_markdown(cells, signed=False), _explained(cells)]
    if differences:
        parts += ["Transfer Init minus random init, points, seed by seed:", _markdown(differences, signed=True)]
    parts.append(markdown_list(notes_on(records)))
    return "\n\n".join(part for part in parts if part) + "\n"


def notes_on(records: Sequence[Record]) -> list[str]:
    """What whoever reads the table should know, task by task, each once: what zero-shot could not score, and the notes
    of the methods.
    """
    notes: dict[str, dict[str, None]] = {record.task: {} for record in records}
    for record in records:
        missing = _not_scored(record)
        notes[record.task] |= dict.fromkeys([*([missing] if missing else []), *record.extra.get(NOTES, ())])
    return [f"{task}: {note}" for task, own in notes.items() for note in own]


def _not_scored(record: Record) -> str | None:
    """That zero-shot cannot score some of the classes, which the number in the table does not show."""
    classes, scorable = (record.extra.get(name) for name in ("classes", "scorable_classes"))
    if record.method != "zeroshot" or classes is None or scorable is None or scorable == classes:
        return None
    count = "images of the others count as wrong" if record.metric == "top1" else "the others count with precision 0"
    return f"zeroshot: {scorable:,} of {counted(classes, 'class', 'classes')} can be scored, and {count}"


def text_of(interval: Interval, *, signed: bool = False) -> str:
    """An interval as a cell shows it, in percent: "16.2 ± 0.5 (3 seeds)", "80.9 [80.6, 81.2] (1 seed)"."""
    value = f"{POINTS * interval.value:+.1f}" if signed else f"{POINTS * interval.value:.1f}"
    seeds = f"({interval.seeds} seed{'s' if interval.seeds > 1 else ''})"
    if interval.low is None or interval.high is None or interval.half_width is None:
        return f"{value} {seeds}"
    if interval.over == "images":
        return f"{value} [{POINTS * interval.low:.1f}, {POINTS * interval.high:.1f}] {seeds}"
    return f"{value} ± {POINTS * interval.half_width:.1f} {seeds}"


def _markdown(cells: Sequence[Cell], *, signed: bool) -> str:
    """A table with a row for each `RecordGroup` and a column for each share."""
    percents = sorted({cell.percent for cell in cells})
    rows: dict[RecordGroup, Mapping[float, str]] = {}
    for cell in cells:
        text = Markdown(text_of(cell.interval, signed=signed))
        rows[cell.row] = {**rows.get(cell.row, {}), cell.percent: text}
    head = ["task", "method", "init", "metric", *(f"{percent:g} %" for percent in percents)]
    body = [
        [row.task, row.method, row.init, Markdown(row.metric), *(texts.get(percent, "") for percent in percents)]
        for row, texts in rows.items()
    ]
    return markdown_table(head, body)


def _explained(cells: Sequence[Cell]) -> str:
    """What the intervals are, of those that there are."""
    kinds = {cell.interval.over for cell in cells}
    said = {
        "seeds": f"± is half of a {LEVEL:.0%} interval over seeds (Student's t).",
        "images": f"[low, high] is a {LEVEL:.0%} interval over test images (bootstrap).",
    }
    return " ".join(text for kind, text in said.items() if kind in kinds)
