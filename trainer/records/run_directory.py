"""The run directory: what `--out` holds, whether this run may go on there, and its first files.

run.lock                                             while it goes
config.json  data.json  vocabulary.parquet           written at the start
environment.json
metrics.jsonl  bad_samples.jsonl  tensorboard/       while it goes
spikes.jsonl  rollback.json                          after steps that went wrong
checkpoints/step-00001000/                           every so often
page.html                                            at each evaluation
model.safetensors  results.json  README.md           at the end
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoints.checkpoint import Checkpoint, folders_of, newest
from trainer.config import CHANGEABLE, PLACES, PretrainConfig, differences, to_json
from trainer.distributed import Rank
from trainer.inputs import Inputs
from trainer.records.environment import environment, record_start
from trainer.records.log import FILE as LOG
from trainer.records.run_data import RunData, read_run_data, run_data_of
from trainer.records.run_lock import entries
from vocab.errors import CatlipError, FormatError, MismatchError, OutputExistsError
from vocab.pages.text import tell
from vocab.store.files import write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.vocabulary import Vocabulary

CONFIG, ROLLBACK = "config.json", "rollback.json"


@dataclass(frozen=True)
class Found:
    """Where an earlier start left off."""

    checkpoint: Checkpoint | None = None
    state: dict[str, Any] = field(default_factory=dict)
    """the checkpoint's, or what a rollback to it made of it"""
    faults: list[FormatError] = field(default_factory=list)
    """of newer checkpoints"""
    data: RunData | None = None
    """data of a pre-training run"""


def recorded_data(out: Path) -> RunData | None:
    """The data of a run that has learnt something; None where there is no such run, or an earlier release began it.

    Raises as `stored_config`, and FormatError for a data.json that cannot be read.
    """
    return read_run_data(out) if stored_config(out) is not None and _has_learnt(out) else None


def examine(config: PretrainConfig, inputs: Inputs) -> Found:
    """Find the checkpoint to go on from; none for a fresh start. Reads every byte of a checkpoint, writes nothing.

    A start that ended before the first line of its log and the first checkpoint gives way to another configuration,
    which stderr is told. Raises OutputExistsError if `out` holds something that is no run, MismatchError if it holds a
    run of another configuration, vocabulary or content of tars, FormatError if none of its checkpoints is whole.
    """
    out, vocabulary = config.run.out, inputs.vocabulary
    stored, recorded = stored_config(out), recorded_data(out)
    if stored is not None:
        changeable = CHANGEABLE if recorded is None else (*CHANGEABLE, *PLACES)
        _check_same(out, differences(stored, config, changeable=changeable))
    data = run_data_of(inputs.train, inputs.held_out, known=recorded)
    found, faults = newest(out)
    if found is None:
        return Found(faults=faults, data=data)
    if found.fingerprint != vocabulary.fingerprint:
        raise MismatchError(
            found.path,
            found=f"the classes of another vocabulary ({len(found.vocabulary):,} classes)",
            wanted=f"those of --vocabulary ({len(vocabulary):,} classes)",
            remedy=f"Resume with the vocabulary the run was started with ({out / 'vocabulary.parquet'}).",
        )
    return Found(found, rollback_to(found, out) or found.state, faults, data)


def _check_same(out: Path, differing: dict[str, tuple[object, object]]) -> None:
    """Raise MismatchError for options that the run there has otherwise, unless it has not learnt anything yet."""
    if not differing:
        return
    before = ", ".join(f"{name}={stored!r}" for name, (stored, _) in differing.items())
    now = ", ".join(f"{name}={given!r}" for name, (_, given) in differing.items())
    if _has_learnt(out):
        raise MismatchError(
            out,
            found=f"a run with {before}",
            wanted=now,
            remedy="Give the options the run was started with, or choose another --out."
            if folders_of(out)
            else "It has no checkpoint: remove the directory to start anew, or choose another --out.",
        )
    tell(f"{out}: an earlier start learnt nothing; beginning anew with {now}, before {before}\n")


def _has_learnt(out: Path) -> bool:
    """Tell whether a run has a checkpoint or a line in its log."""
    return bool(folders_of(out)) or ((out / LOG).exists() and bool((out / LOG).read_bytes()))


def begin(config: PretrainConfig, vocabulary: Vocabulary, data: RunData, rank: Rank, *, step: int) -> None:
    """Make the directory and write down what the run is, and this start of it at a step. For the main process alone."""
    out = config.run.out
    out.mkdir(parents=True, exist_ok=True)
    with write_whole(out / CONFIG) as file:
        file.write(to_json(config).encode())
    data.write(out)
    vocabulary.save(out / "vocabulary.parquet")
    record_start(out, environment(rank, step=step))


def write_rollback(out: Path, found: Checkpoint, state: dict[str, Any]) -> None:
    """Keep what a rollback made of a checkpoint's state: a later start goes on from there, and not into the spike."""
    body = {"step": found.step, "from": found.state["data"], "state": state}
    with write_whole(out / ROLLBACK) as file:
        file.write(to_sealed_json(body, indent=2).encode())


def rollback_to(found: Checkpoint, out: Path) -> dict[str, Any] | None:
    """The state of the last rollback, if it went to this checkpoint."""
    path = out / ROLLBACK
    if not path.exists():
        return None
    try:
        written = from_sealed_json(path, path.read_bytes())
        ours = (written["step"], written["from"]) == (found.step, found.state["data"])
        state = dict(written["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            path,
            found=f"no readable rollback ({error!r})",
            wanted="step and state",
            remedy="Remove it; the run then goes on from its checkpoint, through the steps it went back from.",
        ) from error
    return state if ours else None


def stored_config(out: Path) -> dict[str, Any] | None:
    """What config.json says; None where there is no run yet.

    Raises OutputExistsError for something that is no run, FormatError for a run whose config.json cannot be read.
    """
    if not out.exists() or (out.is_dir() and not entries(out)):
        return None
    try:
        stored = from_sealed_json(out / CONFIG, (out / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise _no_run(out, "no readable config.json") from error
    if not isinstance(stored, dict) or not {"data", "model", "optim", "run"} <= stored.keys():
        raise _no_run(out, "a config.json of something else")
    return stored


def _no_run(out: Path, found: str) -> CatlipError:
    if checkpoints := list(folders_of(out).values()):
        return FormatError(
            out,
            found=found,
            wanted=f"that of the run whose checkpoints lie in {checkpoints[-1].parent}",
            remedy=f"Copy the one of a checkpoint there: {checkpoints[-1] / CONFIG}",
        )
    kind = "a file" if out.is_file() else f"{len(entries(out))} entries and {found}"
    return OutputExistsError(
        out,
        found=kind,
        wanted="an empty or new directory, or a run to continue",
        remedy="Choose another --out, or remove this one.",
    )
