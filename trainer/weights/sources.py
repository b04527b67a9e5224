"""Weights from wherever they lie: a name of timm's, a folder that timm or export wrote, a .safetensors file, a run.

In: the word that `--init` of pre-training is given. Out: `SourceWeights`, tensors by name with what is known of their
model. Reading never runs code: pickles are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainer.checkpoints.safetensors_files import is_altered
from trainer.weights import corenet
from trainer.weights.fetching import local_folder
from trainer.weights.folder import CONFIG, FOLDER_FIELDS, VOCABULARY, WEIGHTS, require_architecture
from trainer.weights.native import LOCAL, PICKLE_SUFFIXES, SUFFIX, WANTED, first_line, is_name, named_model
from trainer.weights.run_model import check_classes, read_weights, stored_config, vocabulary_of
from vocab.errors import FormatError, InputError
from vocab.store.locations import location_of
from vocab.store.sealing import from_sealed_json
from vocab.store.secrets import without_secrets
from vocab.vocabulary import Vocabulary

PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""first bytes of a zip, as torch.save writes, and of a bare pickle"""


@dataclass(frozen=True, eq=False)
class SourceWeights:
    """Weights under the names that their writer gave them."""

    source: str
    """where they were read from, without secrets: messages show it"""
    tensors: Mapping[str, Tensor]
    architecture: str | None = None
    """timm's name of their model; None for a file that does not say so"""
    vocabulary: Vocabulary | None = None
    """classes of their classifier; None for classes that are not of a vocabulary"""


def read_source(given: str) -> SourceWeights:
    """Read weights, onto the CPU.

    Raises InputError for a name or a path that names none and for a pickle, FormatError for files that are not whole.
    """
    given = given.removeprefix(LOCAL)
    shown = without_secrets(given)
    if is_name(given):
        native = named_model(given)
        return SourceWeights(shown, native.model.state_dict(), native.architecture)
    with local_folder(location_of(given, option="--init")) as place:
        return _of_path(place, shown)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of weights. Raises InputError for none and for a pickle, FormatError for a file that is not whole."""
    if not path.is_file():
        raise InputError(path, found="no such file", wanted=WANTED, remedy="Check the path of the weights.")
    if _is_pickle(path):
        raise _pickle(path)
    try:
        tensors = load_file(path)
        altered = is_altered(path)
    except (SafetensorError, OSError) as error:
        raise _broken(path, f"unreadable weights ({first_line(error)})") from error
    if altered:
        raise _broken(path, "weights that do not match their checksum")
    if not tensors:
        raise _broken(path, "no tensor")
    return tensors


def _of_path(place: Path, shown: str) -> SourceWeights:
    """Read a folder or a file of this machine."""
    if place.is_file():
        if place.name.endswith(PICKLE_SUFFIXES):
            raise _pickle(place)
        return SourceWeights(shown, read_safetensors(place))
    if not place.is_dir():
        raise InputError(place, found="no such file or folder", wanted=WANTED, remedy="Check the path or the name.")
    config = _config_of(place)
    if FOLDER_FIELDS & config.keys():
        return _of_folder(place, shown, config.get("architecture"))
    if "task" in config:
        raise InputError(
            place,
            found="the directory of a fine-tuning run, or the results of a verb",
            wanted=WANTED,
            remedy=f"The model of a fine-tuning run is its folder {place.name}/model.",
        )
    run = stored_config(place)
    stored = read_weights(place, kind="ema", step=None)
    return SourceWeights(shown, stored.tensors, run["model"]["model"], vocabulary_of(run, stored))


def _of_folder(folder: Path, shown: str, architecture: Any) -> SourceWeights:
    if architecture == corenet.ARCHITECTURE:
        raise InputError(
            folder,
            found="released CatLIP weights, whose convolutional stem is none of timm's",
            wanted="weights of an architecture of timm",
            remedy="Use them with probe, zeroshot, finetune and transfer, which take them as they are.",
        )
    require_architecture(folder / CONFIG, architecture)
    refuse_pickles(folder)
    tensors = read_safetensors(folder / WEIGHTS)
    if not (folder / VOCABULARY).is_file():
        return SourceWeights(shown, tensors, architecture)
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    check_classes(folder / WEIGHTS, vocabulary, remedy="Copy the folder again, whole, or export the run again.")
    return SourceWeights(shown, tensors, architecture, vocabulary)


def _config_of(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        weights = sorted(folder.glob(f"*{SUFFIX}"))
        if not weights and (others := _pickles_in(folder)):
            raise _pickle(others[0])
        remedy = f"Name the file itself: {weights[0]}" if weights else "Check the path of the weights."
        raise InputError(folder, found=f"a folder without {CONFIG}", wanted=WANTED, remedy=remedy)
    try:
        config = from_sealed_json(path, path.read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(path, f"no readable configuration ({error})") from error
    return config if isinstance(config, dict) else {}


def refuse_pickles(folder: Path) -> None:
    """Raise InputError for a folder of a model that has its weights as a pickle alone, whatever its name."""
    weights = folder / WEIGHTS
    if weights.is_file() and _is_pickle(weights):
        raise _pickle(weights)
    if not weights.is_file() and (others := _pickles_in(folder)):
        raise _pickle(others[0])


def refuse_file(path: Path, *, wanted: str) -> None:
    """Raise InputError for a file of weights in place of the model that a verb reads, and say how to come by one."""
    if not path.is_file():
        return
    if path.name.endswith(PICKLE_SUFFIXES) or _is_pickle(path):
        raise _pickle(path)
    remedy = (
        f"Give the file to pretrain as --init; here name a folder that has it as {WEIGHTS} beside timm's {CONFIG}."
        if path.name.endswith(SUFFIX)
        else "Check the path of the model, or its name."
    )
    raise InputError(path, found="a file", wanted=wanted, remedy=remedy)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(PICKLE_STARTS)


def _pickles_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(PICKLE_SUFFIXES))


def _pickle(path: Path) -> InputError:
    return InputError(
        path,
        found="a pickle, or a file that may be one: reading it could run code",
        wanted="weights as .safetensors",
        remedy="Convert a file that you trust: python -c 'import sys, torch, safetensors.torch as s; "
        "s.save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])' OLD NEW.safetensors",
    )


def _broken(path: Path, found: str) -> FormatError:
    return FormatError(
        path, found=found, wanted="a whole file", remedy="Copy the file again from where it was written."
    )
