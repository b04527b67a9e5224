"""The objective of a segmentation step: from the bytes of images and their masks to the loss, mean over the pixels.

With linear heads the backbone is frozen and only the heads are the model that learns; with DeepLab all of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16, Int64, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.data.batch import Batch
from trainer.dense.heads import side_by_side
from trainer.dense.label_maps import IGNORED
from trainer.dense.maps import FeatureMaps
from trainer.model.objective import Channels, StepObjective, prepare
from trainer.model.per_image import seeds_of
from trainer.step.step import black_batch

MASKS = "masks"
"""name of the masks in `Batch.by_image`"""
LOGITS_AT_ONCE = 1 << 26
"""logits of pixels that exist at a time; a backward pass computes them again"""
LOGITS_COPIES = 3
"""float32 numbers for each logit of a pixel: the logit, its log-probability, and the gradient of that"""


class Segmenter(nn.Module):
    """A backbone with its head: all that learns where the backbone is not frozen."""

    def __init__(self, backbone: FeatureMaps, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def no_weight_decay(self) -> set[str]:
        """Names, or patterns of names, that timm exempts from weight decay in the backbone."""
        model: Any = self.backbone.model
        spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        return {f"backbone.model.{name}" for name in spared}


class SegmentObjective(StepObjective):
    """Feature maps of a backbone, and one or more heads on them."""

    def __init__(
        self,
        backbone: FeatureMaps,
        head: nn.Module,
        choices: Sequence[Sequence[int]],
        *,
        frozen: bool,
        mean: float | Channels,
        std: float | Channels,
    ) -> None:
        """`head`: gives a list of logits from maps and seeds. `choices`: for each map that it reads, the positions of
        the backbone's maps that are joined for it.

        `mean`, `std`: normalisation of pixels from 0 to 255.
        """
        super().__init__()
        self.frozen, self.choices = frozen, [tuple(choice) for choice in choices]
        self.mean, self.std = mean, std
        if frozen:
            self.backbone = backbone.requires_grad_(False)
            self.model = head
        else:
            self.model = Segmenter(backbone, head)

    def train(self, mode: bool = True) -> SegmentObjective:
        """Set the mode; batch norms of the backbone keep their statistics, and a frozen one stays in evaluation."""
        super().train(mode)
        backbone, _ = self._parts()
        for part in [backbone] if self.frozen else backbone.modules():
            if self.frozen or isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def forward(self, batch: Batch, progress: float) -> Float[Tensor, ""]:
        """Mean cross entropy over all pixels, of which ignored ones have none, and over all heads."""
        backbone, head = self._parts()
        if not self.frozen:
            seeds_of(backbone.model).set(batch.seeds)
        every = head(self.maps(batch.images), batch.seeds)
        masks = batch.by_image[MASKS]
        losses = [pixel_loss(logits, masks, align_corners=head.align_corners) for logits in every]
        return torch.stack(losses).mean()

    def maps(self, images: UInt8[Tensor, "batch size size 3"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Feature maps that the head reads."""
        backbone, _ = self._parts()
        pixels = prepare(images, None, mean=self.mean, std=self.std)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found = backbone(pixels)
        return [side_by_side([found[position] for position in choice]) for choice in self.choices]

    def logits(self, maps: Sequence[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch classes _ _"]]:
        """Logits of each head at the places of its map, in evaluation."""
        _, head = self._parts()
        found: list[Tensor] = head(maps)
        return found

    @property
    def align_corners(self) -> bool:
        """Tell how logits are interpolated to pixels."""
        return bool(self._parts()[1].align_corners)

    @property
    def backbone_maps(self) -> FeatureMaps:
        """Feature maps below the head."""
        return self._parts()[0]

    def _parts(self) -> tuple[FeatureMaps, Any]:
        owner = self if self.frozen else self.model
        head = self.model if self.frozen else self.model.head
        backbone = owner.backbone
        assert isinstance(backbone, FeatureMaps)
        return backbone, head


class BlackStep(nn.Module):
    """The loss of black images whose pixels are all of one class, to count what a step keeps."""

    def __init__(self, objective: SegmentObjective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, pixels: Float[Tensor, "batch 3 size size"], seeds: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Loss of black images of the number and size of `pixels`, which are not read."""
        count, size = len(pixels), pixels.shape[2]
        masks = torch.zeros(count, size, size, dtype=torch.int16)
        loss: Tensor = self.objective(replace(black_batch(count, size), seeds=seeds, by_image={MASKS: masks}), 0.0)
        return loss


def logits_bytes(images: int, *, classes: int, size: int) -> int:
    """Count the bytes that the loss of so many images takes at a time, in the forward pass and in the backward pass."""
    elements = classes * size**2
    return 4 * LOGITS_COPIES * elements * min(images, max(1, LOGITS_AT_ONCE // elements))


def pixel_loss(
    logits: Float[Tensor, "batch classes rows columns"], masks: Int16[Tensor, "batch size size"], *, align_corners: bool
) -> Float[Tensor, ""]:
    """Cross entropy of logits that are interpolated to the masks' pixels: its sum over the number of all pixels.

    Ignored pixels count as pixels without loss, so that the mean over parts of a batch is that of the batch.
    """
    images, classes = logits.shape[:2]
    at_once = max(1, LOGITS_AT_ONCE // (classes * masks[0].numel()))
    total = logits.new_zeros((), dtype=torch.float32)
    for first in range(0, images, at_once):
        some = slice(first, first + at_once)
        part = checkpoint(_loss_sum, logits[some], masks[some], align_corners, use_reentrant=False)
        total = total + part
    return total / masks.numel()


def _loss_sum(logits: Tensor, masks: Tensor, align_corners: bool) -> Tensor:
    fitted = to_pixels(logits, (masks.shape[1], masks.shape[2]), align_corners=align_corners)
    return F.cross_entropy(fitted, masks.long(), ignore_index=IGNORED, reduction="sum")


def to_pixels(
    logits: Float[Tensor, "batch classes rows columns"], size: tuple[int, int], *, align_corners: bool
) -> Float[Tensor, "batch classes _ _"]:
    """Interpolate logits to the rows and columns of an image, in float32."""
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=align_corners)
