"""The folder of a suite: what it holds, and whether this suite may go on there.

    config.json                  the options, the tasks as they were measured, fingerprints of the model and of images
    run.lock                     while a suite is at work
    records.jsonl                a line for each record, on the disk as soon as it was measured
    results.json  results.md     the table, whole after each task
    finetune/TASK-INIT-SHARE-SEED/    what python -m trainer finetune leaves; without checkpoints once it is measured

A line of records.jsonl: {"version": 1, "task": "imagenet", "method": "probe", ...}, as results.json has records.
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
from trainer.checkpoints.disk import flush
from trainer.records.run_lock import entries
from trainer.records.secrets import public
from trainer.transfer.config import TransferConfig
from trainer.transfer.records import VERSION, Key, Record, as_json, check_version, of_json
from trainer.transfer.results_table import TRANSFER, results_json, results_table
from trainer.transfer.suite_plan import keys_of
from trainer.transfer.tasks_file import SECTIONS, SuiteTask
from vocab.errors import FormatError, MismatchError, OutputExistsError
from vocab.storage import write_whole

CONFIG, RECORDS, RESULTS, TABLE, FINETUNE = "config.json", "records.jsonl", "results.json", "results.md", "finetune"
FORMAT = "catlip-transfer-suite"
# What may be asked for anew of a task that was measured: more of the same, or less.
GRID = frozenset("name methods percents seeds inits".split())


@dataclass(frozen=True)
class Measured:
    """What an earlier start left."""

    records: dict[Key, Record]
    tasks: Mapping[str, Mapping[str, Any]]
    """settings of each task by its name"""
    images: Mapping[str, str]
    """fingerprint of each task's images and classes"""


def settings_of(task: SuiteTask) -> dict[str, Any]:
    """What a task's results depend on, without secrets, as config.json has it."""
    values = {name: value for name, value in asdict(task).items() if name not in GRID}
    settings: dict[str, Any] = json.loads(json.dumps(public(values)))
    return settings


def examine(config: TransferConfig, tasks: Sequence[SuiteTask], fingerprint: str) -> Measured:
    """What there is to go on from; nothing in a new folder.

    A line that a kill left unfinished is taken away. Raises OutputExistsError if `out` holds something else,
    MismatchError if it holds results of another model, precision or settings of a task, FormatError for broken files.
    """
    out = config.out
    stored = check_place(out)
    if stored is None:
        return Measured({}, {}, {})
    now = {"fingerprint": fingerprint, "precision": config.precision}
    for name, value in now.items():
        if stored[name] != value:
            model = f", measured of {stored['model']}" if name == "fingerprint" else ""
            raise _other(out, f"results of {name} {stored[name]}{model}", f"{name} {value}")
    records = {record.key: record for record in _read(out / RECORDS)}
    for task in tasks:
        if task.name in stored["tasks"]:
            own = [record for record in records.values() if record.task == task.name]
            _check_settings(out, task, stored["tasks"][task.name], own)
    # A folder without them, of an earlier release, has results of nobody knows which images: `check_images` refuses it.
    return Measured(records, stored["tasks"], stored.get("images", {}))


def check_place(out: Path) -> dict[str, Any] | None:
    """What config.json says; None in a new folder. Raises OutputExistsError for something that is no suite's."""
    if not out.exists() or (out.is_dir() and not entries(out)):
        return None
    return _stored(out)


def check_images(out: Path, images: Mapping[str, str], measured: Measured) -> None:
    """Raise MismatchError for a task with records whose images or classes are other ones now than when it was measured.

    `images`: their fingerprints, by task.
    """
    for name in dict.fromkeys(record.task for record in measured.records.values()):
        if name in images and images[name] != measured.images.get(name):
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
    measured: Measured,
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
        "tasks": {**measured.tasks, **{task.name: settings_of(task) for task in tasks}},
        "images": {**measured.images, **images},
    }
    with write_whole(config.out / CONFIG) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    (config.out / RECORDS).touch()
    flush(config.out)


def finetune_folder(out: Path, key: Key) -> Path:
    """Where a fine-tuning leaves what it makes."""
    return out / FINETUNE / f"{key.task}-{key.init}-{key.percent:g}-{key.seed}"


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
    lines = "".join(json.dumps({"version": VERSION, **as_json(record)}) + "\n" for record in records)
    with (out / RECORDS).open("ab") as file:
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def write_results(config: TransferConfig, tasks: Sequence[SuiteTask], records: Mapping[Key, Record]) -> None:
    """The table of what the tasks file asks for, as far as it is measured."""
    shown = [records[key] for task in tasks for key in keys_of(task) if key in records]
    content = results_json(shown, model=str(config.model))
    page = f"# Results of {config.model}\n\n{results_table(shown)}"
    for name, text in [(RESULTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n"), (TABLE, page)]:
        with write_whole(config.out / name) as file:
            file.write(text.encode())


def _read(path: Path) -> list[Record]:
    """All whole lines of records.jsonl."""
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(path, len(whole))
    records = []
    for number, line in enumerate(whole.splitlines(), 1):
        source = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except ValueError as error:
            remedy = "Remove the line: what it is of is measured again."
            raise FormatError(source, found=f"no JSON ({error})", wanted="a record", remedy=remedy) from error
        version = value.pop("version", None) if isinstance(value, dict) else None
        check_version(version, source=source)
        records.append(of_json(value, source=source))
    return records


def _stored(out: Path) -> dict[str, Any]:
    try:
        stored = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _occupied(out, f"no readable {CONFIG}") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise _occupied(out, f"a {CONFIG} of something else")
    check_version(stored.get("version"), source=out / CONFIG)
    return stored


def _check_settings(out: Path, task: SuiteTask, stored: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Raise MismatchError if any of the records depends on a setting that is another one now."""
    before, now = _flat(stored), _flat(settings_of(task))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name) and any(_bears(name, record) for record in records):
            found = f"results of {task.name!r} with {name}={before.get(name, 'unset')!r}"
            raise _other(out, found, f"{name}={now.get(name, 'unset')!r}")


def _bears(name: str, record: Record) -> bool:
    """Whether a setting has a part in a record."""
    if name == "alpha":
        return record.init == TRANSFER
    section = name.partition(".")[0]
    return all(section != other or record.method in methods for other, methods in SECTIONS.items())


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options as section.option; one that is left out is another setting than one with a value."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{inside}": value[inside] for inside in value} if isinstance(value, dict) else {name: value}
    return flat


def _other(out: Path, found: str, wanted: str) -> MismatchError:
    remedy = "Give what it was started with, or choose another --out."
    return MismatchError(out, found=found, wanted=wanted, remedy=remedy)


def _occupied(out: Path, found: str) -> OutputExistsError:
    return OutputExistsError(
        out,
        found="a file" if out.is_file() else f"{len(entries(out))} entries and {found}",
        wanted="an empty or new folder, or one of a suite to go on with",
        remedy="Choose another --out, or remove this one.",
    )
