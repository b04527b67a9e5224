"""Checkpoints: everything a run needs to go on as if it had not been stopped.

In: model, average, optimiser, a small JSON state. Out: a folder that exists whole or not at all.

    checkpoints/step-00001000/
      model.safetensors      ema.safetensors      optimizer.safetensors (a tensor for each weight and moment)
      vocabulary.parquet     augment.safetensors, where augmentation is learnt
      state.json             step, data position, versions, sha256 of every file above and of the rest of itself

No pickle: nothing in a checkpoint can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.model.range_augment import RangeAugment
from vocab.errors import FormatError
from vocab.vocabulary import Vocabulary

FORMAT_VERSION = 1
FOLDER = "checkpoints"
STATE = "state.json"
HASH_BLOCK = 1 << 22


@dataclass
class Training:
    """What changes from step to step."""

    model: nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    augment: RangeAugment | None = None
    """augmentation that is learnt with the weights"""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums hold."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.state["step"])

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes of its weights."""
        return Vocabulary.load(self.path / "vocabulary.parquet")


def save(run: Path, training: Training, vocabulary: Vocabulary, *, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of `step`, then drop all but the newest `keep`. Returns its folder.

    Raises FormatError if the disk does not take it; the checkpoints before it stay.
    """
    folder = run / FOLDER / f"step-{step:08d}"
    work = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        save_file(_plain(training.model.state_dict()), work / "model.safetensors")
        save_file(_plain(training.average.module.state_dict()), work / "ema.safetensors")
        save_file(_plain(dict(_moments(training))), work / "optimizer.safetensors")
        if training.augment is not None:
            save_file(_plain(training.augment.state_dict()), work / "augment.safetensors")
        vocabulary.save(work / "vocabulary.parquet")
        names = sorted(path.name for path in work.iterdir())
        body = state | {
            "version": FORMAT_VERSION,
            "step": step,
            "averaged": int(training.average.n_averaged),
            "torch": torch.__version__,
            "vocabulary": vocabulary.fingerprint,
            "sha256": {name: _sha256(work / name) for name in names},
        }
        body["own_sha256"] = _own_sha256(body)
        (work / STATE).write_text(json.dumps(body, indent=2) + "\n")
        for path in [*work.iterdir(), work]:
            _flush(path)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise FormatError(
            folder,
            found=f"a checkpoint that could not be written ({error})",
            wanted="space and permission to write it",
            remedy="Make room and start the same command again: it continues from the checkpoint before.",
        ) from error
    for old in _folders(run)[keep:]:
        shutil.rmtree(old)
    return folder


def newest(run: Path) -> tuple[Checkpoint | None, list[FormatError]]:
    """The newest checkpoint whose checksums hold, and what is wrong with the newer ones.

    Raises FormatError if there are checkpoints and none of them holds.
    """
    faults: list[FormatError] = []
    for folder in _folders(run):
        try:
            return Checkpoint(folder, _checked_state(folder)), faults
        except FormatError as fault:
            faults.append(fault)
    if faults:
        raise faults[0]
    return None, []


def restore(checkpoint: Checkpoint, training: Training, device: torch.device) -> None:
    """Put a checkpoint's tensors into a model, average and optimiser made for the same configuration."""
    load = {name: load_file(checkpoint.path / f"{name}.safetensors") for name in ("model", "ema", "optimizer")}
    training.model.load_state_dict(load["model"])
    training.average.module.load_state_dict(load["ema"])
    training.average.n_averaged.fill_(checkpoint.state["averaged"])
    if training.augment is not None:
        training.augment.load_state_dict(load_file(checkpoint.path / "augment.safetensors"))
    moments: dict[int, dict[str, Tensor]] = {}
    places = {name: place for place, (name, _) in enumerate(_parameters(training))}
    for name, tensor in load["optimizer"].items():
        parameter, _, kind = name.rpartition("/")
        moments.setdefault(places[parameter], {})[kind] = tensor.to(device)
    whole = training.optimiser.state_dict()
    training.optimiser.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})


def _parameters(training: Training) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and parameter in the order in which the optimiser numbers them."""
    names = {id(parameter): name for name, parameter in training.model.named_parameters()}
    if training.augment is not None:
        names |= {id(parameter): f"augment.{name}" for name, parameter in training.augment.named_parameters()}
    for group in training.optimiser.param_groups:
        for parameter in group["params"]:
            yield names[id(parameter)], parameter


def _moments(training: Training) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in _parameters(training):
        for kind, tensor in training.optimiser.state[parameter].items():
            yield f"{name}/{kind}", tensor


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors takes neither views nor two names of one storage.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _folders(run: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((run / FOLDER).glob("step-*"), reverse=True)


def _checked_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
        version, files, own = state["version"], state["sha256"], state["own_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(folder / STATE, f"no readable state ({error!r})") from error
    if version > FORMAT_VERSION:
        raise _broken(folder / STATE, f"format version {version}, written by a newer release")
    if own != _own_sha256(state):
        raise _broken(folder / STATE, "a state that was altered")
    for name, wanted in files.items():
        if not (folder / name).is_file():
            raise _broken(folder / name, "no such file")
        if _sha256(folder / name) != wanted:
            raise _broken(folder / name, "bytes that do not match their checksum")
    return state


def _broken(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted=f"a whole checkpoint of format version {FORMAT_VERSION}",
        remedy="Remove this checkpoint's folder; the run then continues from the one before, or starts anew.",
    )


def _own_sha256(state: dict[str, Any]) -> str:
    rest = {name: value for name, value in state.items() if name != "own_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
