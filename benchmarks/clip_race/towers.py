"""The image tower that both sides of the CLIP benchmark train, and the proof that it is one and the same.

In: an `Architecture`. Out: open_clip's CLIP with this tower; a check of two towers; arithmetic per image.

    BASE     timm's vit_base_patch16_224 beside the text tower of open_clip's ViT-B-16
    SMALL    for 64 pixels, beside a text tower of the same depth and as wide as makes a sixth of the arithmetic, which
             is ViT-B-16's share too
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vocab.errors import MismatchError, MissingRequirementError

CLIP_MODEL = "ViT-B-16"
CLIP_VOCABULARY = 49408
# Forward and backward pass: twice the forward's products, once for the inputs and once for the weights.
TRAINING = 3
# Share of their norm by which features of one tower may differ: TensorFloat-32 rounds to a thousandth.
MOST_APART = 0.01


@dataclass(frozen=True)
class Text:
    """A text tower that is not ViT-B-16's."""

    tokens: int
    width: int
    depth: int
    heads: int
    embedding: int
    """width of the space that images and texts are projected to"""


@dataclass(frozen=True)
class Architecture:
    """An image tower by timm's names; unset sizes are the model's own."""

    model: str
    image_size: int
    patch_size: int | None = None
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    text: Text | None = None
    """without it ViT-B-16's"""

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the tower that are set, by name."""
        named = {name: getattr(self, name) for name in ("patch_size", "embed_dim", "depth", "num_heads")}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def tokens(self) -> int:
        """Tokens of a caption."""
        return self.text.tokens if self.text is not None else 77


BASE = Architecture("vit_base_patch16_224", image_size=224)
SMALL = Architecture(
    "vit_tiny_patch16_224",
    image_size=64,
    patch_size=16,
    embed_dim=128,
    depth=4,
    num_heads=2,
    text=Text(tokens=24, width=44, depth=4, heads=2, embedding=64),
)


def require_open_clip() -> None:
    """Raise MissingRequirementError if the peer is not installed."""
    if importlib.util.find_spec("open_clip") is None:
        raise MissingRequirementError(
            "CLIP",
            found="no package open_clip",
            wanted="open_clip_torch",
            remedy="Install it with: pip install '.[peers]'",
        )


def build_clip(architecture: Architecture, *, vocabulary: int = CLIP_VOCABULARY, patch_keep: float = 1.0) -> nn.Module:
    """open_clip's CLIP, random weights, with the architecture as its image tower.

    `vocabulary`: tokens that the text tower knows. `patch_keep`: share of the patches that the tower sees in training,
    as open_clip's --force-patch-dropout sets it.
    """
    import open_clip
    from open_clip.model import CLIP

    config: dict[str, Any] = copy.deepcopy(open_clip.get_model_config(CLIP_MODEL))
    text = architecture.text
    if text is not None:
        sizes = {"context_length": text.tokens, "width": text.width, "layers": text.depth, "heads": text.heads}
        config |= {"embed_dim": text.embedding, "text_cfg": sizes}
    config["text_cfg"]["vocab_size"] = vocabulary
    config["vision_cfg"] = {
        "timm_model_name": architecture.model,
        # What timm's own default is, and thereby ours: the class token.
        "timm_pool": "token",
        "image_size": architecture.image_size,
        "patch_dropout": 1 - patch_keep,
    }
    clip: nn.Module = CLIP(**config, output_dict=True)
    if architecture.sizes:
        # open_clip hands no sizes on to timm: the same class, made with them, takes the trunk's place.
        trunk = timm.create_model(
            architecture.model,
            img_size=architecture.image_size,
            num_classes=0,
            patch_drop_rate=1 - patch_keep,
            **architecture.sizes,
        )
        visual = clip.get_submodule("visual")
        visual.trunk = trunk
        visual.get_submodule("head").proj = nn.Linear(trunk.num_features, config["embed_dim"], bias=False)  # type: ignore[arg-type]
    return clip


def require_same_towers(one: nn.Module, other: nn.Module, *, image_size: int) -> tuple[float, float]:
    """GFLOP of a training step per image that each tower takes, classifier and projection aside.

    `one`, `other`: timm transformers, with or without a head. They are the same if their parameters have the same names
    and shapes, and with the same weights they make the same features, whichever way they are computed. Raises
    MismatchError for two that are not.
    """
    weights, others = (
        {name: tensor for name, tensor in tower.named_parameters() if not name.startswith("head.")}
        for tower in (one, other)
    )
    shapes = [{name: tuple(tensor.shape) for name, tensor in own.items()} for own in (weights, others)]
    differing = sorted(dict(shapes[0].items() ^ shapes[1].items()))
    found = f"parameters that differ: {', '.join(differing)}"
    if not differing:
        apart = _distance(one, other, weights, image_size)
        found = f"features that differ by {apart:.3g} of their norm with the same weights"
        if apart < MOST_APART:
            first, second = (
                training_gflops(lambda images, tower=tower: tower.forward_features(images), tower, image_size)  # type: ignore[misc]
                for tower in (one, other)
            )
            return first, second
    raise MismatchError(
        "image towers",
        found=found,
        wanted="the same tower on both sides",
        remedy="Compare the options that timm.create_model is called with on either side.",
    )


class _Pooled(nn.Module):
    """Module that returns the features a tower's head reads, for functional_call."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch width"]:
        """Pooled features."""
        tower: Any = self.tower
        pooled: Tensor = tower.forward_head(tower.forward_features(images), pre_logits=True)
        return pooled


def _distance(one: nn.Module, other: nn.Module, weights: Mapping[str, Tensor], image_size: int) -> float:
    """Norm of the difference of both towers' features of noise, with the weights in both, over the features' norm."""
    device = next(iter(weights.values())).device
    noise = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)).to(device)
    modes = one.training, other.training
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        mine, theirs = (
            functional_call(_Pooled(tower.eval()), {f"tower.{name}": own for name, own in weights.items()}, noise)
            for tower in (one, other)
        )
    one.train(modes[0])
    other.train(modes[1])
    return float((mine - theirs).norm() / mine.norm())


def training_gflops(
    work: Callable[[Float[Tensor, "1 3 size size"]], object], module: nn.Module, image_size: int
) -> float:
    """GFLOP of forward and backward pass of what `work` does with one image; the module is left as it was."""
    before = module.training
    module.eval()
    device = next(module.parameters()).device
    # The counter knows the products of plain attention on every device, of fused kernels only on some.
    eager = torch.compiler.set_stance("force_eager")
    with eager, torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work(torch.zeros(1, 3, image_size, image_size, device=device))
    module.train(before)
    flops: int = counter.get_total_flops()
    return TRAINING * flops / 1e9
