"""What a fine-tuning run came to, and what whoever reads it should know.

In: a run at its end, its scores, its task. Out: the numbers of results.json, results.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.data.batch import Skipped
from trainer.data.labelled_images import LabelledImages
from trainer.records.ledger import read_bad_samples
from trainer.transfer.account import Course
from trainer.transfer.batches import Plan
from trainer.transfer.match_table import no_match
from trainer.transfer.scoring import Scored
from trainer.transfer.start import Start
from trainer.transfer.tasks.files import left_out, undecoded
from trainer.transfer.tasks.opening import Task
from trainer.transfer.tuning import Tuning
from vocab.pages.tables import Markdown, markdown_list, markdown_table
from vocab.pages.text import counted, listed
from vocab.store.secrets import without_secrets

FEW_STEPS = 100
"""steps below which a run hardly learns: the recipe's learning rates are made for thousands"""


def notes_at_start(course: Course, task: Task) -> list[str]:
    """What can be said before the first step: on the data, and on a run of few steps."""
    names = _without_images(course.train, task)
    share = f"{course.config.percent:g} % of the images"
    empty = counted(len(names), "class has no training image", "classes have no training image")
    # Where the whole data set has none either, the data's own note says so.
    lacking = [f"{share}: {empty}: {listed(names)}"] if names != _without_images(task.train, task) else []
    return [*task.notes, *lacking, *few_steps(course.plan)]


def few_steps(plan: Plan) -> list[str]:
    """A note on a run that is over before it has learnt much; none for a longer one."""
    if plan.steps >= FEW_STEPS:
        return []
    steps, images = counted(plan.steps, "step"), counted(plan.images, "training image")
    what = f"larger than the {images}" if plan.batch > plan.images else f"large for {images}"
    return [
        f"batch {plan.batch:,} is {what}: {steps} in all, each image seen {plan.epochs_seen(plan.steps):.4g} times; "
        "a smaller batch takes more steps"
    ]


def numbers_of(tuning: Tuning, scored: Scored, start: Start, task: Task) -> dict[str, Any]:
    """What results.json says."""
    course, progress = tuning.course, tuning.progress
    config, train = course.config, course.train
    metric, value = scored.measured.metric
    bad_train = read_bad_samples(config.out)
    numbers: dict[str, Any] = {
        "model": str(config.model),
        "train": without_secrets(config.task.train),
        "test": without_secrets(config.task.test),
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
        "epochs_seen": course.plan.epochs_seen(progress.step),
        "steps": progress.step,
        "images_seen": progress.images,
        "seconds": round(progress.seconds, 1),
        "parameters": sum(parameter.numel() for parameter in tuning.training.model.parameters()),
        "device": str(tuning.rank.device),
        "processes": tuning.rank.world,
        "classes_without_training_images": _without_images(train, task),
        "notes": [
            *no_match(start.matches),
            *notes_at_start(course, task),
            *_notes_on_bad(bad_train, scored.skipped),
        ],
        "left_out": left_out(train=task.train, test=task.test),
        "bad_train_images": _named(bad_train),
        "bad_test_images": _named(scored.skipped),
    }
    if config.init == "transfer":
        numbers["classes_with_random_weights"] = [match.name for match in start.matches if not match.matches]
    if (correct := scored.measured.correct) is not None:
        numbers["correct"] = "".join("1" if right else "0" for right in correct.tolist())
    return numbers


def markdown(numbers: Mapping[str, Any]) -> str:
    """results.md: what of results.json is a number or a few words, and the notes."""
    rows = {
        name: value for name, value in numbers.items() if isinstance(value, int | float | str) and name != "correct"
    }
    cells = [
        (Markdown(name), f"{value:.4g}" if isinstance(value, float) else f"{value}") for name, value in rows.items()
    ]
    parts = ["# Fine-tuning", markdown_table(("", ""), cells), markdown_list(numbers["notes"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes_on_bad(train: Sequence[Skipped], test: Sequence[Skipped]) -> list[str]:
    return [undecoded(side, bad) for side, bad in (("train", train), ("test", test)) if bad]


def _named(bad: Sequence[Skipped]) -> list[dict[str, str]]:
    return [{"image": each.key, "reason": each.reason} for each in bad]


def _without_images(images: LabelledImages, task: Task) -> list[str]:
    return [task.class_names[label] for label in np.flatnonzero(images.images_by_class == 0).tolist()]
