"""The weights that a run directory holds: its result, or one of its checkpoints.

In: a run directory, and which weights are wanted. Out: their tensors under timm's names, and where they come from.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vocab.errors import FormatError, InputError

Kind = Literal["ema", "model"]


@dataclass(frozen=True)
class Stored:
    """Weights and their origin."""

    tensors: dict[str, Tensor]
    kind: Kind
    step: int | None
    """of the checkpoint they were read from; None for a finished run's result"""
    vocabulary: Path
    """vocabulary.parquet that belongs to them"""


def read_weights(run: Path, *, kind: Kind, step: int | None) -> Stored:
    """The weights of a finished run, or of the checkpoint `step`, or of the newest one if the run is not finished.

    A finished run's result is its moving average, so that the weights of the step itself are always a checkpoint's.
    Raises InputError if the run has no such weights, FormatError if their file is not whole.
    """
    result = run / "model.safetensors"
    if step is None and kind == "ema" and result.is_file():
        return Stored(tensors_in(run, "model"), kind, None, run / "vocabulary.parquet")
    folder = _checkpoint(run, step)
    return Stored(tensors_in(folder, kind), kind, int(folder.name[5:]), folder / "vocabulary.parquet")


def tensors_in(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of NAME.safetensors, or of NAME-00001-of-00004.safetensors and the rest of its pieces.

    Raises InputError if there is no such file, FormatError for one that is cut short or not what it claims to be.
    """
    whole, pieces = folder / f"{name}.safetensors", sorted(folder.glob(f"{name}-*-of-*.safetensors"))
    if not whole.is_file() and not pieces:
        raise InputError(
            folder,
            found=f"no {name}.safetensors",
            wanted="a checkpoint, or a finished run",
            remedy="Name another step with --checkpoint, or let the run finish.",
        )
    if not whole.is_file():
        _check_pieces(folder, name, pieces)
    tensors: dict[str, Tensor] = {}
    for path in [whole] if whole.is_file() else pieces:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise _broken(path, f"unreadable weights ({error})") from error
    return tensors


def images_at(run: Path, step: int) -> int | None:
    """Images that the run had trained on at a checkpoint; None if the checkpoint does not say it."""
    try:
        state: Any = json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())
        return int(state["progress"]["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checkpoint(run: Path, step: int | None) -> Path:
    there = [path for path in sorted((run / "checkpoints").glob("step-*")) if re.fullmatch(r"step-\d{8}", path.name)]
    wanted = [path for path in there if step is None or int(path.name[5:]) == step]
    if not wanted:
        steps = ", ".join(f"{int(path.name[5:])}" for path in there)
        raise InputError(
            run,
            found=f"checkpoints of step {steps}" if there else "no checkpoint",
            wanted="a checkpoint" if step is None else f"one of step {step}",
            remedy="Choose one of them with --checkpoint."
            if there
            else "Is this the directory of a run? Name its --out.",
        )
    return wanted[-1]


def _check_pieces(folder: Path, name: str, pieces: list[Path]) -> None:
    """Raise FormatError unless every piece of one set is there."""
    total = pieces[0].stem.rpartition("-")[2]
    count = int(total) if total.isdecimal() else 0
    expected = [f"{name}-{number:05d}-of-{total}.safetensors" for number in range(1, count + 1)]
    found = [path.name for path in pieces]
    if found != expected:
        raise _broken(folder, f"{', '.join(found)}")


def _broken(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="whole weights, as the trainer writes them",
        remedy="Copy the file again from where it was written, or take another checkpoint with --checkpoint.",
    )
