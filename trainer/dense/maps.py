"""Feature maps of a model of timm: for each place of an image, the numbers that some of its blocks or stages give.

    maps = FeatureMaps(pretrained.model, blocks=(-2, -1), size=512)
    maps.specs                     block, channels and stride of each map
    maps(pixels)                   a tensor [batch, channels, rows, columns] of each

A plain vision transformer has a map after each block, at the stride of its patches; a hierarchical or convolutional
model has one after each stage. The class token and registers are left out. With a class-token head nothing trained the
patches that the last block gives, and pre-training does not compute them (`trainer/model/class_token.py`); here the
last block is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.layers.classifier import NormMlpClassifierHead
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.nfnet import NormFreeNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.added_classifier import remove_classifier
from trainer.model.backbone import REFUSALS, architecture_of, meta_copy, patch_of
from trainer.model.class_token import whole_last_block
from vocab.errors import InputError


@dataclass(frozen=True)
class MapSpec:
    """Place and shape of a feature map in its model."""

    block: int
    """number of the block or stage, from 0 at the image"""
    channels: int
    stride: int
    """pixels between two neighbours of the map"""


class OwnValues(nn.Module):
    """Attention of timm in which each token takes its own value, and no other one's.

    A class token reads values of patches, so that the classifier knows them; the patches' own sums of values were never
    trained. (MaskCLIP: Zhou et al., "Extract free dense labels from CLIP", arXiv 2112.01071.)
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: Float[Tensor, "batch tokens width"], **_: Any) -> Float[Tensor, "batch tokens width"]:
        """Values of the tokens after the output projection."""
        attention = self.attention
        width = attention.num_heads * attention.head_dim
        bias = attention.qkv.bias
        values = functional.linear(
            tokens, attention.qkv.weight[2 * width :], None if bias is None else bias[2 * width :]
        )
        taken: Tensor = attention.proj(attention.norm(values))
        return taken


def read_own_values(model: nn.Module) -> bool:
    """Have patches take their own values in the last block, if a class token was trained; tell whether they do."""
    vit: Any = model
    if not isinstance(model, VisionTransformer) or vit.global_pool != "token":
        return False
    whole_last_block(model)
    if type(vit.blocks[-1].attn) is not Attention:
        return False
    vit.blocks[-1].attn = OwnValues(vit.blocks[-1].attn)
    return True


class FeatureMaps(nn.Module):
    """A model of timm that gives maps of some of its blocks or stages, for images of one size."""

    def __init__(self, model: nn.Module, *, size: int, blocks: Sequence[int] = (-1,)) -> None:
        """Take over a model in which images have sides of `size` pixels by now; remove its classifier.

        `blocks`: numbers of blocks or stages, from 0, or from -1 backwards; the maps come in this order. Parameters on
        which no map depends take no gradient from now on.

        Raises InputError for a model without maps, for a block that it lacks, and for a size that it cannot see.
        """
        super().__init__()
        count = count_maps(model)
        self.blocks = tuple(block_number(block, count, model) for block in blocks)
        whole_last_block(model)
        remove_classifier(model)
        self.model = model
        self.specs = _try_out(model, self.blocks, size)

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Maps of normalised images, in the order of `specs`."""
        return maps_of(self.model, pixels, self.blocks)


def maps_of(
    model: nn.Module, pixels: Float[Tensor, "batch 3 size size"], blocks: Sequence[int]
) -> list[Float[Tensor, "batch _ _ _"]]:
    """Maps that a model has after some blocks, which are numbered from 0.

    Those of a plain transformer go through its final norm, as its features do; of other models the last one alone.
    """
    wanted, timm_model = sorted(set(blocks)), cast(Any, model)
    if isinstance(model, VisionTransformer):
        tokens = timm_model.forward_intermediates(
            pixels, indices=wanted, stop_early=True, output_fmt="NLC", intermediates_only=True
        )
        found = [
            _as_map(timm_model.fc_norm(timm_model.norm(each)), timm_model.patch_embed.grid_size) for each in tokens
        ]
    else:
        found = timm_model.forward_intermediates(
            pixels, indices=wanted, norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        if wanted[-1] == count_maps(model) - 1:
            found = [*found[:-1], _finished(timm_model, found[-1])]
    by_block = dict(zip(wanted, found, strict=True))
    return [by_block[block] for block in blocks]


def _finished(model: Any, last: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
    """The last map of a convolutional network, with what timm has between it and the classifier beside the pooling."""
    if isinstance(getattr(model, "head", None), NormMlpClassifierHead):
        # They norm behind the pooling, with one norm for each place.
        normed: Tensor = model.head.norm(last)
        return normed
    if isinstance(model, NormFreeNet):
        activated: Tensor = model.final_act(last)
        return activated
    return last


def count_maps(model: nn.Module) -> int:
    """Count the maps that a model can give. Raises InputError for a model without any."""
    known: Any = getattr(model, "feature_info", None)
    if not hasattr(model, "forward_intermediates") or not known:
        raise InputError(
            "the model",
            found=f"{architecture_of(model)}, which gives no feature maps",
            wanted="an architecture of timm with forward_intermediates",
            remedy="Choose another one, such as vit_base_patch16_224, convnext_tiny or resnet50.",
        )
    return len(known)


def has_plain_patches(model: nn.Module) -> bool:
    """Tell whether a model is a plain vision transformer whose patches may overlap."""
    return isinstance(model, VisionTransformer) and isinstance(getattr(model.patch_embed, "proj", None), nn.Conv2d)


def require_pooled_map(backbone: FeatureMaps, features: int, *, remedy: str) -> None:
    """Raise InputError unless a classifier of `features` numbers can read the last map, as EfficientNet's cannot."""
    channels = backbone.specs[-1].channels
    if channels != features:
        raise InputError(
            "the model",
            found=f"{architecture_of(backbone.model)}, a last map of {channels} channels below a classifier of "
            f"{features} features",
            wanted="a classifier that reads the pooled last map",
            remedy=remedy,
        )


def set_stride(model: nn.Module, stride: int, *, size: int) -> None:
    """Have a plain transformer cut its patches every `stride` pixels, so that they overlap.

    Position embeddings are interpolated to the finer grid. `size`: side of the images, pixels. Raises InputError for
    another model, and for a stride that does not go into patch and size.
    """
    vit: Any = model
    patch = patch_of(model)
    if not has_plain_patches(model) or patch % stride or (patch - stride) % 2 or size % stride:
        raise InputError(
            "--stride",
            found=f"{stride} for {architecture_of(model)} with patches of {patch} and images of {size} pixels",
            wanted="a plain vision transformer, and a stride that divides its patches and the image size",
            remedy="Leave --stride out, or change --image-size.",
        )
    embed = vit.patch_embed
    padding = (patch - stride) // 2
    embed.proj.stride, embed.proj.padding = (stride, stride), (padding, padding)
    before, after = embed.grid_size, (size // stride, size // stride)
    embed.grid_size, embed.num_patches = after, after[0] * after[1]
    if vit.pos_embed is not None:
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        vit.pos_embed = nn.Parameter(
            resample_abs_pos_embed(vit.pos_embed, new_size=after, old_size=before, num_prefix_tokens=prefix).detach()
        )


def block_number(block: int, count: int, model: nn.Module) -> int:
    """Number of a block from 0. Raises InputError for one that the model lacks."""
    if -count <= block < count:
        return block % count
    raise InputError(
        "the blocks",
        found=f"block {block} of {architecture_of(model)}, which has maps of {count}",
        wanted=f"numbers from {-count} to {count - 1}",
        remedy="Choose blocks that the model has; -1 is the last one.",
    )


def _try_out(model: nn.Module, blocks: Sequence[int], size: int) -> tuple[MapSpec, ...]:
    """Compute maps without data: find their shapes, and take the gradient from parameters on which none depends.

    Such are the query of attention pooling, and blocks above the last map.
    """
    copy = meta_copy(model).eval()
    try:
        found = maps_of(copy, torch.empty(1, 3, size, size, device="meta"), blocks)
    except REFUSALS as error:
        raise InputError(
            "--image-size",
            found=f"{size} for {architecture_of(model)}, which gives no maps of such images ({error})",
            wanted="a size that this architecture takes",
            remedy="Choose another size, or another model.",
        ) from error
    learning = [name for name, parameter in copy.named_parameters() if parameter.requires_grad]
    parameters = [copy.get_parameter(name) for name in learning]
    total = torch.stack([each.sum() for each in found]).sum()
    gradients: Sequence[Tensor | None] = torch.autograd.grad(total, parameters, allow_unused=True)
    for name, gradient in zip(learning, gradients, strict=True):
        if gradient is None:
            model.get_parameter(name).requires_grad_(False)
    return tuple(
        MapSpec(block, each.shape[1], size // each.shape[2]) for block, each in zip(blocks, found, strict=True)
    )


def _as_map(
    tokens: Float[Tensor, "batch patches width"], grid: tuple[int, int]
) -> Float[Tensor, "batch width rows columns"]:
    """Arrange patches as they lie in the image."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)
