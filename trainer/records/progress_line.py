"""The progress of a run on stderr: a bar that rewrites itself on a terminal, plain lines everywhere else.

In: steps, and values to show beside them. Out: a bar; or, where stderr is a file, one line each time values are shown,
for the carriage returns of a bar would make one endless line of a cluster's log.

    step 1,200/20,000 (6.0%), 1 h 12 min left: loss=12.31 images_s=4,512 waits=0% ready=3.0
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from vocab.pages.text import duration


class ProgressLine:
    """How far a run is, for whoever watches it."""

    def __init__(self, *, start: int, steps: int, plain: bool | None = None, verb: str = "pretrain") -> None:
        """`start`: steps already taken. `plain`: lines and no bar; unset, where stderr is no terminal.

        `verb`: what the bar is called.
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
        """One step is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def back_to(self, step: int) -> None:
        """The run goes on from an earlier step."""
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
        shown = " ".join(f"{name}={value}" for name, value in values.items())
        share = self._done / max(1, self._steps)
        sys.stderr.write(f"step {self._done:,}/{self._steps:,} ({share:.1%}){self._left()}: {shown}\n")
        sys.stderr.flush()

    def _left(self) -> str:
        """What remains at the pace since this start, all pauses included."""
        taken = self._done - self._start
        if taken <= 0 or self._done >= self._steps:
            return ""
        return f", {duration((self._steps - self._done) * (time.monotonic() - self._began) / taken)} left"
