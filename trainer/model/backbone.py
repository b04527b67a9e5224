"""The model: an image model of timm with one logit per class of the vocabulary; its weights keep timm's names.

Any architecture will do whose logits are a linear layer of its features: transformers, plain and hierarchical, and
convolutional networks. What only a plain vision transformer can have, others are refused by name.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import group_parameters
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.config import ModelConfig
from trainer.data.resolution import check_size
from trainer.model.class_token import one_query_attention, spare_last_block
from trainer.model.per_image import install
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary

REFUSALS = (ValueError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError, RuntimeError)
"""errors of timm and torch for a configuration from which they cannot build a model"""
WIDEST_VECTOR = 16
"""float32 numbers in a vector of AVX-512"""
EXAMPLES = "vit_base_patch16_224, convnext_tiny, swin_tiny_patch4_window7_224 or resnet50"
ADDED_CLASSIFIER = "added_classifier"
"""name of a classifier that timm's architecture does not have (`added_classifier.py`)"""


def build_model(config: ModelConfig, vocabulary: Vocabulary, *, image_size: int, one_size: bool = True) -> nn.Module:
    """Build a model with random weights, and the log-odds of each class's frequency as the classifier's bias.

    That is the best guess of a model that sees nothing: without it the first hundreds of steps go into learning that
    most classes are absent. Arguments and errors otherwise as in `architecture`.
    """
    model = architecture(config, classes=len(vocabulary), image_size=image_size, one_size=one_size)
    with torch.no_grad():
        classifier_of(model).bias.copy_(torch.from_numpy(vocabulary.log_odds))
    return model


def architecture(config: ModelConfig, *, classes: int, image_size: int, one_size: bool = True) -> nn.Module:
    """Build a model with random weights.

    `image_size`: the size that position embeddings are made for; without `one_size`, other sizes are accepted too, and
    the embeddings are interpolated at each step. Attention is torch's fused one, and the last block computes only what
    the classifier reads (`class_token.py`). Randomness in training comes from the images' seeds (`per_image.py`), which
    `seeds_of(model)` must be given. Raises InputError for an architecture that timm lacks, or whose logits are not a
    linear layer of its features, and for options or a size of images that it cannot have.
    """
    _check_name(config.model)
    given = timm_arguments(config, image_size=image_size, one_size=one_size)
    try:
        model = _created(config.model, config.drop_path, num_classes=classes, **given)
    except REFUSALS as error:
        asked = {**given, **({"drop_path_rate": config.drop_path} if config.drop_path else {})}
        raise InputError(
            "--model",
            found=f"{config.model} with {asked}, which timm cannot build ({error})",
            wanted="options that this architecture has",
            remedy="Leave out those that it lacks: --patch-size, --embed-dim, --depth, --num-heads and a changing "
            "--resolution are for plain vision transformers.",
        ) from error
    check_size("image-size", image_size, patch_of(model))
    classifier_of(model)
    check_size_taken("--image-size", model, image_size)
    spare_last_block(model)
    keep_planes(model)
    install(model, patch_keep=config.patch_keep)
    return model


def _created(name: str, drop_path: float, **options: Any) -> nn.Module:
    """Have timm build a model. Its default rate of stochastic depth is not ours, and some architectures have none."""
    try:
        model: nn.Module = timm.create_model(name, drop_path_rate=drop_path, **options)
    except TypeError as error:
        if drop_path > 0 or "drop_path_rate" not in str(error):
            raise
        model = timm.create_model(name, **options)
    return model


def keep_planes(model: nn.Module) -> None:
    """Give strided 1x1 convolutions of few channels their input plane by plane on a CPU.

    FastViT, MobileOne and RepVGG have such convolutions of the image. Our images are channels-last, and for those
    oneDNN's backward pass writes past its buffer where channels are fewer than its vectors are long
    (github.com/uxlfoundation/oneDNN, issue 6035): crashes, or wrong gradients.
    """
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    for each in convolutions:
        if each.kernel_size == (1, 1) and each.stride != (1, 1) and each.in_channels < WIDEST_VECTOR:
            each.register_forward_pre_hook(_planes)


def _planes(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    images = given[0]
    return (images.contiguous() if images.is_cpu else images,)


def timm_arguments(config: ModelConfig, *, image_size: int, one_size: bool) -> dict[str, Any]:
    """Make the arguments of timm.create_model beside the name, the classes and those that only training needs."""
    sizes = {name: getattr(config, name) for name in ("patch_size", "embed_dim", "depth", "num_heads", "global_pool")}
    given = {name: value for name, value in sizes.items() if value is not None}
    if not is_sized(config.model):
        return given
    return {**given, "img_size": image_size, **({} if one_size else {"dynamic_img_size": True})}


def is_sized(name: str) -> bool:
    """Tell whether an architecture is built for one size of images, as position embeddings and windows are."""
    known = timm.get_pretrained_cfg(name)
    return known is not None and bool(known.fixed_input_size)


def on_meta(config: ModelConfig, *, classes: int, image_size: int, one_size: bool = False) -> nn.Module:
    """Build the model without weights, to count work, parameters and memory. Arguments, errors: see `architecture`."""
    with torch.device("meta"):
        return architecture(config, classes=classes, image_size=image_size, one_size=one_size)


def features(model: nn.Module, images: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch width"]:
    """Features of images in [-1, 1], which the classifier reads."""
    return _pooled(model, images)


def _pooled(model: nn.Module, images: Tensor) -> Tensor:
    """Features as timm pools them, which some poolings leave as tokens or maps."""
    unpooled = model.forward_features(images)  # type: ignore[operator]
    # Attention pooling has one query.
    with one_query_attention():
        pooled: Tensor = model.forward_head(unpooled, pre_logits=True)  # type: ignore[operator]
    return pooled


def logits(model: nn.Module, images: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch classes"]:
    """Logits of images in [-1, 1]: the classifier of their features, also where timm's architecture lacks it."""
    added: nn.Module | None = getattr(model, ADDED_CLASSIFIER, None)
    found: Tensor = model(images) if added is None else added(features(model, images))
    return found


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
    """List the parts that a model calls one after another, first to last: a transformer's blocks, a stage's layers.

    Where there is no flat list of blocks, they are the largest modules that lie within a layer of `layers_of` each.
    None where timm tells no layers apart.
    """
    blocks = list(model.get_submodule("blocks").children()) if hasattr(model, "blocks") else []
    if blocks and not any(isinstance(block, nn.ModuleList | nn.Sequential) for block in blocks):
        return blocks
    layers = layers_of(model)
    if len(set(layers.values())) < 2:
        return []
    own = dict(model.named_parameters())
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    # A parameter that two modules share is of no layer.
    numbers = {id(own[name]): layer if uses[id(own[name])] == 1 else None for name, layer in layers.items()}
    # Not `classifier_of`, which a model below other heads has no more.
    return _within_layers(model, numbers, model.get_classifier())  # type: ignore[operator]


def _within_layers(model: nn.Module, layers: Mapping[int, int | None], classifier: nn.Module) -> list[nn.Module]:
    """The largest modules whose parameters are of one layer each, if they have modules with parameters in them.

    `layers`: by the id of each parameter. The classifier, which is computed apart, is in none of them. Nor is a list a
    part, or a sequence in a list: timm calls the members of some of them one by one (HRNet).
    """
    found = []
    for part in model.children():
        of_layers = {layers[id(parameter)] for parameter in part.parameters()}
        composed = any(next(inner.parameters(), None) is not None for inner in part.children())
        listed = isinstance(part, nn.ModuleList) or (
            isinstance(model, nn.ModuleList) and isinstance(part, nn.Sequential)
        )
        apart = listed or any(own is classifier for own in part.modules())
        if composed and not apart and len(of_layers) == 1 and None not in of_layers:
            found.append(part)
        else:
            found += _within_layers(part, layers, classifier)
    return found


def layers_of(model: nn.Module) -> dict[str, int]:
    """Number of the layer of each parameter, from 0 at the image, as timm groups them; empty where timm does not."""
    if not hasattr(model, "group_matcher"):
        return {}
    numbers: dict[str, int] = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    return numbers


def classifier_of(model: nn.Module) -> nn.Linear:
    """The linear layer that gives the logits. Raises InputError for an architecture without one."""
    found: Any = getattr(model, ADDED_CLASSIFIER, None)
    if found is None and hasattr(model, "get_classifier"):
        found = model.get_classifier()  # type: ignore[operator]
    if isinstance(found, nn.Linear) and found.bias is not None:
        return found
    if isinstance(found, tuple | list | nn.ModuleList):
        kind = f"{len(found)} classifiers"
    elif found is None or isinstance(found, nn.Identity):
        kind = "no classifier"
    else:
        kind = f"{type(found).__name__} as its classifier" + " without biases" * isinstance(found, nn.Linear)
    raise InputError(
        "--model",
        found=f"{architecture_of(model)}, which has {kind}",
        wanted="an architecture whose logits are one linear layer of its features, with biases",
        remedy=f"Choose another one of timm, such as {EXAMPLES}.",
    )


def classifier_name(model: nn.Module) -> str:
    """Name of the classifier among the model's parts: head, fc, head.fc, classifier."""
    classifier = classifier_of(model)
    name: str = next(name for name, part in model.named_modules() if part is classifier)
    return name


def architecture_of(model: nn.Module) -> str:
    """timm's name of a model's architecture; the name of its class where timm does not say."""
    known = getattr(model, "pretrained_cfg", None) or {}
    return str(known.get("architecture") or type(model).__name__)


def replace_classifier(
    model: nn.Module, weight: Float[Tensor, "classes width"], bias: Float[Tensor, " classes"]
) -> None:
    """Put a classifier of these weights in the place of the model's."""
    classes, width = weight.shape
    linear = nn.Linear(width, classes)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    model.set_submodule(classifier_name(model), linear, strict=True)
    model.num_classes = classes  # type: ignore[assignment]  # as timm counts them


def patch_of(model: nn.Module) -> int:
    """Side of the model's patches, pixels; 1 if it has none, or if they overlap, as PVT's do."""
    embedding = getattr(model, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    overlapping = getattr(getattr(embedding, "proj", None), "stride", patch) != patch
    return int(patch[0]) if isinstance(patch, tuple) and not overlapping else 1


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
    # Names of timm begin with the family: vit_base_patch16_224, convnext_tiny, resnet50.
    family = re.match("[a-z]*", bare)[0]  # type: ignore[index]  # matches every text
    pattern = f"'{family}*'" if family and timm.list_models(f"{family}*") else ""
    raise InputError(
        "--model",
        found=name,
        wanted="an architecture of timm",
        remedy=f"For example {', '.join(near) or 'vit_base_patch16_224'}; timm.list_models({pattern}) has them all.",
    )


def check_size_taken(option: str, model: nn.Module, image_size: int) -> None:
    """Raise InputError for a size of images that the model cannot see, by seeing two of them without data.

    Raise it too for an architecture whose classifier reads something else than its features: training computes one from
    the other. Plain vision transformers take every size that their patches fill.
    """
    if type(model) is VisionTransformer:
        return
    try:
        shape, behind = tried_out(model, image_size, option=option)
    except NotImplementedError:
        return  # an operation that torch knows only with data
    width, between = classifier_of(model).in_features, sorted(behind - {classifier_name(model)})
    if shape != (width,) or between:
        seen = f"{list(shape)} for each image" + f" before {between[0]}" * bool(between)
        raise InputError(
            "--model",
            found=f"{architecture_of(model)}, whose features are {seen}",
            wanted=f"the {width} numbers that its classifier reads",
            remedy=f"Choose another architecture of timm, such as {EXAMPLES}.",
        )


def tried_out(model: nn.Module, image_size: int, *, option: str) -> tuple[tuple[int, ...], set[str]]:
    """Find the shape of an image's features, and the modules that timm calls behind them, without data.

    Raises InputError about `option` for a size that the model cannot see, and NotImplementedError for an operation that
    torch knows only with data. The modules of features that are no vector are not looked for.
    """
    seeing, images = meta_copy(model).eval(), torch.empty(2, 3, image_size, image_size, device="meta")
    try:
        pooled, within = _called(seeing, partial(_pooled, seeing, images))
        _, whole = _called(seeing, partial(seeing, images)) if pooled.ndim == 2 else (pooled, within)
    except NotImplementedError:
        raise
    except REFUSALS as error:
        own = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[-1]
        raise InputError(
            option,
            found=f"{image_size} for {architecture_of(model)}, which fails on such images ({error})",
            wanted="a size that this architecture takes",
            remedy=f"Its own size is {own}.",
        ) from error
    return tuple(pooled.shape[1:]), whole - within


@torch.no_grad()
def _called(model: nn.Module, compute: Callable[[], Tensor]) -> tuple[Tensor, set[str]]:
    """Compute something with a model; return the names of its modules that were called too, but for dropout.

    Modules made of others are left out.
    """
    names: set[str] = set()
    parts = [
        (name, part)
        for name, part in model.named_modules()
        if next(part.children(), None) is None and not isinstance(part, nn.Identity | nn.Dropout)
    ]
    hooks = [part.register_forward_hook(lambda *_, name=name: names.add(name)) for name, part in parts]
    try:
        return compute(), names
    finally:
        for hook in hooks:
            hook.remove()


def meta_copy(model: nn.Module) -> nn.Module:
    """Copy a model to the meta device without copying its weights."""
    tensors: dict[int, object] = {id(each): nn.Parameter(each.detach().to("meta")) for each in model.parameters()}
    tensors |= {id(each): each.to("meta") for each in model.buffers()}
    return copy.deepcopy(model, tensors)
