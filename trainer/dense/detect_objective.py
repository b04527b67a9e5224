"""The objective of a detection step: from the bytes of images and their objects to the sum of the detector's losses."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.data.batch import Batch
from trainer.dense.mask_rcnn import BOX_MAP, MASK_MAP, POSITIVE_BOXES, Detections, Detector, HeadSizes, ObjectTargets
from trainer.model.backbone import meta_copy
from trainer.model.objective import Channels, StepObjective, prepare
from trainer.model.per_image import seeds_of
from trainer.speed.flops import TRAINING_OVER_FORWARD

BOXES, MASKS = "boxes", "masks"
"""names of an object's box and mask in `Batch.by_label`"""


class DetectObjective(StepObjective):
    """A detector with preprocessing. Batch norms of the backbone, if it has any, keep their statistics."""

    def __init__(self, detector: Detector, *, mean: float | Channels, std: float | Channels) -> None:
        """`mean`, `std`: normalisation of pixels from 0 to 255."""
        super().__init__()
        self.model = detector
        self.mean, self.std = mean, std

    def train(self, mode: bool = True) -> DetectObjective:
        """Set the mode; batch norms stay in evaluation."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    @property
    def detector(self) -> Detector:
        """The model, by its type."""
        assert isinstance(self.model, Detector)
        return self.model

    def forward(self, batch: Batch, progress: float) -> Float[Tensor, ""]:
        """Sum of the losses of proposals, classes, boxes and masks."""
        seeds_of(self.detector.backbone.model).set(batch.seeds)
        pixels = prepare(batch.images, None, mean=self.mean, std=self.std)
        losses = self.detector.losses(pixels, targets_of(batch), batch.seeds, batch.weights)
        return torch.stack(list(losses.values())).sum()

    def detect(self, images: UInt8[Tensor, "batch size size 3"]) -> list[Detections]:
        """Find the objects of images."""
        return self.detector.detect(prepare(images, None, mean=self.mean, std=self.std))


def targets_of(batch: Batch) -> list[ObjectTargets]:
    """List the objects of each image of a batch."""
    parts = list(zip(batch.ends[:-1], batch.ends[1:], strict=True))
    boxes, masks = batch.by_label[BOXES], batch.by_label.get(MASKS)
    return [
        ObjectTargets(boxes[first:end], batch.classes[first:end], None if masks is None else masks[first:end])
        for first, end in parts
    ]


class DetectorLayers(nn.Module):
    """The layers of a detector that a training step computes, on boxes without contents, to count what they cost.

    The heads see as many boxes as they may learn from, and the mask head a quarter of them. Anchors, proposals,
    matching and losses, which depend on what images show, are left out.
    """

    def __init__(self, detector: Detector, sizes: HeadSizes) -> None:
        super().__init__()
        self.detector, self.sizes = detector, sizes

    def forward(self, pixels: Float[Tensor, "batch 3 size size"], seeds: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Sum of all outputs."""
        detector, sizes, heads = self.detector, self.sizes, self.detector.heads
        seeds_of(detector.backbone.model).set(seeds)
        boxes = sizes.boxes * len(pixels)
        levels, _ = detector.maps(pixels)
        objectness, deltas = detector.proposals.head(list(levels.values()))
        found = heads.box_predictor(heads.box_head(pixels.new_empty(boxes, sizes.width, BOX_MAP, BOX_MAP)))
        every = [*objectness, *deltas, *found]
        if heads.has_mask():
            inside = pixels.new_empty(int(boxes * POSITIVE_BOXES), sizes.width, MASK_MAP, MASK_MAP)
            every.append(heads.mask_predictor(heads.mask_head(inside)))
        return torch.stack([each.sum() for each in every]).sum()


def detection_flops(detector: Detector, sizes: HeadSizes, *, size: int) -> int:
    """Count the operations of a training image of `size` pixels, forward and backward, by torch and without data.

    Those of `DetectorLayers` count.
    """
    copy = meta_copy(detector).eval()
    assert isinstance(copy, Detector)
    pixels, seeds = torch.empty(1, 3, size, size, device="meta"), torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        DetectorLayers(copy, sizes)(pixels, seeds)
    return TRAINING_OVER_FORWARD * int(counter.get_total_flops())
