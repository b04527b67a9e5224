"""Results of a fine-tuning run: scores and a page at each evaluation, the model and its record at the end.

In: the averaged weights, a task's test images. Out: numbers in the log, page.html and classes.csv; at the end model/, a
folder that timm loads, results.json and results.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from trainer.data.decoding import EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.job import Evaluated
from trainer.model.added_classifier import has_added_classifier
from trainer.model.backbone import classifier_of
from trainer.model.objective import Objective
from trainer.probe.measures import Scored, score
from trainer.records.classes import ClassScores, of_task
from trainer.records.record import CORRECT, marks_of
from trainer.transfer.batches import EpochPlan
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.task_results import TaskResults, TaskScore, few_steps, renewed
from trainer.transfer.tasks.opening import TaskData
from trainer.weights.folder import (
    CLASSIFIER,
    ModelSpec,
    classifier_in_timm,
    first_conv_of,
    pool_of,
    timm_fields,
    write_model,
)
from trainer.weights.pretrained import Pretrained

MODEL = "model"


@dataclass(frozen=True, eq=False)
class FinetuneInputs:
    """All that a run starts from."""

    pretrained: Pretrained
    task: TaskData
    train_images: LabelledImages
    """training images of the run, which may be a share of the task's"""
    plan: EpochPlan


@dataclass(frozen=True, eq=False)
class FinetuneResults(TaskResults[FinetuneConfig, FinetuneInputs, Objective]):
    """Evaluations and results of a fine-tuning run."""

    VERB = "finetune"
    TITLE = "Fine-tuning"
    LEARNT = "fine-tuned"
    ACCOUNT: ClassVar[Mapping[str, str]] = {"bad_samples": "bad", "truncated_samples": "truncated"}

    transform: EvalTransform
    """how test images are shown"""

    def evaluate(self, step: int) -> Evaluated | None:
        """Score the weights as they are on the test images; None on ranks other than the main one."""
        scored = score(self.training.objective, self.inputs.task.test, self.rank, transform=self.transform)
        return None if scored is None else self.evaluated(step, scored)

    def score_of(self, result: Scored) -> TaskScore:
        """Reduce an evaluation to its score."""
        return TaskScore(*result.measured.metric, result.images, result.numbers(), result.skipped)

    def classes_of(self, result: Scored) -> ClassScores:
        """Score each class."""
        return of_task(self.inputs.task.class_names, result.measured)

    def notes_at_start(self) -> list[str]:
        """Write notes that can be given before the first step."""
        return notes_at_start(self.config, self.inputs)

    def own_extra(self, result: Scored) -> dict[str, Any]:
        """Say which test images are right, where each has one class."""
        correct = result.measured.correct
        return {} if correct is None else {CORRECT: marks_of(correct)}

    def own_details(self, result: Scored) -> dict[str, Any]:
        """Make the facts of results.json that only fine-tuning has."""
        details: dict[str, Any] = {"classes_of_test_images": result.classes}
        if self.config.init == "transfer":
            details["classes_with_random_weights"] = [match.name for match in self.matches if not match.matches]
        return details

    def write_model(self, weights: Mapping[str, Tensor], result: Scored) -> str:
        """Write the averaged weights as a folder that timm loads: without an added classifier, which lies beside."""
        names, folder = self.inputs.task.class_names, self.config.out / MODEL
        added = has_added_classifier(self.inputs.pretrained.model)
        fields = timm_fields(spec_of(self.inputs.pretrained), classes=0 if added else len(names))
        fields["label_names"] = list(names)
        with renewed(folder) as work:
            write_model(work, weights, fields)
        return f"{folder} is the model" + f", {CLASSIFIER} in it the classifier of its features" * added


def spec_of(pretrained: Pretrained) -> ModelSpec:
    """Describe the model for timm."""
    model = pretrained.model
    return ModelSpec(
        architecture=pretrained.architecture,
        arguments=pretrained.arguments,
        preprocessing=pretrained.preprocessing,
        features=classifier_of(model).in_features,
        classifier=classifier_in_timm(model),
        global_pool=pool_of(model),
        first_conv=first_conv_of(model),
    )


def notes_at_start(config: FinetuneConfig, inputs: FinetuneInputs) -> list[str]:
    """Write notes that can be given before the first step: on the data, and on a run of few steps."""
    task, pretrained = inputs.task, inputs.pretrained
    added = [
        f"{pretrained.architecture}'s own classifier is not one linear layer of its features: a linear classifier took "
        f"its place"
    ] * has_added_classifier(pretrained.model)
    # Where the whole data set has none either, the data's own note says so.
    own, everywhere = task.lacking(inputs.train_images), task.lacking(task.train)
    lacking = own if own != everywhere else []
    lacking = [f"{config.percent:g} % of the images: {each}" for each in lacking]
    return [*added, *task.notes, *lacking, *few_steps(inputs.plan)]
