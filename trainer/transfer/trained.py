"""A finished run of segment or detect, for images of one's own.

    segmenter = open_segmenter("runs/b16-ade")
    labels = segmenter.predict(Path("street.jpg").read_bytes())     the number of the class of each pixel
    detector = open_detector("runs/b16-coco")
    found = detector.predict(Path("street.jpg").read_bytes())       boxes, classes and scores, best first

Images are shown as the run showed its test images. The run directory has options, weights, and names of the classes;
the pre-trained model is read once more from where the run read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64

from trainer.data.images import decode
from trainer.dense.average_precision import FoundObjects
from trainer.dense.detect_evaluation import found_in, whole_view
from trainer.dense.detect_objective import DetectObjective
from trainer.dense.heads import LinearSetting
from trainer.dense.objects import Viewer
from trainer.dense.segment_evaluation import SegmentTransform, View, predictions, windows_of
from trainer.dense.segmenter import SegmentObjective
from trainer.distributed import Rank
from trainer.model.objective import StepObjective, evaluating
from trainer.recipes.run_config import stored_options
from trainer.records.record import ResultsFile, read_results
from trainer.transfer import detect, segment
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.segment_results import settings_of
from trainer.weights.folder import WEIGHTS
from trainer.weights.pretrained import Pretrained, open_pretrained
from trainer.weights.run_model import read_result
from vocab.errors import InputError, MismatchError
from vocab.store.locations import Location

Config = TypeVar("Config", SegmentConfig, DetectConfig)
Objective = TypeVar("Objective", bound=StepObjective)


@dataclass(frozen=True, eq=False)
class TrainedSegmenter:
    """A segmentation run's model, in evaluation."""

    class_names: tuple[str, ...]
    objective: SegmentObjective
    head: int
    """number of the head that was chosen"""
    view: View
    transform: SegmentTransform
    rank: Rank

    def predict(self, image: bytes) -> Int64[np.ndarray, "rows columns"]:
        """Predict the number of the class of each pixel of an image file, turned upright. Raises BadImage."""
        how = self.transform.plain.decoding
        picture = decode(image, max_pixels=how.max_pixels, take_truncated=how.take_truncated)
        windows = windows_of(picture, self.view, self.transform)
        with evaluating(self.objective):
            (found,) = predictions(self.objective, windows, self.rank, heads=[self.head], transform=self.transform)
        labels: Int64[np.ndarray, "rows columns"] = found.cpu().numpy()
        return labels


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A detection run's model, in evaluation."""

    class_names: tuple[str, ...]
    objective: DetectObjective
    viewer: Viewer
    squash: bool
    bfloat16: bool
    rank: Rank

    def predict(self, image: bytes) -> FoundObjects:
        """Find the objects of an image file, in its pixels, turned upright. Raises BadImage."""
        picture = decode(image, max_pixels=self.viewer.max_pixels, take_truncated=self.viewer.take_truncated)
        view = whole_view(*picture.size, size=self.viewer.size, squash=self.squash)
        pixels = torch.from_numpy(self.viewer.square(picture, view)[None]).to(self.rank.device)
        with evaluating(self.objective), torch.autocast(self.rank.device.type, torch.bfloat16, enabled=self.bfloat16):
            (found,) = self.objective.detect(pixels)
        return found_in(found, view, *picture.size)


def open_segmenter(run: Path | str, *, model: Location | None = None, device: str = "cpu") -> TrainedSegmenter:
    """Open a finished segmentation run. `model`: the pre-trained model, where it lies elsewhere by now.

    Raises a CatlipError for a run that is not finished, and for another model than it was trained on.
    """
    config, results, pretrained = _opened(Path(run), SegmentConfig, model)
    record, names, rank = results.records[0], _names_of(results), Rank(0, 1, torch.device(device))
    chosen = LinearSetting(record.extra["blocks"], record.extra["learning_rate"])
    settings = settings_of(config) if results.details["miou_on_held_out_images"] else [chosen]
    objective = segment.build_objective(config, pretrained, settings, classes=len(names))
    return TrainedSegmenter(
        names,
        _with_weights(objective, Path(run)).to(rank.device),
        settings.index(chosen),
        record.extra["view"],
        segment.transform_of(config, rank),
        rank,
    )


def open_detector(run: Path | str, *, model: Location | None = None, device: str = "cpu") -> TrainedDetector:
    """Open a finished detection run. Arguments and errors as of `open_segmenter`."""
    config, results, pretrained = _opened(Path(run), DetectConfig, model)
    names, rank = _names_of(results), Rank(0, 1, torch.device(device))
    masks = "mask_ap_by_class" in results.details
    objective = detect.build_objective(config, pretrained, classes=len(names), masks=masks)
    return TrainedDetector(
        names,
        _with_weights(objective, Path(run)).to(rank.device),
        detect.viewer_of(config, pretrained),
        bool(config.squash),
        config.is_bfloat16(rank.device.type),
        rank,
    )


def _opened(run: Path, kind: type[Config], model: Location | None) -> tuple[Config, ResultsFile, Pretrained]:
    """Read options and results of a run, and the model that it began with."""
    results, verb = read_results(run), "segment" if kind is SegmentConfig else "detect"
    has_weights = (run / WEIGHTS).is_file()
    if results.verb != verb or not has_weights:
        raise InputError(
            run,
            found=f"results of {results.verb}" + ("" if has_weights else f" without {WEIGHTS}"),
            wanted=f"a finished run of {verb}",
            remedy="Name its --out.",
        )
    config = stored_options(run / "config.json", kind, verb=verb)
    pretrained = open_pretrained(model or results.model, image_size=config.image_size)
    if pretrained.fingerprint != results.fingerprint:
        raise MismatchError(
            pretrained.source,
            found="another model than the run was trained on",
            wanted=f"the weights of {results.model} as they were then",
            remedy="Name their place by the argument `model`.",
        )
    return config, results, pretrained


def _names_of(results: ResultsFile) -> tuple[str, ...]:
    return tuple(results.details["class_names"])


def _with_weights(objective: Objective, run: Path) -> Objective:
    """Put a run's averaged weights into what it trained."""
    objective.model.load_state_dict(read_result(run / WEIGHTS))
    return objective
