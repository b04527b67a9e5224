"""Mask R-CNN on the feature maps of a pre-trained backbone; Faster R-CNN where objects have no masks.

He et al., "Mask R-CNN" (arXiv 1703.06870), with the choices of ViTDet (arXiv 2203.16527) and CatLIP: a pyramid of
strides 4 to 64 (`pyramid.py`), anchors of eight strides in three ratios, two convolutions in the proposal head, four in
the box head and the mask head, and norms over the channels of each place. Anchors, matching, box coding and suppression
are torchvision's. Anchors that overlap an object by less than 0.3 are background, as in torchvision and detectron2;
CoreNet's configuration has 0.7 there, by a default of its option parser.

Layers compute under autocast where a run asks for it; boxes, scores and losses are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, roi_align

from trainer.dense.maps import FeatureMaps
from trainer.dense.pyramid import NORM_EPSILON, Pyramid
from trainer.dense.sampling import SeededSampler

ANCHOR_STRIDES, ANCHOR_RATIOS = 8, (0.5, 1.0, 2.0)
"""side of an anchor in strides of its map, and its heights over its widths"""
PROPOSAL_FOREGROUND, PROPOSAL_BACKGROUND, PROPOSAL_NMS = 0.7, 0.3, 0.7
ANCHORS_AN_IMAGE, POSITIVE_ANCHORS = 256, 0.5
BOX_OVERLAP, POSITIVE_BOXES, BOX_NMS = 0.5, 0.25, 0.5
LEAST_SCORE, MOST_DETECTIONS = 0.05, 100
BOX_MAP, MASK_MAP, SAMPLES = 7, 14, 2
"""sides of what the heads see of a box, and points that each place averages, squared"""
MASK_SIDE = 2 * MASK_MAP
"""side of a predicted mask"""
ANCHOR_STREAM, BOX_STREAM = 0x80000011, 0x80000012
LAST_MAP = "last"
"""name of the backbone's last map among those of the heads"""
SMOOTH = 1 / 9
"""error from which the box loss is linear"""

Norm = partial(LayerNorm2d, eps=NORM_EPSILON)


@dataclass(frozen=True)
class HeadSizes:
    """Sizes of the parts above the backbone."""

    width: int = 256
    """channels of pyramid and heads; the box head's vector has four times as many numbers"""
    convolutions: int = 4
    """convolutions of the box head, and of the mask head"""
    proposals: int = 1000
    """boxes of an image that pass on in evaluation; twice as many in training"""
    boxes: int = 512
    """boxes of an image that the box head learns from"""


@dataclass(frozen=True, eq=False)
class ObjectTargets:
    """Objects of an image, in pixels of the model's input."""

    boxes: Float32[Tensor, "objects 4"]
    """left, top, right, bottom"""
    classes: Int64[Tensor, " objects"]
    masks: UInt8[Tensor, "objects side side"] | None
    """mask of each object inside its box, scaled to a square, 0 to 255"""


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects found in an image, best first."""

    boxes: Float32[Tensor, "found 4"]
    """left, top, right, bottom, in pixels of the model's input"""
    classes: Int64[Tensor, " found"]
    scores: Float32[Tensor, " found"]
    masks: Float32[Tensor, "found side side"] | None
    """probability of each place of the box, scaled to a square"""


class Detector(nn.Module):
    """A backbone, a pyramid, proposals, and heads for boxes and masks."""

    def __init__(
        self,
        backbone: FeatureMaps,
        *,
        classes: int,
        sizes: HeadSizes,
        masks: bool,
        top_down: bool,
        rows: bool = False,
    ) -> None:
        """`rows`: classify a box by the backbone's own features inside it as well, for Transfer Init."""
        super().__init__()
        self.backbone = backbone
        self.pyramid = Pyramid(backbone.specs, width=sizes.width, top_down=top_down)
        self.proposals = proposal_network(self.pyramid.strides, sizes)
        last = backbone.specs[-1]
        self.heads = object_heads(len(self.pyramid.strides) - 1, sizes, classes=classes, masks=masks)
        self.heads.rows = BoxRows(last.channels, classes, stride=last.stride) if rows else None

    def losses(
        self,
        pixels: Float[Tensor, "batch 3 size size"],
        targets: Sequence[ObjectTargets],
        seeds: Int64[Tensor, " batch"],
        weights: Float[Tensor, " batch"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses by name, each a mean over images: over what may be chosen of an image, or over its boxes with a mask.

        `weights`: 0 for an unusable image.
        """
        for sampler in (self.proposals.fg_bg_sampler, self.heads.fg_bg_sampler):
            sampler.set(seeds, weights)
        given = [
            {"boxes": own.boxes, "labels": own.classes + 1, **({} if own.masks is None else {"masks": own.masks})}
            for own in targets
        ]
        levels, maps = self.maps(pixels)
        shapes = [tuple(pixels.shape[2:])] * len(pixels)
        boxes, of_proposals = self.proposals(ImageList(pixels, shapes), levels, given)
        _, of_objects = self.heads({**levels, **maps}, boxes, shapes, given)
        return {**of_proposals, **of_objects}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters of the backbone that timm spares from weight decay."""
        model: Any = self.backbone.model
        spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        return {f"backbone.model.{name}" for name in spared}

    def detect(self, pixels: Float[Tensor, "batch 3 size size"]) -> list[Detections]:
        """Find the objects of images."""
        levels, maps = self.maps(pixels)
        shapes = [tuple(pixels.shape[2:])] * len(pixels)
        boxes, _ = self.proposals(ImageList(pixels, shapes), levels, None)
        found, _ = self.heads({**levels, **maps}, boxes, shapes, None)
        return [Detections(each["boxes"], each["labels"] - 1, each["scores"], each.get("masks")) for each in found]

    def maps(self, pixels: Float[Tensor, "batch 3 size size"]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The pyramid's maps by the names that torchvision's parts know them by, and the backbone's last; float32."""
        maps = self.backbone(pixels)
        levels = self.pyramid(maps)
        return {str(number): level.float() for number, level in enumerate(levels)}, {LAST_MAP: maps[-1].float()}


class BoxRows(nn.Module):
    """A linear classifier of the mean of the backbone's last map inside a box.

    The pre-trained classifier reads the mean of that map over the image, or a vector near it in models that norm behind
    the pooling, as ViT and ConvNeXt do: its rows can be this one's first weights. The box head adds its own logits.
    """

    def __init__(self, channels: int, classes: int, *, stride: int) -> None:
        super().__init__()
        self.linear, self.stride = nn.Linear(channels, classes), stride

    def features(
        self, last: Float32[Tensor, "batch channels _ _"], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float32[Tensor, "boxes channels"]:
        """Mean of the map inside each box of each image."""
        scale = 1 / self.stride
        inside = roi_align(last, list(boxes), BOX_MAP, scale, SAMPLES, aligned=True)
        mean: Tensor = inside.mean((2, 3))
        return mean

    def forward(
        self, last: Float32[Tensor, "batch channels _ _"], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float32[Tensor, "boxes classes_1"]:
        """Logits of each box; 0 for the background, of which the pre-trained classifier knows nothing."""
        logits = self.linear(self.features(last, boxes)).float()
        return functional.pad(logits, (1, 0))


class ProposalHead(nn.Module):
    """Two convolutions on every map, then for each anchor whether it holds an object, and how its box differs."""

    def __init__(self, width: int, anchors: int) -> None:
        super().__init__()
        layers = [(nn.Conv2d(width, width, 3, padding=1, bias=False), Norm(width), nn.ReLU()) for _ in range(2)]
        self.shared = nn.Sequential(*(part for layer in layers for part in layer))
        self.objectness = nn.Conv2d(width, anchors, 1)
        self.deltas = nn.Conv2d(width, 4 * anchors, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.01)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and deltas of each map's anchors, float32."""
        shared = [self.shared(level) for level in levels]
        return [self.objectness(each).float() for each in shared], [self.deltas(each).float() for each in shared]


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision publishes no types
    """torchvision's proposal network, with losses over the anchors that may be chosen of the images."""

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Losses of objectness and of boxes, over ANCHORS_AN_IMAGE for each image."""
        positives, negatives = (torch.cat(own) for own in self.fg_bg_sampler(labels))
        chosen, positive = (positives | negatives).nonzero()[:, 0], positives.nonzero()[:, 0]
        # A constant, not the number of those chosen: the mean over ranks or parts of a batch is then that of all.
        count = self.fg_bg_sampler.count * len(labels)
        found = functional.binary_cross_entropy_with_logits(
            objectness.flatten()[chosen], torch.cat(labels)[chosen], reduction="sum"
        )
        return found / count, box_loss(pred_bbox_deltas[positive], torch.cat(regression_targets)[positive]) / count


class ObjectHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's heads on boxes, with masks that are given and compared inside their boxes."""

    rows: BoxRows | None
    """classifier by the backbone's own features; None without Transfer Init"""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections of each image without `targets`, losses with them."""
        if targets is not None:
            return [], self._losses(features, proposals, image_shapes, targets)
        logits, deltas = self._boxes_of(features, proposals, image_shapes)
        found = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        result = [dict(zip(("boxes", "scores", "labels"), each, strict=True)) for each in zip(*found, strict=True)]
        if self.has_mask():
            masks = self._masks_of(features, [each["boxes"] for each in result], image_shapes).sigmoid()
            labels = torch.cat([each["labels"] for each in result])
            own = masks[torch.arange(len(masks), device=masks.device), labels]
            for each, part in zip(result, torch.split(own, [len(each["boxes"]) for each in result]), strict=True):
                each["masks"] = part
        return result, {}

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        proposals, matched, by_image, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self._boxes_of(features, proposals, shapes)
        labels = torch.cat(by_image)
        positive = (labels > 0).nonzero()[:, 0]
        count = self.fg_bg_sampler.count * len(proposals)
        own = deltas.view(len(labels), deltas.shape[1] // 4, 4)[positive, labels[positive]]
        losses = {
            "classes": functional.cross_entropy(logits, labels, reduction="sum") / count,
            "boxes": box_loss(own, torch.cat(wanted)[positive]) / count,
        }
        if self.has_mask():
            numbers = [(each > 0).nonzero()[:, 0] for each in by_image]
            boxes = [each[own] for each, own in zip(proposals, numbers, strict=True)]
            objects = [each[own] for each, own in zip(matched, numbers, strict=True)]
            masks = self._masks_of(features, boxes, shapes)
            seen = torch.cat(
                [
                    mask_targets(target["masks"], target["boxes"], box, number)
                    for target, box, number in zip(targets, boxes, objects, strict=True)
                ]
            )
            own = masks[torch.arange(len(masks), device=masks.device), labels[positive]]
            by_box = functional.binary_cross_entropy_with_logits(own, seen, reduction="none").mean((1, 2))
            # Each image's own mean, not that of all boxes: the mean over ranks or parts of a batch is then that of all.
            shares = torch.cat(
                [each.new_full((len(each),), 1 / max(1, len(each)), dtype=torch.float32) for each in numbers]
            )
            losses["masks"] = (by_box * shares).sum() / len(proposals)
        return losses

    def _boxes_of(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]
    ) -> tuple[Float32[Tensor, "boxes classes"], Float32[Tensor, "boxes deltas"]]:
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, shapes)))
        if self.rows is not None:
            logits = logits.float() + self.rows(features[LAST_MAP], boxes)
        return logits.float(), deltas.float()

    def _masks_of(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]
    ) -> Float32[Tensor, "boxes classes side side"]:
        masks: Tensor = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, shapes)))
        return masks.float()


def proposal_network(strides: Sequence[int], sizes: HeadSizes) -> ProposalNetwork:
    """Make the part that proposes boxes, from maps of these strides."""
    anchors = AnchorGenerator(tuple((ANCHOR_STRIDES * stride,) for stride in strides), (ANCHOR_RATIOS,) * len(strides))
    network = ProposalNetwork(
        anchors,
        ProposalHead(sizes.width, len(ANCHOR_RATIOS)),
        PROPOSAL_FOREGROUND,
        PROPOSAL_BACKGROUND,
        ANCHORS_AN_IMAGE,
        POSITIVE_ANCHORS,
        {"training": 2 * sizes.proposals, "testing": sizes.proposals},
        {"training": 2 * sizes.proposals, "testing": sizes.proposals},
        PROPOSAL_NMS,
    )
    network.fg_bg_sampler = SeededSampler(ANCHORS_AN_IMAGE, positive_share=POSITIVE_ANCHORS, stream=ANCHOR_STREAM)
    return network


def object_heads(levels: int, sizes: HeadSizes, *, classes: int, masks: bool) -> ObjectHeads:
    """Make the heads on boxes, which see the finest `levels` maps. Class 0 of the heads is background."""
    width, vector, names = sizes.width, 4 * sizes.width, [str(level) for level in range(levels)]
    layers = [width] * sizes.convolutions
    of_masks: tuple[nn.Module | None, ...] = (None, None, None)
    if masks:
        upsampled = nn.ConvTranspose2d(width, width, 2, stride=2)
        predictor = nn.Sequential(upsampled, Norm(width), nn.ReLU(), nn.Conv2d(width, classes + 1, 1))
        of_masks = (
            MultiScaleRoIAlign(names, MASK_MAP, SAMPLES),
            MaskRCNNHeads(width, layers, 1, norm_layer=Norm),
            predictor,
        )
    heads = ObjectHeads(
        MultiScaleRoIAlign(names, BOX_MAP, SAMPLES),
        FastRCNNConvFCHead((width, BOX_MAP, BOX_MAP), layers, [vector], norm_layer=Norm),
        FastRCNNPredictor(vector, classes + 1),
        BOX_OVERLAP,
        BOX_OVERLAP,
        sizes.boxes,
        POSITIVE_BOXES,
        None,
        LEAST_SCORE,
        BOX_NMS,
        MOST_DETECTIONS,
        *of_masks,
    )
    heads.fg_bg_sampler = SeededSampler(sizes.boxes, positive_share=POSITIVE_BOXES, stream=BOX_STREAM)
    return heads


def box_loss(deltas: Float[Tensor, "boxes 4"], wanted: Float[Tensor, "boxes 4"]) -> Float[Tensor, ""]:
    """Smooth L1 loss of boxes, summed."""
    return functional.smooth_l1_loss(deltas, wanted, beta=SMOOTH, reduction="sum")


def mask_targets(
    masks: UInt8[Tensor, "objects side side"],
    owners: Float[Tensor, "objects 4"],
    boxes: Float[Tensor, "boxes 4"],
    objects: Int64[Tensor, " boxes"],
) -> Float32[Tensor, "boxes out out"]:
    """Part of an object's mask that lies in each box, 0 to 1, of MASK_SIDE x MASK_SIDE places.

    `masks`: inside the objects' own boxes, `owners`; `objects`: number of the object that a box belongs to. Outside of
    an object's own box there is nothing of it.
    """
    if not len(boxes):
        return boxes.new_zeros(0, MASK_SIDE, MASK_SIDE)
    side = masks.shape[1]
    own = owners[objects]
    extent = (own[:, 2:] - own[:, :2]).clamp(min=1e-6).repeat(1, 2)
    inside = (boxes - own[:, :2].repeat(1, 2)) / extent * side
    regions = torch.cat([objects[:, None].to(inside.dtype), inside], dim=1)
    cut = roi_align(masks[:, None].float(), regions, MASK_SIDE, aligned=True)
    found: Tensor = cut[:, 0] / 255
    return found
