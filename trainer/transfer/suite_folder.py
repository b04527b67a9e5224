"""The folder of a suite: what it holds, and whether this suite may go on there.

    config.json                  the options, the tasks as they were measured, fingerprints of the model and of images
    run.lock                     while a suite is at work
    records.jsonl                a line for each record, on the disk as soon as it was measured
    results.json  results.md     the table, whole after each task
    finetune/TASK-INIT-SHARE-SEED/    what python -m trainer finetune leaves; without checkpoints once it is measured

A line of records.jsonl: {"version": 2, "task": "imagenet", "method": "probe", ..., "own_sha256": "..."}, with the
fields that records have in results.json.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoints.checkpoint import FOLDER
from trainer.checkpoints.disk import flush
from trainer.records.run_lock import entries
from trainer.transfer.config import TransferConfig
from trainer.transfer.record import (
    RESULTS,
    VERSION,
    Key,
    Record,
    as_json,
    check_version,
    of_json,
    read_records,
    write_results,
)
from trainer.transfer.report import results_table
from trainer.transfer.suite_plan import finetune_folder, keys_of
from trainer.transfer.suite_settings import changed, to_record
from trainer.transfer.tasks_file import SuiteTask
from vocab.errors import FormatError, MismatchError, OutputExistsError
from vocab.pages.text import counted, tell
from vocab.store.files import named, write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json, whole_lines
from vocab.store.secrets import public

CONFIG, RECORDS, TABLE = "config.json", "records.jsonl", "results.md"
FORMAT = "catlip-transfer-suite"


@dataclass(frozen=True)
class EarlierResults:
    """What an earlier start left."""

    records: dict[Key, Record]
    tasks: Mapping[str, Mapping[str, Any]]
    """settings of each task by its name"""
    images: Mapping[str, str]
    """fingerprint of each task's images and classes"""


def examine(config: TransferConfig, tasks: Sequence[SuiteTask], fingerprint: str) -> EarlierResults:
    """What there is to go on from; nothing in a new folder.

    A line that a kill left unfinished is taken away. Raises OutputExistsError if `out` holds something else,
    MismatchError if it holds results of another model, precision or settings of a task, FormatError for broken files.
    """
    out = config.out
    stored = check_place(out)
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
    # A folder without them, of an earlier release, has results of nobody knows which images: `check_images` refuses it.
    return EarlierResults(records, stored["tasks"], stored.get("images", {}))


def check_place(out: Path) -> dict[str, Any] | None:
    """What config.json says; None in a new folder. Raises OutputExistsError for something that is no suite's."""
    if not out.exists() or (out.is_dir() and not entries(out)):
        return None
    return _stored(out)


def check_images(out: Path, images: Mapping[str, str], measured: EarlierResults) -> None:
    """Raise MismatchError for a task with records whose images or classes are other ones now than when it was measured.

    `images`: their fingerprints, by task.
    """
    for name in dict.fromkeys(record.task for record in measured.records.values()):
        # Two fingerprints each, by content and by the files in their places, which alone earlier releases had.
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
    """Make the folder and write down what is to be measured. Tasks that were measured and are no longer asked for stay
    in it, with their records.
    """
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
    """Remove the checkpoints of fine-tunings whose records are on the disk: nothing goes on from them. Each takes
    several times what the model does, which stays.

    To be called with earlier starts' records too: one may have been killed before it came to this.
    """
    for key in keys:
        folder = finetune_folder(out, key) / FOLDER
        if key.method == "finetune" and folder.exists():
            shutil.rmtree(folder)


def append(out: Path, records: Iterable[Record]) -> None:
    """Add records; they are on the disk when it returns."""
    lines = "".join(to_sealed_json({"version": VERSION, **as_json(record)}) for record in records)
    with named(out / RECORDS), (out / RECORDS).open("ab") as file:
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def write_table(config: TransferConfig, tasks: Sequence[SuiteTask], records: Mapping[Key, Record]) -> None:
    """The table of what the tasks file asks for, as far as it is measured."""
    shown = [records[key] for task in tasks for key in keys_of(task) if key in records]
    write_results(config.out, shown, verb="transfer", model=str(config.model))
    with write_whole(config.out / TABLE) as file:
        file.write(f"# Results of {config.model}\n\n{results_table(shown)}".encode())


def recorded(out: Path) -> list[Record]:
    """The records in a suite's folder; a line that a kill left unfinished is taken away.

    Raises FormatError for any other line that is no record, or was altered.
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
            remedy = "Remove the line: what it is of is measured again."
            raise FormatError(source, found=f"no JSON ({error})", wanted="a record", remedy=remedy) from error
        version = value.pop("version", None) if isinstance(value, dict) else None
        check_version(version, source=source)
        records.append(of_json(value, source=source))
    return records


def _say_lost(out: Path, records: Mapping[Key, Record]) -> None:
    """Tell stderr of results that the table has and records.jsonl lost; they are measured again."""
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


def _stored(out: Path) -> dict[str, Any]:
    try:
        stored = from_sealed_json(out / CONFIG, (out / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise _occupied(out, f"no readable {CONFIG}") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise _occupied(out, f"a {CONFIG} of something else")
    check_version(stored.get("version"), source=out / CONFIG)
    return stored


def _keys(task: SuiteTask, records: Iterable[Key]) -> list[Key]:
    """Those of the task."""
    return [key for key in records if key.task == task.name]


def _other(out: Path, found: str, wanted: str) -> MismatchError:
    remedy = "Give what it was started with, or choose another --out."
    return MismatchError(out, found=found, wanted=wanted, remedy=remedy)


def _occupied(out: Path, found: str) -> OutputExistsError:
    return OutputExistsError(
        out,
        found="a file" if out.is_file() else f"{counted(len(entries(out)), 'entry', 'entries')} and {found}",
        wanted="an empty or new folder, or one of a suite to go on with",
        remedy="Choose another --out, or remove this one.",
    )
