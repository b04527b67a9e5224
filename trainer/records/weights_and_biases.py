"""Weights & Biases: a run's log on a server as well, where that was asked for.

In: a project, a run directory, the run's configuration, and values by step. Out: one run on the server, the same one
when the run directory is resumed; RUN/wandb.json holds its id.

    {"project": "catlip", "id": "3f0c9b6e21d84a57"}

wandb's own variables decide whether and where it sends: WANDB_MODE=offline, WANDB_ENTITY, WANDB_BASE_URL. wandb does
not collect command line, code and packages here: commands hold passwords, and environment.json has the rest. Once the
run has begun, no failure of wandb ends it.
"""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vocab.errors import FormatError, InputError, MissingRequirementError
from vocab.pages.text import shown, tell
from vocab.store.files import write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.store.secrets import public

FILE = "wandb.json"


def check_wandb() -> None:
    """Raise MissingRequirementError where the package is not installed. For every rank, before any work is done."""
    found = importlib.util.find_spec("wandb")
    # A folder wandb/ that some run left where Python looks is a package too, of nothing.
    if found is None or found.origin is None:
        raise MissingRequirementError(
            "--wandb",
            found="no package wandb",
            wanted="Weights & Biases' client",
            remedy="Install it: pip install '.[wandb]'; or leave --wandb out.",
        )


class WandbRun:
    """One run of Weights & Biases, open for writing; for the main process alone."""

    def __init__(self, run: Path, *, project: str, config: Mapping[str, Any]) -> None:
        """Raises MissingRequirementError without the package, InputError for a run that wandb refuses to begin."""
        check_wandb()
        import wandb  # takes half a second and opens connections; only those who ask for it wait

        self._wandb = wandb
        # What it raises on purpose, and what a connection to its process raises once that was killed.
        self._failures = (wandb.Error, OSError)
        self._alive = True
        try:
            self._run = wandb.init(
                project=project,
                id=_run_id(run, project),
                name=shown(run.name),
                dir=str(run),
                resume="allow",
                config=public(config),
                settings=wandb.Settings(
                    console="off",
                    disable_code=True,
                    disable_git=True,
                    disable_job_creation=True,
                    save_code=False,
                    x_disable_meta=True,
                    x_save_requirements=False,
                ),
            )
        except self._failures as error:
            raise InputError(
                "--wandb",
                found=f"{project}, for which wandb begins no run ({' '.join(str(error).split())[:300]})",
                wanted="a project that this user can write to",
                remedy="Run `wandb login`, set WANDB_MODE=offline, or leave --wandb out.",
            ) from error
        # A server ignores steps before those it has; a resumed run takes the same ones again.
        self._next = int(self._run.starting_step)

    def write(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Send values of a step. What a resumed run sends again is left out: wandb wants steps that never fall."""
        self._send(step, {name: value for name, value in values.items() if value is not None})

    def picture(self, name: str, pixels: UInt8[np.ndarray, "height width 3"], step: int, *, caption: str) -> None:
        self._send(step, {name: self._wandb.Image(pixels, caption=caption)})

    def close(self) -> None:
        """Send what is left, and end the run."""
        if self._alive:
            try:
                self._run.finish()
            except self._failures as error:
                self._give_up(error)

    def _send(self, step: int, values: dict[str, Any]) -> None:
        if not self._alive or step < self._next:
            return
        self._next = step
        try:
            self._run.log(values, step=step)
        except self._failures as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._alive = False
        tell(
            f"warning: --wandb: found {type(error).__name__} ({error}); wanted a client that takes values. "
            "The run goes on without it; metrics.jsonl and tensorboard/ have everything.\n"
        )


def _run_id(run: Path, project: str) -> str:
    """The id of the run directory's run in a project: the one it had, or a new one, written down before it is used.

    Raises FormatError for a wandb.json of something else.
    """
    path = run / FILE
    if path.exists():
        try:
            kept = from_sealed_json(path, path.read_bytes())
            kept_project, kept_id = str(kept["project"]), str(kept["id"])
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(
                path,
                found=f"no run of wandb ({type(error).__name__}: {error})",
                wanted='{"project": ..., "id": ...}',
                remedy="Move it away; the run goes on there as a new one.",
            ) from error
        if kept_project == project:
            return kept_id
    made = secrets.token_hex(8)
    with write_whole(path) as file:
        file.write(to_sealed_json({"project": project, "id": made}).encode())
    return made
