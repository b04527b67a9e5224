"""One run on one rank, of any verb: steps, log, checkpoints, evaluations, what happens at a spike.

In: a `Job`, the way its steps are taken, and where an earlier start left off. Out: a trained model, checkpoints, a log.
All ranks take the same decisions, because step metrics (`step/metrics.py`) are the same on all of them.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.checkpoints.checkpoint import Checkpoint, newest, restore
from trainer.checkpoints.retention import check_space
from trainer.checkpoints.writer import Checkpoints
from trainer.data.batch import Batch, Position, on_device
from trainer.distributed import Rank, barrier, gather, on_main, raise_alike
from trainer.job import Evaluated, Job
from trainer.records import run_directory
from trainer.records.journal import Journal, RunProgress
from trainer.records.run_directory import ResumePoint
from trainer.records.weights_and_biases import check_wandb
from trainer.step.metrics import MOST_STEPS_AHEAD, DeferredMetrics, StepMetrics
from trainer.step.step import Step
from vocab.errors import InputError
from vocab.pages.text import tell

Verdict = Literal["go", "stop", "back"]
MOST_ROLLBACKS = 3
"""rollbacks to one checkpoint; after them something other than a few samples is wrong"""
MOST_SKIPPED = 20
"""bad steps skipped one after another; a bad stretch of data is shorter, and weights that went wrong never end it"""


@dataclass(frozen=True)
class AfterStep:
    """Work that is due after a step."""

    line: bool
    checkpoint: bool
    evaluation: bool

    @property
    def anything(self) -> bool:
        """Tell whether anything is due before the next step."""
        return self.line or self.checkpoint or self.evaluation


@dataclass
class StopSignals:
    """SIGTERM and SIGINT of one process, noted instead of obeyed."""

    rank: Rank
    _number: int | None = field(default=None, init=False)

    @property
    def asked(self) -> bool:
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
            tell("\nstopping with a checkpoint; again to stop at once\n")


class Run:
    """A run while it goes."""

    def __init__(self, job: Job, step: Step, rank: Rank, *, nonce: str) -> None:
        """`nonce`: random id of this launch, the same on all ranks."""
        self.job, self.step, self.rank, self.nonce = job, step, rank, nonce
        self.training = step.training
        self.progress = RunProgress()
        self.position: Position | None = None
        """where the data stands after the last step"""
        self.stops = StopSignals(rank)
        self.metrics = DeferredMetrics(rank.device)
        self.journal = Journal(job, rank)
        self.checkpoints: Checkpoints
        if job.keeping.wandb is not None:
            check_wandb()

    @contextlib.contextmanager
    def open(self, resume: ResumePoint) -> Iterator[None]:
        """Go on from a resume point, in a run directory that the main rank initialises; note signals from here on."""
        job, rank = self.job, self.rank
        if resume.checkpoint is not None:
            self._restore(resume.checkpoint, resume.state)
        if self.progress.step < job.steps:
            kept = job.keeping.keep_checkpoints + (job.steps // job.keep_every if job.keep_every else 0)
            on_main(lambda: check_space(job.out, self.training.tensors(), kept), rank)
        barrier(rank)  # nobody writes before everybody has looked
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.stops.noted())
            if rank.is_main:
                run_directory.initialise(job.out, job.config, rank, step=self.progress.step)
                job.write_start()
            barrier(rank)
            self.checkpoints = stack.enter_context(
                Checkpoints(
                    job.out,
                    rank.index,
                    rank.world,
                    nonce=self.nonce,
                    keep=job.keeping.keep_checkpoints,
                    keep_every=job.keep_every,
                )
            )
            stack.enter_context(self.journal.open(self.progress, resume))
            yield

    def train(self) -> int:
        """Take the remaining steps. Return 0, or 128 + the signal that stopped the run before its last step."""
        job = self.job
        if self.progress.step >= job.steps:
            return 0
        with job.batches as batches:
            self.step.warm_up(job.resolution)
            self._make_up_evaluation()
            self.journal.restart_clock()
            for batch in on_device(batches, self.rank.device):
                self._take(batch)
                due = self._due()
                match self._read_metrics(wait=due.anything):
                    case "stop":
                        return self._stop(line=due.line)
                    case "back":
                        self._roll_back()
                        continue
                if due.anything:
                    # Before a checkpoint and an evaluation too: both say how many images were trained on.
                    self.journal.report(line=due.line)
                    self.checkpoints.check()
                if due.checkpoint:
                    self._save()
                if due.evaluation:
                    self.evaluate()
                if self.progress.step == job.steps:
                    break
        return 0

    def evaluate(self) -> Evaluated | None:
        """Evaluate the averaged weights, log the scores and write the page; None on ranks other than the main one.

        Under FSDP no rank holds whole weights; their evaluation is whole all the same.
        """
        # Compiled blocks would be compiled once more, for passes without gradients and for a last batch of other size.
        eager = torch.compiler.set_stance("force_eager") if self.step.compiled else contextlib.nullcontext()
        with self.training.average.swapped(), eager:
            evaluated = self.job.evaluate(self.progress.step)
        if evaluated is not None:
            self.journal.write_scores(evaluated)
            self.journal.log_pictures(self.job.show(evaluated, self.progress))
        # The main rank's report and page may take longer than the others may wait for it in a step.
        barrier(self.rank)
        self.journal.restart_clock()
        return evaluated

    def last_average(self) -> dict[str, Tensor] | None:
        """Wait for the last checkpoint and read its averaged weights, whole; None on ranks other than the main one."""
        self.checkpoints.wait()
        if not self.rank.is_main:
            return None
        found, _ = newest(self.job.out)
        assert found is not None
        return found.load("ema")

    def _take(self, batch: Batch) -> None:
        self.progress.step += 1
        number = self.progress.step
        self.metrics.push(number, self.step.take(batch, number=number, stop=self.stops.asked))
        self.journal.note(number, batch, operations=self.job.operations(number, batch))
        self.position = batch.position

    def _due(self) -> AfterStep:
        job, step = self.job, self.progress.step
        last = step == job.steps
        return AfterStep(
            line=step % job.keeping.log_every == 0 or last,
            checkpoint=step % job.keeping.checkpoint_every == 0 or last,
            evaluation=job.evaluation_due(step) and not last,
        )

    def _make_up_evaluation(self) -> None:
        """Evaluate where an earlier start was stopped between a step and the evaluation that follows it."""
        if self.job.evaluation_due(self.progress.step) and not on_main(self.journal.is_scored, self.rank):
            self.evaluate()

    def _read_metrics(self, *, wait: bool) -> Verdict:
        """Read the metrics of earlier steps; those of all steps if the run is to `wait`, or to stop."""
        verdict: Verdict = "go"
        for metrics in self.metrics.read(lag=0 if wait else MOST_STEPS_AHEAD):
            self.journal.add_metrics(metrics)
            if metrics.bad and self._judge(metrics) == "back":
                return "back"
            if metrics.stop:
                verdict = "stop"
        return self._read_metrics(wait=True) if verdict == "stop" and not wait else verdict

    def _judge(self, metrics: StepMetrics) -> Verdict:
        """Decide what a bad step means for the run. Raises InputError if it ends the run."""
        self.journal.write_spike(metrics)
        policy = self.job.optim.on_spike
        if policy == "stop":
            raise_alike(_spike_error(metrics, factor=self.job.optim.spike_factor), self.rank)
        if policy == "skip" and self.progress.bad_in_a_row > MOST_SKIPPED:
            raise_alike(_standstill_error(metrics, bad=self.progress.bad_in_a_row), self.rank)
        return "back" if policy == "rollback" else "go"

    def _roll_back(self) -> None:
        """Go back to the last checkpoint, and on from there with the batches that come after the last one taken."""
        self.metrics.clear()
        self.journal.report(line=False)
        self.checkpoints.wait()
        barrier(self.rank)
        found = on_main(self._checkpoint_to_go_back_to, self.rank)
        now = self.progress
        state = {**found.state, "data": self._data_state(), "progress": now.rolled_back_to(found.state["progress"])}
        if self.rank.is_main:
            run_directory.write_rollback(self.job.out, found, state)
            tell(f"\ngoing back to step {found.step}, past the samples of step {now.step}\n")
        self._restore(found, state)
        self.journal.rewind(self.progress)

    def _checkpoint_to_go_back_to(self) -> Checkpoint:
        found, _ = newest(self.job.out)
        if found is not None and self.progress.rollbacks < MOST_ROLLBACKS:
            return found
        raise InputError(
            f"step {self.progress.step}",
            found="no checkpoint to go back to" if found is None else f"{MOST_ROLLBACKS} ways from step {found.step}",
            wanted="a checkpoint from which the run goes on",
            remedy="Lower --peak-lr or lengthen --warmup-steps in a new run; spikes.jsonl has the samples.",
        )

    def _stop(self, *, line: bool) -> int:
        self.journal.report(line=line)
        self._save()
        self.checkpoints.wait()
        return self.stops.status

    def _save(self) -> None:
        """Begin a checkpoint. Every rank takes part: the data position is made of theirs."""
        job = self.job
        self.progress.rollbacks = 0
        state = {
            "data": self._data_state(),
            "progress": self.progress.state(),
            "guard": self.training.guard.state(),
            "averaged": self.training.average.steps,
        }
        files = {name: (job.out / name).read_bytes() for name in job.copied} if self.rank.is_main else {}
        self.checkpoints.save(
            self.progress.step, self.training.tensors(), files=files, state=state, fingerprint=job.fingerprint
        )

    def _data_state(self) -> dict[str, Any]:
        return self.job.data_state(gather(self.position, self.rank))

    def _restore(self, checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        restore(checkpoint, self.training.tensors())
        self.training.average.steps = state["averaged"]
        self.training.guard.restore(state["guard"])
        self.progress = RunProgress(step=checkpoint.step, **state["progress"])


def stopped(run: Run) -> str:
    """Say where a stopped run is and how it goes on."""
    return f"stopped at step {run.progress.step}; the same command continues from here"


def _spike_error(metrics: StepMetrics, *, factor: float) -> InputError:
    below = f", and a loss below {factor:g} times its running mean" if factor != float("inf") else ""
    return InputError(
        f"step {metrics.step}",
        found=f"a loss of {metrics.loss:.4g} and a gradient norm of {metrics.norm:.4g}",
        wanted=f"finite numbers{below}",
        remedy="Its samples are in spikes.jsonl. The same command goes on from the last checkpoint, with "
        "--on-spike skip or rollback past such steps; or lower --peak-lr, or use --precision float32, in a new run.",
    )


def _standstill_error(metrics: StepMetrics, *, bad: int) -> InputError:
    return InputError(
        f"step {metrics.step}",
        found=f"{bad} bad steps one after another, the last with a loss of {metrics.loss:.4g}",
        wanted=f"at most {MOST_SKIPPED} to skip: the weights went wrong, and skipped steps do not change them",
        remedy="Remove the checkpoints since the first of these steps (spikes.jsonl) and start the same command "
        "again, or lower --peak-lr in a new run.",
    )
