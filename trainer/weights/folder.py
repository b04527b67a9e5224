"""The folder of weights for others, in the layout that timm and the Hugging Face Hub read.

In: weights under timm's names, the model that timm builds for them, classes, a model card. Out: a folder that exists
whole or not at all, and `load_model`, which loads it.

    model.safetensors      weights, with the classifier unless it was left out
    classifier.safetensors a fine-tuned linear classifier (weight, bias) that timm's architecture has no place for
    config.json            timm's fields: architecture, model_args, pretrained_cfg, label_names, label_descriptions;
                           weights_sha256, the checksum that model.safetensors holds
    vocabulary.parquet     the classes, in the classifier's order (vocab/FORMAT.md)
    README.md              model card
    LICENSE.wordnet        licence of the class names
    model.onnx (.data)     with --onnx
"""

from __future__ import annotations

import difflib
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.hybrid_embed import HybridEmbed
from torch import Tensor, nn

from trainer.checkpoints.safetensors_files import SEAL, is_altered, metadata_of, sealed_file
from trainer.checkpoints.safetensors_files import VOCABULARY as VOCABULARY_OF
from trainer.config import LossName
from trainer.model.added_classifier import has_added_classifier, split_added
from trainer.model.backbone import REFUSALS, classifier_name
from trainer.model.objective import Channels, by_channel
from trainer.records.record import RESULTS
from trainer.weights import corenet
from trainer.weights.names import misfit, misnamed, prefix_of, without_prefix
from vocab import wordnet
from vocab.errors import FormatError
from vocab.store.files import HASH_BLOCK, filesystem_of, flush, named, write_file
from vocab.store.locations import Location, location_of, refuse_taken
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.vocabulary import Vocabulary

WEIGHTS, CONFIG, CARD, VOCABULARY = "model.safetensors", "config.json", "README.md", "vocabulary.parquet"
LICENCE = "LICENSE.wordnet"
CLASSIFIER = "classifier.safetensors"
NAMES = frozenset({"label_names", "label_descriptions"})
"""fields of config.json that timm adds to a model's `pretrained_cfg`"""
FOLDER_FIELDS = frozenset({"architecture", "pretrained_cfg"})
"""fields of config.json that a run's lacks"""
DESCRIBED = ("input_size", "mean", "std", "crop_pct")
"""fields of pretrained_cfg that say how images are prepared"""
WEIGHTS_SHA256 = "weights_sha256"
"""field of config.json that timm does not know: the checksum in the metadata of the weights written with it"""
LOSS = "pretraining_loss"
"""field of config.json that timm does not know: the loss of pre-training, which says how to read logits"""


@dataclass(frozen=True)
class Preprocessing:
    """How an image is prepared for the model."""

    image_size: int
    """side of the model's images, pixels"""
    mean: float | Channels
    """mean of each channel, or of all, where white is 1"""
    std: float | Channels
    crop: float
    """share of the shorter side that the centre crop keeps"""


@dataclass(frozen=True)
class ModelSpec:
    """Description from which the model for the weights is built."""

    architecture: str
    """timm's name, or corenet.ARCHITECTURE"""
    arguments: Mapping[str, Any]
    """arguments of timm.create_model beside the number of classes"""
    preprocessing: Preprocessing
    features: int
    """width of the classifier's input"""
    global_pool: str | None
    """pooling of the features by timm's name; None where the architecture leaves no choice by name"""
    first_conv: str | list[str]
    """name of the convolution that sees the image; names, where several do"""
    classifier: str | list[str] | None = "head"
    """name of the classifier among the model's parts; names, where timm has several"""
    about: Mapping[str, object] = field(default_factory=dict)
    """further fields of pretrained_cfg"""
    loss: LossName | None = None
    """loss that the classifier was pre-trained by; None for a classifier that was not"""


def check_new(out: Location) -> None:
    """Raise OutputExistsError if the folder to be written exists, InputError if nothing can be written there."""
    refuse_taken(out, wanted="a new folder")


@contextmanager
def new_folder(out: Location) -> Iterator[Path]:
    """Make a folder to write into; it gets the name `out` at the end, and is removed if the block fails.

    In an object store, which cannot rename, the files are uploaded at the end; the last one is the file without which a
    folder is neither a model nor a result. Raises as `check_new`.
    """
    check_new(out)
    out = location_of(out)
    if isinstance(out, Path):
        with _renamed(out) as work:
            yield work
        return
    with tempfile.TemporaryDirectory() as folder:
        with named(tempfile.gettempdir()):
            yield Path(folder)
        _upload(Path(folder), out)


@contextmanager
def _renamed(out: Path) -> Iterator[Path]:
    work = out.absolute().with_name(f".{out.absolute().name}.{secrets.token_hex(4)}.tmp")
    work.mkdir(parents=True)
    try:
        with named(out):
            yield work
        for path in [*work.iterdir(), work]:
            flush(path)
        work.rename(out)
        flush(work.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _upload(work: Path, out: str) -> None:
    filesystem, root = filesystem_of(out)
    paths = sorted((path for path in work.iterdir()), key=lambda path: (path.name in (CONFIG, RESULTS), path.name))
    done: list[str] = []
    try:
        for path in paths:
            done.append(f"{root}/{path.name}")
            with path.open("rb") as file, filesystem.open_output_stream(done[-1]) as stream:
                shutil.copyfileobj(file, stream, HASH_BLOCK)
    except BaseException:
        for name in reversed(done):
            # The first failure is the one to report.
            with suppress(OSError):
                filesystem.delete_file(name)
        raise


def fill(
    work: Path, tensors: Mapping[str, Tensor], build: ModelSpec, vocabulary: Vocabulary, *, classifier: bool
) -> None:
    """Write everything except for the card."""
    about = {VOCABULARY_OF: vocabulary.fingerprint} if classifier else None
    write_model(work, tensors, timm_config(build, vocabulary, classifier=classifier), about)
    vocabulary.save(work / VOCABULARY)
    (work / LICENCE).write_bytes((files("vocab") / "data" / LICENCE).read_bytes())


def write_model(
    work: Path, tensors: Mapping[str, Tensor], fields: Mapping[str, Any], about: Mapping[str, str] | None = None
) -> None:
    """Write model.safetensors, with further metadata `about`, and config.json, which holds its checksum.

    An added classifier goes into classifier.safetensors. Raises OSError, with the file's name, if the disk refuses it.
    """
    own, added = split_added(tensors)
    # Not safetensors' save_file: only the owner could read the file, and a full disk would not raise OSError.
    write_file(work / WEIGHTS, sealed_file(own, about))
    if added:
        write_file(work / CLASSIFIER, sealed_file(added))
    named_weights = {**fields, WEIGHTS_SHA256: metadata_of(work / WEIGHTS)[SEAL]}
    (work / CONFIG).write_text(to_sealed_json(named_weights, indent=1))


def timm_config(build: ModelSpec, vocabulary: Vocabulary, *, classifier: bool) -> dict[str, Any]:
    """config.json of a pre-trained model."""
    config = timm_fields(build, classes=len(vocabulary) if classifier else 0)
    if classifier:
        config["label_names"] = vocabulary.wnids
        config["label_descriptions"] = descriptions(vocabulary)
        if build.loss is not None:
            config[LOSS] = build.loss
    return config


def timm_fields(build: ModelSpec, *, classes: int) -> dict[str, Any]:
    """The fields from which timm builds a model, in the layout that it writes for the Hub (timm/models/_hub.py)."""
    seen = build.preprocessing
    return {
        "architecture": build.architecture,
        "num_classes": classes,
        "num_features": build.features,
        **({} if build.global_pool is None else {"global_pool": build.global_pool}),
        "model_args": dict(build.arguments),
        "pretrained_cfg": {
            "num_classes": classes,
            "input_size": [3, seen.image_size, seen.image_size],
            # timm then builds the model for this size, which architectures that take any size do not know.
            "fixed_input_size": "img_size" in build.arguments or build.architecture == corenet.ARCHITECTURE,
            "mean": by_channel(seen.mean),
            "std": by_channel(seen.std),
            "crop_pct": seen.crop,
            "crop_mode": "center",
            "interpolation": "bilinear",
            "pool_size": None,
            "first_conv": build.first_conv,
            "classifier": build.classifier,
            **build.about,
        },
    }


def pool_of(model: nn.Module) -> str | None:
    """Pooling of the features by timm's name; None for a model whose pooling is a module."""
    pool = getattr(model, "global_pool", None)
    return pool if isinstance(pool, str) else None


def first_conv_of(model: nn.Module) -> str | list[str]:
    """Name of the convolution that sees the image; names, where several do."""
    # A model for which timm does not say is one of corenet.py, or has a single convolution.
    hybrid = isinstance(getattr(model, "patch_embed", None), HybridEmbed)
    plain = corenet.FIRST_CONV if hybrid else "patch_embed.proj"
    known = getattr(model, "pretrained_cfg", {}).get("first_conv") or plain
    return list(known) if isinstance(known, tuple | list) else str(known)


def classifier_in_timm(model: nn.Module) -> str | list[str] | None:
    """Name of the classifier in timm's architecture; names, where it has several; None where timm does not say."""
    if not has_added_classifier(model):
        return classifier_name(model)
    known = getattr(model, "pretrained_cfg", {}).get("classifier")
    return list(known) if isinstance(known, tuple | list) else known


def descriptions(vocabulary: Vocabulary) -> dict[str, str]:
    """Descriptions of the classes: "n02084071" -> "dog.n.01: dog, domestic dog, Canis familiaris"."""
    nouns = wordnet.load()
    words = (nouns.words_of(nouns.row_of(synset)) for synset in vocabulary.synsets.tolist())
    return {
        wnid: f"{name}: {', '.join(word.replace('_', ' ') for word in spelt)}"
        for wnid, name, spelt in zip(vocabulary.wnids, vocabulary.names, words, strict=True)
    }


def load_model(folder: str | Path) -> nn.Module:
    """Load the model of an exported or imported folder, in eval mode, onto the CPU.

    Most are built as timm.create_model("local-dir:FOLDER", pretrained=True) does; the released CatLIP models are built
    by `trainer/weights/corenet.py`. All have timm's `pretrained_cfg`, with the classes' names. Raises FormatError for
    any other folder, and if configuration or weights do not match their checksum, if they have one, or each other.
    """
    location = Path(folder)
    try:
        config = from_sealed_json(location / CONFIG, (location / CONFIG).read_bytes())
        if not (location / WEIGHTS).is_file():
            raise ValueError(f"no {WEIGHTS}; timm would take another file of weights, if there is one")
        if is_altered(location / WEIGHTS):
            raise ValueError(f"{WEIGHTS} does not match its checksum")
        if WEIGHTS_SHA256 in config and config[WEIGHTS_SHA256] != metadata_of(location / WEIGHTS).get(SEAL):
            raise ValueError(f"{CONFIG} was written with other weights than {WEIGHTS}: copy both from one folder")
        architecture = config["architecture"]
        if architecture == corenet.ARCHITECTURE:
            sizes = corenet.ConvStemSizes(**config["model_args"])
            conv_stem: Any = corenet.build_conv_stem(sizes, classes=config["num_classes"])
            conv_stem.load_state_dict(load_file(location / WEIGHTS))
            conv_stem.pretrained_cfg = {
                **config["pretrained_cfg"],
                **{name: config[name] for name in NAMES & config.keys()},
            }
            model: nn.Module = conv_stem
        else:
            require_architecture(location / CONFIG, architecture)
            model = timm.create_model(f"local-dir:{location}", pretrained=True)
            if model.num_classes != config["num_classes"]:
                # timm then takes what it finds of the weights, and leaves the rest random.
                found = f"num_classes {config['num_classes']} and model_args of {model.num_classes}"
                raise ValueError(f"{CONFIG} has {found}")
    except (*REFUSALS, OSError, SafetensorError) as error:
        missing, unexpected = misnamed(error)
        prefix = prefix_of(unexpected, missing)
        raise FormatError(
            location,
            found=f"no model that can be loaded ({misfit(error) or error})",
            wanted=f"a folder with {CONFIG} and {WEIGHTS}, as export and import write it",
            remedy=without_prefix(prefix)
            if prefix
            else "Make it with: python -m trainer export RUN --out FOLDER, or with timm.models.save_for_hf.",
        ) from error
    return model.eval()


def require_description(config_file: Path, config: Mapping[str, Any]) -> None:
    """Raise FormatError for a config.json of others with a field that timm could not read, or would have to guess.

    Without pretrained_cfg, as in folders of timm's first versions, its fields are those of config.json itself. Where
    mean and deviation are missing, timm takes ImageNet's, whatever the weights were trained with.
    """
    described, classes = config.get("pretrained_cfg", config), config.get("num_classes")
    lacking = [name for name in DESCRIBED if not isinstance(described, dict) or name not in described]
    rules = [
        ("architecture", isinstance(config.get("architecture"), str), "timm's name of an architecture"),
        ("model_args", isinstance(config.get("model_args", {}), dict), "an object of arguments"),
        ("num_classes", type(classes) is int and classes >= 0, "a whole number, 0 without a classifier"),
        ("pretrained_cfg", not lacking, f"an object with {', '.join(DESCRIBED)}"),
    ]
    for name, holds, wanted in rules:
        if holds:
            continue
        found = f"{name} {str(config[name])[:80]!r}" if name in config else f"no {name}"
        raise FormatError(
            config_file,
            found=f"{name} without {lacking[0]}" if isinstance(config.get(name), dict) else found,
            wanted=wanted,
            remedy="Copy the folder again, whole, or write it with timm.models.save_for_hf.",
        )
    require_architecture(config_file, config["architecture"])


def require_architecture(config: Path, architecture: object) -> None:
    """Raise FormatError for a configuration of an architecture that this timm lacks, as it lacks those it removed."""
    if isinstance(architecture, str) and timm.is_model(architecture):
        return
    near = "".join(difflib.get_close_matches(str(architecture), timm.list_models(), n=1))
    raise FormatError(
        config,
        found=f"the architecture {architecture}, which timm {timm.__version__} does not have",
        wanted="an architecture of timm",
        remedy="Install the timm that the weights were written with." + f" The nearest name is {near}." * bool(near),
    )
