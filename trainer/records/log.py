"""What a run says while it goes: metrics.jsonl, TensorBoard, Weights & Biases where asked for, a progress line.

In: numbers with the step they belong to, and pictures. Out: one JSON object a line, and the same as scalars.

    {"step": 100, "loss": 12.3, "learning_rate": 0.001, "images_per_second": 214.0, ..., "own_sha256": "..."}

JSON has no NaN and no infinity: there null stands for a number that is none, and TensorBoard has which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch.utils.tensorboard import SummaryWriter

from trainer.data.images import decode
from trainer.records.progress_line import ProgressLine
from trainer.records.weights_and_biases import WandbRun
from vocab.errors import FormatError
from vocab.pages.text import shown, tell
from vocab.store.files import named, write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json, whole_lines

FILE = "metrics.jsonl"
# What names of scores begin with, of every evaluation.
SCORE = "eval_"
# Of a picture given as bytes; what is shown are thumbnails.
MAX_PICTURE_PIXELS = 1 << 24


class Log:
    """The log of one run, open for writing; for the main process alone."""

    def __init__(
        self,
        run: Path,
        *,
        start: int,
        steps: int,
        lines: int = 0,
        wandb: str | None = None,
        config: Mapping[str, Any] | None = None,
        verb: str = "pretrain",
    ) -> None:
        """`start`: steps already taken; lines of later steps, written before the run was stopped, are dropped. `lines`:
        how many there should be up to there; stderr is told if some were lost.

        `wandb`: project of Weights & Biases, which gets `config` too. `verb`: what the progress bar is called. Raises
        FormatError for a metrics.jsonl that cannot be read, and what `WandbRun` raises.
        """
        self._path = run / FILE
        self._scored: set[int] = set()
        """steps that have scores"""
        self.lines = 0
        """lines of the file"""
        self._keep(lambda line: line["step"] <= start)
        if self.lines < lines:
            tell(f"warning: {self._path} has {self.lines:,} of {lines:,} lines up to step {start:,}\n")
        self._wandb = WandbRun(run, project=wandb, config=config or {}) if wandb is not None else None
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)
        self._progress = ProgressLine(start=start, steps=steps, verb=verb)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.close()
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.close()

    def step(self) -> None:
        """One step is done."""
        self._progress.step()

    def write(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Record values of a step."""
        with named(self._path):
            self._file.write(_line({"step": step, **values}))
            self._file.flush()
        self.lines += 1
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.write(step, values)

    def write_scores(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Record what an evaluation of a step came to, in place of what an earlier start of the run found there."""
        if step in self._scored:
            self._file.close()
            self._keep(lambda line: line["step"] != step or not _has_scores(line))
            self._file = self._path.open("a")
        self._scored.add(step)
        self.write(step, values)

    def has_scores(self, step: int) -> bool:
        """Whether a step was evaluated, by this start of the run or an earlier one."""
        return step in self._scored

    def picture(
        self, name: str, picture: bytes | UInt8[np.ndarray, "height width 3"], step: int, *, caption: str = ""
    ) -> None:
        """Record a picture, given as pixels or as the bytes of a PNG or JPEG, with strangers' words under it.

        `name` is ours. Raises `BadImage` for bytes that are no image of at most MAX_PICTURE_PIXELS.
        """
        if isinstance(picture, bytes):
            picture = np.asarray(decode(picture, max_pixels=MAX_PICTURE_PIXELS))
        words = shown(" ".join(caption.split()))
        self._board.add_image(name, picture, step, dataformats="HWC")
        if words:
            # TensorBoard shows text as markdown, in which a caption could fetch a picture from anywhere. Not in code.
            self._board.add_text(f"{name}/caption", f"    {words}", step)
        if self._wandb is not None:
            self._wandb.picture(name, picture, step, caption=words)

    def back_to(self, step: int) -> None:
        """Forget the lines after a step: the run goes on from there, on other batches."""
        self._file.close()
        self._keep(lambda line: line["step"] <= step)
        self._file = self._path.open("a")
        self._board.close()
        self._board = SummaryWriter(str(self._path.parent / "tensorboard"), purge_step=step + 1)
        self._progress.back_to(step)

    def show(self, **values: str) -> None:
        """Show values with the progress: beside the bar of a terminal, in a line of its own anywhere else."""
        self._progress.show(values)

    def _keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Keep some lines; those that a kill or a resumed run left behind them go."""
        kept = [line for line in read_log(self._path) if wanted(line)] if self._path.exists() else []
        with write_whole(self._path) as file:
            file.write("".join(map(_line, kept)).encode())
        self.lines = len(kept)
        self._scored = {line["step"] for line in kept if _has_scores(line)}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl; a last line that a kill cut short is left out.

    Raises FormatError for any other line that cannot be read.
    """
    lines = []
    for number, text in enumerate(whole_lines(path, path.read_bytes()), 1):
        try:
            line = from_sealed_json(f"{path}, line {number}", text)
        except ValueError as error:
            raise _broken(path, f"a line {number} that is no JSON ({error})") from error
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise _broken(path, f"a line {number} without a step")
        lines.append(line)
    return lines


def _broken(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted='one JSON object a line, {"step": 100, ...}',
        remedy="Remove the broken line, or start a new run in another --out.",
    )


def _line(values: Mapping[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
    return to_sealed_json(finite)


def _has_scores(line: Mapping[str, Any]) -> bool:
    return any(name.startswith(SCORE) for name in line)
