"""The run directory: what `--out` holds, whether this run may go on there, and its first files.

config.json  vocabulary.parquet                     written at the start
metrics.jsonl  bad_samples.jsonl  tensorboard/      while it goes
checkpoints/step-00001000/                          every so often
model.safetensors  results.json  page.html          at the end
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.checkpoints import checkpoint
from trainer.checkpoints.checkpoint import Checkpoint
from trainer.config import PretrainConfig, differences, to_json
from vocab.errors import FormatError, MismatchError, OutputExistsError
from vocab.storage import write_whole
from vocab.vocabulary import Vocabulary

CONFIG = "config.json"


def examine(config: PretrainConfig, vocabulary: Vocabulary) -> tuple[Checkpoint | None, list[FormatError]]:
    """The checkpoint to go on from, None for a fresh start, and what is wrong with newer ones. Writes nothing.

    Raises OutputExistsError if `out` holds something that is no run, MismatchError if it holds a run of another
    configuration or vocabulary, FormatError if none of its checkpoints is whole.
    """
    out = config.run.out
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None, []
    stored = _stored_config(out)
    differing = differences(stored, config)
    if differing:
        raise MismatchError(
            out,
            found="a run with " + ", ".join(f"{name}={before!r}" for name, (before, _) in differing.items()),
            wanted=", ".join(f"{name}={now!r}" for name, (_, now) in differing.items()),
            remedy="Give the options the run was started with, or choose another --out.",
        )
    newest, faults = checkpoint.newest(out)
    if newest is not None and newest.state["vocabulary"] != vocabulary.fingerprint:
        raise MismatchError(
            newest.path,
            found=f"the classes of another vocabulary ({len(newest.vocabulary):,} classes)",
            wanted=f"those of --vocabulary ({len(vocabulary):,} classes)",
            remedy=f"Resume with the vocabulary the run was started with ({out / 'vocabulary.parquet'}).",
        )
    return newest, faults


def begin(config: PretrainConfig, vocabulary: Vocabulary) -> None:
    """Make the directory and write down what the run is. For the main process alone."""
    out = config.run.out
    out.mkdir(parents=True, exist_ok=True)
    with write_whole(out / CONFIG) as file:
        file.write(to_json(config).encode())
    vocabulary.save(out / "vocabulary.parquet")


def _stored_config(out: Path) -> dict[str, Any]:
    try:
        stored = json.loads((out / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise _occupied(out, "no readable config.json") from error
    if not isinstance(stored, dict) or not {"data", "model", "optim", "run"} <= stored.keys():
        raise _occupied(out, "a config.json of something else")
    return stored


def _occupied(out: Path, found: str) -> OutputExistsError:
    kind = "a file" if out.is_file() else f"{sum(1 for _ in out.iterdir())} entries and {found}"
    return OutputExistsError(
        out,
        found=kind,
        wanted="an empty or new directory, or a run to continue",
        remedy="Choose another --out, or remove this one.",
    )
