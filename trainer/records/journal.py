"""What a run keeps account of while it goes: losses, speed, what was waited for, what was skipped.

In: each step's loss and batch on every rank. Out: lines of the log and of bad_samples.jsonl on the main rank, and the
totals that a checkpoint keeps. Numbers stay on the device until a line is due: reading one makes the host wait.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trainer.checkpoints.checkpoint import Checkpoint
from trainer.config import PretrainConfig
from trainer.data.batch import Batch, Meter, Skipped
from trainer.data.feed import check_bad_share
from trainer.distributed import Place, gather
from trainer.metrics import Report
from trainer.optim.optimiser import learning_rate
from trainer.records.ledger import Ledger
from trainer.records.log import Log
from vocab.errors import InputError


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

    @classmethod
    def of(cls, found: Checkpoint | None) -> Progress:
        """Where a checkpoint stands; the start without one."""
        return cls(step=found.step, **found.state["progress"]) if found is not None else cls()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {name: value for name, value in asdict(self).items() if name != "step"}


@dataclass
class _Window:
    """What happened on this rank since the last line."""

    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    images: int = 0
    waited: float = 0.0
    ready: int = 0
    meter: Meter = field(default_factory=Meter)
    account: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


@dataclass
class _Share:
    """One rank's numbers of a window, as the others get them."""

    losses: list[float]
    images: int
    waited: float
    ready: float
    meter: Meter
    account: Counter[str]
    skipped: list[Skipped]
    stop: bool


class Journal:
    """The account of one run; every rank has one, the main rank's writes."""

    def __init__(self, config: PretrainConfig, place: Place, progress: Progress) -> None:
        self.config, self.place, self.progress = config, place, progress
        self.ledger: Ledger | None = None
        self._log: Log | None = None
        self._window = _Window()

    @contextlib.contextmanager
    def open(self, faults: Iterable[object]) -> Iterator[None]:
        """Open the log and the ledger on the main rank, and say what was wrong with newer checkpoints."""
        if not self.place.main:
            yield
            return
        for fault in faults:
            sys.stderr.write(f"warning: {fault} Continuing from step {self.progress.step}.\n")
        out = self.config.run.out
        self.ledger = Ledger(out, totals=self.progress.totals, lines=self.progress.bad_lines)
        with Log(out, start=self.progress.step, steps=self.config.optim.steps) as self._log:
            try:
                yield
            finally:
                # What an error kept from being reported; it may be about these samples.
                self.ledger.add([], self._window.skipped)

    def restart_clock(self) -> None:
        """Forget the time since the last line: it went into something else than training."""
        self._window = _Window()

    def note(self, batch: Batch, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> None:
        """One step was taken."""
        window = self._window
        window.losses.append(loss)
        window.norms.append(norm)
        window.images += len(batch)
        window.waited += batch.waited
        window.ready += batch.ready
        window.meter.add(batch.meter)
        window.account.update(batch.account)
        window.skipped += batch.skipped
        if self._log is not None:
            self._log.step()

    def report(self, *, stop: bool) -> bool:
        """Bring the ranks' numbers together, judge and log them; whether any rank was asked to stop.

        Raises InputError for a loss that is no number, and for too many bad samples.
        """
        window, progress = self._window, self.progress
        losses = torch.stack(window.losses).tolist() if window.losses else []
        now = time.perf_counter()
        elapsed = now - window.started
        steps = max(1, len(losses))
        own = _Share(
            losses,
            window.images,
            window.waited,
            window.ready / steps,
            window.meter,
            window.account,
            window.skipped,
            stop,
        )
        shares: list[_Share] = gather(own, self.place)
        mean = np.mean([share.losses for share in shares], axis=0)
        _check_finite(mean, progress.step)
        totals = Counter(progress.totals)
        for share in shares:
            totals.update(share.account)
        progress.totals = dict(totals)
        progress.seconds += elapsed
        progress.images += sum(share.images for share in shares)
        if self.ledger is not None and self._log is not None:
            self.ledger.add([share.account for share in shares], [bad for share in shares for bad in share.skipped])
            progress.bad_lines = self.ledger.lines
            values = {
                "loss": float(mean.mean()),
                "learning_rate": learning_rate(progress.step, self.config.optim),
                "grad_norm": float(torch.stack(window.norms).mean()),
                **_speed(shares, elapsed),
                "bad_samples": float(totals["bad"]),
                "unmatched_samples": float(totals["unmatched"]),
                "surplus_labels": float(totals["surplus_labels"]),
            }
            self._log.write(progress.step, values)
            self._log.show(
                loss=f"{values['loss']:.3f}",
                images_s=f"{values['images_per_second']:.0f}",
                waits=f"{values['data_wait_share']:.0%}",
                ready=f"{values['batches_ready']:.1f}",
                bad=f"{totals['bad']}",
            )
        self._window = _Window(started=now)
        check_bad_share(totals, self.config.data.max_bad_share, example="see bad_samples.jsonl")
        return any(share.stop for share in shares)

    def evaluated(self, scores: Report) -> None:
        """Log what the weights are worth."""
        if self._log is not None:
            self._log.write(self.progress.step, {f"eval_{name}": value for name, value in asdict(scores).items()})


def _speed(shares: list[_Share], elapsed: float) -> dict[str, float]:
    """How fast it went and what was waited for, over all ranks."""
    meter = Meter()
    for share in shares:
        meter.add(share.meter)
    loading = meter.busy_seconds + meter.idle_seconds
    return {
        "images_per_second": sum(share.images for share in shares) / elapsed,
        "data_wait_share": float(np.mean([share.waited for share in shares])) / elapsed,
        "batches_ready": float(np.mean([share.ready for share in shares])),
        "read_mb_per_second": meter.bytes / 1e6 / elapsed,
        "decode_ms_per_image": 1e3 * meter.decode_seconds / max(1, meter.images),
        "loaders_idle_share": meter.idle_seconds / loading if loading else 0.0,
    }


def _check_finite(losses: Float[np.ndarray, " steps"], step: int) -> None:
    for place, loss in enumerate(losses.tolist()):
        if not np.isfinite(loss):
            raise InputError(
                f"step {step - len(losses) + 1 + place}",
                found=f"a loss of {loss}",
                wanted="a number",
                remedy="Lower --peak-lr or --clip-norm, lengthen --warmup-steps, or use --precision float32; "
                "the same command continues from the last checkpoint.",
            )
