"""Account of a run while it goes: losses, speed, time spent waiting, samples that were skipped."""

from __future__ import annotations

import contextlib
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from trainer.data.batch import Batch, Meter, Skipped
from trainer.distributed import Rank, gather
from trainer.job import Evaluated, Job
from trainer.optim.optimiser import learning_rate
from trainer.records.gallery import GalleryImage, log_pictures
from trainer.records.ledger import Ledger, append_spike
from trainer.records.log import Log
from trainer.records.run_directory import ResumePoint
from trainer.speed.peak import Peaks
from trainer.step.metrics import StepMetrics
from vocab.pages.text import tell


@dataclass
class RunProgress:
    """Progress of a run: what a checkpoint keeps beside tensors and the position in the data."""

    step: int = 0
    images: int = 0
    """images trained on, over all ranks"""
    seconds: float = 0.0
    """time spent training, without evaluations"""
    totals: dict[str, int] = field(default_factory=dict)
    bad_lines: int = 0
    """lines of bad_samples.jsonl up to this step"""
    log_lines: int = 0
    """lines of metrics.jsonl up to this step"""
    losses: list[float] = field(default_factory=list)
    """losses of the steps since the last line of the log"""
    norms: list[float] = field(default_factory=list)
    spikes: int = 0
    """bad steps: a loss that is NaN, infinite or a spike"""
    rolled_back: int = 0
    """images of steps that were taken back, in `totals` but not in `images`"""
    rollbacks: int = 0
    """rollbacks to the newest checkpoint, so far"""
    bad_in_a_row: int = 0
    """bad steps since the last good one"""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the step."""
        return {name: value for name, value in asdict(self).items() if name != "step"}

    def rolled_back_to(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of an earlier step, with the accounts of samples, spikes and time as they are now."""
        return {
            **state,
            "totals": self.totals,
            "bad_lines": self.bad_lines,
            "spikes": self.spikes,
            "seconds": self.seconds,
            "rollbacks": self.rollbacks + 1,
            "rolled_back": self.rolled_back + self.images - state["images"],
        }


@dataclass
class Window:
    """Numbers of one rank since the last line of the log; every rank gets those of all."""

    images: int = 0
    operations: int = 0
    """floating-point operations of the rank's steps"""
    waited: float = 0.0
    ready: int = 0
    steps: int = 0
    meter: Meter = field(default_factory=Meter)
    account: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, batch: Batch, *, operations: int) -> None:
        self.steps += 1
        self.images += len(batch)
        self.operations += operations
        self.waited += batch.waited
        self.ready += batch.ready
        self.meter.add(batch.meter)
        self.account.update(batch.account)
        self.skipped += batch.skipped


class Journal:
    """The account of one run; every rank has one, the main rank's writes."""

    def __init__(self, job: Job, rank: Rank) -> None:
        self.job, self.rank = job, rank
        self.progress = RunProgress()
        self.ledger: Ledger | None = None
        self._log: Log | None = None
        self._window = Window()
        self._samples: dict[int, tuple[Int32[Tensor, " batch"], Int32[Tensor, " batch"]]] = {}
        """tar and index of each image of the steps whose metrics were not read yet"""

    @contextlib.contextmanager
    def open(self, progress: RunProgress, resume: ResumePoint) -> Iterator[None]:
        """Open the log and the ledger on the main rank, and say from which checkpoint the run goes on."""
        self.progress = progress
        if not self.rank.is_main:
            yield
            return
        job = self.job
        for fault in resume.faults:
            tell(f"warning: {fault} Continuing from step {progress.step}.\n")
        if resume.checkpoint is not None:
            tell(f"going on from {resume.checkpoint.path}\n")
        self.ledger = Ledger(job.out, lines=progress.bad_lines)
        with Log(
            job.out,
            start=progress.step,
            steps=job.steps,
            lines=progress.log_lines,
            wandb=job.keeping.wandb,
            config=asdict(job.config),
            verb=job.verb,
        ) as self._log:
            try:
                yield
            finally:
                # Samples that an error kept from being reported; the error may be about them.
                self.ledger.add(self._window.skipped)

    def rewind(self, progress: RunProgress) -> None:
        """Go on from an earlier step: lines of later steps are dropped, the account of samples stays."""
        self.progress = progress
        self._samples.clear()
        if self._log is not None:
            self._log.back_to(progress.step)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Forget the time since the last line: it went into something other than training."""
        self._window.started = time.perf_counter()

    def note(self, step: int, batch: Batch, *, operations: int) -> None:
        """Count one step, which took so many floating-point operations on this rank."""
        self._window.add(batch, operations=operations)
        self._samples[step] = (batch.tars, batch.indices)

    def add_metrics(self, metrics: StepMetrics) -> None:
        """Take the loss and the norm of a step, unless it is bad."""
        if self._log is not None:
            self._log.step()
        if not metrics.bad:
            self.progress.bad_in_a_row = 0
            self.progress.losses.append(metrics.loss)
            self.progress.norms.append(metrics.norm)
            del self._samples[metrics.step]

    def report(self, *, line: bool = True) -> None:
        """Bring the ranks' numbers together; log them, unless no `line` is due.

        The metrics of all steps must have been read. Raises InputError for too many bad samples.
        """
        progress, now = self.progress, time.perf_counter()
        elapsed = now - self._window.started
        windows = gather(self._window, self.rank)
        skipped = [bad for window in windows for bad in window.skipped]
        totals = Counter(progress.totals)
        for window in windows:
            totals.update(window.account)
        progress.totals = dict(totals)
        progress.seconds += elapsed
        progress.images += sum(window.images for window in windows)
        if self.ledger is not None:
            self.ledger.add(skipped)
            progress.bad_lines = self.ledger.lines
        self._window = Window(started=now)
        if line:
            self._write_line(windows, elapsed)
            progress.losses, progress.norms = [], []
        if self._log is not None:
            progress.log_lines = self._log.lines
        self.job.check_account(totals, skipped, progress.step == self.job.steps)

    def write_spike(self, metrics: StepMetrics) -> None:
        """Write down a bad step with the names of its samples; all ranks together."""
        self.progress.spikes += 1
        self.progress.bad_in_a_row += 1
        tars, indices = self._samples.pop(metrics.step)
        parts = gather((tars.numpy(), indices.numpy()), self.rank)
        if self.rank.is_main:
            policy = self.job.optim.on_spike
            columns = (np.concatenate(column) for column in zip(*parts, strict=True))
            append_spike(self.job.out, metrics, self.job.sample_names(*columns), policy=policy)
            tell(
                f"\nwarning: step {metrics.step}: a loss of {metrics.loss:.4g}, a gradient norm of {metrics.norm:.4g}; "
                f"policy {policy}; its samples are in spikes.jsonl\n"
            )

    def is_scored(self) -> bool:
        """Tell whether the log has scores of the current step; only the main rank knows."""
        return self._log is not None and self._log.has_scores(self.progress.step)

    def write_scores(self, evaluated: Evaluated) -> None:
        if self._log is not None:
            self._log.write_scores(self.progress.step, evaluated.scores)
            if evaluated.shown:
                self._log.show(**evaluated.shown)

    def log_pictures(self, pictures: Sequence[GalleryImage]) -> None:
        """Log pictures, with what the model sees in them."""
        if self._log is not None:
            log_pictures(self._log, pictures, step=self.progress.step)

    def _write_line(self, windows: list[Window], elapsed: float) -> None:
        if self._log is None:
            return
        job, progress = self.job, self.progress
        speed = _speeds(windows, elapsed, job.peaks, self.rank.device)
        loss = _mean(progress.losses)
        values = {
            **job.line(progress.step),
            "loss": loss,
            "learning_rate": learning_rate(progress.step, job.optim),
            "grad_norm": _mean(progress.norms),
            **speed,
            **{name: progress.totals.get(counted, 0) for name, counted in job.account.items()},
            "spikes": progress.spikes,
        }
        self._log.write(progress.step, values)
        # A measured peak can be exceeded: it was measured once, in competition with what ran then.
        use, share = ("mfu", "mfu") if speed["mfu"] is not None else ("of_measured_peak", "mfu_measured")
        shown = {
            "loss": f"{loss:.3f}" if loss is not None else "-",
            "images_s": f"{speed['images_per_second']:.0f}",
            use: f"{speed[share]:.0%}",
            "memory": f"{speed['memory_gb']:.1f}GB",
            "waits": f"{speed['data_wait_share']:.0%}",
            **({"ready": f"{speed['batches_ready']:.1f}"} if "batches_ready" in speed else {}),
            "bad": f"{progress.totals.get('bad', 0)}",
        }
        self._log.show(**shown)


def _mean(values: list[float]) -> float | None:
    """Mean of some values; None where every step since the last line was bad."""
    return float(np.mean(values)) if values else None


def _speeds(windows: list[Window], elapsed: float, peaks: Peaks, device: torch.device) -> dict[str, Any]:
    """Compute images a second, model FLOP utilisation (MFU), memory, and what the data path did.

    Utilisation is the operations that the model needs (`speed/flops.py`), whatever was done twice, over those that the
    ranks' devices could have done in the time. Numbers of loaders are left out where there are none.
    """
    meter = Meter()
    for window in windows:
        meter.add(window.meter)
    loading = meter.busy_seconds + meter.idle_seconds
    rate = sum(window.operations for window in windows) / elapsed / len(windows)
    return {
        "images_per_second": sum(window.images for window in windows) / elapsed,
        "tflops_per_device": rate / 1e12,
        "mfu": rate / peaks.stated if peaks.stated is not None else None,
        "mfu_measured": rate / peaks.measured,
        "memory_gb": peak_memory(device) / 1e9,
        **_allocator(device),
        "data_wait_share": float(np.mean([window.waited for window in windows])) / elapsed,
    } | (_loader_speeds(windows, meter, elapsed) if loading > 0 else {})


def _loader_speeds(windows: list[Window], meter: Meter, elapsed: float) -> dict[str, float]:
    return {
        "batches_ready": float(np.mean([window.ready / max(1, window.steps) for window in windows])),
        "read_mb_per_second": meter.bytes / 1e6 / elapsed,
        "decode_ms_per_image": 1e3 * meter.decode_seconds / max(1, meter.images),
        "loaders_idle_share": meter.idle_seconds / (meter.busy_seconds + meter.idle_seconds),
    }


def _allocator(device: torch.device) -> dict[str, float | int | None]:
    """Most memory that torch has reserved of the GPU, and how often it had to give all of it back to find a block."""
    if device.type != "cuda":
        return {"memory_reserved_gb": None, "alloc_retries": None}
    return {
        "memory_reserved_gb": torch.cuda.max_memory_reserved(device) / 1e9,
        "alloc_retries": torch.cuda.memory_stats(device).get("num_alloc_retries", 0),
    }


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has held: of the GPU's memory, or without a GPU of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
