"""The model of a run directory: built as its configuration says, with its weights, beside its vocabulary.

In: a run directory. Out: config.json, the classes that belong to weights, the model that they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from trainer.config import LossConfig, ModelConfig
from trainer.model.vit import build_model
from trainer.weights.reading import RESULT, StoredWeights, check_classes
from vocab.errors import FormatError, MismatchError
from vocab.store.field_types import require_fields
from vocab.store.sealing import from_sealed_json
from vocab.vocabulary import Vocabulary

# Pixels to [-1, 1], as trainer/data/device_images.py.
MEAN = STD = 0.5
PUT_BACK = "Put the vocabulary back that the run was trained with; every checkpoint holds a copy."


def stored_config(run: Path) -> dict[str, Any]:
    """config.json of a run. Raises FormatError for none, or another release's."""
    path = run / "config.json"
    try:
        config = from_sealed_json(path, path.read_bytes())
        known = {option.name for option in fields(ModelConfig)}
        unknown = config["model"].keys() - known
        if unknown:
            raise _no_config(path, f"model options of a newer release ({', '.join(sorted(unknown))})")
        require_fields(ModelConfig, config["model"])
        require_fields(LossConfig, {"loss": config["loss"]["loss"]})
        # Earlier releases took the name of pre-trained weights, and trained random ones of its architecture.
        config["model"] |= {"model": str(config["model"]["model"]).partition(".")[0]}
        config["data"] |= {"image_size": int(config["data"]["image_size"])}
        config["data"] |= {"eval_crop": float(config["data"]["eval_crop"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_config(path, f"no readable configuration ({error!r})") from error
    return dict(config)


def _no_config(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="the config.json that a run writes",
        remedy="Name the directory that the run was given as --out, and copy it whole; every checkpoint holds a copy "
        "of its config.json.",
    )


def vocabulary_of(stored: StoredWeights) -> Vocabulary:
    """The classes of the weights. Raises MismatchError unless the classifier has one output for each."""
    if not stored.vocabulary.is_file():
        raise FormatError(
            stored.vocabulary,
            found="no such file",
            wanted="the vocabulary that the run was trained with",
            remedy="Copy it there: the file that was given as --vocabulary, or another checkpoint's.",
        )
    vocabulary = Vocabulary.load(stored.vocabulary)
    classifier = stored.tensors.get("head.weight")
    if classifier is None or len(classifier) != len(vocabulary):
        outputs = "no classifier" if classifier is None else f"a classifier of {len(classifier):,} classes"
        raise MismatchError(
            stored.vocabulary,
            found=f"{len(vocabulary):,} classes, and weights with {outputs}",
            wanted="as many classes as the classifier has",
            remedy=PUT_BACK,
        )
    if stored.step is None:
        check_classes(stored.vocabulary.with_name(RESULT), vocabulary, remedy=PUT_BACK)
    return vocabulary


def arguments_of(config: Mapping[str, Any], *, image_size: int) -> dict[str, Any]:
    """What timm.create_model must be given: what `build_model` gives it, but for what only training needs."""
    sizes = {name: config["model"].get(name) for name in ("patch_size", "embed_dim", "depth", "num_heads")}
    given: dict[str, Any] = {name: value for name, value in sizes.items() if value is not None}
    given["img_size"] = image_size
    if config["model"].get("global_pool") is not None:
        given["global_pool"] = config["model"]["global_pool"]
    if config["data"].get("resolution", "fixed") != "fixed":
        given["dynamic_img_size"] = True
    return given


def model_of(config: Mapping[str, Any], stored: StoredWeights, vocabulary: Vocabulary, *, image_size: int) -> nn.Module:
    """The run's model with its weights. Raises MismatchError if they are another model's."""
    options = ModelConfig(**config["model"])
    one_size = config["data"].get("resolution", "fixed") == "fixed"
    model = build_model(options, vocabulary, image_size=image_size, one_size=one_size)
    try:
        model.load_state_dict(stored.tensors)
    except RuntimeError as error:
        raise MismatchError(
            stored.vocabulary.parent,
            found=f"weights that config.json does not describe ({str(error).partition(chr(10))[2].strip()})",
            wanted=f"those of {options.model}",
            remedy="Copy the run's directory again, whole.",
        ) from error
    return model.eval()
