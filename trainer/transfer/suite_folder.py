"""The folder of a suite: what it holds, and whether this suite may go on there.

    config.json                  the options, the tasks as they were measured, fingerprints of the model and of images
    run.lock                     while a suite is at work
    records.jsonl                a line for each record, on the disk as soon as it was measured
    results.json  results.md     the table, whole after each task
    METHOD/TASK-INIT-SHARE-SEED/    classes.csv of one result; of finetune and segment all that the verb leaves,
                                    without checkpoints once it is measured

A line of records.jsonl: {"version": 2, "task": "imagenet", "method": "probe", ..., "own_sha256": "..."}, with the
fields that records have in results.json.

A suite goes on only with the settings that its results depend on. Options of a method that is taken out of the file
wait, with its results, until the method is asked for again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoints.checkpoint import FOLDER
from trainer.config import flattened
from trainer.records.record import (
    NO_INIT,
    RESULTS,
    TRANSFER,
    VERSION,
    Key,
    Method,
    Record,
    as_json,
    check_version,
    of_json,
    read_records,
    write_results,
)
from trainer.records.run_directory import CONFIG, RunKind, stored_config
from trainer.transfer.config import CHANGEABLE, TransferConfig
from trainer.transfer.report import results_table
from trainer.transfer.suite_plan import RUNS, keys_of, record_folder
from trainer.transfer.tasks_file import SECTIONS, SuiteTask
from vocab.errors import FormatError, MismatchError
from vocab.pages.text import counted, tell
from vocab.store.files import flush, named, write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json, whole_lines
from vocab.store.secrets import public, without_secrets

RECORDS, TABLE = "records.jsonl", "results.md"
FORMAT = "catlip-transfer-suite"
SUITE = RunKind("a suite", frozenset({"format", "fingerprint", "tasks"}))
# Fields by which a measured task may ask for more results, or for fewer.
RESULT_FIELDS = frozenset("name methods percents seeds inits".split())
UNTRAINED: tuple[Method, ...] = ("zeroshot", "knn")
"""methods without an init"""
# Where images and names lie; fingerprints tell whether they have changed.
LOCATION_FIELDS = frozenset("train test class_names".split())
# Options of probe that only the classifier has, and those that only nearest neighbours have.
CLASSIFIER_OPTIONS = frozenset(
    "preset learning_rates weight_decays epochs train_batch final_share label_smoothing".split()
)
KNN_OPTIONS = frozenset("neighbours temperature".split())


@dataclass(frozen=True)
class EarlierResults:
    """Results that earlier starts of the suite left."""

    records: dict[Key, Record]
    tasks: Mapping[str, Mapping[str, Any]]
    """settings of each task, by name"""
    images: Mapping[str, str]
    """fingerprint of each task's images and classes"""


def examine(config: TransferConfig, tasks: Sequence[SuiteTask], fingerprint: str) -> EarlierResults:
    """Find the results to continue from; none in a new folder.

    A line that a kill left unfinished is removed. Raises OutputExistsError if `out` holds something else,
    MismatchError if it holds results of another model, precision or settings of a task, FormatError for broken files.
    """
    out = config.out
    stored = read_config(out)
    if stored is None:
        return EarlierResults({}, {}, {})
    now = {"fingerprint": fingerprint, "precision": config.precision}
    for name, value in now.items():
        if stored[name] != value:
            model = f", measured of {stored['model']}" if name == "fingerprint" else ""
            raise _other(out, f"results of {name} {stored[name]}{model}", f"{name} {value}")
    records = {record.key: record for record in recorded(out)}
    _say_lost(out, records)
    for task in tasks:
        differing = changed(task, stored["tasks"].get(task.name, {}), _keys(task, records))
        if differing is not None:
            raise _other(out, f"results of {task.name!r} with {differing[0]}", differing[1])
    # Folders written before fingerprints of images were kept lack them; `check_images` refuses those.
    return EarlierResults(records, stored["tasks"], stored.get("images", {}))


def read_config(out: Path) -> dict[str, Any] | None:
    """Read config.json; None in a new folder. Raises OutputExistsError for a folder that is not a suite's."""
    stored = stored_config(out, SUITE)
    if stored is not None:
        check_version(stored.get("version"), source=out / CONFIG)
    return stored


def check_images(out: Path, images: Mapping[str, str], measured: EarlierResults) -> None:
    """Raise MismatchError for a measured task whose images or classes have changed since.

    `images`: their fingerprints, by task.
    """
    for name in dict.fromkeys(record.task for record in measured.records.values()):
        # Two fingerprints each: by content, and by the files in their places. One equal fingerprint is enough.
        if name in images and not set(images[name].split()) & set(measured.images.get(name, "").split()):
            raise MismatchError(
                out,
                found=f"results of {name!r} on other images, or on classes of other names",
                wanted="those that the tasks file names, as they are now",
                remedy="Put them back as they were, or choose another --out.",
            )


def begin(
    config: TransferConfig,
    tasks: Sequence[SuiteTask],
    fingerprint: str,
    images: Mapping[str, str],
    measured: EarlierResults,
) -> None:
    """Make the folder and write config.json; measured tasks that are no longer asked for stay in it."""
    config.out.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": fingerprint,
        **public(asdict(config)),
        "tasks": {
            **measured.tasks,
            **{
                task.name: to_record(task, measured.tasks.get(task.name, {}), _keys(task, measured.records))
                for task in tasks
            },
        },
        "images": {**measured.images, **images},
    }
    with write_whole(config.out / CONFIG) as file:
        file.write(to_sealed_json(content, indent=1, ensure_ascii=False).encode())
    (config.out / RECORDS).touch()
    flush(config.out)


def drop_checkpoints(out: Path, keys: Iterable[Key]) -> None:
    """Remove the checkpoints of runs whose records are on the disk; their models stay.

    To be called with the records of earlier starts too: one may have been killed before it removed them.
    """
    for key in keys:
        folder = record_folder(out, key) / FOLDER
        if key.method in RUNS and folder.exists():
            shutil.rmtree(folder)


def append(out: Path, records: Sequence[Record]) -> None:
    """Append records, after the scores of their classes; on return they are on the disk."""
    for record in records:
        if record.classes is not None:
            folder = record_folder(out, record.key)
            folder.mkdir(parents=True, exist_ok=True)
            record.classes.write(folder)
    lines = "".join(to_sealed_json({"version": VERSION, **as_json(record)}) for record in records)
    with named(out / RECORDS), (out / RECORDS).open("ab") as file:
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def write_table(config: TransferConfig, tasks: Sequence[SuiteTask], records: Mapping[Key, Record]) -> None:
    """Write the table of all results that the tasks file asks for and that are measured."""
    shown = [records[key] for task in tasks for key in keys_of(task) if key in records]
    write_results(config.out, shown, verb="transfer", model=str(config.model))
    with write_whole(config.out / TABLE) as file:
        file.write(f"# Results of {without_secrets(str(config.model))}\n\n{results_table(shown)}".encode())


def recorded(out: Path) -> list[Record]:
    """Read the records in a suite's folder; a line that a kill left unfinished is removed.

    Raises FormatError for any other line that is not a record, or was altered.
    """
    path = out / RECORDS
    if not path.exists():
        return []
    text = path.read_bytes()
    lines = whole_lines(path, text)
    os.truncate(path, text.rfind(b"\n") + 1)
    records = []
    for number, line in enumerate(lines, 1):
        source = f"{path}, line {number}"
        try:
            value = from_sealed_json(source, line)
        except ValueError as error:
            remedy = "Remove the line: its result is measured again."
            raise FormatError(source, found=f"no JSON ({error})", wanted="a record", remedy=remedy) from error
        version = value.pop("version", None) if isinstance(value, dict) else None
        check_version(version, source=source)
        records.append(of_json(value, source=source))
    return records


def settings_of(task: SuiteTask) -> dict[str, Any]:
    """Settings that a task's results depend on, without secrets, for config.json."""
    values = {name: value for name, value in asdict(task).items() if name not in RESULT_FIELDS}
    settings: dict[str, Any] = json.loads(json.dumps(public(values)))
    return settings


def changed(task: SuiteTask, stored: Mapping[str, Any], measured: Iterable[Key]) -> tuple[str, str] | None:
    """Find the first changed setting that results depend on, and return its old and its new value.

    `stored`: the settings by which the results `measured` were computed. Options of inactive methods are compared once
    the task asks for these methods again.
    """
    before, now, keys = flattened(stored), flattened(settings_of(task)), list(measured)
    for name in sorted(before.keys() | now.keys()):
        if (
            name not in LOCATION_FIELDS
            and before.get(name) != now.get(name)
            and _is_active(name, task)
            and any(_depends_on(name, key) for key in keys)
        ):
            found, wanted = (f"{name}={side[name]!r}" if name in side else f"{name} unset" for side in (before, now))
            return found, wanted
    return None


def to_record(task: SuiteTask, stored: Mapping[str, Any], measured: Sequence[Key]) -> dict[str, Any]:
    """Current settings; for options of inactive methods, the values their results were computed with."""
    before, now = flattened(stored), flattened(settings_of(task))
    settings: dict[str, Any] = {section: {} for section in SECTIONS}
    for name in dict.fromkeys([*now, *before]):
        waits = not _is_active(name, task) and any(_depends_on(name, key) for key in measured)
        side, (section, _, option) = before if waits else now, name.partition(".")
        if name in side:
            (settings[section] if option else settings)[option or section] = side[name]
    return settings


def _say_lost(out: Path, records: Mapping[Key, Record]) -> None:
    """Warn of results that the table has and records.jsonl lost; they are measured again."""
    if not (out / RESULTS).exists():
        return
    try:
        lost = sum(record.key not in records for record in read_records(out))
    except FormatError as error:
        # It is written anew after each task.
        tell(f"warning: {error}\n")
        return
    if lost:
        what = counted(lost, "result", "results")
        tell(f"warning: {out / RECORDS} lost {what} that {RESULTS} has; measuring again\n")


def _keys(task: SuiteTask, records: Iterable[Key]) -> list[Key]:
    return [key for key in records if key.task == task.name]


def _other(out: Path, found: str, wanted: str) -> MismatchError:
    remedy = "Give what it was started with, or choose another --out."
    return MismatchError(out, found=found, wanted=wanted, remedy=remedy)


def _is_active(name: str, task: SuiteTask) -> bool:
    """Tell whether any method that the task asks for now depends on a setting."""
    keys = [
        Key(task.name, method, init, 0.0, 0)
        for method in task.methods
        for init in ([NO_INIT] if method in UNTRAINED else task.inits)
    ]
    return any(_depends_on(name, key) for key in keys)


def _depends_on(name: str, key: Key) -> bool:
    """Tell whether a result depends on a setting."""
    if name == "alpha":
        return key.init == TRANSFER
    section, _, option = name.partition(".")
    if section in RUNS and option in CHANGEABLE:
        return False
    if section == "probe":
        return (key.method == "probe" and option not in KNN_OPTIONS) or (
            key.method == "knn" and option not in CLASSIFIER_OPTIONS
        )
    return all(section != other or key.method in methods for other, methods in SECTIONS.items())
