"""Heads of segmentation: from the feature maps of a backbone to logits of each class at each place.

    linear     batch norm, dropout, 1x1 convolution: DINOv3's (Siméoni et al., arXiv 2508.10104); one for each choice of
               blocks and each learning rate, trained at once, as their gradients have nothing to do with each other
    deeplab    DeepLabv3's pyramid of dilated convolutions (Chen et al., arXiv 1706.05587), as CatLIP has it: 512
               channels, norms over channels, no further convolution below the classifier

Batch norm of a linear head has no scale and no shift, for the convolution above it has both. Dropout leaves out whole
channels of an image, by the image's seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from trainer.model.hashes import CHANNEL_STREAM, keys, words
from trainer.probe.linear import Head, random_head
from trainer.transfer.dense_config import BLOCKS

DILATIONS = (12, 24, 36)
"""dilations of DeepLabv3's three convolutions at a stride of 8; at larger strides they cover as many pixels"""
DILATION_STRIDE = 8
NORM_EPSILON = 1e-6
_NUMBERS = 2**32


def blocks_of_choice(choice: str, count: int) -> tuple[int, ...]:
    """Numbers, from the end, of the blocks that "last", "last4" or "-2" means in a model of `count` blocks."""
    found = BLOCKS.fullmatch(choice)
    assert found is not None, choice
    if found["number"]:
        return (int(found["number"]),)
    return tuple(range(-min(int(found["count"] or 1), count), 0))


class ChannelDropout(nn.Module):
    """In training, leave out a share of an image's channels, chosen by the image's seed, and scale up the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, features: Float[Tensor, "batch channels rows columns"], seeds: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch channels rows columns"]:
        """`seeds`: of the images; not read in evaluation."""
        if not self.training or self.rate == 0:
            return features
        assert seeds is not None
        positions = torch.arange(features.shape[1], device=features.device)
        kept = words(keys(seeds, CHANNEL_STREAM)[:, None], positions) >= round(self.rate * _NUMBERS)
        return features * (kept.to(features.dtype) / (1 - self.rate))[:, :, None, None]


@dataclass(frozen=True)
class LinearSetting:
    """Blocks that a linear head reads, and its learning rate."""

    blocks: str
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.blocks}, {self.learning_rate}"


class LinearHeads(nn.Module):
    """Linear heads of all settings."""

    align_corners = False

    def __init__(
        self,
        settings: Sequence[LinearSetting],
        channels: dict[str, int],
        *,
        classes: int,
        dropout: float,
        seed: int,
    ) -> None:
        """`channels`: width of the maps of each choice of blocks."""
        super().__init__()
        self.settings = tuple(settings)
        self.choices = tuple(channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in channels.values())
        self.dropout = ChannelDropout(dropout)
        self.classifiers = nn.ModuleList(
            _classifier(random_head(classes, channels[setting.blocks], seed=seed)) for setting in settings
        )

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _ _ _"]], seeds: Int64[Tensor, " batch"] | None = None
    ) -> list[Float[Tensor, "batch classes _ _"]]:
        """Logits of each setting; `maps`: those of each choice of blocks, side by side."""
        # A norm is computed once for all learning rates: its statistics are those of the batch.
        normed = [self.dropout(norm(each), seeds) for norm, each in zip(self.norms, maps, strict=True)]
        return [
            classifier(normed[self.choices.index(setting.blocks)])
            for setting, classifier in zip(self.settings, self.classifiers, strict=True)
        ]

    def lr_scales(self) -> dict[str, float]:
        """Factor on the largest learning rate for each parameter."""
        largest = max(setting.learning_rate for setting in self.settings)
        return {
            f"classifiers.{number}.{name}": setting.learning_rate / largest
            for number, setting in enumerate(self.settings)
            for name in ("weight", "bias")
        }

    @torch.no_grad()
    def begin_with(self, head: Head, mean: Float[Tensor, " width"], deviation: Float[Tensor, " width"]) -> None:
        """Give all settings a classifier of features as they are, which have this mean and deviation in training."""
        assert len(self.norms) == 1
        for norm in self.norms:
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(deviation.square())
        for classifier in self.classifiers:
            put_classifier(classifier, head.weight * deviation, head.bias + head.weight @ mean)


def _classifier(head: Head) -> nn.Conv2d:
    classes, width = head.weight.shape
    made = nn.Conv2d(width, classes, 1)
    put_classifier(made, head.weight, head.bias)
    return made


@torch.no_grad()
def put_classifier(classifier: nn.Module, weight: Float[Tensor, "classes width"], bias: Tensor) -> None:
    """Write the weights of a linear classifier into a 1x1 convolution."""
    assert isinstance(classifier, nn.Conv2d)
    assert classifier.bias is not None
    classifier.weight.copy_(weight[:, :, None, None])
    classifier.bias.copy_(bias)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels at each place of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPSILON)

    def forward(self, features: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch channels _ _"]:
        """The normed map, in float32."""
        return super().forward(features.permute(0, 2, 3, 1).float()).permute(0, 3, 1, 2)


class DeepLabHead(nn.Module):
    """DeepLabv3's head with the paper's sizes."""

    align_corners = True

    def __init__(self, channels: int, *, stride: int, classes: int, width: int, dropout: float, seed: int) -> None:
        """`stride`: pixels between neighbours of the map; `width`: channels of each branch."""
        super().__init__()
        dilations = [max(1, round(dilation * DILATION_STRIDE / stride)) for dilation in DILATIONS]
        self.branches = nn.ModuleList(
            [
                _branch(channels, width, size=1),
                *(_branch(channels, width, size=3, dilation=dilation) for dilation in dilations),
            ]
        )
        self.pooled = _branch(channels, width, size=1)
        self.joined = _branch(5 * width, width, size=1)
        self.dropout = ChannelDropout(dropout)
        self.classifier = _classifier(random_head(classes, width, seed=seed))

    def forward(
        self, maps: Sequence[Float[Tensor, "batch channels rows columns"]], seeds: Int64[Tensor, " batch"] | None = None
    ) -> list[Float[Tensor, "batch classes rows columns"]]:
        """Logits, the only ones of a list."""
        (features,) = maps
        whole = self.pooled(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[2:])
        joined = self.joined(torch.cat([*(branch(features) for branch in self.branches), whole], dim=1))
        return [self.classifier(self.dropout(joined, seeds))]


def _branch(channels: int, width: int, *, size: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation if size > 1 else 0
    convolution = nn.Conv2d(channels, width, size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(convolution, ChannelNorm(width), nn.ReLU())


def side_by_side(maps: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch _ _ _"]:
    """Join maps along their channels, coarser ones interpolated to the finest."""
    rows = max(each.shape[2] for each in maps)
    columns = max(each.shape[3] for each in maps)
    fitted = [
        each
        if each.shape[2:] == (rows, columns)
        else F.interpolate(each, (rows, columns), mode="bilinear", align_corners=False)
        for each in maps
    ]
    return torch.cat(fitted, dim=1) if len(fitted) > 1 else fitted[0]
