"""Detection of a data set's objects with the weights as they are, over all ranks, in pixels of the images."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.images import BadImage
from trainer.data.labelled_images import Read
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.average_precision import FoundObjects
from trainer.dense.coco_tools import mask_tools
from trainer.dense.detect_objective import DetectObjective
from trainer.dense.mask_rcnn import Detections
from trainer.dense.objects import DRAWS, ImageView, Jitter, Viewer, view_of
from trainer.distributed import Rank, gather, raise_alike
from trainer.model.objective import evaluating
from vocab.errors import InputError

INSIDE = 0.5
"""probability from which a pixel belongs to an object"""


@dataclass(frozen=True, eq=False)
class DetectEvaluation:
    """Detections in a set of images, on the main rank."""

    data: AnnotatedImages
    """the images that could be decoded, with their objects"""
    found: list[FoundObjects]
    """detections in each of them"""
    skipped: list[Skipped]


def evaluate(
    objective: DetectObjective,
    data: AnnotatedImages,
    rank: Rank,
    *,
    viewer: Viewer,
    squash: bool,
    transform: EvalTransform,
) -> DetectEvaluation | None:
    """Find the objects of all images; None on ranks other than the main one, which all must call.

    Raises InputError on the main rank, and SystemExit on the others, if none of the images can be decoded.
    """
    own = np.arange(rank.index, len(data), rank.world)
    done: list[tuple[int, FoundObjects]] = []
    skipped: list[tuple[int, Skipped]] = []
    with evaluating(objective), data.images.store.open() as read:
        for images, pixels, reasons in _shown(data, own, read, viewer, squash=squash, transform=transform):
            bad = [reason is not None for reason in reasons]
            if not all(bad):
                with torch.autocast(rank.device.type, torch.bfloat16, enabled=transform.bfloat16):
                    every = objective.detect(torch.from_numpy(pixels).to(rank.device))
                for image, detections, is_bad in zip(images, every, bad, strict=True):
                    if not is_bad:
                        sides = data.sizes[image].tolist()
                        view = whole_view(*sides, size=viewer.size, squash=squash)
                        done.append((image, found_in(detections, view, *sides)))
            skipped += [
                (image, Skipped("", data.images.names[image], reason))
                for image, reason in zip(images, reasons, strict=True)
                if reason is not None
            ]
    gathered = gather((done, skipped), rank)
    everything = sorted((each for some, _ in gathered for each in some), key=lambda each: each[0])
    left_out = sorted((each for _, some in gathered for each in some), key=lambda each: each[0])
    if not everything:
        error = InputError(
            "the images to test on",
            found=f"none of {len(left_out)} that can be decoded; {left_out[0][1].key}: {left_out[0][1].reason}",
            wanted="at least one",
            remedy="Check the images.",
        )
        raise_alike(error, rank)
    if not rank.is_main:
        return None
    numbers = np.array([image for image, _ in everything], np.int64)
    return DetectEvaluation(
        data.select(numbers), [found for _, found in everything], [skipped for _, skipped in left_out]
    )


def whole_view(width: int, height: int, *, size: int, squash: bool) -> ImageView:
    """The view of evaluation: the whole image."""
    jitter = Jitter(1.0, 1.0, squash=squash, flip=False)
    return view_of(width, height, size=size, jitter=jitter, draws=np.zeros(DRAWS))


def _shown(
    data: AnnotatedImages,
    own: Int64[np.ndarray, " own"],
    read: Read,
    viewer: Viewer,
    *,
    squash: bool,
    transform: EvalTransform,
) -> Iterator[tuple[list[int], UInt8[np.ndarray, "batch size size 3"], list[str | None]]]:
    """Squares of some images at a time, and the reason of each that could not be decoded, which is black."""

    def load(image: int) -> tuple[UInt8[np.ndarray, "size size 3"], str | None]:
        try:
            view = whole_view(*data.sizes[image].tolist(), size=viewer.size, squash=squash)
            return viewer.pixels(data, read, image, view), None
        except BadImage as bad:
            return np.zeros((viewer.size, viewer.size, 3), np.uint8), str(bad)

    def begin(first: int) -> tuple[list[int], Iterator[tuple[UInt8[np.ndarray, "size size 3"], str | None]]]:
        some = own[first : first + transform.batch].tolist()
        return some, pool.map(load, some)

    with ThreadPoolExecutor(max(1, transform.decoding.threads), "decode") as pool:
        firsts = list(range(0, len(own), transform.batch))
        ahead = [begin(first) for first in firsts[:1]]
        for number in range(len(firsts)):
            # Those that come next are decoded while these are looked at.
            ahead += [begin(first) for first in firsts[number + 1 : number + 2]]
            some, made = ahead.pop(0)
            pixels, reasons = zip(*made, strict=True)
            yield some, np.stack(pixels), list(reasons)


def found_in(detections: Detections, view: ImageView, width: int, height: int) -> FoundObjects:
    """Put detections back into the pixels of their image; those that lie outside of it are left out."""
    boxes = view.to_image(detections.boxes.cpu().numpy())
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    masks = detections.masks
    encoded = [] if masks is None else run_lengths(masks.cpu()[kept], boxes[kept], width=width, height=height)
    return FoundObjects(
        boxes[kept], detections.classes.cpu().numpy()[kept], detections.scores.cpu().numpy()[kept], tuple(encoded)
    )


def run_lengths(
    masks: Float32[Tensor, "found side side"], boxes: Float32[np.ndarray, "found 4"], *, width: int, height: int
) -> list[dict[str, object]]:
    """Compressed run lengths of masks that lie inside their boxes, in an image of this size."""
    made = []
    for mask, box in zip(masks, boxes, strict=True):
        encoded = mask_tools().encode(np.asfortranarray(pasted(mask, box, width=width, height=height), np.uint8))
        counts = encoded["counts"]
        text = counts.decode() if isinstance(counts, bytes) else counts
        made.append({"size": [height, width], "counts": text})
    return made


def pasted(
    mask: Float32[Tensor, "side side"], box: Float32[np.ndarray, "4"], *, width: int, height: int
) -> Bool[np.ndarray, "height width"]:
    """Pixels of an image whose centre lies where a mask inside a box has a probability of INSIDE or more (bilinear)."""
    left, top, right, bottom = box.tolist()
    columns = torch.arange(int(left), min(width, int(np.ceil(right))))
    rows = torch.arange(int(top), min(height, int(np.ceil(bottom))))
    across = 2 * (columns + 0.5 - left) / (right - left) - 1
    down = 2 * (rows + 0.5 - top) / (bottom - top) - 1
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=2).to(mask.dtype)
    seen = functional.grid_sample(mask[None, None], places[None], align_corners=False)[0, 0]
    whole = np.zeros((height, width), bool)
    whole[int(top) : int(top) + len(rows), int(left) : int(left) + len(columns)] = (seen >= INSIDE).numpy()
    return whole
