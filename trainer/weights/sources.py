"""Weights from wherever they lie: a name of timm's, a folder that timm or export wrote, a .safetensors file, a run.

In: the word that `--init` of pre-training is given. Out: `SourceWeights`, tensors by name with what is known of their
model. Reading never runs code: pickles are refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_deprecated_models
from torch import Tensor, nn

from trainer.checkpoints.safetensors_files import is_altered
from trainer.model.vit import REFUSALS, architecture_of
from trainer.weights import corenet
from trainer.weights.fetching import local_folder
from trainer.weights.folder import CONFIG, VOCABULARY, WEIGHTS
from trainer.weights.run_model import check_classes, read_weights, stored_config, vocabulary_of
from vocab.errors import FormatError, InputError
from vocab.store.locations import location_of
from vocab.store.sealing import from_sealed_json
from vocab.store.secrets import without_secrets
from vocab.vocabulary import Vocabulary

SUFFIX = ".safetensors"
HUB, LOCAL = ("hf-hub:", "hf_hub:"), "local-dir:"
"""how timm marks a name of the Hugging Face Hub, and a folder"""
NAME = re.compile(r"\w+(\.\w+)?")
"""timm's name of an architecture, with or without the tag of its weights"""
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".tar", ".pth.tar")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""first bytes of a zip, as torch.save writes, and of a bare pickle"""
WANTED = (
    "timm's name of pre-trained weights, hf-hub:NAME, a folder that timm or export wrote, a .safetensors file or a run "
    "directory"
)


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
        model = timm_model(given)
        return SourceWeights(shown, model.state_dict(), architecture_of(model))
    if given.endswith(SUFFIX) and isinstance(location_of(given), Path):
        return SourceWeights(shown, read_safetensors(Path(given)))
    with local_folder(location_of(given)) as place:
        return _of_path(place, shown)


def is_name(given: str) -> bool:
    """Tell a name that timm knows from a path; a file or folder of that name comes first."""
    if given.startswith(HUB):
        return True
    is_file = given.endswith((SUFFIX, *PICKLE_SUFFIXES)) or Path(given).exists()
    return NAME.fullmatch(given) is not None and not is_file


def timm_model(name: str) -> nn.Module:
    """Build the model of a name of timm's, with its pre-trained weights: from its cache, or else from its hub.

    Raises InputError for a name without weights, and for weights that cannot be had.
    """
    _check_name(name)
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except (*REFUSALS, OSError, SafetensorError) as error:
        raise InputError(
            name,
            found=f"no weights that timm can load ({first_line(error)})",
            wanted="weights in the cache of the Hugging Face Hub, or a network that reaches the hub",
            remedy="Load them once where there is a network, and copy the cache (HF_HOME), or name a folder or a "
            ".safetensors file.",
        ) from error
    return model.eval()


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of weights. Raises InputError for none and for a pickle, FormatError for a file that is not whole."""
    if not path.is_file():
        raise InputError(path, found="no such file", wanted=WANTED, remedy="Check the path of the weights.")
    with path.open("rb") as file:
        if file.read(4).startswith(PICKLE_STARTS):
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
    if "architecture" in config:
        return _of_folder(place, shown, str(config["architecture"]))
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


def _of_folder(folder: Path, shown: str, architecture: str) -> SourceWeights:
    if architecture == corenet.ARCHITECTURE:
        raise InputError(
            folder,
            found="released CatLIP weights, whose convolutional stem is none of timm's",
            wanted="weights of an architecture of timm",
            remedy="Use them with probe, zeroshot, finetune and transfer, which take them as they are.",
        )
    if not (folder / WEIGHTS).is_file() and (others := _pickles_in(folder)):
        raise _pickle(others[0])
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


def _pickles_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(PICKLE_SUFFIXES))


def _check_name(name: str) -> None:
    """Raise InputError for a name that is none of timm's pre-trained weights."""
    if name.startswith(HUB):
        return
    known = set(timm.list_models(pretrained=True))
    bare = name.partition(".")[0]
    tagged = [each for each in known if each.partition(".")[0] == bare]
    if name in known or (name == bare and tagged):
        return
    renamed = get_deprecated_models().get(name)
    near = difflib.get_close_matches(name, tagged or known, n=3, cutoff=0.3 if tagged else 0.6)
    found = f"no file or folder, and no name of pre-trained weights in timm {timm.__version__}"
    if renamed is not None:
        found, near = f"weights of an earlier timm, which has another name in timm {timm.__version__}", [renamed]
    elif not tagged and timm.is_model(bare):
        found = f"an architecture of timm {timm.__version__}, which has no pre-trained weights of it"
    raise InputError(
        name,
        found=found,
        wanted=WANTED,
        remedy=f"For example {' or '.join(near)}; timm.list_models(pretrained=True) has them all."
        if near
        else "timm.list_models(pretrained=True) lists the names.",
    )


def first_line(error: BaseException) -> str:
    """First line of an error's message; its kind where there is no message."""
    return (str(error) or type(error).__name__).partition("\n")[0]


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
