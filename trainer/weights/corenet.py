"""CoreNet's vision transformer, as the released CatLIP weights have it: built with timm, its weights renamed to timm's.

The model computes what CoreNet's `vit` computes (apple/corenet, modeling/models/classification/vit.py):

    4x4 convolution, stride 4, padding 1, no bias; batch norm; GELU
    2x2 convolution, stride 2, no bias; batch norm; GELU
    2x2 convolution, stride 2
    + position embeddings of the patches; a class token without one in front
    pre-norm blocks; layer norm (eps 1e-6); classifier of the class token

timm has this as vit_base_mci_224, for MobileCLIP, and only in this width. It differs in one number: no padding in the
first convolution, where CoreNet's layers pad by int((4 - 1) / 2) = 1 (modeling/layers/conv_layer.py). So timm's model
sees an image a pixel away from where these weights expect it, and gives other logits; that is why these models have a
name of their own, which timm refuses.

    CoreNet                                                 timm
    patch_emb.0.block.conv.weight [192, 3, 4, 4]            patch_embed.backbone.0.conv.weight
    patch_emb.0.block.norm.running_mean [192]               patch_embed.backbone.0.bn.running_mean
    pos_embed.pos_embed.pos_embed [1, 1, 196, 768]          pos_embed [1, 196, 768]
    cls_token [1, 1, 768]                                   cls_token
    transformer.0.pre_norm_mha.0.weight                     blocks.0.norm1.weight
    transformer.0.pre_norm_mha.1.qkv_proj.weight            blocks.0.attn.qkv.weight
    transformer.0.pre_norm_mha.1.out_proj_attn.weight       blocks.0.attn.proj.weight      (out_proj. without flash)
    transformer.0.pre_norm_ffn.0.weight                     blocks.0.norm2.weight
    transformer.0.pre_norm_ffn.1.weight                     blocks.0.mlp.fc1.weight
    transformer.0.pre_norm_ffn.4.weight                     blocks.0.mlp.fc2.weight
    post_transformer_norm.weight                            norm.weight
    classifier.weight [24320, 768]                          head.weight
    neural_augmentor.brightness._low []                     not taken: RangeAugment's ranges, for training alone

From modeling/modules/flash_transformer.py and transformer.py, modeling/layers/. Queries, keys and values lie in
qkv_proj one after the other and heads inside them, as in timm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.hybrid_embed import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import Tensor, nn

from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted

ARCHITECTURE = "catlip_conv_stem_vit"
FIRST_CONV = "patch_embed.backbone.0.conv"
KERNELS = STRIDES = (4, 2, 2)
PADDING = (1, 0, 0)
PATCH = 16
"""side of a patch, pixels: the product of the strides"""


@dataclass(frozen=True)
class ConvStemSizes:
    """The sizes of one of these models; `model_args` of its config.json."""

    img_size: int
    """side of the image, pixels"""
    stem_width: int
    """number of channels of the first two convolutions"""
    embed_dim: int
    depth: int
    num_heads: int
    mlp_width: int


def build_conv_stem(shape: ConvStemSizes, *, classes: int) -> nn.Module:
    """Build the model with random weights; `classes` 0 leaves out the classifier."""
    stem = ConvStem(
        channels=(shape.stem_width, shape.stem_width, shape.embed_dim),
        kernel_size=KERNELS,
        stride=STRIDES,
        padding=PADDING,
        act_layer=nn.GELU,
    )
    model: nn.Module = VisionTransformer(
        img_size=shape.img_size,
        patch_size=1,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        mlp_ratio=shape.mlp_width / shape.embed_dim,
        num_classes=classes,
        no_embed_class=True,
        embed_layer=partial(HybridEmbed, backbone=stem, proj=False),
    )
    return model


# All released configurations have heads of this width.
HEAD_WIDTH = 64
AUGMENTOR = "neural_augmentor."
REMEDY = "Give a file of weights that was released for CatLIP pre-training: vit_base.pt, vit_large.pt or vit_huge.pt."

_NORM = ("weight", "bias")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_BLOCK = {
    "pre_norm_mha.0": "norm1",
    "pre_norm_mha.1.qkv_proj": "attn.qkv",
    "pre_norm_ffn.0": "norm2",
    "pre_norm_ffn.1": "mlp.fc1",
    "pre_norm_ffn.4": "mlp.fc2",
}


@dataclass(frozen=True)
class Converted:
    """Weights under timm's names."""

    tensors: dict[str, Tensor]
    shape: ConvStemSizes
    classes: int


def convert(found: Mapping[str, Tensor], *, image_size: int) -> Converted:
    """Rename the weights to timm's names, and write the position embeddings for `image_size`.

    Raises InputError for a tensor that is missing, unknown, or of a shape that does not fit the others.
    """
    tensors = {name: tensor for name, tensor in found.items() if not name.startswith(AUGMENTOR)}
    names = _names(tensors)
    missing, unknown = names.keys() - tensors.keys(), tensors.keys() - names.keys()
    if missing or unknown:
        faults = [f"no {_some(missing)}"] if missing else []
        faults += [f"{_some(unknown)}, which the model lacks"] if unknown else []
        raise InputError(
            "weights",
            found=" and ".join(faults),
            wanted="the tensors of CoreNet's vision transformer with a class token",
            remedy=REMEDY,
        )
    renamed = {names[name]: _float32(tensor) for name, tensor in tensors.items()}
    shape, classes = _sizes(renamed, names, image_size=image_size)
    renamed["pos_embed"] = positions(renamed["pos_embed"], image_size=image_size)
    return Converted(renamed, shape, classes)


def positions(stored: Float[Tensor, "1 1 stored width"], *, image_size: int) -> Float[Tensor, "1 patches width"]:
    """Position embeddings of the patches of an image, as CoreNet gives them (modeling/layers/positional_embedding.py).

    For another number of patches than was stored, they are interpolated linearly along the sequence, which runs through
    the rows of the image one after another; timm interpolates over the two sides. So this is done here, on import.
    """
    count = (image_size // PATCH) ** 2
    if stored.shape[2] != count:
        stored = F.interpolate(stored, size=(count, stored.shape[3]), mode="bilinear")
    return stored[0]


def _names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Map of CoreNet's names to timm's, for as many blocks as the tensors have."""
    numbers = [int(match[1]) for name in tensors if (match := re.match(r"transformer\.([0-9]{1,4})\.", name))]
    flash = any(".out_proj_attn." in name for name in tensors)
    block = _BLOCK | {f"pre_norm_mha.1.out_proj{'_attn' if flash else ''}": "attn.proj"}
    names = {"cls_token": "cls_token", "pos_embed.pos_embed.pos_embed": "pos_embed"}
    for place in range(3):
        ours, theirs = f"patch_embed.backbone.{place}", f"patch_emb.{place}.block"
        names[f"{theirs}.conv.weight"] = f"{ours}.conv.weight"
        if place < 2:
            names |= {f"{theirs}.norm.{part}": f"{ours}.bn.{part}" for part in _BATCH_NORM}
        else:
            names[f"{theirs}.conv.bias"] = f"{ours}.conv.bias"
    # A gap among the numbers shows as missing tensors. Bounded: a number of thousands must not make millions of names.
    for number in range(min(max(numbers, default=0) + 1, len(tensors))):
        for theirs, ours in block.items():
            names |= {f"transformer.{number}.{theirs}.{part}": f"blocks.{number}.{ours}.{part}" for part in _NORM}
    for theirs, ours in (("post_transformer_norm", "norm"), ("classifier", "head")):
        names |= {f"{theirs}.{part}": f"{ours}.{part}" for part in _NORM}
    return names


def _sizes(tensors: Mapping[str, Tensor], names: Mapping[str, str], *, image_size: int) -> tuple[ConvStemSizes, int]:
    """The model's sizes, read from a few tensors; the shapes of all must be those of a model of these sizes."""
    read = (f"{FIRST_CONV}.weight", "norm.weight", "blocks.0.mlp.fc1.weight", "head.weight")
    stem, width, hidden, classes = (max([1, *tensors[name].shape[:1]]) for name in read)
    if width > 1 and width % HEAD_WIDTH:
        raise InputError("weights", found=f"width {width}", wanted=f"a multiple of {HEAD_WIDTH}", remedy=REMEDY)
    shape = ConvStemSizes(
        img_size=image_size,
        stem_width=stem,
        embed_dim=width,
        depth=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        num_heads=max(1, width // HEAD_WIDTH),
        mlp_width=hidden,
    )
    with torch.device("meta"):
        model = build_conv_stem(shape, classes=classes)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = tensors["pos_embed"].shape[2] if tensors["pos_embed"].ndim == 4 else 0
    expected["pos_embed"] = (1, 1, math.isqrt(stored) ** 2, width)
    theirs = {ours: name for name, ours in names.items()}
    for name, wanted in expected.items():
        if tuple(tensors[name].shape) != wanted or 0 in wanted:
            raise InputError(
                theirs[name],
                found=f"a tensor of shape {list(tensors[name].shape)}",
                wanted=f"{list(wanted)}, to fit the other tensors",
                remedy=REMEDY,
            )
    return shape, classes


def check_classes(converted: Converted, classes: int) -> None:
    """Raise MismatchError unless the classifier has `classes` classes."""
    if converted.classes != classes:
        raise MismatchError(
            "classifier",
            found=counted(converted.classes, "class", "classes"),
            wanted=f"{classes:,}",
            remedy="Weights that were fine-tuned (ImageNet, Places) have other classes than the vocabulary; "
            "give those of the pre-training, or the right --classes.",
        )


def _float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3:,} more" if len(shown) > 3 else "")
