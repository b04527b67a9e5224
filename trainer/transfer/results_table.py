"""One table of results for several tasks, as JSON and as Markdown.

In: records. Out: a `Cell` for each task, method, init and share of the images, with its interval; the differences that
Transfer Init makes; a page with both.

    | task | method | init | metric | 1 % | 100 % |
    |---|---|---|---|---|---|
    | imagenet | probe | random | top1 | 16.2 ± 0.5 (3 seeds) | 80.8 ± 0.1 (3 seeds) |
    | imagenet | probe | transfer | top1 | 41.0 ± 0.4 (3 seeds) | 80.9 [80.6, 81.2] (1 seed) |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.transfer.intervals import LEVEL, Interval, over_images, over_seeds, paired
from trainer.transfer.records import CORRECT, FORMAT, NOTES, VERSION, Key, Method, Record, as_json
from vocab.errors import MismatchError
from vocab.pages.tables import Markdown, markdown_list, markdown_table
from vocab.pages.text import counted

METHODS: tuple[Method, ...] = ("zeroshot", "knn", "probe", "finetune")
"""in the table's order: the more is trained, the later"""
PLAIN, TRANSFER = "random", "transfer"
POINTS = 100


@dataclass(frozen=True)
class Row:
    """What the cells of a row have in common."""

    task: str
    method: Method
    init: str
    """of a difference: what is compared"""
    metric: str


@dataclass(frozen=True)
class Cell:
    """A result, or the difference of two, of a share of the images."""

    row: Row
    percent: float
    interval: Interval
    seeds: tuple[int, ...]
    images: int
    """test images"""


def cells_of(records: Sequence[Record]) -> list[Cell]:
    """The table's cells; rows by task, in the order of the records, then by method and init. No two have one place.

    Raises MismatchError for two records of one key, and for one method on one task that was measured by two metrics.
    """
    _check(records)
    groups: dict[tuple[Row, float], list[Record]] = defaultdict(list)
    for record in records:
        groups[Row(record.task, record.method, record.init, record.metric), record.percent].append(record)
    tasks = list(dict.fromkeys(record.task for record in records))
    places = sorted(
        groups, key=lambda place: (tasks.index(place[0].task), METHODS.index(place[0].method), place[0].init, place[1])
    )
    return [_cell(row, percent, groups[row, percent]) for row, percent in places]


def differences_of(records: Sequence[Record]) -> list[Cell]:
    """Transfer Init minus random init wherever both were measured with a seed, paired by seed. Raises as `cells_of`."""
    _check(records)
    found: dict[tuple[Row, float], dict[str, dict[int, Record]]] = defaultdict(lambda: {PLAIN: {}, TRANSFER: {}})
    for record in records:
        if record.init in (PLAIN, TRANSFER):
            row = Row(record.task, record.method, f"{TRANSFER} - {PLAIN}", record.metric)
            found[row, record.percent][record.init][record.seed] = record
    cells = []
    for (row, percent), sides in found.items():
        shared = tuple(sorted(sides[PLAIN].keys() & sides[TRANSFER].keys()))
        if shared:
            first, second = ({seed: side[seed].value for seed in shared} for side in (sides[PLAIN], sides[TRANSFER]))
            cells.append(Cell(row, percent, paired(first, second), shared, sides[TRANSFER][shared[0]].images))
    return cells


def results_json(records: Sequence[Record], **about: object) -> dict[str, Any]:
    """What results.json holds: the records, and the cells of both tables. `about`: what they are results of."""
    return {
        "format": FORMAT,
        "version": VERSION,
        **about,
        "records": [as_json(record) for record in records],
        "table": [_cell_json(cell) for cell in cells_of(records)],
        "differences": [_cell_json(cell) for cell in differences_of(records)],
    }


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


def _cell(row: Row, percent: float, records: Sequence[Record]) -> Cell:
    seeds = tuple(sorted(record.seed for record in records))
    return Cell(row, percent, _interval(records), seeds, records[0].images)


def _interval(records: Sequence[Record]) -> Interval:
    """Over seeds; of one seed over the test images, where it is known which of them were told right."""
    first = records[0]
    if len(records) > 1 or not first.extra.get(CORRECT):
        return over_seeds([record.value for record in records])
    interval = over_images(first.extra[CORRECT])
    # Values may have been rounded, by less than one image counts.
    if abs(interval.value - first.value) > 0.5 / len(first.extra[CORRECT]):
        raise MismatchError(
            f"{first.method} on {first.task!r}, {first.init} init, {first.percent:g} %, seed {first.seed}",
            found=f"{first.metric} {first.value:g}, while {interval.value:g} of the images are marked right",
            wanted=f"marks of the images that {first.metric} is of",
            remedy="Measure again.",
        )
    return interval


def _check(records: Sequence[Record]) -> None:
    seen: dict[Key, Record] = {}
    metrics: dict[tuple[str, Method], Record] = {}
    for record in records:
        first = metrics.setdefault((record.task, record.method), record)
        if record.key in seen or first.metric != record.metric:
            raise MismatchError(
                f"{record.method} on {record.task!r}, {record.init} init, {record.percent:g} %, seed {record.seed}",
                found="two records" if record.key in seen else f"the metric {record.metric} beside {first.metric}",
                wanted="one record, by one metric",
                remedy="Put results of several models, or of several settings, into tables of their own.",
            )
        seen[record.key] = record


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        **asdict(cell.row),
        "percent": cell.percent,
        **asdict(cell.interval),
        "seeds": list(cell.seeds),
        "images": cell.images,
    }


def _markdown(cells: Sequence[Cell], *, signed: bool) -> str:
    """A table with a row for each `Row` and a column for each share."""
    percents = sorted({cell.percent for cell in cells})
    rows: dict[Row, Mapping[float, str]] = {}
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
