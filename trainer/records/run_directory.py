"""The run directory of any verb: what `--out` holds, whether this run may go on there, and its first files.

run.lock                                             while the run goes
config.json  environment.json                        written at the start
data.json  vocabulary.parquet                        pre-training: written at the start
transfer_init/                                       fine-tuning with --init transfer: what every class begins with
metrics.jsonl  bad_samples.jsonl  tensorboard/       while the run goes
spikes.jsonl  rollback.json                          after steps that went wrong
checkpoints/step-00001000/                           at regular steps and at the end
page.html  classes.csv                               at each evaluation
results.json                                         at the end, with
model.safetensors  README.md                         pre-training: the averaged weights and their card
model/  results.md                                   fine-tuning: a folder that timm loads, and a table
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoints.checkpoint import Checkpoint, folders_of, newest
from trainer.config import differences, to_json
from trainer.distributed import Rank
from trainer.records.environment import environment, record_start
from trainer.records.log import FILE as LOG
from trainer.records.run_lock import entries
from vocab.errors import FormatError, MismatchError, OutputExistsError
from vocab.pages.text import counted, tell
from vocab.store.files import write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json

CONFIG, ROLLBACK = "config.json", "rollback.json"


@dataclass(frozen=True)
class RunKind:
    """A kind of directory that `--out` may name, recognised by the fields of its config.json."""

    name: str
    """words for it in messages: "a run" """
    fields: frozenset[str]
    """fields that its config.json has, and that of no other kind"""


@dataclass(frozen=True)
class ResumePoint:
    """State in which an earlier start left a run."""

    checkpoint: Checkpoint | None = None
    state: dict[str, Any] = field(default_factory=dict)
    """the checkpoint's state, or what a rollback to it made of that"""
    faults: list[FormatError] = field(default_factory=list)
    """faults of newer checkpoints"""


def find_resume_point(out: Path, config: Any, kind: RunKind, *, changeable: Collection[str]) -> ResumePoint:
    """Find the checkpoint to go on from; none for a fresh start. Reads every byte of a checkpoint, writes nothing.

    A start that ended before the first line of its log and the first checkpoint gives way to another configuration,
    and stderr says so. The caller checks the checkpoint's fingerprint.

    Raises OutputExistsError if `out` holds no run of this kind, MismatchError if it holds one that differs in options
    other than the `changeable` ones, FormatError if none of its checkpoints is whole.
    """
    stored = stored_config(out, kind)
    if stored is not None:
        _check_same(out, differences(stored, config, changeable=changeable))
    found, faults = newest(out)
    if found is None:
        return ResumePoint(faults=faults)
    return ResumePoint(found, rollback_to(found, out) or found.state, faults)


def _check_same(out: Path, differing: dict[str, tuple[object, object]]) -> None:
    """Raise MismatchError for options that the run there has otherwise, unless it has not learnt anything yet."""
    if not differing:
        return
    before = ", ".join(f"{name}={stored!r}" for name, (stored, _) in differing.items())
    now = ", ".join(f"{name}={given!r}" for name, (_, given) in differing.items())
    if has_learnt(out):
        raise MismatchError(
            out,
            found=f"a run with {before}",
            wanted=now,
            remedy="Give the options the run was started with, or choose another --out."
            if folders_of(out)
            else "It has no checkpoint: remove the directory to start anew, or choose another --out.",
        )
    tell(f"{out}: an earlier start learnt nothing; beginning anew with {now}, before {before}\n")


def has_learnt(out: Path) -> bool:
    """Tell whether a run has a checkpoint or a line in its log."""
    return bool(folders_of(out)) or ((out / LOG).exists() and bool((out / LOG).read_bytes()))


def initialise(out: Path, config: Any, rank: Rank, *, step: int) -> None:
    """Make the directory and write down what the run is, and this start of it at a step. For the main rank alone."""
    out.mkdir(parents=True, exist_ok=True)
    with write_whole(out / CONFIG) as file:
        file.write(to_json(config).encode())
    record_start(out, environment(rank, step=step))


def write_rollback(out: Path, found: Checkpoint, state: dict[str, Any]) -> None:
    """Keep what a rollback made of a checkpoint's state: a later start goes on from there, and not into the spike."""
    body = {"step": found.step, "from": found.state["data"], "state": state}
    with write_whole(out / ROLLBACK) as file:
        file.write(to_sealed_json(body, indent=2).encode())


def rollback_to(found: Checkpoint, out: Path) -> dict[str, Any] | None:
    """Read the state of the last rollback, if it went to this checkpoint."""
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


def stored_config(out: Path, kind: RunKind) -> dict[str, Any] | None:
    """Read config.json; None where there is no run yet.

    Raises OutputExistsError for a directory of another kind, FormatError for a run whose config.json was lost.
    """
    if not out.exists() or (out.is_dir() and not entries(out)):
        return None
    try:
        stored = from_sealed_json(out / CONFIG, (out / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        if checkpoints := list(folders_of(out).values()):
            raise FormatError(
                out,
                found=f"no readable {CONFIG}",
                wanted=f"that of the run whose checkpoints lie in {checkpoints[-1].parent}",
                remedy=f"Copy the one of a checkpoint there: {checkpoints[-1] / CONFIG}",
            ) from error
        raise _occupied(out, f"no readable {CONFIG}", kind.name) from error
    if not isinstance(stored, dict) or not kind.fields <= stored.keys():
        raise _occupied(out, f"a {CONFIG} of something else", kind.name)
    return stored


def _occupied(out: Path, found: str, kind: str) -> OutputExistsError:
    """Make the error for an `--out` that holds no `kind`, with what was `found` beside its entries."""
    return OutputExistsError(
        out,
        found="a file" if out.is_file() else f"{counted(len(entries(out)), 'entry', 'entries')} and {found}",
        wanted=f"an empty or new directory, or {kind} to continue",
        remedy="Choose another --out, or remove this one.",
    )
