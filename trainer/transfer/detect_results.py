"""Results of a detection run: average precision and a page at each evaluation, the detector and its record at the end.

In: the averaged weights, a task's test images. Out: numbers in the log, page.html and classes.csv; at the end
model.safetensors, predictions.json in COCO's form, results.json and results.md.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from trainer.checkpoints.safetensors_files import sealed_file
from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.images import decode
from trainer.dense.average_precision import NAMES, Precision, average_precision, predictions
from trainer.dense.boxed_pictures import box_prediction, image_scores
from trainer.dense.detect_evaluation import DetectEvaluation, evaluate
from trainer.dense.detect_objective import DetectObjective
from trainer.dense.detect_task import DetectData
from trainer.dense.objects import Viewer
from trainer.dense.pictures import Prediction, shown_images
from trainer.distributed import Rank
from trainer.job import Evaluated
from trainer.records.classes import ClassScores
from trainer.records.gallery import GalleryImage
from trainer.records.journal import RunProgress
from trainer.records.ledger import read_bad_samples
from trainer.records.log import SCORE
from trainer.records.page import finetune_page, write_page
from trainer.records.record import NOTES, Record, named_bad, score_text, write_results
from trainer.step.training import Training
from trainer.transfer.batches import EpochPlan
from trainer.transfer.class_tables import STEM, no_match_note, write_matches
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.finetune_results import TABLE, check_training, few_steps, markdown, renewed
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import WEIGHTS
from trainer.weights.pretrained import Pretrained
from vocab.errors import InputError
from vocab.pages.text import counted
from vocab.store.files import write_file, write_whole
from vocab.store.secrets import without_secrets

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
class DetectResults:
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    config: DetectConfig
    """complete options"""
    rank: Rank
    inputs: DetectInputs
    matches: list[ClassMatch]
    """matches of each class, for Transfer Init"""
    training: Training[DetectObjective]
    viewer: Viewer
    transform: EvalTransform

    def is_due(self, step: int) -> bool:
        """Tell whether a step ended an epoch that an evaluation follows."""
        return self.inputs.plan.evaluation_due(step, every=self.config.eval_every)

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
        scores = DetectScores(found, boxes, masks)
        epoch = self.inputs.plan.epochs_seen(step)
        return Evaluated(
            {"epoch": epoch, **{f"{SCORE}{name}": value for name, value in scores.numbers().items()}},
            scores,
            shown={"epoch": f"{epoch:g}", BOX: score_text(BOX, scores.boxes.numbers["AP"])},
        )

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[GalleryImage]:
        """Write page.html and classes.csv; no pictures for the log.

        Raises InputError if too many of the test images are bad.
        """
        scores: DetectScores = evaluated.result
        evaluation = scores.evaluation
        check_bad_share("--task.test", len(evaluation.found), evaluation.skipped, self.config.task.max_bad_share)
        classes = self.classes_of(scores)
        content = finetune_page(
            self.config.out,
            {**self.details(evaluated, progress), **self.record(evaluated, progress).extra},
            model=self.inputs.pretrained.source,
            classes=classes,
            total_steps=self.inputs.plan.steps,
            seconds=progress.seconds,
            learnt="trained for detection",
            pictures=self.pictures(scores),
        )
        write_page(self.config.out, content, classes)
        return []

    def pictures(self, scores: DetectScores) -> list[Prediction]:
        """Show the best, the median and the worst test images."""
        data, found = scores.evaluation.data, scores.evaluation.found
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

    def classes_of(self, scores: DetectScores) -> ClassScores:
        """AP of each class's boxes, and of its masks, with the numbers of its objects and test images."""
        data, names = self.inputs.data, self.inputs.data.task.class_names
        trained, tested = (
            np.bincount(side.classes[~side.crowds], minlength=len(names)).tolist() for side in (data.train, data.test)
        )
        images = data.test.images.images_by_class.tolist()
        rows = list(zip(names, trained, tested, images, strict=True))
        precision = [math.nan if value is None else value for value in scores.boxes.by_class]
        return ClassScores(("class", "train_objects", "test_objects", "images", "box_ap"), rows, precision)

    def check_training(self, totals: Counter[str], skipped: Sequence[Skipped], last: bool) -> None:
        """Raise InputError if too many training images are bad, or all; after the `last` step, of however few."""
        check_training(totals, skipped, last, most=self.config.task.max_bad_share)

    def write_start(self) -> None:
        """Write what every class begins with, for Transfer Init."""
        if self.matches:
            with renewed(self.config.out / STEM) as work:
                write_matches(self.matches, work, alpha=self.config.alpha)

    def record(self, evaluated: Evaluated, progress: RunProgress) -> Record:
        config, scores = self.config, evaluated.result
        extra = {
            **scores.numbers(),
            "recipe": config.recipe,
            "steps": progress.step,
            "images_seen": progress.images,
            "epochs_seen": self.inputs.plan.epochs_seen(progress.step),
            "train_images": len(self.inputs.data.train),
            NOTES: self._notes(scores),
        }
        return Record(
            task=" | ".join(without_secrets(images) for images in (config.task.train, config.task.test)),
            method="detect",
            init=config.init,
            percent=config.percent,
            seed=config.seed,
            metric=BOX,
            value=box_ap(scores),
            images=len(scores.evaluation.found),
            seconds=round(progress.seconds, 1),
            extra=extra,
        )

    def _notes(self, scores: DetectScores) -> list[str]:
        names = self.inputs.data.task.class_names
        known = sum(value is not None for value in scores.boxes.by_class)
        partly = [f"AP is over {known} of {len(names)} classes: no test image shows the others"]
        return [
            *no_match_note(self.matches),
            *notes_at_start(self.config, self.inputs),
            *(partly if known < len(names) else []),
            *undecoded(train=read_bad_samples(self.config.out), test=scores.evaluation.skipped),
        ]

    def details(self, evaluated: Evaluated, progress: RunProgress) -> dict[str, Any]:
        """Make the facts of results.json that only detection has."""
        scores: DetectScores = evaluated.result
        data, names = self.inputs.data, self.inputs.data.task.class_names
        return {
            "epochs": self.config.epochs,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "parameters": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            "train_objects": len(data.train.boxes),
            "test_objects": len(data.test.boxes),
            "objects_left_out": {side: dict(getattr(data, side).left_out) for side in ("train", "test")},
            "box_ap_by_class": dict(zip(names, scores.boxes.by_class, strict=True)),
            **({"mask_ap_by_class": dict(zip(names, scores.masks.by_class, strict=True))} if scores.masks else {}),
            "classes_without_training_images": data.task.without_images(data.train.images),
        }

    def write(self, weights: Mapping[str, Tensor], evaluated: Evaluated, progress: RunProgress) -> tuple[Record, str]:
        """Write the averaged weights and the detections, then the results; return the record and a summary."""
        out, data, images = self.config.out, self.inputs.data, self.config.task
        scores: DetectScores = evaluated.result
        record, details = self.record(evaluated, progress), self.details(evaluated, progress)
        notes = record.extra[NOTES]
        facts = {
            "train": without_secrets(images.train),
            "test": without_secrets(images.test),
            "classes": len(data.task.class_names),
        }
        write_file(out / WEIGHTS, sealed_file({name: each.detach().cpu() for name, each in weights.items()}, None))
        with write_whole(out / PREDICTIONS) as file:
            file.write(json.dumps(predictions(scores.evaluation.data, scores.evaluation.found)).encode())
        with write_whole(out / TABLE) as file:
            shown = {"model": self.inputs.pretrained.source, **facts, **vars(record), **record.extra, **details}
            file.write(markdown(shown, notes, title="Detection").encode())
        write_results(
            out,
            [record],
            verb="detect",
            model=self.inputs.pretrained.source,
            fingerprint=self.inputs.pretrained.fingerprint,
            data=facts,
            notes=notes,
            left_out=left_out(train=data.train.images, test=data.test.images),
            bad_images=named_bad(train=read_bad_samples(out), test=scores.evaluation.skipped),
            details=details,
        )
        masks = f", of masks {score_text(MASK, scores.masks.numbers['AP'])}" if scores.masks is not None else ""
        return record, (
            "".join(f"{note}\n" for note in notes)
            + f"AP of boxes {score_text(BOX, scores.boxes.numbers['AP'])}{masks} on "
            f"{counted(record.images, 'test image')}\n{out / PREDICTIONS} has the detections, {out / TABLE} the results"
        )


def box_ap(scores: DetectScores) -> float:
    """AP of boxes. Raises InputError if none of the images that could be decoded shows an object."""
    value = scores.boxes.numbers["AP"]
    if value is None:
        raise InputError(
            "--task.test",
            found="no object in the images that could be decoded",
            wanted="at least one, to be found or missed",
            remedy="Check the images: bad_images of results.json or the log names those that failed.",
        )
    return value


def notes_at_start(config: DetectConfig, inputs: DetectInputs) -> list[str]:
    """Write notes that can be given before the first step: on the data, on masks, and on a run of few steps."""
    task, train = inputs.data.task, inputs.data.train.images
    lacking = task.lacking(train) if config.percent < 100 else []
    without = [] if inputs.masks else ["boxes alone are learnt, without masks"]
    return [*task.notes, *lacking, *without, *few_steps(inputs.plan)]
