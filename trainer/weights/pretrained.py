"""A pre-trained model that other tasks start from: weights, classes, and the preprocessing of images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from trainer.config import LossName
from trainer.data.resolution import check_size
from trainer.model.added_classifier import give_linear_classifier
from trainer.model.backbone import check_size_taken, classifier_name, classifier_of, features, keep_planes, patch_of
from trainer.model.class_token import spare_last_block
from trainer.model.objective import Channels, by_channel, normalise
from trainer.model.per_image import install
from trainer.weights import corenet
from trainer.weights.fetching import local_folder
from trainer.weights.folder import (
    CONFIG,
    FOLDER_FIELDS,
    LOSS,
    VOCABULARY,
    WEIGHTS,
    Preprocessing,
    load_model,
    require_description,
)
from trainer.weights.native import NativeModel, is_name, named_model
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
from trainer.weights.sources import refuse_file, refuse_pickles
from vocab.errors import FormatError, InputError, MismatchError
from vocab.pages.text import counted
from vocab.store.field_types import is_of
from vocab.store.locations import Location
from vocab.store.sealing import from_sealed_json
from vocab.store.secrets import without_secrets
from vocab.vocabulary import Vocabulary

WHITE = 255
REMEDY_OF_OTHERS = "Give the pretrained_cfg that the weights were trained with."
WANTED_MODEL = (
    "a run directory, a folder that export, import or timm wrote, timm's name of pre-trained weights, hf-hub:NAME, or "
    "open_clip:ARCHITECTURE::WEIGHTS"
)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model on the CPU, in evaluation, with the classifier that it was pre-trained with."""

    model: nn.Module
    """an image model of timm, whose classifier has one row for each class of the vocabulary; for models of others any
    linear classifier of the features, to be replaced"""
    classes: Vocabulary | None
    """classes of the classifier; None for models of others, whose classifier has no rows of synsets"""
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
    def vocabulary(self) -> Vocabulary:
        """Classes of the classifier. Raises MismatchError for a model of others."""
        return require_vocabulary(self.classes, self.source)

    @property
    def classifier(self) -> nn.Linear:
        return classifier_of(self.model)

    def embed(self, images: UInt8[Tensor, "batch size size 3"]) -> Float[Tensor, "batch width"]:
        """The features of images that the classifier reads."""
        seen = self.preprocessing
        pixels = normalise(images.permute(0, 3, 1, 2).float().div_(WHITE), seen.mean, seen.std)
        return features(self.model, pixels)


def require_vocabulary(classes: Vocabulary | None, source: str) -> Vocabulary:
    """Return the classes of a model's classifier. Raises MismatchError for a model of others."""
    if classes is None:
        raise MismatchError(
            source,
            found="a model of others, whose classifier has no rows of synsets",
            wanted="a run, or a folder that export or import wrote, for zero-shot and for --init transfer",
            remedy="Measure a model of others by probe and finetune with --init random.",
        )
    return classes


def open_pretrained(location: Location, *, image_size: int | None = None, crop: float | None = None) -> Pretrained:
    """Open the model of a run directory (its moving average), of an exported or imported folder, or of others.

    Models of others are named as `named_model` takes them, or lie in a folder that timm wrote.

    `image_size`: pixels, if another size than in pre-training is wanted; position embeddings are interpolated in two
    dimensions (bicubic, timm's resample_abs_pos_embed). `crop`: share of the shorter side that is seen in evaluation.
    An unfinished run gives its newest checkpoint.

    A model in an object store is read from a copy, which each process fetches for itself (`fetching.py`).

    Raises FormatError or InputError for a location without a model or vocabulary, MismatchError if the two do not
    belong together.
    """
    source = without_secrets(str(location))
    if is_name(str(location)):
        return _opened(_of_others(named_model(str(location)), source), image_size, crop, source=source)
    with local_folder(location) as folder:
        return _opened(_parts_of(folder, source), image_size, crop, source=source)


def _opened(parts: Parts, image_size: int | None, crop: float | None, *, source: str) -> Pretrained:
    model, vocabulary, seen, architecture, arguments, loss = parts
    size = image_size or seen.image_size
    resized = _resize(model, size)
    if vocabulary is None:
        give_linear_classifier(model, size, named=source)
    elif resized:
        check_size_taken("--image-size", model, size)
    tensors = model.state_dict()
    if vocabulary is not None:
        fingerprint = fingerprint_of(tensors, size)
    else:
        # The same weights may come with another preprocessing. Their classifier is never used.
        about = f"{architecture} {by_channel(seen.mean)} {by_channel(seen.std)}"
        backbone = {
            name: tensor for name, tensor in tensors.items() if classifier_name(model) != name.rpartition(".")[0]
        }
        fingerprint = hashlib.sha256(f"{about} {fingerprint_of(backbone, size)}".encode()).hexdigest()
    return Pretrained(
        model=model.eval(),
        classes=vocabulary,
        preprocessing=Preprocessing(size, seen.mean, seen.std, crop or seen.crop),
        architecture=architecture,
        source=source,
        fingerprint=fingerprint,
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


Parts = tuple[nn.Module, Vocabulary | None, Preprocessing, str, Mapping[str, Any], LossName]


def _parts_of(location: Path, source: str) -> Parts:
    refuse_file(location, wanted=WANTED_MODEL)
    if not location.is_dir():
        raise InputError(
            location,
            found="no such folder",
            wanted=WANTED_MODEL,
            remedy="Check the path of the model, or its name.",
        )
    config_path = location / CONFIG
    config = _fields(config_path) if config_path.is_file() else {}
    if not FOLDER_FIELDS & config.keys():
        return _of_run(location)
    ours = LOSS in config or config.get("architecture") == corenet.ARCHITECTURE or (location / VOCABULARY).is_file()
    if not ours:
        refuse_pickles(location)
        require_description(config_path, config)
        _preprocessing_of(config.get("pretrained_cfg", config), config_path, remedy=REMEDY_OF_OTHERS)
        return _of_others(NativeModel(load_model(location), config.get("model_args") or {}), source)
    return _for_features(_of_folder(location))


def _of_others(native: NativeModel, source: str) -> Parts:
    """Take the preprocessing of a model of others from timm's description of it."""
    seen = _preprocessing_of(native.about, source, remedy=REMEDY_OF_OTHERS)
    arguments = native.arguments
    if native.about.get("fixed_input_size"):
        arguments["img_size"] = seen.image_size
    return _for_features((native.model, None, seen, native.architecture, arguments, "bce"))


def _for_features(parts: Parts) -> Parts:
    """Have a model compute the features alone that its classifier reads."""
    spare_last_block(parts[0])
    keep_planes(parts[0])
    install(parts[0])
    return parts


def _preprocessing_of(about: Any, source: Location, *, remedy: str) -> Preprocessing:
    """Read timm's description of a model.

    Raises FormatError for a value that is missing or impossible, InputError for images that are not square and in
    colour.
    """
    try:
        channels, rows, columns = map(int, about["input_size"])
        if (channels, rows) != (3, columns):
            raise InputError(
                source,
                found=f"a model of images of {channels} x {rows} x {columns}",
                wanted="square images of three colours",
                remedy="Choose another model.",
            )
        seen = Preprocessing(rows, channelwise(about["mean"]), channelwise(about["std"]), float(about["crop_pct"]))
        widths = by_channel(seen.std)
        if not (rows > 0 and 0 < seen.crop <= 1 and min(widths) > 0 and isfinite(sum(by_channel(seen.mean) + widths))):
            raise ValueError(f"{seen}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            source,
            found=f"no preprocessing that can be read ({error!r})",
            wanted="pretrained_cfg with input_size, mean, std and crop_pct",
            remedy=remedy,
        ) from error
    return seen


def channelwise(values: Sequence[float]) -> float | Channels:
    """Return one number if all channels have the same, else those of red, green and blue."""
    red, green, blue = map(float, values)
    return red if red == green == blue else (red, green, blue)


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
    preprocessing = _preprocessing_of(config.get("pretrained_cfg"), location / CONFIG, remedy="Export the run again.")
    classes = int(config["num_classes"])
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


def _resize(model: nn.Module, size: int) -> bool:
    """Interpolate position embeddings for another image size; return False if the model was made for this one.

    Raises InputError for a size that patches do not fill. Convolutional networks take every size as they are.
    """
    sized: Any = model
    if getattr(getattr(sized, "patch_embed", None), "img_size", None) == (size, size):
        return False
    if hasattr(sized, "set_input_size"):
        check_size("image-size", size, patch_of(model))
        sized.set_input_size(img_size=(size, size))
    return True
