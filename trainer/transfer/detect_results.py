"""Results of a detection run: average precision and a page at each evaluation, the detector and its record at the end.

In: the averaged weights, a task's test images. Out: numbers in the log, page.html and classes.csv; at the end
model.safetensors, predictions.json in COCO's form, results.json and results.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from trainer.checkpoints.safetensors_files import sealed_file
from trainer.data.decoding import EvalTransform
from trainer.data.images import decode
from trainer.data.labelled_images import LabelledImages
from trainer.dense.average_precision import NAMES, Precision, average_precision, predictions
from trainer.dense.boxed_pictures import box_prediction, image_scores
from trainer.dense.detect_evaluation import DetectEvaluation, evaluate
from trainer.dense.detect_objective import DetectObjective
from trainer.dense.detect_task import DetectData
from trainer.dense.objects import Viewer
from trainer.dense.pictures import Prediction, shown_images
from trainer.job import Evaluated
from trainer.records.classes import ClassScores
from trainer.records.record import score_text
from trainer.transfer.batches import EpochPlan
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.task_results import TaskResults, TaskScore, few_steps
from trainer.transfer.tasks.opening import TaskData
from trainer.weights.folder import WEIGHTS
from trainer.weights.pretrained import Pretrained
from vocab.store.files import write_file, write_whole

BOX, MASK = "map_box", "map_mask"
"""AP of boxes and of masks"""
PREDICTIONS = "predictions.json"
LOG_NAMES = {
    name: name.replace("AP", "map_{}").replace("AR", "recall_{}").replace("{}5", "{}_5").replace("{}7", "{}_7")
    for name in NAMES
}
"""names of the twelve numbers in the log and in results.json: map_box, map_box_50, recall_box_10"""


@dataclass(frozen=True, eq=False)
class DetectInputs:
    """All that a run starts from."""

    pretrained: Pretrained
    data: DetectData
    plan: EpochPlan
    masks: bool
    """learn masks as well as boxes"""

    @property
    def task(self) -> TaskData:
        """Images of both sides, and names of their classes."""
        return self.data.task

    @property
    def train_images(self) -> LabelledImages:
        """Training images of the run."""
        return self.data.train.images


@dataclass(frozen=True, eq=False)
class DetectScores:
    """An evaluation with its scores."""

    evaluation: DetectEvaluation
    boxes: Precision
    masks: Precision | None

    def numbers(self) -> dict[str, float | int | None]:
        """All numbers by name: map_box, map_box_50 and so on, the same of masks."""
        numbers: dict[str, float | int | None] = {
            "images": len(self.evaluation.found),
            "bad_images": len(self.evaluation.skipped),
            "detections": sum(len(found.scores) for found in self.evaluation.found),
        }
        for kind, scored in (("box", self.boxes), ("mask", self.masks)):
            if scored is not None:
                numbers |= {name.format(kind): scored.numbers[each] for each, name in LOG_NAMES.items()}
        return numbers


@dataclass(frozen=True, eq=False)
class DetectResults(TaskResults[DetectConfig, DetectInputs, DetectObjective]):
    """Evaluations and results of a detection run."""

    VERB = "detect"
    TITLE = "Detection"
    LEARNT = "trained for detection"

    viewer: Viewer
    transform: EvalTransform

    def evaluate(self, step: int) -> Evaluated | None:
        """Score the weights as they are on the test images; None on ranks other than the main one."""
        found = evaluate(
            self.training.objective,
            self.inputs.data.test,
            self.rank,
            viewer=self.viewer,
            squash=bool(self.config.squash),
            transform=self.transform,
        )
        if found is None:
            return None
        boxes = average_precision(found.data, found.found, "bbox")
        masks = average_precision(found.data, found.found, "segm") if self.inputs.masks else None
        return self.evaluated(step, DetectScores(found, boxes, masks))

    def score_of(self, result: DetectScores) -> TaskScore:
        """Reduce an evaluation to its score: AP of boxes."""
        evaluation = result.evaluation
        return TaskScore(BOX, result.boxes.numbers["AP"], len(evaluation.found), result.numbers(), evaluation.skipped)

    def pictures(self, result: DetectScores) -> list[Prediction]:
        """Show the best, the median and the worst test images."""
        data, found = result.evaluation.data, result.evaluation.found
        named = replace(data, images=replace(data.images, labels=self.inputs.data.task.class_names))
        by_image = image_scores(data, found)
        made = []
        with data.images.store.open() as read:
            for title, image in shown_images(by_image):
                content = read(int(data.images.rows[image]))
                how = self.viewer
                picture = decode(content, max_pixels=how.max_pixels, take_truncated=how.take_truncated)
                made.append(box_prediction(f"{title}: F1 {by_image[image]:.2f}", picture, named, image, found[image]))
        return made

    def classes_of(self, result: DetectScores) -> ClassScores:
        """AP of each class's boxes and masks, with the numbers of its objects and test images."""
        data, names = self.inputs.data, self.inputs.data.task.class_names
        trained, tested = (
            np.bincount(side.classes[~side.crowds], minlength=len(names)).tolist() for side in (data.train, data.test)
        )
        images = data.test.images.images_by_class.tolist()
        columns: dict[str, Sequence[str | int | float]] = {
            "class": names,
            "train_objects": trained,
            "test_objects": tested,
            "images": images,
        }
        if result.masks is not None:
            columns["mask_ap"] = result.masks.class_scores
        rows = list(zip(*columns.values(), strict=True))
        return ClassScores((*columns, "box_ap"), rows, result.boxes.class_scores)

    def notes_at_start(self) -> list[str]:
        """Write notes that can be given before the first step."""
        return notes_at_start(self.config, self.inputs)

    def own_extra(self, result: DetectScores) -> dict[str, Any]:
        """Name the recipe."""
        return {"recipe": self.config.recipe}

    def own_notes(self, result: DetectScores) -> list[str]:
        """Write a note on classes that have no AP."""
        known, names = sum(value is not None for value in result.boxes.by_class), self.inputs.task.class_names
        note = f"AP is over {known} of {len(names)} classes: no test image shows the others"
        return [note] if known < len(names) else []

    def own_details(self, result: DetectScores) -> dict[str, Any]:
        """Make the facts of results.json that only detection has."""
        data, names = self.inputs.data, self.inputs.task.class_names
        return {
            "class_names": list(names),
            "train_objects": len(data.train.boxes),
            "test_objects": len(data.test.boxes),
            "objects_left_out": {side: dict(getattr(data, side).left_out) for side in ("train", "test")},
            "box_ap_by_class": dict(zip(names, result.boxes.by_class, strict=True)),
            **({"mask_ap_by_class": dict(zip(names, result.masks.by_class, strict=True))} if result.masks else {}),
        }

    def write_model(self, weights: Mapping[str, Tensor], result: DetectScores) -> str:
        """Write the averaged weights, and the detections on the test images."""
        out = self.config.out
        write_file(out / WEIGHTS, sealed_file(weights, None))
        with write_whole(out / PREDICTIONS) as file:
            file.write(json.dumps(predictions(result.evaluation.data, result.evaluation.found)).encode())
        return f"{out / PREDICTIONS} has the detections"

    def summary(self, result: DetectScores) -> str:
        """Say the score in a few words."""
        masks = f", of masks {score_text(MASK, result.masks.numbers['AP'])}" if result.masks is not None else ""
        return f"AP of boxes {score_text(BOX, result.boxes.numbers['AP'])}{masks}"


def notes_at_start(config: DetectConfig, inputs: DetectInputs) -> list[str]:
    """Write notes that can be given before the first step: on the data, on masks, and on a run of few steps."""
    task, train = inputs.data.task, inputs.data.train.images
    lacking = task.lacking(train) if config.percent < 100 else []
    without = [] if inputs.masks else ["boxes alone are learnt, without masks"]
    return [*task.notes, *lacking, *without, *few_steps(inputs.plan)]
