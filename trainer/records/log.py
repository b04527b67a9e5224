"""What a run says while it goes: metrics.jsonl, TensorBoard, a progress line.

In: numbers with the step they belong to. Out: one JSON object a line, and the same as TensorBoard scalars.

    {"step": 100, "loss": 12.3, "learning_rate": 0.001, "images_per_second": 214.0, "data_wait_share": 0.02, ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from vocab.errors import FormatError

FILE = "metrics.jsonl"


class Log:
    """The log of one run, open for writing; for the main process alone."""

    def __init__(self, run: Path, *, start: int, steps: int) -> None:
        """`start`: steps already taken; lines of later steps, written before the run was stopped, are dropped."""
        path = run / FILE
        kept = [line for line in read_log(path) if int(line["step"]) <= start] if path.exists() else []
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)
        self._bar = tqdm(total=steps, initial=start, unit="step", desc="pretrain", mininterval=0.5, dynamic_ncols=True)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._board.close()
        self._file.close()

    def step(self) -> None:
        """One step is done."""
        self._bar.update()

    def write(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Record values of a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def show(self, **values: str) -> None:
        """Show values on the progress line."""
        self._bar.set_postfix(values)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl; a last line that a kill cut short is left out.

    Raises FormatError for any other line that cannot be read.
    """
    lines = path.read_text().splitlines(keepends=True)
    try:
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except ValueError as error:
        raise FormatError(
            path,
            found=f"a line that is no JSON ({error})",
            wanted="one JSON object a line",
            remedy="Remove the broken line, or start a new run in another --out.",
        ) from error
