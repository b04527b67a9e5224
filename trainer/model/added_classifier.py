"""A linear classifier of features, for models of others whose own classifier is not one linear layer of them.

Some have several classifiers (DeiT's distilled ones, LeViT, CrossViT), others a convolution or a perceptron (ResNetV2,
MetaFormer), or layers between features and classifier (VOLO). Probing reads the features alone, and fine-tuning begins
with a new classifier anyway. timm's architecture has no place for it, so files of such a model keep it apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from trainer.model.backbone import ADDED_CLASSIFIER, EXAMPLES, architecture_of, tried_out
from vocab.errors import InputError


def give_linear_classifier(model: nn.Module, image_size: int, *, named: str) -> None:
    """Add a linear classifier of one class to a model, unless its own is one; `replace_classifier` puts in another.

    Features are timm's: `forward_features`, and of `forward_head` all but the classifier (pre_logits). Raises
    InputError, about the model that is `named`, for features that are not one vector an image, and about --image-size
    for images that it cannot see.
    """
    timm_model: Any = model
    if not (hasattr(model, "forward_head") and hasattr(model, "reset_classifier")):
        raise _without_vector(model, named, "which has no head")
    if timm_model.num_classes == 0:
        timm_model.reset_classifier(1)
    try:
        shape, behind = tried_out(model, image_size, option="--image-size")
    except NotImplementedError as error:
        raise _without_vector(model, named, f"which torch cannot compute without data ({error})") from error
    if len(shape) != 1:
        raise _without_vector(model, named, f"whose features are {list(shape)} for each image")
    own = timm_model.get_classifier()
    if isinstance(own, nn.Linear) and own.bias is not None and own.in_features == shape[0]:
        name = next(name for name, part in model.named_modules() if part is own)
        if behind <= {name}:
            return
    timm_model.reset_classifier(0)
    model.add_module(ADDED_CLASSIFIER, nn.Linear(shape[0], 1))


def remove_classifier(model: nn.Module) -> None:
    """Remove timm's classifier of a model, and the added one."""
    model.reset_classifier(0)  # type: ignore[operator]
    if has_added_classifier(model):
        delattr(model, ADDED_CLASSIFIER)


def has_added_classifier(model: nn.Module) -> bool:
    """Tell whether a model's classifier is one that timm's architecture lacks."""
    return hasattr(model, ADDED_CLASSIFIER)


def split_added(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate the weights that timm's architecture has from those of an added classifier: weight, bias."""
    start = f"{ADDED_CLASSIFIER}."
    added = {name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}
    return {name: tensor for name, tensor in weights.items() if not name.startswith(start)}, added


def _without_vector(model: nn.Module, named: str, kind: str) -> InputError:
    return InputError(
        named,
        found=f"{architecture_of(model)}, {kind}",
        wanted="a model that gives one vector of features for each image",
        remedy=f"Choose another one, such as {EXAMPLES}. In a folder, global_pool of config.json chooses the pooling.",
    )
