"""The weights that a run directory holds: its result, or one of its checkpoints.

In: a run directory, and which weights are wanted. Out: their tensors under timm's names, and where they come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainer.checkpoints.checkpoint import FOLDER, folder_name, open_checkpoint
from trainer.checkpoints.sealed_tensors import VOCABULARY, is_altered, metadata_of
from vocab.errors import FormatError, InputError, MismatchError
from vocab.vocabulary import Vocabulary

Kind = Literal["ema", "model"]
RESULT = "model.safetensors"
"""of a finished run"""


@dataclass(frozen=True)
class StoredWeights:
    """Weights and their origin."""

    tensors: dict[str, Tensor]
    kind: Kind
    step: int | None
    """of the checkpoint they were read from; None for a finished run's result"""
    vocabulary: Path
    """vocabulary.parquet that belongs to them"""


def read_weights(run: Path, *, kind: Kind, step: int | None) -> StoredWeights:
    """The weights of a finished run, or of the checkpoint `step`, or of the newest one if the run is not finished.

    A finished run's result is its moving average, so that the weights of the step itself are always a checkpoint's.
    Raises InputError if the run has no such weights, FormatError if their file is not whole.
    """
    result = run / RESULT
    if step is None and kind == "ema" and result.is_file():
        return StoredWeights(read_result(result), kind, None, run / "vocabulary.parquet")
    found = open_checkpoint(_checkpoint(run, step))
    return StoredWeights(found.load(kind), kind, found.step, found.path / "vocabulary.parquet")


def read_result(path: Path) -> dict[str, Tensor]:
    """Tensors of a finished run's model.safetensors. Raises FormatError for a file that is cut short or altered."""
    try:
        tensors = load_file(path)
        altered = is_altered(path)
    except (SafetensorError, OSError) as error:
        raise _broken(path, f"unreadable weights ({error})") from error
    if altered:
        raise _broken(path, "weights that do not match their checksum")
    return tensors


def check_classes(weights: Path, vocabulary: Vocabulary, *, remedy: str) -> None:
    """Raise MismatchError for classes that are not the ones the weights say; earlier releases' say none."""
    if metadata_of(weights).get(VOCABULARY) not in (None, vocabulary.fingerprint):
        raise MismatchError(
            weights.with_name("vocabulary.parquet"),
            found=f"{len(vocabulary):,} classes that are others, or in another order, than {weights.name} was "
            "trained with",
            wanted="the vocabulary of the weights beside it",
            remedy=remedy,
        )


def images_at(run: Path, step: int) -> int | None:
    """Images that the run had trained on at a checkpoint; None if the checkpoint does not say it."""
    progress = open_checkpoint(run / FOLDER / folder_name(step), checksums=False).state.get("progress")
    return int(progress["images"]) if isinstance(progress, dict) and "images" in progress else None


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


def _broken(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="whole weights, as the trainer writes them",
        remedy="Copy the file again from where it was written, or take another checkpoint with --checkpoint.",
    )
