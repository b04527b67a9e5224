"""A feature pyramid for detection: maps of one width at five strides, from the maps of a backbone.

A plain transformer has one map. ViTDet's simple pyramid (Li et al., arXiv 2203.16527, section 3) makes the others of
it, at a quarter, half, once and twice its stride. Stages of other architectures have their own strides. Either way a
convolution of 1x1 and one of 3x3 follow, each with a norm over the channels, and the coarsest map is pooled once more.

A pyramid with a top-down path also adds each coarser map to the finer one between the two convolutions (Lin et al.,
arXiv 1612.03144). Stages need the path, for the early ones know little of objects; CatLIP's detector has it for plain
transformers too, and ViTDet found that they do not need it.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from trainer.dense.maps import MapSpec

NORM_EPSILON = 1e-6


class Pyramid(nn.Module):
    """Maps of one width at ascending strides, from the maps of a backbone."""

    def __init__(self, specs: Sequence[MapSpec], *, width: int, top_down: bool) -> None:
        """`specs`: maps of the backbone, by ascending stride; of a single one four are made."""
        super().__init__()
        single = len(specs) == 1
        scales = [scaling(specs[0].channels, step) for step in (4, 2, 1, 0.5)] if single else []
        self.scales = nn.ModuleList(scale for scale, _ in scales)
        channels = [made for _, made in scales] if single else [spec.channels for spec in specs]
        strides = [specs[0].stride // 4 * factor for factor in (1, 2, 4, 8)] if single else [s.stride for s in specs]
        self.strides = (*strides, 2 * strides[-1])
        self.top_down = top_down
        self.lateral = nn.ModuleList(convolution(each, width, kernel=1) for each in channels)
        self.output = nn.ModuleList(convolution(width, width, kernel=3) for _ in channels)

    def forward(self, maps: Sequence[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch width _ _"]]:
        """The pyramid's maps, by ascending stride."""
        scaled = [scale(maps[0]) for scale in self.scales] if len(self.scales) else list(maps)
        lateral = [layer(each) for layer, each in zip(self.lateral, scaled, strict=True)]
        if self.top_down:
            for level in reversed(range(len(lateral) - 1)):
                above = functional.interpolate(lateral[level + 1], size=lateral[level].shape[2:], mode="nearest")
                lateral[level] = lateral[level] + above
        levels = [layer(each) for layer, each in zip(self.output, lateral, strict=True)]
        return [*levels, functional.max_pool2d(levels[-1], kernel_size=1, stride=2)]


def scaling(channels: int, factor: float) -> tuple[nn.Module, int]:
    """Make the layers that scale a map's sides by 4, 2, 1 or 0.5, and tell the channels that they give."""
    if factor == 1:
        return nn.Identity(), channels
    if factor < 1:
        return nn.MaxPool2d(2), channels
    half = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
    if factor == 2:
        return half, channels // 2
    quarter = nn.ConvTranspose2d(channels // 2, channels // 4, 2, stride=2)
    return nn.Sequential(half, LayerNorm2d(channels // 2, eps=NORM_EPSILON), nn.GELU(), quarter), channels // 4


def convolution(channels: int, width: int, *, kernel: int) -> nn.Sequential:
    """Make a convolution that keeps a map's sides, and a norm over the channels of each place."""
    own = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(own.weight, a=1)
    return nn.Sequential(own, LayerNorm2d(width, eps=NORM_EPSILON))
