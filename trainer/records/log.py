"""Log of a run while it goes: metrics.jsonl, TensorBoard, Weights & Biases where asked for, a progress line.

    {"step": 100, "loss": 12.3, "learning_rate": 0.001, "images_per_second": 214.0, ..., "own_sha256": "..."}

JSON has no NaN and no infinity: null stands for them, and TensorBoard shows which of the two it was.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from trainer.data.images import decode
from trainer.records.weights_and_biases import WandbRun
from vocab.errors import FormatError
from vocab.pages.text import duration, shown, tell
from vocab.store.files import named, write_whole
from vocab.store.sealing import from_sealed_json, to_sealed_json, whole_lines

FILE = "metrics.jsonl"
SCORE = "eval_"
"""beginning of the names of an evaluation's scores"""
MAX_PICTURE_PIXELS = 1 << 24
"""largest picture that is taken as bytes; thumbnails are shown"""


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
        number of lines expected up to there; stderr says so if some were lost.

        `wandb`: project of Weights & Biases, which gets `config` too. `verb`: name of the progress bar. Raises
        FormatError for a metrics.jsonl that cannot be read, and as `WandbRun`.
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
        """Record the scores of a step, in place of those that an earlier start of the run recorded."""
        if step in self._scored:
            self._file.close()
            self._keep(lambda line: line["step"] != step or not _has_scores(line))
            self._file = self._path.open("a")
        self._scored.add(step)
        self.write(step, values)

    def has_scores(self, step: int) -> bool:
        """Tell whether a step was evaluated, by this start of the run or an earlier one."""
        return step in self._scored

    def picture(
        self, name: str, picture: bytes | UInt8[np.ndarray, "height width 3"], step: int, *, caption: str = ""
    ) -> None:
        """Record a picture, given as pixels or as the bytes of a PNG or JPEG, with strangers' words under it.

        `name` is ours. Raises `BadImage` for bytes that are not an image of at most MAX_PICTURE_PIXELS.
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
        """Keep the wanted lines; those that a killed or resumed run left behind go."""
        kept = [line for line in read_log(self._path) if wanted(line)] if self._path.exists() else []
        with write_whole(self._path) as file:
            file.write("".join(map(_line, kept)).encode())
        self.lines = len(kept)
        self._scored = {line["step"] for line in kept if _has_scores(line)}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a metrics.jsonl; a last line that a kill cut short is left out.

    Raises FormatError for any other line that cannot be read.
    """
    lines = []
    for number, text in enumerate(whole_lines(path, path.read_bytes()), 1):
        try:
            line = from_sealed_json(f"{path}, line {number}", text)
        except ValueError as error:
            raise _broken(path, f"a line {number} that is not JSON ({error})") from error
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


class ProgressLine:
    """Progress of a run on stderr: a bar that rewrites itself on a terminal, plain lines everywhere else.

    Where stderr is a file, each time values are shown is a line, for the carriage returns of a bar would make one
    endless line of a cluster's log:

        step 1,200/20,000 (6.0%), 1 h 12 min left: loss=12.310 images_s=4512 mfu=41% waits=0% ready=3.0 bad=0
    """

    def __init__(self, *, start: int, steps: int, plain: bool | None = None, verb: str = "pretrain") -> None:
        """`start`: steps already taken. `plain`: lines instead of a bar; unset: where stderr is not a terminal.

        `verb`: name of the bar.
        """
        self._start, self._done, self._steps = start, start, steps
        self._began = time.monotonic()
        plain = not sys.stderr.isatty() if plain is None else plain
        self._bar = None if plain else tqdm(total=steps, initial=start, unit="step", desc=verb, mininterval=0.5)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def step(self) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def back_to(self, step: int) -> None:
        """Go back to an earlier step."""
        self._done = self._start = step
        self._began = time.monotonic()
        if self._bar is not None:
            self._bar.n = self._bar.initial = step
            self._bar.start_t = self._bar.last_print_t = time.time()
            self._bar.refresh()

    def show(self, values: Mapping[str, str]) -> None:
        """Show values beside the steps."""
        if self._bar is not None:
            self._bar.set_postfix(values)
            return
        pairs = " ".join(f"{name}={value}" for name, value in values.items())
        share = self._done / max(1, self._steps)
        tell(f"step {self._done:,}/{self._steps:,} ({share:.1%}){self._left()}: {pairs}\n")

    def _left(self) -> str:
        """Time that remains at the pace since this start, all pauses included."""
        taken = self._done - self._start
        if taken <= 0 or self._done >= self._steps:
            return ""
        return f", {duration((self._steps - self._done) * (time.monotonic() - self._began) / taken)} left"
