"""Stop signals: a run notes them and goes on to where it can leave a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from trainer.distributed import Rank


@dataclass
class StopSignals:
    """SIGTERM and SIGINT of one process, noted instead of obeyed."""

    rank: Rank
    _number: int | None = field(default=None, init=False)

    @property
    def asked(self) -> bool:
        """Tell whether a signal came."""
        return self._number is not None

    @property
    def status(self) -> int:
        """Exit status of a process that was stopped; another rank's signal counts as SIGTERM."""
        return 128 + (self._number or signal.SIGTERM)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals until the end of the context. A second Ctrl-C raises KeyboardInterrupt."""
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT):
                stack.callback(signal.signal, number, signal.signal(number, self._note))
            yield

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        self._number = number
        if number == signal.SIGINT and self.rank.is_main:
            sys.stderr.write("\nstopping with a checkpoint; again to stop at once\n")
