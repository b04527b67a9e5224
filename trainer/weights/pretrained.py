"""A pre-trained model that other tasks start from: weights, classes, and the preprocessing of images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from trainer.config import LossName
from trainer.data.resolution import check_size
from trainer.model.class_token import spare_last_block
from trainer.model.per_image import install
from trainer.model.vit import check_size_taken, classifier_of, features, patch_of
from trainer.weights.fetching import local_folder
from trainer.weights.folder import CONFIG, LOSS, VOCABULARY, WEIGHTS, Preprocessing, load_model
from trainer.weights.run_model import (
    MEAN,
    STD,
    arguments_of,
    check_classes,
    model_of,
    read_weights,
    stored_config,
    vocabulary_of,
)
from vocab.errors import FormatError, InputError, MismatchError
from vocab.pages.text import counted
from vocab.store.field_types import is_of
from vocab.store.locations import Location
from vocab.store.sealing import from_sealed_json
from vocab.store.secrets import without_secrets
from vocab.vocabulary import Vocabulary

WHITE = 255


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model on the CPU, in evaluation, with the classifier that it was pre-trained with."""

    model: nn.Module
    """an image model of timm, whose classifier has one row for each class of the vocabulary"""
    vocabulary: Vocabulary
    preprocessing: Preprocessing
    architecture: str
    """timm's name of the model"""
    source: str
    """location that the model was read from, without secrets: results and pages show it"""
    fingerprint: str
    """sha256 of weights and image size, on which features depend"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """arguments from which timm builds the model, beside its name and the number of classes"""
    loss: LossName = "bce"
    """loss that the classifier was pre-trained by, which gives the meaning of its logits"""

    @property
    def classifier(self) -> nn.Linear:
        return classifier_of(self.model)

    def embed(self, images: UInt8[Tensor, "batch size size 3"]) -> Float[Tensor, "batch width"]:
        """The features of images that the classifier reads."""
        seen = self.preprocessing
        pixels = images.permute(0, 3, 1, 2).float().div_(WHITE).sub_(seen.mean).div_(seen.std)
        return features(self.model, pixels)


def open_pretrained(location: Location, *, image_size: int | None = None, crop: float | None = None) -> Pretrained:
    """Open the model of a run directory, or of an exported or imported folder; always the moving average.

    `image_size`: pixels, if another size than in pre-training is wanted; position embeddings are interpolated in two
    dimensions (bicubic, timm's resample_abs_pos_embed). `crop`: share of the shorter side that is seen in evaluation.
    An unfinished run gives its newest checkpoint.

    A model in an object store is read from a copy, which each process fetches for itself (`fetching.py`).

    Raises FormatError or InputError for a location without a model or vocabulary, MismatchError if the two do not
    belong together.
    """
    with local_folder(location) as folder:
        return _opened(folder, image_size, crop, source=without_secrets(str(location)))


def _opened(location: Path, image_size: int | None, crop: float | None, *, source: str) -> Pretrained:
    if not location.is_dir():
        raise InputError(
            location,
            found="a file" if location.exists() else "no such folder",
            wanted="a run directory, or a folder that export or import wrote",
            remedy="Check the path of the model.",
        )
    config_path = location / CONFIG
    exported = config_path.is_file() and "architecture" in _fields(config_path)
    parts = _of_folder(location) if exported else _of_run(location)
    model, vocabulary, seen, architecture, arguments, loss = parts
    size = image_size or seen.image_size
    _resize(model, size)
    if exported:
        spare_last_block(model)
        install(model)
    return Pretrained(
        model=model.eval(),
        vocabulary=vocabulary,
        preprocessing=Preprocessing(size, seen.mean, seen.std, crop or seen.crop),
        architecture=architecture,
        source=source,
        fingerprint=fingerprint_of(model.state_dict(), size),
        arguments={**arguments, **({"img_size": size} if "img_size" in arguments else {})},
        loss=loss,
    )


def fingerprint_of(tensors: Mapping[str, Tensor], size: int) -> str:
    """sha256 of the weights and of the size of images."""
    digest = hashlib.sha256(f"{size}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # Flat, because a scalar, as in the batch count of batch norms, cannot be viewed as bytes.
        digest.update(tensor.detach().flatten().cpu().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


Parts = tuple[nn.Module, Vocabulary, Preprocessing, str, Mapping[str, Any], LossName]


def _of_run(location: Path) -> Parts:
    config = stored_config(location)
    stored = read_weights(location, kind="ema", step=None)
    vocabulary = vocabulary_of(config, stored)
    size = config["data"]["image_size"]
    # Dropping is not a property of the weights; and other sizes are interpolated once, not at every step.
    plain = {
        "model": {**config["model"], "drop_path": 0.0, "patch_keep": 1.0},
        "data": {**config["data"], "resolution": "fixed"},
    }
    model = model_of(plain, stored, vocabulary, image_size=size)
    seen = Preprocessing(size, MEAN, STD, config["data"]["eval_crop"])
    arguments, loss = arguments_of(plain, image_size=size), _loss_of(config["loss"]["loss"], location)
    return model, vocabulary, seen, config["model"]["model"], arguments, loss


def _of_folder(location: Path) -> Parts:
    if not (location / VOCABULARY).is_file():
        raise FormatError(
            location / VOCABULARY,
            found="no such file",
            wanted="the vocabulary of the model's classes",
            remedy="Copy it from the run that was exported, or export the run again.",
        )
    model, vocabulary, config = load_model(location), Vocabulary.load(location / VOCABULARY), _fields(location / CONFIG)
    try:
        seen = config["pretrained_cfg"]
        preprocessing = Preprocessing(
            int(seen["input_size"][-1]), float(seen["mean"][0]), float(seen["std"][0]), float(seen["crop_pct"])
        )
        classes = int(config["num_classes"])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise FormatError(
            location / CONFIG,
            found=f"no preprocessing that can be read ({error!r})",
            wanted="num_classes, and pretrained_cfg with input_size, mean, std and crop_pct",
            remedy="Export the run again.",
        ) from error
    if classes != len(vocabulary):
        raise MismatchError(
            location / WEIGHTS,
            found=f"a classifier of {counted(classes, 'class', 'classes')}" if classes else "no classifier",
            wanted=f"one of the {counted(len(vocabulary), 'class', 'classes')} of {VOCABULARY}",
            remedy="Export the run without --backbone, and keep the folder's files together.",
        )
    check_classes(location / WEIGHTS, vocabulary, remedy="Copy the folder again, whole, or export the run again.")
    loss = _loss_of(config.get(LOSS, "bce"), location)  # earlier versions named none
    return model, vocabulary, preprocessing, str(config["architecture"]), dict(config["model_args"]), loss


def _loss_of(name: Any, location: Path) -> LossName:
    if is_of(name, LossName):
        loss: LossName = name
        return loss
    raise FormatError(
        location / CONFIG,
        found=f"pre-training by the loss {name!r}",
        wanted=f"one of {', '.join(get_args(LossName))}",
        remedy="Copy the folder again, whole, or use the version that wrote it.",
    )


def _fields(path: Path) -> Mapping[str, Any]:
    try:
        config = from_sealed_json(path, path.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(
            path, found=f"no readable configuration ({error})", wanted="JSON", remedy="Copy the folder again, whole."
        ) from error
    return config if isinstance(config, dict) else {}


def _resize(model: nn.Module, size: int) -> None:
    """Interpolate position embeddings for another image size. Raises InputError for a size that the model cannot see.

    Convolutional networks take every size as they are.
    """
    sized: Any = model
    if getattr(getattr(sized, "patch_embed", None), "img_size", None) == (size, size):
        return
    if hasattr(sized, "set_input_size"):
        patch = patch_of(model)
        check_size("image-size", size, patch if patch > 1 else 16)
        sized.set_input_size(img_size=(size, size))
    check_size_taken("--image-size", model, size)
