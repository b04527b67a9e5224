"""A suite, from top to bottom: a model and a file of tasks in, one table of results out.

In: a `TransferConfig`. Out: the folder of `suite_folder.py`. A suite that was stopped goes on with the records that it
does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from trainer.distributed import Rank, barrier, on_main
from trainer.records import run_lock
from trainer.transfer import suite_folder
from trainer.transfer.config import TransferConfig
from trainer.transfer.record import NOTES, Record
from trainer.transfer.suite_plan import Part, parts_of
from trainer.transfer.tasks_file import SectionFields, SuiteTask, read_tasks
from vocab.errors import CatlipError
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable


@dataclass(frozen=True)
class Verbs:
    """What carries out a suite; `methods.py` has the verbs of the trainer."""

    options: SectionFields
    """what a task's tables of options may hold"""
    fingerprint: Callable[[], str]
    """of the model. Raises a CatlipError for one that cannot be used"""
    check: Callable[[SuiteTask, Rank], str]
    """a fingerprint of a task's images and classes. Raises a CatlipError for a task that cannot be measured"""
    run: Callable[[Part, Rank], list[Record]]
    """measures; all ranks call it, and the main one is given records"""


def run_suite(config: TransferConfig, rank: Rank, verbs: Verbs) -> None:
    """Measure what is not yet measured, task by task. All ranks must call it.

    Every task is opened before the first is measured. Raises InputError for a tasks file that is not as it must be, a
    CatlipError that names the task for one that cannot be measured, and as `suite_folder.examine` and
    `check_images`; InputError if another suite is at work in the folder.
    """
    on_main(lambda: refuse_unwritable(config.out), rank)
    tasks, fingerprint = on_main(lambda: (read_tasks(config.tasks, verbs.options), verbs.fingerprint()), rank)
    # Asked before the folder is locked: nothing is written to one that is no suite's.
    on_main(lambda: suite_folder.check_place(config.out), rank)
    with run_lock.held(config.out, rank):
        _run(config, rank, verbs, tasks, fingerprint)


def _run(config: TransferConfig, rank: Rank, verbs: Verbs, tasks: Sequence[SuiteTask], fingerprint: str) -> None:
    if rank.is_main:
        tell("".join(f"{_waiting(task)}\n" for task in tasks if task.waiting))
    measured = on_main(lambda: suite_folder.examine(config, tasks, fingerprint), rank)
    parts = {task.name: parts_of(task, measured.records.keys()) for task in tasks}
    images = on_main(lambda: _checked(tasks, verbs, rank), rank)
    on_main(lambda: suite_folder.check_images(config.out, images, measured), rank)
    if rank.is_main:
        suite_folder.begin(config, tasks, fingerprint, images, measured)
        suite_folder.drop_checkpoints(config.out, measured.records)
    records = dict(measured.records)
    for task in tasks:
        for part in parts[task.name]:
            with _named(task):
                found = verbs.run(part, rank)
            barrier(rank)  # no rank waits for a checkpoint any more
            if rank.is_main:
                kept = _kept(part, found)
                suite_folder.append(config.out, kept)
                suite_folder.drop_checkpoints(config.out, part.wanted)
                records |= {record.key: record for record in kept}
        if rank.is_main:
            suite_folder.write_table(config, tasks, records)
    if rank.is_main:
        tell(f"{config.out / suite_folder.TABLE} is the table\n")


def _waiting(task: SuiteTask) -> str:
    """Options may wait for their method; whoever forgot to ask for it should hear of it."""
    tables = ", ".join(f"[task.{section}]" for section in task.waiting)
    return f"task {task.name!r}: {tables} not used: the methods are {', '.join(task.methods)}"


def _checked(tasks: Sequence[SuiteTask], verbs: Verbs, rank: Rank) -> dict[str, str]:
    """The fingerprint of each task's images: an error in the last task should not wait for the first to be measured."""
    fingerprints = {}
    for task in tasks:
        with _named(task):
            fingerprints[task.name] = verbs.check(task, rank)
    return fingerprints


def _kept(part: Part, found: Sequence[Record]) -> list[Record]:
    """The records that a part is called for, one each."""
    by_key = {record.key: record for record in found}
    missing = [key for key in part.wanted if key not in by_key]
    assert not missing, f"{part.verb} did not measure {missing}"
    kept = [_noted(by_key[key]) for key in part.wanted]
    for record in kept:
        tell(
            f"{record.task}: {record.method}, {record.init} init, {record.percent:g} %, seed {record.seed}: "
            f"{record.metric} {record.value:.2%}\n"
        )
    return kept


def _noted(record: Record) -> Record:
    """The record, its notes with options as a suite has them."""
    if NOTES not in record.extra:
        return record
    return replace(record, extra={**record.extra, NOTES: list(map(_as_in_suite, record.extra[NOTES]))})


@contextmanager
def _named(task: SuiteTask) -> Iterator[None]:
    """Errors say of which task they are, and name its options as whoever wrote the tasks file knows them."""
    try:
        yield
    except CatlipError as error:
        thing, remedy = _as_in_suite(error.thing), _as_in_suite(error.remedy)
        raise type(error)(
            f"task {task.name!r}: {thing}", found=error.found, wanted=error.wanted, remedy=remedy
        ) from error


def _as_in_suite(text: str) -> str:
    """SectionFields of single verbs as a suite has them: --task.cache-gb is --cache-gb, --task.max-bad-share the field
    max_bad_share of the task in the tasks file.
    """
    own = {field.name for field in fields(TransferConfig)}

    def name(match: re.Match[str]) -> str:
        option = match[1].replace("-", "_")
        return f"--{match[1]}" if option in own else f"the task's {option}"

    return re.sub(r"--task\.([a-z-]*[a-z])", name, text)
