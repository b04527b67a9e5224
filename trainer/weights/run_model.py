"""The model of a run directory: the weights of its result or of a checkpoint, its configuration, its vocabulary.

The model is built as config.json says; weights, configuration and vocabulary are checked against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainer.checkpoints.checkpoint import folders_of, open_checkpoint
from trainer.checkpoints.safetensors_files import VOCABULARY, is_altered, metadata_of
from trainer.config import LossConfig, ModelConfig
from trainer.model.backbone import build_model, timm_arguments
from trainer.weights.folder import require_architecture
from vocab.errors import FormatError, InputError, MismatchError
from vocab.pages.text import counted
from vocab.store.field_types import require_fields
from vocab.store.sealing import from_sealed_json
from vocab.vocabulary import Vocabulary

Kind = Literal["ema", "model"]
RESULT = "model.safetensors"
"""weights file of a finished run"""


@dataclass(frozen=True)
class StoredWeights:
    """Weights and their origin."""

    tensors: dict[str, Tensor]
    kind: Kind
    step: int | None
    """step of the checkpoint that the weights were read from; None for a finished run's result"""
    vocabulary: Path
    """vocabulary.parquet that belongs to them"""


def read_weights(run: Path, *, kind: Kind, step: int | None) -> StoredWeights:
    """Read the weights of a finished run, of the checkpoint `step`, or of the newest one if the run is not finished.

    A finished run's result is its moving average, so that kind "model" is always read from a checkpoint. Raises
    InputError if the run has no such weights, FormatError if their file is not whole.
    """
    result = run / RESULT
    if step is None and kind == "ema" and result.is_file():
        return StoredWeights(read_result(result), kind, None, run / "vocabulary.parquet")
    found = open_checkpoint(_checkpoint(run, step))
    return StoredWeights(found.load(kind), kind, found.step, found.path / "vocabulary.parquet")


def read_result(path: Path) -> dict[str, Tensor]:
    """Read a finished run's model.safetensors. Raises FormatError for a file that is cut short or altered."""
    try:
        tensors = load_file(path)
        altered = is_altered(path)
    except (SafetensorError, OSError) as error:
        raise _broken(path, f"unreadable weights ({error})") from error
    if altered:
        raise _broken(path, "weights that do not match their checksum")
    return tensors


def check_classes(weights: Path, vocabulary: Vocabulary, *, remedy: str) -> None:
    """Raise MismatchError for other classes than the metadata of the weights name, if they name any."""
    if metadata_of(weights).get(VOCABULARY) not in (None, vocabulary.fingerprint):
        raise MismatchError(
            weights.with_name("vocabulary.parquet"),
            found=f"{counted(len(vocabulary), 'class that differs', 'classes that differ')}, at least in their order, "
            f"from those of {weights.name}",
            wanted="the vocabulary of the weights beside it",
            remedy=remedy,
        )


def images_at(run: Path, step: int) -> int | None:
    """Number of images that the run had trained on at a checkpoint; None if the checkpoint does not say."""
    progress = open_checkpoint(folders_of(run)[step], checksums=False).state.get("progress")
    return int(progress["images"]) if isinstance(progress, dict) and "images" in progress else None


def _checkpoint(run: Path, step: int | None) -> Path:
    there = folders_of(run)
    wanted = max(there, default=None) if step is None else step
    if wanted is None or wanted not in there:
        raise InputError(
            run,
            found=f"checkpoints of step {', '.join(map(str, there))}" if there else "no checkpoint",
            wanted="a checkpoint" if step is None else f"one of step {step}",
            remedy="Choose one of them with --checkpoint."
            if there
            else "Is this the directory of a run? Name its --out.",
        )
    return there[wanted]


def _broken(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="whole weights, as the trainer writes them",
        remedy="Copy the file again from where it was written, or take another checkpoint with --checkpoint.",
    )


# Pixels to [-1, 1], as trainer/model/objective.py.
MEAN = STD = 0.5
PUT_BACK = "Put the vocabulary back that the run was trained with; every checkpoint holds a copy."


def stored_config(run: Path) -> dict[str, Any]:
    """config.json of a run. Raises FormatError for none, another release's, or an architecture that timm lacks."""
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
    require_architecture(path, config["model"]["model"])
    return dict(config)


def _no_config(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="the config.json that a run writes",
        remedy="Name the directory that the run was given as --out, and copy it whole; every checkpoint holds a copy "
        "of its config.json.",
    )


def stored_classifier(config: Mapping[str, Any]) -> str:
    """Name of the classifier in the weights of a run."""
    known = timm.get_pretrained_cfg(config["model"]["model"])
    return "head" if known is None else str(known.classifier)


def vocabulary_of(config: Mapping[str, Any], stored: StoredWeights) -> Vocabulary:
    """The classes of the weights. Raises MismatchError unless the classifier has one output for each class."""
    if not stored.vocabulary.is_file():
        raise FormatError(
            stored.vocabulary,
            found="no such file",
            wanted="the vocabulary that the run was trained with",
            remedy="Copy it there: the file that was given as --vocabulary, or another checkpoint's.",
        )
    vocabulary = Vocabulary.load(stored.vocabulary)
    classifier = stored.tensors.get(f"{stored_classifier(config)}.weight")
    if classifier is None or len(classifier) != len(vocabulary):
        size = 0 if classifier is None else len(classifier)
        outputs = f"a classifier of {counted(size, 'class', 'classes')}" if size else "no classifier"
        raise MismatchError(
            stored.vocabulary,
            found=f"{counted(len(vocabulary), 'class', 'classes')}, and weights with {outputs}",
            wanted="as many classes as the classifier has",
            remedy=PUT_BACK,
        )
    if stored.step is None:
        check_classes(stored.vocabulary.with_name(RESULT), vocabulary, remedy=PUT_BACK)
    return vocabulary


def arguments_of(config: Mapping[str, Any], *, image_size: int) -> dict[str, Any]:
    """Arguments from which timm builds the run's model (`timm_arguments`)."""
    return timm_arguments(ModelConfig(**config["model"]), image_size=image_size, one_size=_one_size(config))


def _one_size(config: Mapping[str, Any]) -> bool:
    return bool(config["data"].get("resolution", "fixed") == "fixed")


def model_of(config: Mapping[str, Any], stored: StoredWeights, vocabulary: Vocabulary, *, image_size: int) -> nn.Module:
    """Build the run's model with its weights. Raises MismatchError if they belong to another model."""
    options = ModelConfig(**config["model"])
    model = build_model(options, vocabulary, image_size=image_size, one_size=_one_size(config))
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
