"""What a fine-tuning run is, and what it keeps account of while it goes: losses, speed, scores, bad images.

In: each step's batch on every rank, and its beat two steps later. Out: lines of metrics.jsonl and bad_samples.jsonl on
the main rank, and the totals that a checkpoint keeps.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from trainer.config import PretrainConfig
from trainer.data.batch import Batch, Skipped
from trainer.data.decoding import EvalTransform
from trainer.data.feed import BAD_SHARE_FROM
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, gather
from trainer.optim.schedule import learning_rate
from trainer.records.journal import Progress
from trainer.records.ledger import Ledger
from trainer.records.log import SCORE, Log
from trainer.step.pulse import Beat
from trainer.transfer.batches import Plan
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.scoring import Scored
from vocab.errors import InputError
from vocab.pages.text import tell


@dataclass(frozen=True, eq=False)
class Course:
    """What a run does, without what it changes."""

    config: FinetuneConfig
    """complete"""
    core: PretrainConfig
    """the same, as steps take it"""
    plan: Plan
    train: LabelledImages
    test: LabelledImages
    viewing: EvalTransform
    """how test images are shown"""
    fingerprint: str
    earlier: str
    """the fingerprint as earlier releases took it, of files in their places"""
    """of the weights and images that it learns from"""


@dataclass
class _Window:
    """What happened on this rank since the last line."""

    account: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class Account:
    """The account of one run; every rank has one, the main rank's writes."""

    def __init__(self, course: Course, rank: Rank) -> None:
        self.course, self.rank = course, rank
        self.progress = Progress()
        self._window = _Window()
        self._log: Log | None = None
        self._ledger: Ledger | None = None

    @contextlib.contextmanager
    def open(self, progress: Progress, faults: Iterable[object]) -> Iterator[None]:
        """Open the log and the ledger on the main rank, and say what was wrong with newer checkpoints."""
        self.progress = progress
        if not self.rank.is_main:
            yield
            return
        for fault in faults:
            tell(f"warning: {fault} Continuing from step {progress.step}.\n")
        out = self.course.config.out
        self._ledger = Ledger(out, totals=progress.totals, lines=progress.bad_lines)
        steps, lines = self.course.plan.steps, progress.log_lines
        with Log(out, start=progress.step, steps=steps, lines=lines, verb="finetune") as self._log:
            try:
                yield
            finally:
                # What an error kept from being reported; it may be about these images.
                self._ledger.add([], self._window.skipped)

    def restart_clock(self) -> None:
        """Forget the time since the last line: it went into something else than training."""
        self._window.started = time.perf_counter()

    def note(self, batch: Batch) -> None:
        """One step was taken."""
        self._window.account.update(batch.account)
        self._window.skipped += batch.skipped

    def hear(self, beat: Beat) -> None:
        """What became of a step."""
        self.progress.losses.append(beat.loss)
        self.progress.norms.append(beat.norm)
        if self._log is not None:
            self._log.step()

    def report(self, *, line: bool) -> None:
        """Bring the ranks' numbers together; log them, unless no `line` is due. All steps must have been heard of.

        Raises InputError for too many bad images.
        """
        progress, now = self.progress, time.perf_counter()
        elapsed, parts = now - self._window.started, gather((self._window.account, self._window.skipped), self.rank)
        totals, skipped = Counter(progress.totals), [bad for _, part in parts for bad in part]
        for account, _ in parts:
            totals.update(account)
        images = sum(account["samples"] for account, _ in parts)
        progress.totals = dict(totals)
        progress.seconds += elapsed
        progress.images += images
        if self._ledger is not None:
            self._ledger.add([account for account, _ in parts], skipped)
            progress.bad_lines = self._ledger.lines
        self._window = _Window(started=now)
        if line:
            self._write_line(images / elapsed)
            progress.losses, progress.norms = [], []
        if self._log is not None:
            progress.log_lines = self._log.lines
        # Whatever there was to see has been seen after the last step, however little.
        fewest = 1 if progress.step == self.course.plan.steps else BAD_SHARE_FROM
        most = self.course.config.task.max_bad_share
        raise_for_bad_images("--task.train", totals, skipped, most=most, fewest=fewest)

    def is_scored(self) -> bool:
        """Whether the log has scores of the step at hand; the main rank knows."""
        return self._log is not None and self._log.has_scores(self.progress.step)

    def scored(self, scored: Scored) -> None:
        """Log the scores of the step at hand. Raises InputError if too many of the test images are bad."""
        if self._log is None:
            return
        epoch = self.course.plan.epochs_seen(self.progress.step)
        values = {f"{SCORE}{name}": value for name, value in scored.numbers().items()}
        self._log.write_scores(self.progress.step, {"epoch": epoch, **values})
        name, value = scored.measured.metric
        self._log.show(**{"epoch": f"{epoch:g}", name: f"{value:.2%}"})
        totals = Counter(samples=scored.images + len(scored.skipped), bad=len(scored.skipped))
        most = self.course.config.task.max_bad_share
        raise_for_bad_images("--task.test", totals, scored.skipped, most=most, fewest=1)

    def _write_line(self, rate: float) -> None:
        if self._log is None:
            return
        progress = self.progress
        loss = float(np.mean(progress.losses))
        values = {
            "epoch": self.course.plan.epochs_seen(progress.step),
            "loss": loss,
            "learning_rate": learning_rate(progress.step, self.course.core.optim),
            "grad_norm": float(np.mean(progress.norms)),
            "images_per_second": round(rate, 1),
            "bad_samples": progress.totals.get("bad", 0),
            "truncated_samples": progress.totals.get("truncated", 0),
        }
        self._log.write(progress.step, values)
        self._log.show(loss=f"{loss:.3f}", images_s=f"{rate:.0f}", bad=f"{values['bad_samples']}")


def raise_for_bad_images(side: str, totals: Counter[str], skipped: list[Skipped], *, most: float, fewest: int) -> None:
    """Raise InputError if more than the share `most` of the images are bad, or all, once `fewest` have been seen."""
    seen, bad = totals["samples"], totals["bad"]
    if seen < fewest or (bad <= most * seen and bad < seen):
        return
    example = f", the last one {skipped[-1].key}: {skipped[-1].reason}" if skipped else ""
    raise InputError(
        side,
        found=f"{bad:,} bad images of {seen:,}{example}",
        wanted=f"at most {most:.0%}",
        remedy="Mend them or leave them out, or raise --task.max-bad-share. bad_samples.jsonl names those of training.",
    )
