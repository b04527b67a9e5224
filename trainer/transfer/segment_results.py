"""Results of a segmentation run: the choice of a setting, scores and a page at each evaluation, the record at the end.

In: the averaged weights, held-out training images, test images. Out: numbers in the log, page.html and classes.csv; at
the end model.safetensors, results.json and results.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from trainer.checkpoints.safetensors_files import sealed_file
from trainer.data.labelled_images import LabelledImages
from trainer.dense.heads import LinearSetting
from trainer.dense.masks import MaskedImages, SegmentationData
from trainer.dense.pictures import Prediction, mask_prediction, shown_images
from trainer.dense.segment_evaluation import (
    SegmentEvaluation,
    SegmentTransform,
    View,
    evaluate,
    load_pair,
    predictions,
    windows_of,
)
from trainer.dense.segment_scores import SegmentScores
from trainer.dense.segmenter import SegmentObjective
from trainer.distributed import on_main
from trainer.job import Evaluated
from trainer.model.objective import evaluating
from trainer.records.classes import ClassScores
from trainer.records.record import INTERVAL, score_text
from trainer.transfer.batches import EpochPlan
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.task_results import TaskResults, TaskScore, few_steps
from trainer.transfer.tasks.opening import TaskData
from trainer.weights.folder import WEIGHTS
from trainer.weights.pretrained import Pretrained
from vocab.pages.text import counted
from vocab.store.files import write_file

VIEWS: tuple[View, ...] = ("slide", "squash")
CHOICE_VIEW: View = "squash"
"""view by which a setting is chosen: one pass for each image"""


@dataclass(frozen=True, eq=False)
class SegmentInputs:
    """All that a run starts from."""

    pretrained: Pretrained
    data: SegmentationData
    train: MaskedImages
    """images that the run is trained on"""
    held_out: MaskedImages | None
    """training images by which a setting is chosen; None where there is no choice"""
    settings: tuple[LinearSetting, ...]
    plan: EpochPlan

    @property
    def task(self) -> TaskData:
        """Images of both sides, and names of their classes."""
        return self.data.task

    @property
    def train_images(self) -> LabelledImages:
        """Images that the run is trained on."""
        return self.train.images


@dataclass(frozen=True, eq=False)
class ChosenSetting:
    """An evaluation of the test images with the setting that held-out images chose."""

    head: int
    on_held_out: dict[str, float]
    """mIoU of each setting on held-out images"""
    test: SegmentEvaluation

    def scores(self, view: View) -> SegmentScores:
        """Scores of the test images under a view."""
        return self.test.scores[view, self.head]


@dataclass(frozen=True, eq=False)
class SegmentResults(TaskResults[SegmentConfig, SegmentInputs, SegmentObjective]):
    """Evaluations and results of a segmentation run."""

    VERB = "segment"
    TITLE = "Segmentation"
    LEARNT = "trained for segmentation"

    transform: SegmentTransform

    @property
    def main_view(self) -> View:
        """View of the record's score: the protocol that the head comes from."""
        return "slide" if self.config.head == "linear" else "squash"

    def evaluate(self, step: int) -> Evaluated | None:
        """Choose a setting on held-out images, and score it on the test images; None but on the main rank."""
        settings, held_out, objective = self.inputs.settings, self.inputs.held_out, self.training.objective
        on_held_out: dict[str, float] = {}
        if held_out is not None:
            every = range(len(settings))
            tried = evaluate(objective, held_out, self.rank, transform=self.transform, views=[CHOICE_VIEW], heads=every)
            if tried is not None:
                on_held_out = {f"{settings[head]}": tried.scores[CHOICE_VIEW, head].miou for head in every}
        head = on_main(lambda: _best(list(on_held_out.values())), self.rank)
        test = self.inputs.data.test
        found = evaluate(objective, test, self.rank, transform=self.transform, views=VIEWS, heads=[head])
        return None if found is None else self.evaluated(step, ChosenSetting(head, on_held_out, found))

    def score_of(self, result: ChosenSetting) -> TaskScore:
        """Reduce an evaluation to its score: measures under the main view, and mIoU under both."""
        scores, images, skipped = result.scores(self.main_view), len(result.test.images), result.test.skipped
        numbers = {
            "images": images,
            "bad_images": len(skipped),
            **scores.numbers(self.inputs.data.train.pixels),
            **{f"miou_{view}": result.scores(view).miou for view in VIEWS},
        }
        return TaskScore("miou", scores.miou, images, numbers, skipped)

    def pictures(self, result: ChosenSetting) -> list[Prediction]:
        """Show the best, the median and the worst test images."""
        test, names = self.inputs.data.test, self.inputs.data.task.class_names
        by_image = result.scores(self.main_view).by_image
        how = self.transform.plain.decoding
        made = []
        with evaluating(self.training.objective), test.images.store.open() as read:
            for title, position in shown_images(by_image):
                image = int(result.test.images[position])
                picture, true = load_pair(
                    test, image, read, max_pixels=how.max_pixels, take_truncated=how.take_truncated
                )
                windows = windows_of(picture, self.main_view, self.transform)
                (given,) = predictions(
                    self.training.objective, windows, self.rank, heads=[result.head], transform=self.transform
                )
                title = f"{title}: mIoU {score_text('miou', float(by_image[position]))}"
                made.append(mask_prediction(title, test.images.names[image], picture, true, given.cpu().numpy(), names))
        return made

    def classes_of(self, result: ChosenSetting) -> ClassScores:
        """IoU of each class, with its share of the training pixels and the number of test images that show it."""
        test, names = self.inputs.data.test, self.inputs.data.task.class_names
        pixels = self.inputs.data.train.pixels
        shares = (pixels / max(1, pixels.sum())).tolist()
        rows = [
            (name, f"{share:.4%}", images)
            for name, share, images in zip(names, shares, test.images.images_by_class.tolist(), strict=True)
        ]
        return ClassScores(("class", "train_pixels", "images", "iou"), rows, result.scores(self.main_view).iou.tolist())

    def notes_at_start(self) -> list[str]:
        """Write notes that can be given before the first step."""
        return notes_at_start(self.config, self.inputs)

    def own_extra(self, result: ChosenSetting) -> dict[str, Any]:
        """Interval of mIoU, and the setting that was chosen."""
        setting = self.inputs.settings[result.head]
        return {
            INTERVAL: list(result.scores(self.main_view).interval()),
            "head": self.config.head,
            "blocks": setting.blocks,
            "learning_rate": setting.learning_rate,
            "view": self.main_view,
        }

    def own_notes(self, result: ChosenSetting) -> list[str]:
        """Write a note on classes that have no IoU."""
        unscored = int(np.isnan(result.scores(self.main_view).iou).sum())
        scored = counted(len(self.inputs.task.class_names) - unscored, "class", "classes")
        note = f"mIoU is over {scored}: no test image shows the others, and none was predicted"
        return [note] if unscored else []

    def own_details(self, result: ChosenSetting) -> dict[str, Any]:
        """Make the facts of results.json that only segmentation has."""
        data, names = self.inputs.data, self.inputs.task.class_names
        iou = result.scores(self.main_view).iou.tolist()
        return {
            "class_names": list(names),
            "held_out_images": len(self.inputs.held_out) if self.inputs.held_out is not None else 0,
            "miou_on_held_out_images": result.on_held_out,
            "iou_by_class": {
                name: None if math.isnan(value) else value for name, value in zip(names, iou, strict=True)
            },
            "pixels": {side: pixels_of(getattr(data, side), names) for side in ("train", "test")},
        }

    def write_model(self, weights: Mapping[str, Tensor], result: ChosenSetting) -> str:
        """Write the averaged weights of what was trained."""
        write_file(self.config.out / WEIGHTS, sealed_file(weights, None))
        return f"{self.config.out / WEIGHTS} has the weights"

    def summary(self, result: ChosenSetting) -> str:
        """Say the score in a few words."""
        miou = score_text("miou", result.scores(self.main_view).miou)
        return f"mIoU {miou} by the setting {self.inputs.settings[result.head]}"


def _best(mious: Sequence[float]) -> int:
    """Number of the best setting; the first one where there is no choice, or no number to choose by."""
    scored = [-math.inf if math.isnan(miou) else miou for miou in mious]
    return int(np.argmax(scored)) if scored else 0


def pixels_of(images: MaskedImages, class_names: Sequence[str]) -> dict[str, Any]:
    """Count the pixels of a side: share of each class among those that have one, and share of ignored ones."""
    known = int(images.pixels.sum())
    shares = {name: int(count) / max(1, known) for name, count in zip(class_names, images.pixels, strict=True)}
    return {"labelled": known, "ignored_share": images.ignored / max(1, known + images.ignored), "shares": shares}


def notes_at_start(config: SegmentConfig, inputs: SegmentInputs) -> list[str]:
    """Write notes that can be given before the first step: on the data, on the choice, and on a run of few steps."""
    task, train = inputs.data.task, inputs.train.images
    unchosen = []
    if len(inputs.settings) < len(settings_of(config)):
        why = f"{counted(len(train), 'training image')} are too few to hold some out"
        if config.holdout == 0:
            why = "no training images are held out"
        unchosen = [f"{why}: the setting {inputs.settings[0]} was taken without a choice"]
    return [*task.notes, *task.lacking(train), *unchosen, *few_steps(inputs.plan)]


def settings_of(config: SegmentConfig) -> list[LinearSetting]:
    """List the settings of linear heads; for DeepLab the one of its blocks."""
    rates = config.learning_rates or (config.peak_lr or 0.0,)
    return [LinearSetting(blocks, rate) for blocks in config.blocks for rate in sorted(rates)]
