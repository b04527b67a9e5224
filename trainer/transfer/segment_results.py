"""Results of a segmentation run: the choice of a setting, scores and a page at each evaluation, the record at the end.

In: the averaged weights, held-out training images, test images. Out: numbers in the log, page.html and classes.csv; at
the end model.safetensors, results.json and results.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from trainer.checkpoints.safetensors_files import sealed_file
from trainer.data.batch import Skipped
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
from trainer.distributed import Rank, on_main
from trainer.job import Evaluated
from trainer.model.objective import evaluating
from trainer.records.classes import ClassScores
from trainer.records.gallery import GalleryImage
from trainer.records.journal import RunProgress
from trainer.records.ledger import read_bad_samples
from trainer.records.log import SCORE
from trainer.records.page import finetune_page, write_page
from trainer.records.record import INTERVAL, NOTES, Record, named_bad, score_text, write_results
from trainer.step.training import Training
from trainer.transfer.batches import EpochPlan
from trainer.transfer.class_tables import STEM, no_match_note, write_matches
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.finetune_results import TABLE, check_training, few_steps, markdown, renewed
from trainer.transfer.tasks.files import check_bad_share, left_out, undecoded
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import WEIGHTS
from trainer.weights.pretrained import Pretrained
from vocab.pages.text import counted
from vocab.store.files import write_file, write_whole
from vocab.store.secrets import without_secrets

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


@dataclass(frozen=True, eq=False)
class Chosen:
    """An evaluation of the test images with the setting that held-out images chose."""

    head: int
    on_held_out: dict[str, float]
    """mIoU of each setting on held-out images"""
    test: SegmentEvaluation

    def scores(self, view: View) -> SegmentScores:
        """Scores of the test images under a view."""
        return self.test.scores[view, self.head]


@dataclass(frozen=True, eq=False)
class SegmentResults:
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    config: SegmentConfig
    """complete options"""
    rank: Rank
    inputs: SegmentInputs
    matches: list[ClassMatch]
    """matches of each class, for Transfer Init"""
    training: Training[SegmentObjective]
    transform: SegmentTransform

    def is_due(self, step: int) -> bool:
        """Tell whether a step ended an epoch that an evaluation follows."""
        return self.inputs.plan.evaluation_due(step, every=self.config.eval_every)

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
        if found is None:
            return None
        chosen = Chosen(head, on_held_out, found)
        numbers, miou = self.numbers(chosen), chosen.scores(self.main_view).miou
        epoch = self.inputs.plan.epochs_seen(step)
        return Evaluated(
            {"epoch": epoch, **{f"{SCORE}{name}": value for name, value in numbers.items()}},
            chosen,
            shown={"epoch": f"{epoch:g}", "miou": score_text("miou", miou)},
        )

    def numbers(self, chosen: Chosen) -> dict[str, float | int]:
        """Measures under the main view, and mIoU under both."""
        return {
            "images": len(chosen.test.images),
            "bad_images": len(chosen.test.skipped),
            **chosen.scores(self.main_view).numbers(self.inputs.data.train.pixels),
            **{f"miou_{view}": chosen.scores(view).miou for view in VIEWS},
        }

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[GalleryImage]:
        """Write page.html and classes.csv; no pictures for the log.

        Raises InputError if too many of the test images are bad.
        """
        chosen: Chosen = evaluated.result
        images = len(chosen.test.images)
        check_bad_share("--task.test", images, chosen.test.skipped, self.config.task.max_bad_share)
        classes = self.classes_of(chosen)
        content = finetune_page(
            self.config.out,
            {**self.details(evaluated, progress), **self.record(evaluated, progress).extra},
            model=self.inputs.pretrained.source,
            classes=classes,
            total_steps=self.inputs.plan.steps,
            seconds=progress.seconds,
            learnt="trained for segmentation",
            pictures=self.pictures(chosen),
        )
        write_page(self.config.out, content, classes)
        return []

    def pictures(self, chosen: Chosen) -> list[Prediction]:
        """Show the best, the median and the worst test images."""
        test, names = self.inputs.data.test, self.inputs.data.task.class_names
        by_image = chosen.scores(self.main_view).by_image
        how = self.transform.plain.decoding
        made = []
        with evaluating(self.training.objective), test.images.store.open() as read:
            for title, position in shown_images(by_image):
                image = int(chosen.test.images[position])
                picture, true = load_pair(
                    test, image, read, max_pixels=how.max_pixels, take_truncated=how.take_truncated
                )
                windows = windows_of(picture, self.main_view, self.transform)
                (given,) = predictions(
                    self.training.objective, windows, self.rank, heads=[chosen.head], transform=self.transform
                )
                title = f"{title}: mIoU {score_text('miou', float(by_image[position]))}"
                made.append(mask_prediction(title, test.images.names[image], picture, true, given.cpu().numpy(), names))
        return made

    def classes_of(self, chosen: Chosen) -> ClassScores:
        """IoU of each class, with its share of the training pixels and the number of test images that show it."""
        test, names = self.inputs.data.test, self.inputs.data.task.class_names
        pixels = self.inputs.data.train.pixels
        shares = (pixels / max(1, pixels.sum())).tolist()
        rows = [
            (name, f"{share:.4%}", images)
            for name, share, images in zip(names, shares, test.images.images_by_class.tolist(), strict=True)
        ]
        return ClassScores(("class", "train_pixels", "images", "iou"), rows, chosen.scores(self.main_view).iou.tolist())

    def check_training(self, totals: Counter[str], skipped: Sequence[Skipped], last: bool) -> None:
        """Raise InputError if too many training images are bad, or all; after the `last` step, of however few."""
        check_training(totals, skipped, last, most=self.config.task.max_bad_share)

    def write_start(self) -> None:
        """Write what every class begins with, for Transfer Init."""
        if self.matches:
            with renewed(self.config.out / STEM) as work:
                write_matches(self.matches, work, alpha=self.config.alpha)

    def record(self, evaluated: Evaluated, progress: RunProgress) -> Record:
        config, chosen = self.config, evaluated.result
        scores = chosen.scores(self.main_view)
        setting = self.inputs.settings[chosen.head]
        extra = {
            **self.numbers(chosen),
            INTERVAL: list(scores.interval()),
            "head": config.head,
            "blocks": setting.blocks,
            "learning_rate": setting.learning_rate,
            "view": self.main_view,
            "steps": progress.step,
            "images_seen": progress.images,
            "epochs_seen": self.inputs.plan.epochs_seen(progress.step),
            "train_images": len(self.inputs.train),
            NOTES: self._notes(chosen),
        }
        return Record(
            task=" | ".join(without_secrets(images) for images in (config.task.train, config.task.test)),
            method="segment",
            init=config.init,
            percent=config.percent,
            seed=config.seed,
            metric="miou",
            value=scores.miou,
            images=len(chosen.test.images),
            seconds=round(progress.seconds, 1),
            extra=extra,
        )

    def _notes(self, chosen: Chosen) -> list[str]:
        unseen = np.flatnonzero(np.isnan(chosen.scores(self.main_view).iou)).tolist()
        names = [self.inputs.data.task.class_names[number] for number in unseen]
        left_out_classes = (
            f"mIoU is over {counted(len(self.inputs.data.task.class_names) - len(names), 'class', 'classes')}"
        )
        return [
            *no_match_note(self.matches),
            *notes_at_start(self.config, self.inputs),
            *([f"{left_out_classes}: no test image shows the others, and none was predicted"] if names else []),
            *undecoded(train=read_bad_samples(self.config.out), test=chosen.test.skipped),
        ]

    def details(self, evaluated: Evaluated, progress: RunProgress) -> dict[str, Any]:
        """Make the facts of results.json that only segmentation has."""
        chosen: Chosen = evaluated.result
        data = self.inputs.data
        iou = chosen.scores(self.main_view).iou.tolist()
        return {
            "epochs": self.config.epochs,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "parameters": sum(parameter.numel() for parameter in self.training.objective.parameters()),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            "held_out_images": len(self.inputs.held_out) if self.inputs.held_out is not None else 0,
            "miou_on_held_out_images": chosen.on_held_out,
            "iou_by_class": {
                name: None if math.isnan(value) else value
                for name, value in zip(data.task.class_names, iou, strict=True)
            },
            "classes_without_training_images": data.task.without_images(self.inputs.train.images),
            "pixels": {side: pixels_of(getattr(data, side), data.task.class_names) for side in ("train", "test")},
        }

    def write(self, weights: Mapping[str, Tensor], evaluated: Evaluated, progress: RunProgress) -> tuple[Record, str]:
        """Write the averaged weights of what was trained, then the results; return the record and a summary."""
        out, data, images = self.config.out, self.inputs.data, self.config.task
        record, details = self.record(evaluated, progress), self.details(evaluated, progress)
        notes = record.extra[NOTES]
        facts = {
            "train": without_secrets(images.train),
            "test": without_secrets(images.test),
            "classes": len(data.task.class_names),
        }
        write_file(out / WEIGHTS, sealed_file({name: each.detach().cpu() for name, each in weights.items()}, None))
        with write_whole(out / TABLE) as file:
            shown = {"model": self.inputs.pretrained.source, **facts, **vars(record), **record.extra, **details}
            file.write(markdown(shown, notes, title="Segmentation").encode())
        write_results(
            out,
            [record],
            verb="segment",
            model=self.inputs.pretrained.source,
            fingerprint=self.inputs.pretrained.fingerprint,
            data=facts,
            notes=notes,
            left_out=left_out(train=data.train.images, test=data.test.images),
            bad_images=named_bad(train=read_bad_samples(out), test=evaluated.result.test.skipped),
            details=details,
        )
        return record, (
            "".join(f"{note}\n" for note in notes)
            + f"mIoU {score_text('miou', record.value)} on {counted(record.images, 'test image')}, "
            f"by the setting {self.inputs.settings[evaluated.result.head]}\n{out / TABLE} has the results"
        )


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
