"""Results: records of what a method reached on a task, their cells over seeds, and results.json, which holds them.

In: what a verb measured. Out: `Record`; `Cell`; results.json, version 2, which every verb writes and `read_records`
reads. `extra` depends on the method, `details` on the verb.

    {"format": "catlip-results", "version": 2, "verb": "transfer", "model": "runs/b16", "fingerprint": "8c1f...",
     "data": {}, "notes": [], "left_out": [], "bad_images": [{"side": "test", "image": "7.png", "reason": "missing"}],
     "details": {},
     "records": [{"task": "imagenet", "method": "probe", "init": "random", "percent": 1.0, "seed": 0, "metric": "top1",
                  "value": 0.1618, "images": 50000, "seconds": 61.2, "extra": {"top5": 0.35}}, ...],
     "table": [...], "differences": [...], "own_sha256": "..."}
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

import numpy as np
from jaxtyping import Bool

from trainer.data.batch import Skipped
from trainer.records.classes import ClassScores
from trainer.records.intervals import Interval, over_images, over_seeds, paired
from vocab.errors import FormatError, MismatchError
from vocab.store.field_types import is_of, name_of
from vocab.store.files import write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.store.secrets import public

Method = Literal["pretrain", "zeroshot", "knn", "probe", "finetune", "segment", "detect"]
Verb = Literal["pretrain", "probe", "zeroshot", "finetune", "segment", "detect", "transfer"]

FORMAT, VERSION = "catlip-results", 2
RESULTS = "results.json"
METHODS: tuple[Method, ...] = ("pretrain", "zeroshot", "knn", "probe", "finetune", "segment", "detect")
"""in the order of tables: the pre-training itself, from what trains nothing to what trains all weights, dense tasks"""
NO_INIT: Literal["none"] = "none"
"""init of a method that trains nothing"""
RANDOM, TRANSFER = "random", "transfer"
PRECISION = "map_"
"""beginning of the names of mean average precisions; other metrics are accuracies"""
SCORE_NAMES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "map_macro": "mean average precision, macro",
    "map_micro": "mean average precision, micro",
    "miou": "mean IoU of the classes",
    "map_box": "average precision of boxes",
    "map_box_50": "average precision of boxes at half their union",
    "map_mask": "average precision of masks",
    "map_mask_50": "average precision of masks at half their union",
}
CORRECT = "correct"
"""entry of `extra` with a "1" or a "0" for each test image: "1" if the model's first class is the image's"""
INTERVAL = "interval"
"""entry of `extra` with the lower and the upper end of the metric's interval over test images"""
NOTES = "notes"
"""entry of `extra` with a list of sentences that a reader of the number should know"""


class Key(NamedTuple):
    """Identity of a record. No two records of a suite have one key."""

    task: str
    method: Method
    init: str
    percent: float
    seed: int


@dataclass(frozen=True)
class Record:
    """A measurement: of one method, from one init, on one share of the training images, by one seed."""

    task: str
    method: Method
    init: str
    """first weights, random or transfer; none where nothing is trained"""
    percent: float
    """percentage of the training images; 0 where none are used"""
    seed: int
    metric: str
    """top1, or map_macro where an image shows any number of classes; miou of segmentation, map_box of detection"""
    value: float
    """a share, 0 to 1"""
    images: int
    """number of test images that could be decoded"""
    seconds: float
    extra: Mapping[str, Any]
    """other metrics and settings; `notes`; `correct`, "1" or "0" for each test image in order"""
    classes: ClassScores | None = field(default=None, compare=False, repr=False)
    """content of classes.csv, which results.json leaves out; None for runs, which write it with their page, and in a
    record that was read back"""

    @property
    def key(self) -> Key:
        return Key(self.task, self.method, self.init, self.percent, self.seed)


def score_text(metric: str, value: float | None) -> str:
    """Write a score for people: an accuracy in percent, 81.25%; a mean average precision as 0.956; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if metric.startswith(PRECISION) else f"{value:.2%}"


@dataclass(frozen=True)
class RecordGroup:
    """Fields that the cells of one table row share."""

    task: str
    method: Method
    init: str
    """init of the records; for a difference, the two inits that are compared"""
    metric: str


@dataclass(frozen=True)
class Cell:
    """A result, or the difference of two, for one share of the training images."""

    row: RecordGroup
    percent: float
    interval: Interval
    seeds: tuple[int, ...]
    images: int
    """number of test images"""


@dataclass(frozen=True)
class ResultsFile:
    """Content of results.json that is read back."""

    verb: Verb
    records: list[Record]
    details: Mapping[str, Any]
    """facts that only this verb has"""
    model: str = ""
    """location of the model that was measured, or that a run began with"""
    fingerprint: str | None = None
    """of that model"""

    def of(self, method: Method) -> Record | None:
        """Return the first record of a method; None where there is none."""
        return next((record for record in self.records if record.method == method), None)


def write_results(
    folder: Path,
    records: Sequence[Record],
    *,
    verb: Verb,
    model: str,
    fingerprint: str | None = None,
    data: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    left_out: Sequence[Mapping[str, str]] = (),
    bad_images: Sequence[Mapping[str, str]] = (),
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write results.json into a folder that exists, whole or not at all, without secrets.

    `fingerprint`: of the model. `data`: where the images lie and how many there are. `left_out`: images that no verb
    tried to decode (`tasks.files.left_out`); `bad_images`: those that did not decode (`named_bad`). `details`: facts
    that only this verb has. Raises MismatchError as `cells_of`.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "verb": verb,
        "model": model,
        "fingerprint": fingerprint,
        "data": data or {},
        "notes": notes,
        "left_out": left_out,
        "bad_images": bad_images,
        "details": details or {},
        "records": [as_json(record) for record in records],
        "table": [_cell_json(cell) for cell in cells_of(records)],
        "differences": [_cell_json(cell) for cell in differences_of(records)],
    }
    _write(folder, content)


def add_details(folder: Path, more: Mapping[str, Any]) -> None:
    """Add facts to the details of a folder's results.json, and leave the rest as it is. Raises as `read_results`."""
    read_results(folder)  # raises for what is no results.json
    content = from_sealed_json(folder / RESULTS, (folder / RESULTS).read_bytes())
    _write(folder, {**content, "details": {**content["details"], **more}})


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    with write_whole(folder / RESULTS) as file:
        file.write(to_sealed_json(public(content), indent=1, ensure_ascii=False).encode())


def read_records(folder: Path) -> list[Record]:
    """Read the records of a folder's results.json, whichever verb wrote it. Raises as `read_results`."""
    return read_results(folder).records


def read_results(folder: Path) -> ResultsFile:
    """Read a folder's results.json, whichever verb wrote it.

    Raises FormatError for a file of another format or version, or one that was altered.
    """
    path = folder / RESULTS
    try:
        content = from_sealed_json(path, path.read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(path, f"no readable file ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("records"), list):
        raise _broken(path, f"no records of the format {FORMAT}")
    check_version(content.get("version"), source=path)
    records = [of_json(value, source=path) for value in content["records"]]
    verb: Any = content.get("verb")
    model, details = content.get("model"), content.get("details")
    if not is_of(verb, Verb) or not isinstance(details, dict):
        raise _broken(path, f"the verb {verb!r} and details of type {type(details).__name__}")
    if not isinstance(model, str):
        raise _broken(path, f"the model {model!r}")
    return ResultsFile(verb, records, details, model, content.get("fingerprint"))


def named_bad(**sides: Iterable[Skipped]) -> list[dict[str, str]]:
    """List images that did not decode, by side (train, test), as results.json has them."""
    return [{"side": side, "image": bad.name, "reason": bad.reason} for side, images in sides.items() for bad in images]


def marks_of(correct: Bool[np.ndarray, " images"]) -> str:
    """Write "1" for each image whose class came first and "0" for the others, in their order."""
    return "".join("1" if right else "0" for right in correct.tolist())


def as_json(record: Record) -> dict[str, Any]:
    """Convert a record to the object that files hold."""
    return {each.name: getattr(record, each.name) for each in fields(Record) if each.name != "classes"}


def of_json(value: object, *, source: object) -> Record:
    """Convert an object of the file `source` to a record. Raises FormatError for anything else."""
    hints = get_type_hints(Record)
    del hints["classes"]
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise _broken(source, f"a record with {', '.join(map(str, value))}" if isinstance(value, dict) else repr(value))
    for name, hint in hints.items():
        sound = isinstance(value[name], dict) if name == "extra" else is_of(value[name], hint)
        if not sound or (isinstance(value[name], float) and not math.isfinite(value[name])):
            raise _broken(source, f"a record with {name}={value[name]!r}, which is no {name_of(hint)}")
    return Record(**{**value, "percent": float(value["percent"])})


def check_version(found: object, *, source: object) -> None:
    """Raise FormatError for any version of the format but `VERSION`."""
    if type(found) is not int or found != VERSION:
        raise FormatError(
            source,
            found=f"version {found!r}",
            wanted=f"version {VERSION}",
            remedy="Read it with the release that wrote it.",
        )


def cells_of(records: Sequence[Record]) -> list[Cell]:
    """Combine the seeds of each task, method, init and share; by task, in the order of the records, method and init.

    Raises MismatchError for two records of one key, and for one method on one task that was measured by two metrics.
    """
    _check(records)
    groups: dict[tuple[RecordGroup, float], list[Record]] = defaultdict(list)
    for record in records:
        row = RecordGroup(record.task, record.method, record.init, record.metric)
        groups[row, record.percent].append(record)
    tasks = list(dict.fromkeys(record.task for record in records))
    order = sorted(
        groups, key=lambda each: (tasks.index(each[0].task), METHODS.index(each[0].method), each[0].init, each[1])
    )
    return [_cell(row, percent, groups[row, percent]) for row, percent in order]


def differences_of(records: Sequence[Record]) -> list[Cell]:
    """Transfer Init minus random init wherever both were measured with a seed, paired by seed. Raises as `cells_of`."""
    _check(records)
    found: dict[tuple[RecordGroup, float], dict[str, dict[int, Record]]]
    found = defaultdict(lambda: {RANDOM: {}, TRANSFER: {}})
    for record in records:
        if record.init in (RANDOM, TRANSFER):
            row = RecordGroup(record.task, record.method, f"{TRANSFER} - {RANDOM}", record.metric)
            found[row, record.percent][record.init][record.seed] = record
    cells = []
    for (row, percent), sides in found.items():
        shared = tuple(sorted(sides[RANDOM].keys() & sides[TRANSFER].keys()))
        if shared:
            first, second = ({seed: side[seed].value for seed in shared} for side in (sides[RANDOM], sides[TRANSFER]))
            cells.append(Cell(row, percent, paired(first, second), shared, sides[TRANSFER][shared[0]].images))
    return cells


def _cell(row: RecordGroup, percent: float, records: Sequence[Record]) -> Cell:
    seeds = tuple(sorted(record.seed for record in records))
    return Cell(row, percent, _interval(records), seeds, records[0].images)


def _interval(records: Sequence[Record]) -> Interval:
    """Interval over seeds; of one seed over the test images, where the record has it or marks images as right."""
    first = records[0]
    if len(records) == 1 and INTERVAL in first.extra:
        low, high = first.extra[INTERVAL]
        return Interval(first.value, None, low, high, "images", 1)
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
    seen: set[Key] = set()
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
        seen.add(record.key)


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        **asdict(cell.row),
        "percent": cell.percent,
        **asdict(cell.interval),
        "seeds": list(cell.seeds),
        "images": cell.images,
    }


def _broken(source: object, found: str) -> FormatError:
    return FormatError(
        source,
        found=found,
        wanted="records of results, as `python -m trainer` writes them (pretrain, probe, zeroshot, finetune, segment, "
        "detect, transfer)",
        remedy="Copy the file again, or measure again into another --out.",
    )
