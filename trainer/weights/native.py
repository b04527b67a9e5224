"""Models of others with their pre-trained weights, by the names that timm and open_clip know them by.

In: a name. Out: a `NativeModel`, of the architecture, sizes and classes that its weights were made with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from timm.models import get_deprecated_models, load_model_config_from_hf
from torch import nn

from trainer.model.backbone import REFUSALS, architecture_of
from vocab.errors import InputError

SUFFIX = ".safetensors"
HUB, LOCAL = ("hf-hub:", "hf_hub:"), "local-dir:"
"""how timm marks a name of the Hugging Face Hub, and a folder"""
OPEN_CLIP = "open_clip:"
NAME = re.compile(r"\w+(\.\w+)?")
"""timm's name of an architecture, with or without the tag of its weights"""
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".tar", ".pth.tar")
WANTED = (
    "timm's name of pre-trained weights, hf-hub:NAME, open_clip:ARCHITECTURE::WEIGHTS, a folder that timm or export "
    "wrote, a .safetensors file or a run directory"
)


@dataclass(frozen=True, eq=False)
class NativeModel:
    """A model that timm built for its weights, in evaluation; with their classifier, or without one."""

    model: nn.Module
    given: Mapping[str, Any] = field(default_factory=dict)
    """arguments of timm.create_model beside the name"""

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of timm.create_model beside the name and the number of classes."""
        return {name: value for name, value in self.given.items() if name != "num_classes"}

    @property
    def about(self) -> Mapping[str, Any]:
        """timm's description: architecture, input_size, mean, std, crop_pct, ..."""
        about: Mapping[str, Any] = self.model.pretrained_cfg  # type: ignore[assignment]
        return about

    @property
    def architecture(self) -> str:
        """timm's name of the architecture."""
        return architecture_of(self.model)


def is_name(given: str) -> bool:
    """Tell a name that timm knows from a path; a file or folder of that name comes first."""
    if given.startswith((*HUB, OPEN_CLIP)):
        return True
    is_file = given.endswith((SUFFIX, *PICKLE_SUFFIXES)) or Path(given).exists()
    return NAME.fullmatch(given) is not None and not is_file


def named_model(name: str) -> NativeModel:
    """Build the model of a name, of timm's or behind open_clip: of open_clip's. Raises as the functions of either."""
    if name.startswith(OPEN_CLIP):
        from trainer.weights.open_clip_towers import open_clip_model

        return open_clip_model(name)
    return timm_model(name)


def timm_model(name: str) -> NativeModel:
    """Build the model of a name of timm's, with its pre-trained weights: from its cache, or else from its hub.

    Raises InputError for a name without weights, and for weights that cannot be had.
    """
    _check_name(name)
    try:
        _, _, arguments = load_model_config_from_hf(name.partition(":")[2]) if name.startswith(HUB) else ("", "", {})
        model = timm.create_model(name, pretrained=True)
    except (*REFUSALS, OSError, SafetensorError) as error:
        raise InputError(
            name,
            found=f"no weights that timm can load ({first_line(error)})",
            wanted="weights in the cache of the Hugging Face Hub, or a network that reaches the hub",
            remedy="Load them once where there is a network, and copy the cache (HF_HOME), or name a folder or a "
            ".safetensors file.",
        ) from error
    return NativeModel(model.eval(), arguments or {})


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
