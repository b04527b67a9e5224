"""The model: a timm vision transformer with one logit per class of the vocabulary; its weights keep timm's names."""

from __future__ import annotations

import difflib
import re
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.data.resolution import check_size
from trainer.model.class_token import spare_last_block
from trainer.model.per_image import install
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary


def build_model(config: ModelConfig, vocabulary: Vocabulary, *, image_size: int, one_size: bool = True) -> nn.Module:
    """Build a model with random weights, and the log-odds of each class's frequency as the classifier's bias.

    That is the best guess of a model that sees nothing: without it the first hundreds of steps go into learning that
    most classes are absent. Arguments and errors otherwise as in `architecture`.
    """
    model = architecture(config, classes=len(vocabulary), image_size=image_size, one_size=one_size)
    with torch.no_grad():
        classifier_of(model, config.model).bias.copy_(torch.from_numpy(vocabulary.log_odds))
    return model


def architecture(config: ModelConfig, *, classes: int, image_size: int, one_size: bool = True) -> nn.Module:
    """Build a model with random weights.

    `image_size`: the size that position embeddings are made for; without `one_size`, other sizes are accepted too, and
    the embeddings are interpolated at each step. Attention is torch's fused one, and the last block computes only what
    the classifier reads (`class_token.py`). Randomness in training comes from the images' seeds (`per_image.py`), which
    `seeds_of(model)` must be given. Raises InputError for an architecture that timm lacks, or options that it cannot
    have.
    """
    _check_name(config.model)
    given = timm_arguments(config, image_size=image_size, one_size=one_size)
    try:
        model: nn.Module = timm.create_model(
            config.model, num_classes=classes, drop_path_rate=config.drop_path, **given
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(
            "--model",
            found=f"{config.model} with {given}, which timm cannot build ({error})",
            wanted="a vision transformer and sizes it can have",
            remedy="Change the model options.",
        ) from error
    _check_patches(model, image_size)
    classifier_of(model, config.model)
    spare_last_block(model)
    install(model, patch_keep=config.patch_keep)
    return model


def timm_arguments(config: ModelConfig, *, image_size: int, one_size: bool) -> dict[str, Any]:
    """Make the arguments of timm.create_model beside the name, the classes and those that only training needs."""
    sizes = {name: getattr(config, name) for name in ("patch_size", "embed_dim", "depth", "num_heads", "global_pool")}
    given = {name: value for name, value in sizes.items() if value is not None}
    return {**given, "img_size": image_size, **({} if one_size else {"dynamic_img_size": True})}


def on_meta(config: ModelConfig, *, classes: int, image_size: int, one_size: bool = False) -> nn.Module:
    """Build the model without weights, to count work, parameters and memory. Arguments, errors: see `architecture`."""
    with torch.device("meta"):
        return architecture(config, classes=classes, image_size=image_size, one_size=one_size)


def features(model: nn.Module, images: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch width"]:
    """Features of images in [-1, 1], which the classifier reads; `model(images)` is the classifier of them."""
    pooled: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return pooled


def checkpoint_activations(model: nn.Module, *, enable: bool = True) -> None:
    """Keep only the inputs of blocks, and compute each block again in the backward pass; `enable=False` undoes it.

    Raises InputError for an architecture that cannot do so.
    """
    try:
        # Architectures of timm that cannot do so lack the method, or assert that it is not asked for.
        model.set_grad_checkpointing(enable=enable)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise InputError(
            "--activation-checkpointing",
            found=f"{type(model).__name__}, which cannot compute its blocks again",
            wanted="an architecture whose set_grad_checkpointing takes True",
            remedy="Leave it out, or choose a plain vision transformer of timm, such as vit_base_patch16_224.",
        ) from error


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """List the transformer's blocks, first to last; none where they are called otherwise, or stand in stages."""
    blocks = list(model.get_submodule("blocks").children()) if hasattr(model, "blocks") else []
    return [] if any(isinstance(block, nn.ModuleList) for block in blocks) else blocks


def classifier_of(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer that gives the logits. Raises InputError for an architecture without one."""
    head = model.get_submodule("head") if hasattr(model, "head") else None
    # A distilled model has two, and takes the mean of their logits.
    if not isinstance(head, nn.Linear) or hasattr(model, "head_dist"):
        raise InputError(
            "--model",
            found=f"{name}, whose head is {type(head).__name__}{' twice' if hasattr(model, 'head_dist') else ''}",
            wanted="an architecture with a linear classifier named head",
            remedy="Choose a plain vision transformer of timm, such as vit_base_patch16_224.",
        )
    return head


def replace_classifier(
    model: nn.Module, weight: Float[Tensor, "classes width"], bias: Float[Tensor, " classes"]
) -> None:
    """Put a classifier of these weights in the place of the model's."""
    classes, width = weight.shape
    linear = nn.Linear(width, classes)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    model.set_submodule("head", linear, strict=True)
    model.num_classes = classes  # type: ignore[assignment]  # as timm counts them


def patch_of(model: nn.Module) -> int:
    """Side of the model's patches, pixels; 1 if it has none."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    return int(patch[0]) if isinstance(patch, tuple) else 1


def _check_name(name: str) -> None:
    """Raise InputError for anything but an architecture of timm by its bare name.

    timm also knows `vit_base_patch16_224.augreg_in21k`, `vit_base_patch16_224_in21k`, `hf-hub:...`: names of weights,
    which would stand in the model card beside weights that never had anything to do with them.
    """
    known = timm.list_models()
    if name in known:
        return
    bare = re.split(r"[:/]", name.strip().lower())[-1].partition(".")[0]
    near = difflib.get_close_matches(bare, known, n=3)
    if re.search("[.:/]", name) or timm.is_model(name):
        raise InputError(
            "--model",
            found=f"{name}, which names pre-trained weights",
            wanted="the name of an architecture, without tag or source",
            remedy=f"Give --model {near[0] if near else 'vit_base_patch16_224'}, and the weights as --init.",
        )
    raise InputError(
        "--model",
        found=name,
        wanted="an architecture of timm",
        remedy=f"For example {', '.join(near) or 'vit_base_patch16_224'}; timm.list_models('vit_*') has them all.",
    )


def _check_patches(model: nn.Module, image_size: int) -> None:
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    for side in patch if isinstance(patch, tuple) else ():
        check_size("image-size", image_size, side)
