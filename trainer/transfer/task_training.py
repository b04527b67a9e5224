"""Training on a task: the parts that the stories of fine-tuning, segmentation and detection share.

In: a verb's configuration, what it opened, and its results. Out: a `Job` for `trainer/run.py`; the outcome of its run.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from trainer.data.batch import Batch
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.resolution import FixedResolution
from trainer.distributed import Rank, join_processes, on_main
from trainer.job import Job
from trainer.records.record import Record
from trainer.records.run_directory import ResumePoint, RunKind, find_resume_point
from trainer.run import Run, stopped
from trainer.speed.peak import peaks_of
from trainer.step.step import Step
from trainer.transfer.class_tables import match_summary
from trainer.transfer.task_results import TaskInputs, TaskResults, TaskRunConfig
from trainer.transfer.transfer_init import ClassMatch, match_classes
from vocab.errors import MismatchError
from vocab.pages.text import tell
from vocab.store.secrets import without_secrets

Config = TypeVar("Config", bound=TaskRunConfig)


@dataclass(frozen=True)
class TaskOutcome:
    """Outcome of a run on a task."""

    status: int
    """0, or 128 + the number of the signal that stopped the run"""
    record: Record | None
    """result; None for a stopped run, and on ranks other than the main one"""
    summary: str

    def records(self, task: str) -> list[Record]:
        """Return the result under the name of a suite's task; nothing on ranks other than the main one.

        Ends the process with the status of a signal that stopped the run.
        """
        if self.status:
            raise SystemExit(self.status)
        return [replace(self.record, task=task)] if self.record is not None else []


def carry_out(config: Config, train: Callable[[Config, Rank], TaskOutcome]) -> int:
    """Join the processes, train on each, and tell the summary.

    Return 0, or 128 + the number of the signal that stopped the run before the last step.
    """
    with join_processes(config.device) as rank:
        outcome = train(config, rank)
        if rank.is_main and outcome.summary:
            tell(f"{outcome.summary}\n")
        return outcome.status


def fingerprint_of(inputs: TaskInputs, *contents: str) -> str:
    """Take the sha256 of what a run learns from, wherever it lies: first weights, contents, and names of classes."""
    known = [inputs.pretrained.fingerprint, *contents, *inputs.task.class_names]
    return hashlib.sha256("\0".join(known).encode()).hexdigest()


def find_start(
    config: TaskRunConfig, fingerprint: str, *, kind: RunKind, changeable: Collection[str], contents: str
) -> ResumePoint:
    """Find where an earlier start left off. Writes nothing.

    `contents`: of what a side of the task consists. Raises as `find_resume_point`, and MismatchError for a checkpoint
    of another fingerprint.
    """
    resume = find_resume_point(config.out, config, kind, changeable=changeable)
    if resume.checkpoint is not None and resume.checkpoint.fingerprint != fingerprint:
        raise MismatchError(
            resume.checkpoint.path,
            found=f"a checkpoint of other weights to begin with, other {contents} or names of classes",
            wanted=f"those of {config.model}, {without_secrets(config.task.train)} and "
            f"{without_secrets(config.task.test)} as they are now",
            remedy="Put them back as they were when the run was started, or choose another --out.",
        )
    return resume


def matches_of(config: TaskRunConfig, inputs: TaskInputs, rank: Rank) -> list[ClassMatch]:
    """Match each class with the pre-training's synsets for Transfer Init, and tell a summary; none for random init."""
    if config.init != "transfer":
        return []
    matches = match_classes(inputs.task.class_names, inputs.pretrained.vocabulary, alpha=config.alpha)
    if rank.is_main:
        tell("".join(f"{line}\n" for line in match_summary(matches, alpha=config.alpha)))
    return matches


def images_at_once(config: TaskRunConfig, rank: Rank) -> int:
    """Count the images that a process computes at a time; the batch must be set."""
    assert config.batch is not None
    return max(1, config.batch // rank.world // config.accumulate)


def eval_transform(config: TaskRunConfig, rank: Rank, *, size: int, crop: float = 1.0) -> EvalTransform:
    """Decide how test images are shown, how many at a time, and in which number format."""
    return EvalTransform(
        size=size,
        crop=crop,
        batch=images_at_once(config, rank),
        decoding=Decoding(
            config.workers, config.prefetch, config.task.max_pixels, take_truncated=config.task.take_truncated
        ),
        bfloat16=config.is_bfloat16(rank.device.type),
    )


def batches_taken(resume: ResumePoint) -> int:
    """Count the batches that a run has taken: more than steps, where it went back to a checkpoint."""
    return resume.state["data"]["batches"] if resume.state else 0


def job_of(
    results: TaskResults[Any, Any, Any],
    step: Step,
    batches: Generator[Batch, None, None],
    *,
    operations: Callable[[Batch], int],
    fingerprint: str,
) -> Job:
    """Make the job of a run: everything but batches, work and fingerprint follows from its results."""
    config, plan, images = results.config, results.inputs.plan, results.inputs.train_images
    return Job(
        verb=results.VERB,
        config=config,
        out=config.out,
        optim=step.optim,
        keeping=config,
        fingerprint=fingerprint,
        copied=("config.json",),
        batches=contextlib.closing(batches),
        resolution=FixedResolution(plan.image_size, plan.batch),
        operations=lambda number, batch: operations(batch),
        peaks=peaks_of(config.peak_tflops, step.rank.device, bfloat16=step.bfloat16),
        data_state=lambda positions: {"batches": positions[0].step},
        sample_names=lambda _, numbers: [images.names[number] for number in numbers.tolist()],
        account=results.ACCOUNT,
        check_account=results.check_training,
        line=lambda number: {"epoch": plan.epochs_seen(number)},
        write_start=results.write_start,
        evaluation_due=results.is_due,
        evaluate=results.evaluate,
        show=results.show,
    )


def train_and_write(job: Job, step: Step, resume: ResumePoint, results: TaskResults[Any, Any, Any]) -> TaskOutcome:
    """Run a job from where it stands to its end, and write its results. All ranks must call it."""
    run = Run(job, step, step.rank, nonce=on_main(lambda: secrets.token_hex(4), step.rank))
    with run.open(resume):
        status = run.train()
        if status:
            return TaskOutcome(status, None, stopped(run))
        evaluated, weights = run.evaluate(), run.last_average()
        if evaluated is None or weights is None:
            return TaskOutcome(status, None, "")
        return TaskOutcome(status, *results.write(weights, evaluated, run.progress))
