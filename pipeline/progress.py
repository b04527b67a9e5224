"""Progress of the job: a line on the terminal, and a line of JSON in the log for every step.

labels  wave 2 of 5  37 %  12,345,678 rows  211,000 rows/s  12 min 5 s left
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from pipeline.planning import Task
from pipeline.task import Done
from vocab.pages.text import duration
from vocab.store.files import named

SHOWN_EVERY = 2.0
SETTLED = 30.0
"""seconds before a rate is shown: the start of Spark's workers is most of a short job"""


class JobProgress:
    """Rows and bytes that are done, as a share of the whole job."""

    def __init__(self, tasks: Iterable[Task], *, log: Path | None) -> None:
        self._weights = {task.number: task.weight for task in tasks}
        self._total = max(1, sum(self._weights.values()))
        self._log = log
        self._start = time.monotonic()
        self._shown = 0.0
        self._done: dict[int, int] = {}
        self._found: set[int] = set()
        self.wave = ""

    def found(self, finished: Iterable[Done]) -> None:
        """Take tasks that earlier runs finished: they count as done, but not for the speed."""
        for done in finished:
            self._done[done.task] = done.rows
            self._found.add(done.task)

    def note(self, event: str, **fields: object) -> None:
        """Append a line to the log, if there is one."""
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with named(self._log), self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": round(time.time(), 3), "event": event, **fields}) + "\n")

    def task_done(self, done: Done) -> None:
        """Count a task, once."""
        if done.task not in self._done:
            self._done[done.task] = done.rows
            self.note("task", task=done.task, rows=done.rows, peak_mb=done.peak_mb, parts=len(done.parts))

    def show(self, *, always: bool = False) -> None:
        """Write the line every few seconds; on a terminal, over the previous one."""
        now = time.monotonic()
        if not always and now - self._shown < SHOWN_EVERY:
            return
        self._shown = now
        end = "\r" if sys.stderr.isatty() and not always else "\n"
        if always or sys.stderr.isatty():
            sys.stderr.write(self.line(now - self._start) + end)
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """Share of the work, rows, rows/s of this run once it is SETTLED, and the time left at that speed."""
        share = sum(self._weights.get(task, 0) for task in self._done) / self._total
        found = sum(self._weights.get(task, 0) for task in self._found) / self._total
        own_rows = sum(rows for task, rows in self._done.items() if task not in self._found)
        rate = f"  {own_rows / seconds:,.0f} rows/s" if seconds >= SETTLED else ""
        left = "" if share <= found or share >= 1 else f"  {duration(seconds * (1 - share) / (share - found))} left"
        return f"labels  {self.wave}  {share:4.0%}  {sum(self._done.values()):,} rows{rate}{left}    "
