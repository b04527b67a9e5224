"""The vision transformer of the released CatLIP weights: three convolutions cut the image into patches.

In: its sizes. Out: a timm VisionTransformer that computes what CoreNet's `vit` computes (apple/corenet,
modeling/models/classification/vit.py), under timm's names.

    4x4 convolution, stride 4, padding 1, no bias; batch norm; GELU
    2x2 convolution, stride 2, no bias; batch norm; GELU
    2x2 convolution, stride 2
    + position embeddings of the patches; a class token without one in front
    pre-norm blocks; layer norm (eps 1e-6); classifier of the class token

timm has this as vit_base_mci_224, for MobileCLIP, and only in this width. It differs in one number: no padding in the
first convolution, where CoreNet's layers pad by int((4 - 1) / 2) = 1 (modeling/layers/conv_layer.py). So timm's model
sees an image a pixel away from where these weights expect it, and gives other logits; that is why these models have a
name of their own, which timm refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from timm.layers.hybrid_embed import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn

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
    """channels of the first two convolutions"""
    embed_dim: int
    depth: int
    num_heads: int
    mlp_width: int


def build(shape: ConvStemSizes, *, classes: int) -> nn.Module:
    """The model with random weights; `classes` 0 leaves out the classifier."""
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
