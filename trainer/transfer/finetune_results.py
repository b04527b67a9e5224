"""Results of a fine-tuning run: scores and a page at each evaluation, the model and its record at the end.

In: the averaged weights, a task's test images. Out: numbers in the log, page.html and classes.csv; at the end model/, a
folder that timm loads, results.json and results.md.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.feed import BAD_SHARE_FROM
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.job import Evaluated
from trainer.model.backbone import classifier_name, classifier_of
from trainer.model.objective import Objective
from trainer.probe.measures import Scored, score
from trainer.records.classes import of_task
from trainer.records.gallery import GalleryImage
from trainer.records.journal import RunProgress
from trainer.records.ledger import read_bad_samples
from trainer.records.log import SCORE
from trainer.records.page import finetune_page, write_page
from trainer.records.record import CORRECT, NOTES, Record, marks_of, named_bad, score_text, write_results
from trainer.step.training import Training
from trainer.transfer.batches import EpochPlan
from trainer.transfer.class_tables import STEM, no_match_note, write_matches
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.tasks.opening import TaskData
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import ModelSpec, first_conv_of, new_folder, pool_of, timm_fields, write_model
from trainer.weights.pretrained import Pretrained
from vocab.errors import InputError
from vocab.pages.tables import Markdown, markdown_list, markdown_table
from vocab.pages.text import counted
from vocab.store.files import write_whole
from vocab.store.secrets import without_secrets

MODEL, TABLE = "model", "results.md"
FEW_STEPS = 100
"""steps below which a run hardly learns: the recipe's learning rates are made for thousands"""


@dataclass(frozen=True, eq=False)
class FinetuneInputs:
    """All that a run starts from."""

    pretrained: Pretrained
    task: TaskData
    train: LabelledImages
    """training images of the run, which may be a share of the task's"""
    plan: EpochPlan


@dataclass(frozen=True, eq=False)
class FinetuneResults:
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    config: FinetuneConfig
    """complete options"""
    rank: Rank
    inputs: FinetuneInputs
    matches: list[ClassMatch]
    """matches of each class, for Transfer Init"""
    training: Training[Objective]
    transform: EvalTransform
    """how test images are shown"""

    def is_due(self, step: int) -> bool:
        """Tell whether a step ended an epoch that an evaluation follows."""
        return self.inputs.plan.evaluation_due(step, every=self.config.eval_every)

    def evaluate(self, step: int) -> Evaluated | None:
        """Score the weights as they are on the test images; None on ranks other than the main one."""
        scored = score(self.training.objective, self.inputs.task.test, self.rank, transform=self.transform)
        if scored is None:
            return None
        epoch = self.inputs.plan.epochs_seen(step)
        name, value = scored.measured.metric
        return Evaluated(
            {"epoch": epoch, **{f"{SCORE}{name}": value for name, value in scored.numbers().items()}},
            scored,
            shown={"epoch": f"{epoch:g}", name: score_text(name, value)},
        )

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[GalleryImage]:
        """Write page.html and classes.csv; no pictures for the log.

        Raises InputError if too many of the test images are bad.
        """
        scored: Scored = evaluated.result
        check_bad_share("--task.test", scored.images, scored.skipped, self.config.task.max_bad_share)
        classes = of_task(self.inputs.task.class_names, scored.measured)
        content = finetune_page(
            self.config.out,
            {**self.details(evaluated, progress), **self.record(evaluated, progress).extra},
            model=self.inputs.pretrained.source,
            classes=classes,
            total_steps=self.inputs.plan.steps,
            seconds=progress.seconds,
        )
        write_page(self.config.out, content, classes)
        return []

    def _notes(self, scored: Scored) -> list[str]:
        return [
            *no_match_note(self.matches),
            *notes_at_start(self.config, self.inputs),
            *undecoded(train=read_bad_samples(self.config.out), test=scored.skipped),
        ]

    def check_training(self, totals: Counter[str], skipped: Sequence[Skipped], last: bool) -> None:
        """Raise InputError if too many training images are bad, or all; after the `last` step, of however few."""
        check_training(totals, skipped, last, most=self.config.task.max_bad_share)

    def write_start(self) -> None:
        """Write what every class begins with, for Transfer Init."""
        if self.matches:
            with renewed(self.config.out / STEM) as work:
                write_matches(self.matches, work, alpha=self.config.alpha)

    def record(self, evaluated: Evaluated, progress: RunProgress) -> Record:
        config, scored = self.config, evaluated.result
        metric, value = scored.measured.metric
        extra = {
            **scored.numbers(),
            "steps": progress.step,
            "images_seen": progress.images,
            "epochs_seen": self.inputs.plan.epochs_seen(progress.step),
            "train_images": len(self.inputs.train),
            NOTES: self._notes(scored),
        }
        if scored.measured.correct is not None:
            extra[CORRECT] = marks_of(scored.measured.correct)
        return Record(
            task=" | ".join(without_secrets(images) for images in (config.task.train, config.task.test)),
            method="finetune",
            init=config.init,
            percent=config.percent,
            seed=config.seed,
            metric=metric,
            value=value,
            images=scored.images,
            seconds=round(progress.seconds, 1),
            extra=extra,
        )

    def details(self, evaluated: Evaluated, progress: RunProgress) -> dict[str, Any]:
        """Make the facts of results.json that only fine-tuning has."""
        details: dict[str, Any] = {
            "epochs": self.config.epochs,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "parameters": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            "classes_of_test_images": evaluated.result.classes,
            "classes_without_training_images": self.inputs.task.without_images(self.inputs.train),
        }
        if self.config.init == "transfer":
            unmatched = [match.name for match in self.matches if not match.matches]
            details["classes_with_random_weights"] = unmatched
        return details

    def write(self, weights: Mapping[str, Tensor], evaluated: Evaluated, progress: RunProgress) -> tuple[Record, str]:
        """Write the model's folder, given the averaged weights, then the results; return the record and a summary."""
        out, task = self.config.out, self.inputs.task
        record, details = self.record(evaluated, progress), self.details(evaluated, progress)
        notes = record.extra[NOTES]
        images = self.config.task
        data = {
            "train": without_secrets(images.train),
            "test": without_secrets(images.test),
            "classes": len(task.class_names),
        }
        fields = timm_fields(spec_of(self.inputs.pretrained), classes=len(task.class_names))
        fields["label_names"] = list(task.class_names)
        with renewed(out / MODEL) as work:
            write_model(work, {name: tensor.detach().cpu() for name, tensor in weights.items()}, fields)
        with write_whole(out / TABLE) as file:
            shown = {"model": self.inputs.pretrained.source, **data, **vars(record), **record.extra, **details}
            file.write(markdown(shown, notes).encode())
        write_results(
            out,
            [record],
            verb="finetune",
            model=self.inputs.pretrained.source,
            fingerprint=self.inputs.pretrained.fingerprint,
            data=data,
            notes=notes,
            left_out=left_out(train=task.train, test=task.test),
            bad_images=named_bad(train=read_bad_samples(out), test=evaluated.result.skipped),
            details=details,
        )
        # A run takes hours, and the notes of its start have left the screen.
        return record, (
            "".join(f"{note}\n" for note in notes)
            + f"{record.metric} {score_text(record.metric, record.value)} on {counted(record.images, 'test image')}\n"
            f"{out / MODEL} is the model, {out / TABLE} the results"
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


def spec_of(pretrained: Pretrained) -> ModelSpec:
    """Describe the model for timm."""
    model = pretrained.model
    return ModelSpec(
        architecture=pretrained.architecture,
        arguments=pretrained.arguments,
        preprocessing=pretrained.preprocessing,
        features=classifier_of(model).in_features,
        classifier=classifier_name(model),
        global_pool=pool_of(model),
        first_conv=first_conv_of(model),
    )


def notes_at_start(config: FinetuneConfig, inputs: FinetuneInputs) -> list[str]:
    """Write notes that can be given before the first step: on the data, and on a run of few steps."""
    task = inputs.task
    # Where the whole data set has none either, the data's own note says so.
    own, everywhere = task.lacking(inputs.train), task.lacking(task.train)
    lacking = own if own != everywhere else []
    return [*task.notes, *(f"{config.percent:g} % of the images: {each}" for each in lacking), *few_steps(inputs.plan)]


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


def markdown(results: Mapping[str, Any], notes: Sequence[str], *, title: str = "Fine-tuning") -> str:
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
