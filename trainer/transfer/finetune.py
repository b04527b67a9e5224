"""Fine-tuning, from top to bottom: a pre-trained model and a task's images in, a model of the task's classes out.

In: a `FinetuneConfig`. Out: a directory (`trainer/transfer/tuning_folder.py`) with the model and its results.
"""

from __future__ import annotations

import secrets
from typing import Any

from trainer.data.decoding import Decoding, EvalTransform
from trainer.distributed import Rank, join_processes, on_main
from trainer.pretrain import set_up_torch
from trainer.records import run_lock
from trainer.step.training import in_bfloat16
from trainer.transfer import tuning_folder
from trainer.transfer.account import Course
from trainer.transfer.batches import Plan
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.match_table import summary
from trainer.transfer.recipe import check, complete, core
from trainer.transfer.record import NOTES, Record
from trainer.transfer.start import build_tuning, start_of
from trainer.transfer.tasks.opening import Task, open_task
from trainer.transfer.tasks.subsets import subset
from trainer.transfer.tuning import Tuning
from trainer.transfer.tuning_folder import Result, write_result
from trainer.transfer.tuning_results import markdown, notes_at_start, numbers_of
from trainer.weights.pretrained import Pretrained, open_pretrained
from vocab.pages.text import counted, tell
from vocab.store.locations import refuse_unwritable


def finetune(config: FinetuneConfig) -> int:
    """Train, evaluate, and leave a directory; continue the run if `config.out` already holds it.

    0, or 128 + the number of the signal that stopped it before the last step, with a checkpoint to go on from. Raises a
    CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.device) as rank:
        status, numbers = tune(config, rank)
        if rank.is_main:
            tell(f"{_summary(config, status, numbers)}\n")
        return status


def finetune_records(config: FinetuneConfig, rank: Rank, *, task: str) -> list[Record]:
    """Fine-tune as `finetune` does, and what it came to; nothing on ranks other than the main one. All must call it.

    `task`: what the table calls it. Ends the process with the status of a signal that stopped the run.
    """
    status, numbers = tune(config, rank)
    if status:
        raise SystemExit(status)
    if numbers is None:
        return []
    shown = (
        "top1",
        "top5",
        "map_macro",
        "map_micro",
        "bad_images",
        "steps",
        "images_seen",
        "train_images",
        "correct",
        NOTES,
    )
    return [
        Record(
            task=task,
            method="finetune",
            init=config.init,
            percent=config.percent,
            seed=config.seed,
            metric=numbers["metric"],
            value=numbers["value"],
            images=numbers["images"],
            seconds=numbers["seconds"],
            extra={name: numbers[name] for name in shown if name in numbers},
        )
    ]


def tune(config: FinetuneConfig, rank: Rank) -> tuple[int, dict[str, Any] | None]:
    """As `finetune`, on a rank; the status, and what results.json says, None on other ranks than the main one."""
    check(config, world=rank.world)
    on_main(lambda: refuse_unwritable(config.out), rank)
    pretrained = open_pretrained(config.model, image_size=config.image_size)
    task = open_task(config.task)
    course = course_of(config, pretrained, task, rank)
    if rank.is_main:
        tell("".join(f"{note}\n" for note in notes_at_start(course, task)))
    set_up_torch(course.core, rank)
    # Asked before the directory is locked: nothing is written to one that is no run.
    on_main(lambda: tuning_folder.stored_config(config.out), rank)
    with run_lock.held(config.out, rank):
        return _tune(course, pretrained, task, rank)


def _tune(course: Course, pretrained: Pretrained, task: Task, rank: Rank) -> tuple[int, dict[str, Any] | None]:
    found = on_main(lambda: tuning_folder.examine(course.config, course.fingerprint, earlier=course.earlier), rank)
    several = course.train.multi_label
    start = start_of(
        course.config,
        pretrained,
        course.train,
        task.class_names,
        rank,
        viewing=course.viewing,
        resumed=found.checkpoint is not None,
    )
    if rank.is_main and start.matches:
        tell("".join(f"{line}\n" for line in summary(start.matches, alpha=course.config.alpha)))
    training = build_tuning(course.config, course.core, pretrained, start, rank, several=several)
    tuning = Tuning(course, training, start.matches, rank, nonce=on_main(lambda: secrets.token_hex(4), rank))
    with tuning.open(found):
        status = tuning.train()
        scored = tuning.evaluate() if status == 0 else None
        tuning.finish()
        if scored is None:
            return status, None
        numbers = numbers_of(tuning, scored, start, task)
        weights = training.average.state_dict()
        write_result(course.config.out, pretrained, Result(weights, task.class_names, numbers, markdown(numbers)))
        return status, numbers


def course_of(config: FinetuneConfig, pretrained: Pretrained, task: Task, rank: Rank) -> Course:
    """What the run does, its options complete. Raises InputError for a warm-up that never ends."""
    train = subset(task.train, percent=config.percent, seed=config.seed)
    plan = Plan(
        images=len(train),
        batch=config.batch,
        epochs=config.epochs,
        seed=config.seed,
        image_size=pretrained.preprocessing.image_size,
        min_crop_area=config.min_crop_area,
        flip=config.flip,
    )
    whole = complete(config, multi_label=train.multi_label, image_size=plan.image_size, steps=plan.steps)
    settings = core(whole, steps=plan.steps)
    viewing = EvalTransform(
        size=plan.image_size,
        crop=pretrained.preprocessing.crop,
        batch=config.batch // rank.world // config.accumulate,
        decoding=Decoding(
            config.workers, config.prefetch, config.task.max_pixels, take_truncated=config.task.take_truncated
        ),
        bfloat16=in_bfloat16(settings, rank),
    )
    fingerprint = on_main(lambda: tuning_folder.fingerprint_of(pretrained, train, task), rank)
    earlier = tuning_folder.earlier_fingerprint_of(pretrained, train)
    return Course(whole, settings, plan, train, task.test, viewing, fingerprint, earlier)


def _summary(config: FinetuneConfig, status: int, numbers: dict[str, Any] | None) -> str:
    if status or numbers is None:
        return "stopped; the same command continues from here"
    # A run takes hours, and its start has left the screen.
    return (
        "".join(f"{note}\n" for note in numbers["notes"])
        + f"{numbers['metric']} {numbers['value']:.2%} on {counted(numbers['images'], 'test image')}\n"
        f"{config.out / tuning_folder.MODEL} is the model, {config.out / tuning_folder.TABLE} the results"
    )
