"""Average precision and recall of boxes and masks, as COCO defines them, by faster-coco-eval.

A detection counts if it overlaps an object of its class by a threshold of intersection over union; each object is found
once. AP is the mean over thresholds from 0.50 to 0.95 and over classes of the area under precision by recall. Regions
marked as crowds are neither found nor missed. Small objects have less than 32 x 32 pixels, large ones more than
96 x 96.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.coco_tools import evaluator
from trainer.dense.shapes import Polygons, Shape

Kind = Literal["bbox", "segm"]
NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""the twelve numbers, in the order that COCO's evaluation prints"""
ALL_SIZES, MOST_DETECTIONS = 0, -1
"""places in the evaluator's arrays"""


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """Detections of an image, in pixels of the image."""

    boxes: Float32[np.ndarray, "found 4"]
    """left, top, right, bottom"""
    classes: Int64[np.ndarray, " found"]
    scores: Float32[np.ndarray, " found"]
    masks: tuple[Mapping[str, Any], ...] = ()
    """compressed run lengths as COCO has them; none without masks"""


@dataclass(frozen=True)
class Precision:
    """Average precision and recall; None where no object is of that kind."""

    numbers: Mapping[str, float | None]
    """by `NAMES`"""
    by_class: tuple[float | None, ...]
    """AP of each class"""

    @property
    def class_scores(self) -> list[float]:
        """AP of each class; NaN where no object is of that kind."""
        return [math.nan if value is None else value for value in self.by_class]


def average_precision(data: AnnotatedImages, found: Sequence[FoundObjects], kind: Kind) -> Precision:
    """Score the detections of each image against its objects.

    Raises MissingRequirementError without the extra `dense`.
    """
    tools = evaluator()
    truth = tools.COCO(_dataset(data, _objects(data, kind)))
    scored = tools.COCO(_dataset(data, _detections(data, found, kind)))
    evaluation = tools.COCOeval_faster(truth, scored, kind, extra_calc=False)
    evaluation.run()
    precision = evaluation.eval["precision"]
    by_class = [_mean(precision[:, :, number, ALL_SIZES, MOST_DETECTIONS]) for number in range(len(data.categories))]
    numbers = [None if value < 0 else float(value) for value in evaluation.stats[: len(NAMES)]]
    return Precision(dict(zip(NAMES, numbers, strict=True)), tuple(by_class))


def predictions(data: AnnotatedImages, found: Sequence[FoundObjects]) -> list[dict[str, Any]]:
    """Write detections as COCO's result files have them, with the ids of the annotation file."""
    return [
        {
            "image_id": data.ids[image],
            "category_id": data.categories[int(own.classes[number])],
            "bbox": corner_and_sides(own.boxes[number]),
            "score": float(own.scores[number]),
            **({"segmentation": dict(own.masks[number])} if own.masks else {}),
        }
        for image, own in enumerate(found)
        for number in range(len(own.scores))
    ]


def corner_and_sides(box: Float32[np.ndarray, "4"]) -> list[float]:
    """Left, top, width and height of a box."""
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]


def _dataset(data: AnnotatedImages, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Make a data set for the evaluator. Ids are numbers from 1 on: to its matching, 0 is no object."""
    return {
        "images": [
            {"id": number + 1, "width": width, "height": height}
            for number, (width, height) in enumerate(data.sizes.tolist())
        ],
        "categories": [{"id": number + 1, "name": str(each)} for number, each in enumerate(data.categories)],
        "annotations": [{**each, "id": number + 1} for number, each in enumerate(annotations)],
    }


def _objects(data: AnnotatedImages, kind: Kind) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image + 1,
            "category_id": int(data.classes[number]) + 1,
            "bbox": corner_and_sides(data.boxes[number]),
            "area": float(data.areas[number]),
            "iscrowd": int(data.crowds[number]),
            **(
                {"segmentation": _as_stored(data.shapes[number], *data.sizes[image].tolist())} if kind == "segm" else {}
            ),
        }
        for image in range(len(data))
        for number in data.objects(image)
    ]


def _detections(data: AnnotatedImages, found: Sequence[FoundObjects], kind: Kind) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for image, own in enumerate(found):
        boxes = [corner_and_sides(box) for box in own.boxes]
        areas = (
            [int(area) for area in evaluator().mask.area(list(own.masks))]
            if kind == "segm" and own.masks
            else [across * down for _, _, across, down in boxes]
        )
        made += [
            {
                "image_id": image + 1,
                "category_id": int(own.classes[number]) + 1,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "score": float(own.scores[number]),
                **({"segmentation": own.masks[number]} if kind == "segm" else {}),
            }
            for number, (box, area) in enumerate(zip(boxes, areas, strict=True))
        ]
    return made


def _as_stored(shape: Shape | None, width: int, height: int) -> object:
    assert shape is not None
    if isinstance(shape, Polygons):
        return [ring.tolist() for ring in shape.rings]
    return {"size": [height, width], "counts": shape.counts.tolist()}


def _mean(precisions: np.ndarray) -> float | None:
    """Mean over thresholds and recalls; None for a class without an object, which has -1 there."""
    known = precisions[precisions > -1]
    return float(known.mean()) if len(known) else None
