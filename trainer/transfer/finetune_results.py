"""What a fine-tuning run shows and leaves: scores and a page at each evaluation, the model and results at the end.

In: the averaged weights, a task's test images. Out: numbers in the log and page.html; at the end model/, a folder that
timm loads, results.json and results.md.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.decoding import Viewing
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.job import Evaluated
from trainer.model.vit import classifier_of
from trainer.records.gallery import Picture
from trainer.records.journal import RunProgress
from trainer.records.ledger import read_bad_samples
from trainer.records.log import SCORE
from trainer.records.secrets import without_secrets_in
from trainer.step.training import Training
from trainer.transfer.batches import EpochPlan
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.match_table import STEM, cell, no_match, write_matches
from trainer.transfer.scoring import Scored, score
from trainer.transfer.start import Start
from trainer.transfer.tasks.files import left_out, undecoded
from trainer.transfer.tasks.opening import Task
from trainer.transfer.words import counted, listed
from trainer.weights.folder import Build, first_conv_of, new_folder, timm_fields, write_model
from trainer.weights.pretrained import Pretrained
from vocab.errors import InputError
from vocab.store.files import write_whole
from vocab.store.sealing import to_sealed_json

MODEL, RESULTS, TABLE = "model", "results.json", "results.md"
FEW_STEPS = 100
"""steps below which a run hardly learns: the recipe's learning rates are made for thousands"""


@dataclass(frozen=True, eq=False)
class FinetuneResults:
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    config: FinetuneConfig
    """complete options"""
    rank: Rank
    pretrained: Pretrained
    task: Task
    train: LabelledImages
    """training images of the run, which may be a share of the task's"""
    plan: EpochPlan
    start: Start
    training: Training
    viewing: Viewing
    """how test images are shown"""

    def is_due(self, step: int) -> bool:
        """Tell whether a step ended an epoch that an evaluation follows."""
        every, plan = self.config.eval_every, self.plan
        if every == 0 or step == 0:
            return False
        return plan.epochs_after(step) // every > plan.epochs_after(step - 1) // every

    def evaluate(self, step: int) -> Evaluated | None:
        """Score the weights as they are on the test images; None on ranks other than the main one."""
        scored = score(self.training.objective, self.task.test, self.rank, viewing=self.viewing)
        if scored is None:
            return None
        epoch = self.plan.epochs_seen(step)
        name, value = scored.measured.metric
        return Evaluated(
            {"epoch": epoch, **{f"{SCORE}{name}": value for name, value in scored.numbers().items()}},
            scored,
            shown={"epoch": f"{epoch:g}", name: f"{value:.2%}"},
        )

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[Picture]:
        """Write page.html. Raises InputError if too many of the test images are bad."""
        scored: Scored = evaluated.result
        totals = Counter(samples=scored.images + len(scored.skipped), bad=len(scored.skipped))
        most = self.config.task.max_bad_share
        raise_for_bad_images("--task.test", totals, scored.skipped, most=most, fewest=1)
        return []

    def write_start(self) -> None:
        """Write what every class begins with, for Transfer Init."""
        if self.start.matches:
            with _renewed(self.config.out / STEM) as work:
                write_matches(self.start.matches, work, alpha=self.config.alpha)

    def numbers(self, evaluated: Evaluated, progress: RunProgress) -> dict[str, Any]:
        """Make the content of results.json."""
        config, train, task, scored = self.config, self.train, self.task, evaluated.result
        metric, value = scored.measured.metric
        bad_train = read_bad_samples(config.out)
        numbers: dict[str, Any] = {
            "model": str(config.model),
            "train": without_secrets_in(config.task.train),
            "test": without_secrets_in(config.task.test),
            "init": config.init,
            "percent": config.percent,
            "seed": config.seed,
            "metric": metric,
            "value": value,
            **scored.numbers(),
            "classes": len(task.class_names),
            "classes_of_test_images": scored.classes,
            "train_images": len(train),
            "epochs": config.epochs,
            "epochs_seen": self.plan.epochs_seen(progress.step),
            "steps": progress.step,
            "images_seen": progress.images,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "seconds": round(progress.seconds, 1),
            "parameters": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            "classes_without_training_images": _without_images(train, task),
            "notes": [
                *no_match(self.start.matches),
                *notes_at_start(config, task, train, self.plan),
                *_notes_on_bad(bad_train, scored.skipped),
            ],
            "left_out": left_out(train=task.train, test=task.test),
            "bad_train_images": _named(bad_train),
            "bad_test_images": _named(scored.skipped),
        }
        if config.init == "transfer":
            unmatched = [match.name for match in self.start.matches if not match.matches]
            numbers["classes_with_random_weights"] = unmatched
        if (correct := scored.measured.correct) is not None:
            numbers["correct"] = "".join("1" if right else "0" for right in correct.tolist())
        return numbers

    def write(self, weights: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> str:
        """Write the model's folder, given the averaged weights, then the results; return a summary."""
        out, names = self.config.out, list(self.task.class_names)
        fields = timm_fields(build_of(self.pretrained), classes=len(names))
        fields["label_names"] = names
        with _renewed(out / MODEL) as work:
            write_model(work, {name: tensor.detach().cpu() for name, tensor in weights.items()}, fields)
        with write_whole(out / TABLE) as file:
            file.write(markdown(numbers).encode())
        with write_whole(out / RESULTS) as file:
            file.write(to_sealed_json(numbers, indent=2).encode())
        # A run takes hours, and the notes of its start have left the screen.
        return (
            "".join(f"{note}\n" for note in numbers["notes"])
            + f"{numbers['metric']} {numbers['value']:.2%} on {counted(numbers['images'], 'test image')}\n"
            f"{out / MODEL} is the model, {out / TABLE} the results"
        )


def build_of(pretrained: Pretrained) -> Build:
    """Describe the model for timm."""
    model = pretrained.model
    return Build(
        architecture=pretrained.architecture,
        arguments=pretrained.arguments,
        preprocessing=pretrained.preprocessing,
        features=classifier_of(model, pretrained.architecture).in_features,
        global_pool=str(getattr(model, "global_pool", "token")),
        first_conv=first_conv_of(model),
    )


def raise_for_bad_images(
    side: str, totals: Counter[str], skipped: Sequence[Skipped], *, most: float, fewest: int
) -> None:
    """Raise InputError if more than the share `most` of the images are bad, or all, once `fewest` have been seen."""
    seen, bad = totals["samples"], totals["bad"]
    if seen < fewest or (bad <= most * seen and bad < seen):
        return
    example = f", the last one {skipped[-1].key}: {skipped[-1].reason}" if skipped else ""
    raise InputError(
        side,
        found=f"{bad:,} bad images of {seen:,}{example}",
        wanted=f"at most {most:.0%}",
        remedy="Mend them or leave them out, or raise --task.max-bad-share. bad_samples.jsonl names those of training.",
    )


def notes_at_start(config: FinetuneConfig, task: Task, train: LabelledImages, plan: EpochPlan) -> list[str]:
    """Write notes that can be given before the first step: on the data, and on a run of few steps."""
    names = _without_images(train, task)
    share = f"{config.percent:g} % of the images"
    empty = counted(len(names), "class has no training image", "classes have no training image")
    # Where the whole data set has none either, the data's own note says so.
    lacking = [f"{share}: {empty}: {listed(names)}"] if names != _without_images(task.train, task) else []
    return [*task.notes, *lacking, *few_steps(plan)]


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


def markdown(numbers: Mapping[str, Any]) -> str:
    """Make results.md: the numbers and short texts of results.json, and the notes."""
    rows = {
        name: value for name, value in numbers.items() if isinstance(value, int | float | str) and name != "correct"
    }
    shown = {name: f"{value:.4g}" if isinstance(value, float) else f"{value}" for name, value in rows.items()}
    table = ["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in shown.items())]
    notes = [f"- {cell(note)}" for note in numbers["notes"]]
    return "\n".join(["# Fine-tuning", "", *table, *(["", *notes] if notes else [])]) + "\n"


def _renewed(folder: Path) -> AbstractContextManager[Path]:
    """Make a folder to write into, in place of one that an earlier start of the same run wrote."""
    if folder.exists():
        shutil.rmtree(folder)
    return new_folder(folder)


def _notes_on_bad(train: Sequence[Skipped], test: Sequence[Skipped]) -> list[str]:
    return [undecoded(side, bad) for side, bad in (("train", train), ("test", test)) if bad]


def _named(bad: Sequence[Skipped]) -> list[dict[str, str]]:
    return [{"image": each.key, "reason": each.reason} for each in bad]


def _without_images(images: LabelledImages, task: Task) -> list[str]:
    return [task.class_names[label] for label in np.flatnonzero(images.images_by_class == 0).tolist()]
