"""Results of a run on a task, whatever it learns: a page at each evaluation, the model and its record at the end.

In: a verb's score of the test images. Out: numbers in the log, page.html and classes.csv; at the end the model's files
of the verb, results.json and results.md.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.feed import BAD_SHARE_FROM
from trainer.data.labelled_images import LabelledImages
from trainer.dense.pictures import Prediction
from trainer.distributed import Rank
from trainer.job import Evaluated
from trainer.model.objective import StepObjective
from trainer.records.classes import ClassScores
from trainer.records.gallery import GalleryImage
from trainer.records.journal import RunProgress
from trainer.records.ledger import read_bad_samples
from trainer.records.log import SCORE
from trainer.records.page import finetune_page, write_page
from trainer.records.record import CORRECT, NOTES, Record, named_bad, score_text, write_results
from trainer.step.training import Training
from trainer.transfer.batches import EpochPlan
from trainer.transfer.class_tables import STEM, no_match_note, write_matches
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.tasks.opening import TaskData
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import new_folder
from trainer.weights.pretrained import Pretrained
from vocab.errors import InputError
from vocab.pages.tables import Markdown, markdown_list, markdown_table
from vocab.pages.text import counted
from vocab.store.files import write_whole
from vocab.store.secrets import without_secrets

TABLE = "results.md"
FEW_STEPS = 100
"""steps below which a run hardly learns: the recipe's learning rates are made for thousands"""

TaskRunConfig = FinetuneConfig | SegmentConfig | DetectConfig


class TaskInputs(Protocol):
    """All that a run on a task starts from."""

    @property
    def pretrained(self) -> Pretrained: ...
    @property
    def plan(self) -> EpochPlan: ...
    @property
    def task(self) -> TaskData:
        """Images of both sides, and names of their classes."""

    @property
    def train_images(self) -> LabelledImages:
        """Training images of the run, which may be a share of the task's."""


@dataclass(frozen=True)
class TaskScore:
    """Score of the test images, as a record has it."""

    metric: str
    value: float | None
    """None where no test image can be scored"""
    images: int
    """test images that were scored"""
    numbers: Mapping[str, float | int | None]
    """all measures by name"""
    skipped: Sequence[Skipped]
    """test images that did not decode"""


Config = TypeVar("Config", bound=TaskRunConfig)
Inputs = TypeVar("Inputs", bound=TaskInputs)
Learnt = TypeVar("Learnt", bound=StepObjective)


@dataclass(frozen=True, eq=False)
class TaskResults(ABC, Generic[Config, Inputs, Learnt]):
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    VERB: ClassVar[Literal["finetune", "segment", "detect"]]
    TITLE: ClassVar[str]
    LEARNT: ClassVar[str]
    """participle of what the run did"""
    ACCOUNT: ClassVar[Mapping[str, str]] = {"bad_samples": "bad"}
    """counts of samples in the log: name there -> name in `Batch.account`"""

    config: Config
    """complete options"""
    rank: Rank
    inputs: Inputs
    matches: list[ClassMatch]
    """matches of each class, for Transfer Init"""
    training: Training[Learnt]

    @abstractmethod
    def evaluate(self, step: int) -> Evaluated | None:
        """Score the weights as they are on the test images; None on ranks other than the main one."""

    @abstractmethod
    def score_of(self, result: Any) -> TaskScore:
        """Reduce an evaluation to its score."""

    @abstractmethod
    def classes_of(self, result: Any) -> ClassScores:
        """Score each class."""

    @abstractmethod
    def notes_at_start(self) -> list[str]:
        """Write notes that can be given before the first step."""

    @abstractmethod
    def own_details(self, result: Any) -> dict[str, Any]:
        """Make the facts of results.json that only this verb has."""

    @abstractmethod
    def write_model(self, weights: Mapping[str, Tensor], result: Any) -> str:
        """Write the averaged weights and what else the verb leaves; return a sentence that names the files."""

    def pictures(self, result: Any) -> list[Prediction]:
        """Show some test images with their predictions."""
        return []

    def own_extra(self, result: Any) -> dict[str, Any]:
        """Facts of the record that only this verb has, before those of every run."""
        return {}

    def own_notes(self, result: Any) -> list[str]:
        """Write notes on an evaluation."""
        return []

    def summary(self, result: Any) -> str:
        """Say the score in a few words."""
        score = self.score_of(result)
        return f"{score.metric} {score_text(score.metric, score.value)}"

    def evaluated(self, step: int, result: Any) -> Evaluated:
        """Name an evaluation's measures for the log, and show its score beside the progress."""
        epoch, score = self.inputs.plan.epochs_seen(step), self.score_of(result)
        return Evaluated(
            {"epoch": epoch, **{f"{SCORE}{name}": value for name, value in score.numbers.items()}},
            result,
            shown={"epoch": f"{epoch:g}", score.metric: score_text(score.metric, score.value)},
        )

    def is_due(self, step: int) -> bool:
        """Tell whether a step ended an epoch that an evaluation follows."""
        return self.inputs.plan.evaluation_due(step, every=self.config.eval_every)

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[GalleryImage]:
        """Write page.html and classes.csv; no pictures for the log.

        Raises InputError if too many of the test images are bad.
        """
        score = self.score_of(evaluated.result)
        check_bad_share("--task.test", score.images, score.skipped, self.config.task.max_bad_share)
        classes = self.classes_of(evaluated.result)
        content = finetune_page(
            self.config.out,
            {**self.details(evaluated, progress), **self.record(evaluated, progress).extra},
            model=self.inputs.pretrained.source,
            classes=classes,
            total_steps=self.inputs.plan.steps,
            seconds=progress.seconds,
            learnt=self.LEARNT,
            pictures=self.pictures(evaluated.result),
        )
        write_page(self.config.out, content, classes)
        return []

    def check_training(self, totals: Counter[str], skipped: Sequence[Skipped], last: bool) -> None:
        """Raise InputError if too many training images are bad, or all; after the `last` step, of however few."""
        check_training(totals, skipped, last, most=self.config.task.max_bad_share)

    def write_start(self) -> None:
        """Write what every class begins with, for Transfer Init."""
        if self.matches:
            with renewed(self.config.out / STEM) as work:
                write_matches(self.matches, work, alpha=self.config.alpha)

    def record(self, evaluated: Evaluated, progress: RunProgress) -> Record:
        """Make the record of an evaluation. Raises InputError where no test image can be scored."""
        config, score = self.config, self.score_of(evaluated.result)
        if score.value is None:
            raise InputError(
                "--task.test",
                found=f"nothing in {counted(score.images, 'image')} by which {score.metric} could be computed",
                wanted="at least one image or object of a class",
                remedy="Check the images: bad_images of results.json or the log names those that failed.",
            )
        notes = [
            *no_match_note(self.matches),
            *self.notes_at_start(),
            *self.own_notes(evaluated.result),
            *undecoded(train=read_bad_samples(config.out), test=score.skipped),
        ]
        extra = {
            **score.numbers,
            **self.own_extra(evaluated.result),
            "steps": progress.step,
            "images_seen": progress.images,
            "epochs_seen": self.inputs.plan.epochs_seen(progress.step),
            "train_images": len(self.inputs.train_images),
            NOTES: notes,
        }
        return Record(
            task=" | ".join(without_secrets(images) for images in (config.task.train, config.task.test)),
            method=self.VERB,
            init=config.init,
            percent=config.percent,
            seed=config.seed,
            metric=score.metric,
            value=score.value,
            images=score.images,
            seconds=round(progress.seconds, 1),
            extra=extra,
        )

    def details(self, evaluated: Evaluated, progress: RunProgress) -> dict[str, Any]:
        """Make the facts of results.json that a record has not."""
        return {
            "epochs": self.config.epochs,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "parameters": sum(parameter.numel() for parameter in self.training.objective.parameters()),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            **self.own_details(evaluated.result),
            "classes_without_training_images": self.inputs.task.without_images(self.inputs.train_images),
        }

    def write(self, weights: Mapping[str, Tensor], evaluated: Evaluated, progress: RunProgress) -> tuple[Record, str]:
        """Write the model, given the averaged weights, then the results; return the record and a summary."""
        out, task, images = self.config.out, self.inputs.task, self.config.task
        record, details = self.record(evaluated, progress), self.details(evaluated, progress)
        notes = record.extra[NOTES]
        data = {
            "train": without_secrets(images.train),
            "test": without_secrets(images.test),
            "classes": len(task.class_names),
        }
        written = self.write_model({name: each.detach().cpu() for name, each in weights.items()}, evaluated.result)
        with write_whole(out / TABLE) as file:
            shown = {"model": self.inputs.pretrained.source, **data, **vars(record), **record.extra, **details}
            file.write(markdown(shown, notes, title=self.TITLE).encode())
        write_results(
            out,
            [record],
            verb=self.VERB,
            model=self.inputs.pretrained.source,
            fingerprint=self.inputs.pretrained.fingerprint,
            data=data,
            notes=notes,
            left_out=left_out(train=task.train, test=task.test),
            bad_images=named_bad(train=read_bad_samples(out), test=self.score_of(evaluated.result).skipped),
            details=details,
        )
        # A run takes hours, and the notes of its start have left the screen.
        return record, (
            "".join(f"{note}\n" for note in notes)
            + f"{self.summary(evaluated.result)} on {counted(record.images, 'test image')}\n"
            f"{written}, {out / TABLE} the results"
        )


def check_training(totals: Counter[str], skipped: Sequence[Skipped], last: bool, *, most: float) -> None:
    """Raise InputError if more than the share `most` of the training images are bad, or all.

    `skipped`: bad images since the last call. After the `last` step few images are enough for a judgement.
    """
    fewest = 1 if last else BAD_SHARE_FROM
    seen, bad = totals["samples"], totals["bad"]
    if seen < fewest or (bad <= most * seen and bad < seen):
        return
    example = f", the last one {skipped[-1].key}: {skipped[-1].reason}" if skipped else ""
    raise InputError(
        "--task.train",
        found=f"{bad:,} bad images of {seen:,}{example}",
        wanted=f"at most {100 * most:g}%",
        remedy="Mend them or leave them out"
        + (", or raise --task.max-bad-share" if bad < seen else "")
        + ". bad_samples.jsonl names them.",
    )


def few_steps(plan: EpochPlan) -> list[str]:
    """Write a note on a run that is over before it has learnt much; none for a longer one."""
    if plan.steps >= FEW_STEPS:
        return []
    steps, images = counted(plan.steps, "step"), counted(plan.images, "training image")
    what = f"larger than the {images}" if plan.batch > plan.images else f"large for {images}"
    return [
        f"batch {plan.batch:,} is {what}: {steps} in all, each image seen {plan.epochs_seen(plan.steps):.4g} times; "
        "a smaller batch takes more steps"
    ]


def markdown(results: Mapping[str, Any], notes: Sequence[str], *, title: str) -> str:
    """Make results.md: the numbers and short texts of the results, and the notes."""
    rows = [
        (Markdown(name), f"{value:.4g}" if isinstance(value, float) else f"{value}")
        for name, value in results.items()
        if isinstance(value, int | float | str) and name not in ("task", CORRECT)
    ]
    parts = [f"# {title}", markdown_table(("", ""), rows), markdown_list(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def renewed(folder: Path) -> AbstractContextManager[Path]:
    """Make a folder to write into, in place of one that an earlier start of the same run wrote."""
    if folder.exists():
        shutil.rmtree(folder)
    return new_folder(folder)
