"""Image towers of open_clip as models of timm, to be measured beside ours: open_clip:ViT-B-32::laion2b_s34b_b79k.

In: an architecture of open_clip, and behind "::" the tag of its weights or a .safetensors file. Out: timm's model of
the image tower. The features are the input of the projection into the space of captions. A tower that open_clip took
from timm is that model; others are converted by timm, and compared with the tower.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError

from trainer.model.backbone import REFUSALS
from trainer.weights.native import OPEN_CLIP, NativeModel, first_line
from vocab.errors import InputError, MissingRequirementError

PLAIN, QUICK = "vit_base_patch16_clip_224", "vit_base_patch16_clip_quickgelu_224"
"""timm's architectures of open_clip's own transformers, whose sizes are arguments"""
TOLERANCE = 1e-3
"""largest difference of an output, over the largest output: sums of float32 in another order"""
WANTED = "open_clip:ARCHITECTURE::WEIGHTS, where WEIGHTS is a tag of open_clip or a .safetensors file"


def open_clip_model(name: str) -> NativeModel:
    """Build timm's model of an image tower, with its weights.

    Raises MissingRequirementError without open_clip, InputError for a name without weights, for weights that cannot be
    had, and for a tower that no model of timm computes.
    """
    if importlib.util.find_spec("open_clip") is None:
        raise MissingRequirementError(
            name,
            found="no package open_clip",
            wanted="open_clip, which builds its models",
            remedy="Install it: pip install open_clip_torch",
        )
    tower = _tower(name)
    model, arguments = (tower.trunk, {}) if hasattr(tower, "trunk") else _converted(tower, name)
    size = tower.image_size[0] if isinstance(tower.image_size, tuple) else tower.image_size
    seen = tower.preprocess_cfg
    model.pretrained_cfg = {
        **{name: value for name, value in model.pretrained_cfg.items() if name != "state_dict"},
        "input_size": (3, size, size),
        "mean": tuple(seen["mean"]),
        "std": tuple(seen["std"]),
        "crop_pct": 1.0,
        "num_classes": model.num_classes,
    }
    return NativeModel(model.eval(), arguments)


def _tower(name: str) -> Any:
    """Have open_clip build a model with weights, and return its image tower, of a class of open_clip's."""
    import open_clip

    architecture, _, weights = name.removeprefix(OPEN_CLIP).partition("::")
    hub = architecture.startswith("hf-hub:")
    if not hub:
        _check_names(name, architecture, weights, open_clip)
    try:
        built = open_clip.create_model(architecture, pretrained=weights or None, require_pretrained=True)
    except (*REFUSALS, OSError, SafetensorError) as error:
        raise InputError(
            name,
            found=f"no weights that open_clip can load ({first_line(error)})",
            wanted="weights in the cache of the Hugging Face Hub, a network that reaches the hub, or a whole file",
            remedy="Load them once where there is a network, or name a .safetensors file behind the ::.",
        ) from error
    tower = built.visual.eval()
    if hasattr(getattr(tower, "head", None), "pool"):
        raise _unlike(name, "a tower whose pooling is open_clip's own")
    return tower


def _check_names(name: str, architecture: str, weights: str, open_clip: Any) -> None:
    if architecture not in open_clip.list_models():
        raise InputError(
            name,
            found=f"the architecture {architecture or 'of no name'}, which open_clip {open_clip.__version__} lacks",
            wanted=WANTED,
            remedy="open_clip.list_models() has all of them.",
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    is_file = Path(weights).is_file() and weights.endswith(".safetensors")
    if weights not in tags and not is_file:
        raise InputError(
            name,
            found=f"the weights {weights}" if weights else "no weights",
            wanted=WANTED,
            remedy=f"open_clip has weights of {architecture} by the tags {', '.join(tags)}."
            if tags
            else f"open_clip has no weights of {architecture}: name a .safetensors file.",
        )


def _converted(tower: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """Build timm's model of one of open_clip's own transformers, and compare the outputs for an image."""
    import open_clip

    if type(tower) is not open_clip.transformer.VisionTransformer:
        raise _unlike(name, f"a {type(tower).__name__}")
    block = tower.transformer.resblocks[0]
    quick = isinstance(block.mlp.gelu, open_clip.transformer.QuickGELU)
    arguments = {
        "img_size": tower.image_size[0],
        "patch_size": tower.patch_size[0],
        "embed_dim": tower.conv1.out_channels,
        "depth": len(tower.transformer.resblocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.c_fc.out_features / tower.conv1.out_channels,
    }
    classes = 0 if tower.proj is None else tower.proj.shape[1]
    given = {"state_dict": {f"visual.{part}": tensor for part, tensor in tower.state_dict().items()}}
    architecture = QUICK if quick else PLAIN
    about: dict[str, Any] = {"architecture": architecture, "num_classes": classes, "fixed_input_size": True}
    try:
        model = timm.create_model(
            architecture,
            pretrained=True,
            pretrained_cfg={**about, **given, "classifier": "head", "first_conv": "patch_embed.proj"},
            num_classes=classes,
            **arguments,
        ).eval()
    except REFUSALS as error:
        raise _unlike(name, f"a tower that timm cannot convert ({first_line(error)})") from error
    image = torch.linspace(-1, 1, 3 * arguments["img_size"] ** 2).view(1, 3, *tower.image_size)
    with torch.no_grad():
        wanted, found = tower(image), model(image)
    if not (wanted - found).abs().max() <= TOLERANCE * wanted.abs().max():
        raise _unlike(name, "a tower that computes something else than timm's model of the same weights")
    return model, arguments


def _unlike(name: str, found: str) -> InputError:
    return InputError(
        name,
        found=found,
        wanted="an image tower that is a model of timm, or a vision transformer that reads its class token",
        remedy="timm has many of open_clip's towers under names of its own, such as vit_base_patch32_clip_224.laion2b "
        "or resnet50_clip.openai.",
    )
