"""What a run keeps account of while it goes: losses, speed, what was waited for, what was skipped.

In: each step's batch on every rank, and its beat two steps later. Out: lines of the log, of bad_samples.jsonl and of
spikes.jsonl on the main rank, and the totals that a checkpoint keeps.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int32
from torch import Tensor

from trainer.config import PretrainConfig
from trainer.data.batch import Batch, Meter, Skipped
from trainer.data.feed import check_bad_share
from trainer.data.source import Source
from trainer.distributed import Rank, gather
from trainer.optim.schedule import learning_rate
from trainer.records.gallery import GalleryImage, log_pictures
from trainer.records.ledger import FILE as BAD_SAMPLES
from trainer.records.ledger import Ledger
from trainer.records.log import Log
from trainer.records.speeds import Peaks, Share, speeds
from trainer.records.spikes import write_spike
from trainer.step.pulse import Beat
from vocab.pages.text import tell


@dataclass
class Progress:
    """How far a run is; what a checkpoint keeps beside tensors and the position in the data."""

    step: int = 0
    images: int = 0
    """trained on, over all ranks"""
    seconds: float = 0.0
    """spent training, evaluation aside"""
    totals: dict[str, int] = field(default_factory=dict)
    bad_lines: int = 0
    """lines of bad_samples.jsonl that belong to it"""
    log_lines: int = 0
    """lines of metrics.jsonl that belong to it"""
    losses: list[float] = field(default_factory=list)
    """of the steps since the last line of the log"""
    norms: list[float] = field(default_factory=list)
    spikes: int = 0
    """steps whose loss was no number, or a spike"""
    rolled_back: int = 0
    """images of steps that were taken back, in `totals` but not in `images`"""
    rollbacks: int = 0
    """to the newest checkpoint, so far"""
    bad_in_a_row: int = 0
    """steps since the last good one"""

    @classmethod
    def of(cls, state: dict[str, Any] | None, *, step: int) -> Progress:
        """Where a checkpoint stands; the start without one."""
        return cls(step=step, **state) if state is not None else cls()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {name: value for name, value in asdict(self).items() if name != "step"}


@dataclass
class _Window:
    """What happened on this rank since the last line."""

    images: int = 0
    operations: int = 0
    waited: float = 0.0
    ready: int = 0
    steps: int = 0
    meter: Meter = field(default_factory=Meter)
    account: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class Journal:
    """The account of one run; every rank has one, the main rank's writes."""

    def __init__(self, config: PretrainConfig, rank: Rank, source: Source, peaks: Peaks) -> None:
        self.config, self.rank, self.source, self.peaks = config, rank, source, peaks
        self.progress = Progress()
        self.ledger: Ledger | None = None
        self._log: Log | None = None
        self._window = _Window()
        self._samples: dict[int, tuple[Int32[Tensor, " batch"], Int32[Tensor, " batch"]]] = {}
        """tar and index of each image of the steps that were not heard of yet"""

    @contextlib.contextmanager
    def open(self, progress: Progress, faults: Iterable[object]) -> Iterator[None]:
        """Open the log and the ledger on the main rank, and say what was wrong with newer checkpoints."""
        self.progress = progress
        if not self.rank.is_main:
            yield
            return
        for fault in faults:
            tell(f"warning: {fault} Continuing from step {progress.step}.\n")
        out = self.config.run.out
        self.ledger = Ledger(out, totals=progress.totals, lines=progress.bad_lines)
        steps, project = self.config.optim.steps, self.config.run.wandb
        with Log(
            out,
            start=progress.step,
            steps=steps,
            lines=progress.log_lines,
            wandb=project,
            config=asdict(self.config),
        ) as self._log:
            try:
                yield
            finally:
                # What an error kept from being reported; it may be about these samples.
                self.ledger.add([], self._window.skipped)

    def rewind(self, progress: Progress) -> None:
        """Go on from an earlier step: lines of later ones are dropped, the account of samples stays."""
        self.progress = progress
        self._samples.clear()
        if self._log is not None:
            self._log.back_to(progress.step)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Forget the time since the last line: it went into something else than training."""
        self._window.started = time.perf_counter()

    def note(self, step: int, batch: Batch, *, operations: int) -> None:
        """One step was taken, of so many floating-point operations on this rank."""
        window = self._window
        window.steps += 1
        window.images += len(batch)
        window.operations += operations
        window.waited += batch.waited
        window.ready += batch.ready
        window.meter.add(batch.meter)
        window.account.update(batch.account)
        window.skipped += batch.skipped
        self._samples[step] = (batch.tars, batch.indices)

    def hear(self, beat: Beat) -> None:
        """What became of a step."""
        if self._log is not None:
            self._log.step()
        if not beat.bad:
            self.progress.bad_in_a_row = 0
            self.progress.losses.append(beat.loss)
            self.progress.norms.append(beat.norm)
            del self._samples[beat.step]

    def report(self, *, line: bool = True) -> None:
        """Bring the ranks' numbers together; log them, unless no `line` is due.

        All steps must have been heard of. Raises InputError for too many bad samples.
        """
        progress, now = self.progress, time.perf_counter()
        elapsed = now - self._window.started
        shares = self._share()
        totals = Counter(progress.totals)
        for share in shares:
            totals.update(share.account)
        progress.totals = dict(totals)
        progress.seconds += elapsed
        progress.images += sum(share.images for share in shares)
        if self.ledger is not None:
            self.ledger.add([share.account for share in shares], [bad for share in shares for bad in share.skipped])
            progress.bad_lines = self.ledger.lines
        self._window = _Window(started=now)
        if line:
            self._write_line(shares, elapsed)
            progress.losses, progress.norms = [], []
        if self._log is not None:
            progress.log_lines = self._log.lines
        check_bad_share(
            totals, self.config.data.max_bad_share, examples=f", which {self.config.run.out / BAD_SAMPLES} names"
        )

    def spike(self, beat: Beat) -> None:
        """Write down a bad step, with the keys of its images; all ranks together."""
        self.progress.spikes += 1
        self.progress.bad_in_a_row += 1
        tars, indices = self._samples.pop(beat.step)
        parts = gather((tars.numpy(), indices.numpy()), self.rank)
        if self.rank.is_main:
            policy = self.config.optim.on_spike
            write_spike(self.config.run.out, self.source, beat, parts, policy=policy)
            tell(
                f"\nwarning: step {beat.step}: a loss of {beat.loss:.4g}, a gradient norm of {beat.norm:.4g}; policy "
                f"{policy}; its samples are in spikes.jsonl\n"
            )

    def is_scored(self) -> bool:
        """Whether the log has scores of the step at hand; the main rank knows."""
        return self._log is not None and self._log.has_scores(self.progress.step)

    def scored(self, values: Mapping[str, float | int | None]) -> None:
        """Log the scores of the step at hand."""
        if self._log is not None:
            self._log.write_scores(self.progress.step, values)

    def show(self, pictures: Sequence[GalleryImage]) -> None:
        """Log pictures, with what the model sees in them."""
        if self._log is not None:
            log_pictures(self._log, pictures, step=self.progress.step)

    def _share(self) -> list[Share]:
        window = self._window
        own = Share(
            images=window.images,
            operations=window.operations,
            waited=window.waited,
            ready=window.ready / max(1, window.steps),
            meter=window.meter,
            account=window.account,
            skipped=window.skipped,
        )
        return gather(own, self.rank)

    def _write_line(self, shares: list[Share], elapsed: float) -> None:
        if self._log is None:
            return
        progress = self.progress
        values = {
            "loss": _mean(progress.losses),
            "learning_rate": learning_rate(progress.step, self.config.optim),
            "grad_norm": _mean(progress.norms),
            **speeds(shares, elapsed, self.peaks, self.rank.device),
            "bad_samples": progress.totals.get("bad", 0),
            "truncated_samples": progress.totals.get("truncated", 0),
            "unmatched_samples": progress.totals.get("unmatched", 0),
            "surplus_labels": progress.totals.get("surplus_labels", 0),
            "spikes": progress.spikes,
        }
        self._log.write(progress.step, values)
        use = "of_measured_peak" if values["mfu"] is None else "mfu"
        shown = {
            "loss": f"{values['loss']:.3f}" if progress.losses else "-",
            "images_s": f"{values['images_per_second']:.0f}",
            # Of a measured peak it may be more than all: it was measured once, in competition with what ran then.
            use: f"{values['mfu_measured' if values['mfu'] is None else 'mfu']:.0%}",
            "memory": f"{values['memory_gb']:.1f}GB",
            "waits": f"{values['data_wait_share']:.0%}",
            "ready": f"{values['batches_ready']:.1f}",
            "bad": f"{values['bad_samples']}",
        }
        self._log.show(**shown)


def _mean(values: list[float]) -> float | None:
    """None where every step since the last line was bad."""
    return float(np.mean(values)) if values else None
