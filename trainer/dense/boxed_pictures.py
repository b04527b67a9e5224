"""Pictures of detections for a run's page: a test image, and the image with its true and its found objects.

Boxes and masks have the colours of their classes (`pictures.py`). Detections are shown, and images ranked, at one
score: an image's own score is the F1 of its boxes at an intersection over union of one half, crowds aside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from PIL import Image, ImageDraw
from torchvision.ops import box_iou

from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.average_precision import FoundObjects
from trainer.dense.pictures import LISTED, Prediction, colour_of, jpeg_of, legend_of, masked_picture
from trainer.dense.shapes import Mask, RunLengths, decompressed, mask_of

SHOWN_SCORE, OVERLAP = 0.5, 0.5
LINE = 2
"""width of a box's line, pixels"""


def image_scores(data: AnnotatedImages, found: Sequence[FoundObjects]) -> Float64[np.ndarray, " images"]:
    """F1 of each image's detections; NaN where there is neither an object nor a detection."""
    return np.array([_f1(data, image, own) for image, own in enumerate(found)])


def _f1(data: AnnotatedImages, image: int, own: FoundObjects) -> float:
    objects = [number for number in data.objects(image) if not data.crowds[number]]
    shown = np.flatnonzero(own.scores >= SHOWN_SCORE)
    if not objects and not len(shown):
        return np.nan
    overlaps = box_iou(torch.from_numpy(own.boxes[shown]), torch.from_numpy(data.boxes[objects])).numpy()
    overlaps[own.classes[shown][:, None] != data.classes[objects][None]] = 0
    hits = 0
    # Detections come best first, and each takes the object that it overlaps most.
    for row in range(len(shown)):
        if overlaps.shape[1] and overlaps[row].max() >= OVERLAP:
            overlaps[:, overlaps[row].argmax()] = 0
            hits += 1
    return 2 * hits / (len(objects) + len(shown))


def box_prediction(
    title: str, picture: Image.Image, data: AnnotatedImages, image: int, own: FoundObjects
) -> Prediction:
    """Make the picture of an image's objects and detections; its legend has the commonest classes of both."""
    width, height = picture.size
    objects = [number for number in data.objects(image) if not data.crowds[number]]
    shown = np.flatnonzero(own.scores >= SHOWN_SCORE)
    shapes = [data.shapes[number] for number in objects]
    true = [mask_of(shape, width=width, height=height) for shape in shapes if shape is not None]
    given = [
        mask_of(RunLengths(decompressed(own.masks[number]["counts"])), width=width, height=height)
        for number in shown.tolist()
        if own.masks
    ]
    drawn = (
        picture,
        _drawn(picture, data.boxes[objects], data.classes[objects], true if len(true) == len(objects) else []),
        _drawn(picture, own.boxes[shown], own.classes[shown], given),
    )
    labels, counts = np.unique(np.concatenate([data.classes[objects], own.classes[shown]]), return_counts=True)
    common = labels[np.argsort(-counts, kind="stable")][:LISTED].tolist()
    return Prediction(
        title, data.images.names[image], tuple(map(jpeg_of, drawn)), legend_of(common, data.images.labels)
    )


def _drawn(
    picture: Image.Image, boxes: np.ndarray, classes: Int64[np.ndarray, " objects"], masks: Sequence[Mask]
) -> Image.Image:
    """Lay masks over a picture, the first on top, and draw boxes."""
    labels = np.full((picture.height, picture.width), -1, np.int64)
    for mask, label in list(zip(masks, classes.tolist(), strict=True))[::-1] if masks else []:
        labels[mask > 0] = label
    drawn = masked_picture(picture, labels)
    pen = ImageDraw.Draw(drawn)
    for box, label in zip(boxes.tolist(), classes.tolist(), strict=True):
        pen.rectangle(box, outline=colour_of(label), width=LINE)
    return drawn
