"""Worth of the run on tasks: each verb of `trainer/transfer/` on the benchmark's two tasks.

In: a run directory and `TaskTars`. Out: records, for one results table.

    probe, knn    both tasks; every share, both inits, every seed
    finetune      seen classes; the same
    zeroshot      both tasks, no training: by a class's own synset, or of unseen classes by near ones

The unseen classes have no row of their own in the pre-trained classifier, as `require_unseen` has seen to: what they
are given comes from neighbours in WordNet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.measuring.setting import say
from benchmarks.transfer_study.corpus import TaskTars
from trainer.distributed import Rank
from trainer.records.record import Record
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TaskConfig, ZeroShotConfig
from trainer.transfer.finetune import finetune_records
from trainer.transfer.probing import probe_records
from trainer.transfer.zero_shot import zero_shot_records

Init = Literal["random", "transfer"]
INITS: tuple[Init, ...] = ("random", "transfer")
# Least path similarity of the synset whose row a class takes. A seen class has its own, or else one a step away;
# of an unseen one nothing is so near: two steps lead to what has the same hypernym (0.33), three one further (0.25).
ALPHA = {"seen": 0.5, "unseen": 0.25}


@dataclass(frozen=True)
class Shares:
    """Shares, seeds and settings of the trainings on the tasks."""

    percents: tuple[float, ...]
    seeds: tuple[int, ...]
    finetune_epochs: tuple[int, ...]
    """for each share: more where there are fewer images, or no step is learnt from"""
    finetune_batch: int
    finetune_rate: float
    """peak; the paper's is for a model that has seen billions of images"""


def device_of(rank: Rank) -> Literal["cpu", "cuda"]:
    """Name the device of a rank, for the verbs' options."""
    return "cuda" if rank.device.type == "cuda" else "cpu"


def task_config(task: TaskTars, cache: Path) -> TaskConfig:
    """Make the options that name a task."""
    return TaskConfig(
        train=str(task.train), test=str(task.test), kind="tars", class_names=task.class_names, cache=cache
    )


def records_of(
    run: Path, tasks: tuple[TaskTars, ...], shares: Shares, rank: Rank, *, out: Path, finetune: bool
) -> Iterator[list[Record]]:
    """Records of one verb after the other, so that what is done can be shown.

    `out`: a new folder for their results. `finetune`: the first task is fine-tuned on as well.
    """
    for task in tasks:
        say(f"zero-shot on {task.name} classes")
        yield zero_shot(run, task, rank, out=out)
        say(f"probe on {task.name} classes")
        yield probed(run, task, shares, rank, out=out)
    for init in INITS if finetune else ():
        for percent in shares.percents:
            for seed in shares.seeds:
                say(f"fine-tuning on {percent:g} % of the {tasks[0].name} classes' images, {init} init, seed {seed}")
                yield finetuned(run, tasks[0], shares, rank, init=init, percent=percent, seed=seed, out=out)


def probed(run: Path, task: TaskTars, shares: Shares, rank: Rank, *, out: Path) -> list[Record]:
    """Linear probe and nearest neighbours, all shares and seeds, both inits."""
    found: list[Record] = []
    for init in INITS:
        config = ProbeConfig(
            model=run,
            task=task_config(task, out / "cache"),
            out=out / f"probe-{task.name}-{init}",
            init=init,
            percent=shares.percents,
            seeds=shares.seeds,
            alpha=ALPHA[task.name],
            # Nothing of them depends on how a classifier begins: once is enough.
            neighbours=20 if init == "random" else 0,
            device=device_of(rank),
        )
        found += probe_records(config, rank, task=task.name)
    return found


def zero_shot(run: Path, task: TaskTars, rank: Rank, *, out: Path) -> list[Record]:
    """By each class's own synset; of unseen classes, which have none, by those near it."""
    config = ZeroShotConfig(
        model=run,
        task=task_config(task, out / "cache"),
        out=out / f"zeroshot-{task.name}",
        alpha=1.0 if task.name == "seen" else ALPHA[task.name],
        device=device_of(rank),
    )
    return zero_shot_records(config, rank, task=task.name)


def finetuned(
    run: Path, task: TaskTars, shares: Shares, rank: Rank, *, init: Init, percent: float, seed: int, out: Path
) -> list[Record]:
    """One fine-tuning."""
    config = FinetuneConfig(
        model=run,
        task=task_config(task, out / "cache"),
        out=out / f"finetune-{task.name}-{init}-{percent:g}-{seed}",
        init=init,
        alpha=ALPHA[task.name],
        percent=percent,
        seed=seed,
        epochs=shares.finetune_epochs[shares.percents.index(percent)],
        batch=shares.finetune_batch,
        peak_lr=shares.finetune_rate,
        min_crop_area=0.35,
        device=device_of(rank),
        workers=1,
        eval_every=0,
        checkpoint_every=1_000_000,
    )
    return finetune_records(config, rank, task=task.name)
