"""A suite, from top to bottom: a model and a file of tasks in, one table of results out (`python -m trainer transfer`).

In: a `TransferConfig`. Out: the folder of `suite_folder.py`. A suite that was stopped goes on with the records that it
does not have.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import NamedTuple

import torch

from trainer.data.labelled_images import LabelledImages
from trainer.dense.annotated_images import content_of_objects
from trainer.dense.masks import open_masks
from trainer.distributed import Rank, barrier, join_processes, on_main
from trainer.records import run_lock
from trainer.records.record import NOTES, Record, score_text
from trainer.transfer import suite_folder, zero_shot
from trainer.transfer.config import TransferConfig
from trainer.transfer.detect import detect_records, open_task_of
from trainer.transfer.finetune import finetune_records
from trainer.transfer.probing import knn_records, probe_records
from trainer.transfer.segment import segment_records
from trainer.transfer.suite_plan import (
    VerbCall,
    calls_of,
    detect_config,
    finetune_config,
    mask_task,
    options,
    probe_config,
    segment_config,
    task_config,
    zero_shot_config,
)
from trainer.transfer.tasks.files import content_of
from trainer.transfer.tasks.opening import class_names_of, open_images, open_task
from trainer.transfer.tasks_file import SuiteTask, read_tasks
from trainer.weights.pretrained import open_pretrained, require_vocabulary
from vocab.errors import CatlipError, InputError
from vocab.pages.text import tell
from vocab.store.locations import refuse_unwritable
from vocab.store.secrets import without_secrets
from vocab.vocabulary import Vocabulary


def transfer(config: TransferConfig) -> None:
    """Measure a model on the tasks of a file; continue the suite if `config.out` already holds it.

    Raises a CatlipError for whatever cannot be measured; results measured by then are kept.
    """
    with join_processes(config.device) as rank:
        run_suite(config, rank)


def run_suite(config: TransferConfig, rank: Rank) -> None:
    """Measure what is not yet measured, task by task. All ranks must call it.

    Every task is opened before the first is measured. Raises InputError for a broken tasks file, a CatlipError
    that names the task for one that cannot be measured, and as `suite_folder.examine` and `check_images`; InputError if
    another suite is at work in the folder.
    """
    on_main(lambda: refuse_unwritable(config.out), rank)
    tasks, model = on_main(lambda: (read_tasks(config.tasks, options()), open_model(config)), rank)
    # Check first: no lock file is made in a folder that is not a suite's.
    on_main(lambda: suite_folder.read_config(config.out), rank)
    with run_lock.held(config.out, rank):
        _run(config, rank, tasks, model)


class SuiteModel(NamedTuple):
    """Fingerprint and classes of the model, which are needed before anything is measured."""

    fingerprint: str
    classes: Vocabulary | None


def open_model(config: TransferConfig) -> SuiteModel:
    """Open the model. Raises a CatlipError for one that cannot be used."""
    pretrained = open_pretrained(config.model)
    return SuiteModel(pretrained.fingerprint, pretrained.classes)


def check(task: SuiteTask, config: TransferConfig, rank: Rank, classes: Vocabulary | None) -> str:
    """Open a task and compute the fingerprint of its images and class names, on which its results depend.

    Raises a CatlipError for images that cannot be opened, for options that cannot work, and for zero-shot where no
    class of the task is among the model's `classes`.
    """
    if "knn" in task.methods and task.probe.get("neighbours") == 0:
        raise InputError(
            "probe.neighbours",
            found="0",
            wanted="1 or more for knn",
            remedy="Raise it, or leave knn out of the methods.",
        )
    for call in calls_of(task, frozenset()):
        match call.verb:
            case "probe":
                probe_config(call, config)
            case "finetune":
                finetune_config(call, config).check(world=rank.world)
            case "segment":
                segment_config(call, config).for_head().check(world=rank.world)
            case "detect":
                detect_config(call, config)
            case "zeroshot":
                zero_shot_config(call, config)
    if "segment" in task.methods:
        return _check_masks(task, config, classes)
    if "detect" in task.methods:
        return _check_objects(task, config, classes)
    images = task_config(task, config)
    sides: tuple[LabelledImages, ...]
    if task.train:
        opened = open_task(images)
        names, sides = opened.class_names, (opened.train, opened.test)
    else:
        alone = open_images(images.test, images)
        named = class_names_of(alone, images)
        names, sides = named.names, (alone,)
    for call in calls_of(task, frozenset()):
        if call.verb == "zeroshot" or call.init == "transfer":
            vocabulary = require_vocabulary(classes, without_secrets(str(config.model)))
        if call.verb == "zeroshot":
            zero_shot.matched(zero_shot_config(call, config), names, vocabulary, several=sides[-1].multi_label)
    return _fingerprint(names, *sides)


def _check_masks(task: SuiteTask, config: TransferConfig, classes: Vocabulary | None) -> str:
    """Open a task of masks, as `check` does."""
    if "transfer" in task.inits:
        require_vocabulary(classes, without_secrets(str(config.model)))
    # On the main rank alone, which therefore reads the masks by itself.
    data = open_masks(mask_task(task), Rank(0, 1, torch.device("cpu")))
    names = (*data.task.class_names, data.train.fingerprint, data.test.fingerprint)
    return _fingerprint(names, data.train.images, data.test.images)


def _check_objects(task: SuiteTask, config: TransferConfig, classes: Vocabulary | None) -> str:
    """Open a task of objects, as `check` does."""
    if "transfer" in task.inits:
        require_vocabulary(classes, without_secrets(str(config.model)))
    call = calls_of(task, frozenset())[0]
    data = open_task_of(replace(detect_config(call, config), percent=100.0))
    names = (*data.task.class_names, content_of_objects(data.train, data.test))
    return _fingerprint(names, data.train.images, data.test.images)


def measure(call: VerbCall, config: TransferConfig, rank: Rank) -> list[Record]:
    """Call a verb for its records, which the main rank is given. All ranks must call it."""
    match call.verb:
        case "probe":
            measured = probe_records if call.classifier else knn_records
            return measured(probe_config(call, config), rank, task=call.task.name)
        case "zeroshot":
            return zero_shot.zero_shot_records(zero_shot_config(call, config), rank, task=call.task.name)
        case "finetune":
            return finetune_records(finetune_config(call, config), rank, task=call.task.name)
        case "segment":
            return segment_records(segment_config(call, config), rank, task=call.task.name)
        case "detect":
            return detect_records(detect_config(call, config), rank, task=call.task.name)


def _run(config: TransferConfig, rank: Rank, tasks: Sequence[SuiteTask], model: SuiteModel) -> None:
    if rank.is_main:
        tell("".join(f"{_waiting(task)}\n" for task in tasks if task.waiting))
    measured = on_main(lambda: suite_folder.examine(config, tasks, model.fingerprint), rank)
    calls = {task.name: calls_of(task, measured.records.keys()) for task in tasks}
    images = on_main(lambda: _checked(config, rank, tasks, model), rank)
    on_main(lambda: suite_folder.check_images(config.out, images, measured), rank)
    if rank.is_main:
        suite_folder.begin(config, tasks, model.fingerprint, images, measured)
        suite_folder.drop_checkpoints(config.out, measured.records)
    records = dict(measured.records)
    for task in tasks:
        for call in calls[task.name]:
            with _named(task):
                found = measure(call, config, rank)
            barrier(rank)  # no rank reads a checkpoint any more
            if rank.is_main:
                kept = _kept(call, found)
                suite_folder.append(config.out, kept)
                suite_folder.drop_checkpoints(config.out, call.wanted)
                records |= {record.key: record for record in kept}
        if rank.is_main:
            suite_folder.write_table(config, tasks, records)
    if rank.is_main:
        tell(f"{config.out / suite_folder.TABLE} is the table\n")


def _waiting(task: SuiteTask) -> str:
    """Warning on options whose method is not asked for, which may have been forgotten."""
    tables = ", ".join(f"[task.{section}]" for section in task.waiting)
    return f"task {task.name!r}: {tables} not used: the methods are {', '.join(task.methods)}"


def _checked(config: TransferConfig, rank: Rank, tasks: Sequence[SuiteTask], model: SuiteModel) -> dict[str, str]:
    """Open every task and compute its fingerprint: an error in the last task shows before the first is measured."""
    fingerprints = {}
    for task in tasks:
        with _named(task):
            fingerprints[task.name] = check(task, config, rank, model.classes)
    return fingerprints


def _kept(call: VerbCall, found: Sequence[Record]) -> list[Record]:
    """Pick the records that a call was made for, one each."""
    by_key = {record.key: record for record in found}
    missing = [key for key in call.wanted if key not in by_key]
    assert not missing, f"{call.verb} did not measure {missing}"
    kept = [_noted(by_key[key]) for key in call.wanted]
    for record in kept:
        tell(
            f"{record.task}: {record.method}, {record.init} init, {record.percent:g} %, seed {record.seed}: "
            f"{record.metric} {score_text(record.metric, record.value)}\n"
        )
    return kept


def _noted(record: Record) -> Record:
    """Rename the options in a record's notes to those of a suite."""
    if NOTES not in record.extra:
        return record
    return replace(record, extra={**record.extra, NOTES: list(map(_as_in_suite, record.extra[NOTES]))})


@contextmanager
def _named(task: SuiteTask) -> Iterator[None]:
    """Add the task to errors, and rename the options in them to those of the tasks file."""
    try:
        yield
    except CatlipError as error:
        thing, remedy = _as_in_suite(error.thing), _as_in_suite(error.remedy)
        raise type(error)(
            f"task {task.name!r}: {thing}", found=error.found, wanted=error.wanted, remedy=remedy
        ) from error


def _as_in_suite(text: str) -> str:
    """Rename options of single verbs: --task.cache-gb is --cache-gb, --task.max-bad-share the field
    max_bad_share of the task in the tasks file.
    """
    own = {field.name for field in fields(TransferConfig)}

    def name(match: re.Match[str]) -> str:
        option = match[1].replace("-", "_")
        return f"--{match[1]}" if option in own else f"the task's {option}"

    return re.sub(r"--task\.([a-z-]*[a-z])", name, text)


def _fingerprint(class_names: Sequence[str], *sides: LabelledImages) -> str:
    """Two sha256: of the class names and each side's content, wherever it lies; and of the names and of each side's
    files in their places, which of them are taken, and the classes they show.
    """
    content = hashlib.sha256(json.dumps([class_names, content_of(*sides)]).encode())
    digest = hashlib.sha256(json.dumps([class_names, *(side.labels for side in sides)]).encode())
    for side in sides:
        digest.update(side.fingerprint.encode())
        for numbers in (side.rows, side.offsets, side.classes):
            digest.update(numbers.astype("<i8").tobytes())
    return f"{content.hexdigest()} {digest.hexdigest()}"
