"""One run on one rank, from its first step here to its results.

In: everything made for step 0, and where an earlier start left off. Out: a trained model, checkpoints, a log. Decisions
that all ranks must take alike follow from beats (`step/pulse.py`), which are the same on all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from trainer.checkpoints.checkpoint import Checkpoint, newest, restore
from trainer.checkpoints.retention import check_space
from trainer.checkpoints.writer import Checkpoints
from trainer.config import PretrainConfig
from trainer.data.batch import Batch, Position
from trainer.data.device_batches import on_device
from trainer.data.feed import Feed
from trainer.data.source import to_state
from trainer.distributed import Rank, barrier, gather, on_main, raise_alike
from trainer.evaluator import Evaluator
from trainer.inputs import Inputs
from trainer.model.per_image import patch_share
from trainer.records import run_directory
from trainer.records.journal import Journal, Progress
from trainer.records.results import write_results
from trainer.records.run_directory import Found
from trainer.records.speeds import peaks_of
from trainer.records.weights_and_biases import check_wandb
from trainer.speed.work import Work
from trainer.step.pulse import LAG, Beat, Pulse
from trainer.step.step import Step
from trainer.step.training import Training
from trainer.stops import Due, StopSignals
from vocab.errors import InputError
from vocab.pages.text import tell

Verdict = Literal["go", "stop", "back"]
# To the same checkpoint; then something else than a few samples is wrong.
MOST_ROLLBACKS = 3
# Skipped one after another; a bad batch or a bad stretch of data is shorter, weights that went wrong never end it.
MOST_SKIPPED = 20
# Files of the run directory that every checkpoint has too.
COPIED = ("config.json", "vocabulary.parquet")


class Run:
    """A run while it goes."""

    def __init__(
        self, config: PretrainConfig, rank: Rank, inputs: Inputs, training: Training, feed: Feed, *, nonce: str
    ) -> None:
        """`nonce`: a word that all ranks of this start share, and no other start."""
        self.config, self.rank, self.inputs = config, rank, inputs
        self.training, self.feed = training, feed
        self.progress = Progress()
        self.position: Position | None = None
        """where the data stands after the last step"""
        self.stops = StopSignals(rank)
        self.summary = ""
        self.step = Step(config, training, rank)
        self.pulse = Pulse(rank.device)
        self.work = Work(config, classes=len(inputs.vocabulary))
        self.journal = Journal(config, rank, inputs.train, peaks_of(config, rank.device, bfloat16=self.step.bfloat16))
        self.nonce = nonce
        if config.run.wandb is not None:
            check_wandb()
        self.evaluator = Evaluator(config, rank, inputs, training, self.journal, bfloat16=self.step.bfloat16)
        self.checkpoints: Checkpoints

    @contextlib.contextmanager
    def open(self, found: Found) -> Iterator[None]:
        """Go on from what was found, in a run directory that the main rank opens; note signals from here on."""
        run = self.config.run
        if found.checkpoint is not None:
            self._restore(found.checkpoint, found.state)
        if self.progress.step < self.config.optim.steps:
            tensors = self.training.tensors()
            kept = run.keep_checkpoints + (self.config.optim.steps // run.keep_every if run.keep_every else 0)
            on_main(lambda: check_space(run.out, tensors, kept), self.rank)
        barrier(self.rank)  # nobody writes before everybody has looked
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.stops.noted())
            if self.rank.is_main:
                assert found.data is not None
                run_directory.begin(self.config, self.inputs.vocabulary, found.data, self.rank, step=self.progress.step)
            barrier(self.rank)
            self.checkpoints = stack.enter_context(
                Checkpoints(
                    run.out,
                    self.rank.index,
                    self.rank.world,
                    nonce=self.nonce,
                    keep=run.keep_checkpoints,
                    keep_every=run.keep_every,
                )
            )
            stack.enter_context(self.journal.open(self.progress, found.faults))
            stack.enter_context(self.feed)
            yield

    def train(self) -> int:
        """Take the remaining steps. 0, or 128 + the signal that stopped the run before its end."""
        last = self.config.optim.steps
        if self.progress.step >= last:
            return 0
        self.step.warm_up(self.feed.resolution)
        self.evaluator.make_up()
        self.journal.restart_clock()
        for batch in on_device(self.feed, self.rank.device):
            self._take(batch)
            due = self._due()
            match self._listen(wait=due.anything):
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
                self.evaluator.evaluate()
            if self.progress.step == last:
                break
        self.feed.close()
        return 0

    def finish(self) -> None:
        """Evaluate, and write the weights, the results and the page."""
        numbers = self.evaluator.evaluate()
        self.checkpoints.wait()
        if numbers is None:
            return
        found, _ = newest(self.config.run.out)
        assert found is not None
        self.summary = write_results(self.config, found.load("ema"), self.inputs.vocabulary, numbers)

    def _take(self, batch: Batch) -> None:
        self.progress.step += 1
        number = self.progress.step
        self.pulse.send(number, self.step.take(batch, number=number, stop=self.stops.asked))
        self.journal.note(number, batch, operations=self._operations(batch))
        self.position = batch.position

    def _operations(self, batch: Batch) -> int:
        """Floating-point operations that this rank's step needs."""
        config = self.config
        share = patch_share(self.progress.step - 1, config.model, steps=config.optim.steps)
        return len(batch) * self.work.of(size=batch.images.shape[1], share=share)

    def _due(self) -> Due:
        run, step = self.config.run, self.progress.step
        last = step == self.config.optim.steps
        return Due(
            line=step % run.log_every == 0 or last,
            checkpoint=step % run.checkpoint_every == 0 or last,
            evaluation=self.evaluator.is_due() and not last,
        )

    def _listen(self, *, wait: bool) -> Verdict:
        """Hear of earlier steps; of all of them if the run is to `wait`, or to stop."""
        verdict: Verdict = "go"
        for beat in self.pulse.listen(lag=0 if wait else LAG):
            self.journal.hear(beat)
            if beat.bad and self._judge(beat) == "back":
                return "back"
            if beat.stop:
                verdict = "stop"
        return self._listen(wait=True) if verdict == "stop" and not wait else verdict

    def _judge(self, beat: Beat) -> Verdict:
        """What a bad step means for the run. Raises InputError if it ends it."""
        self.journal.spike(beat)
        policy = self.config.optim.on_spike
        if policy == "stop":
            raise_alike(self._spike_error(beat), self.rank)
        if policy == "skip" and self.progress.bad_in_a_row > MOST_SKIPPED:
            raise_alike(self._standstill_error(beat), self.rank)
        return "back" if policy == "rollback" else "go"

    def _spike_error(self, beat: Beat) -> InputError:
        return InputError(
            f"step {beat.step}",
            found=f"a loss of {beat.loss:.4g} and a gradient norm of {beat.norm:.4g}",
            wanted=f"numbers, and a loss below {self.config.optim.spike_factor:g} times its running mean",
            remedy="Its samples are in spikes.jsonl. The same command goes on from the last checkpoint, with "
            "--on-spike skip or rollback past such steps; or lower --peak-lr in a new run.",
        )

    def _standstill_error(self, beat: Beat) -> InputError:
        return InputError(
            f"step {beat.step}",
            found=f"{self.progress.bad_in_a_row} bad steps one after another, the last with a loss of {beat.loss:.4g}",
            wanted=f"at most {MOST_SKIPPED} to skip: it is the weights that went wrong, and no step changes them",
            remedy="Remove the checkpoints since the first of these steps (spikes.jsonl) and start the same command "
            "again, or lower --peak-lr in a new run.",
        )

    def _roll_back(self) -> None:
        """Go back to the last checkpoint, and on from there with the batches that come after the last one taken."""
        self.pulse.forget()
        self.journal.report(line=False)
        self.checkpoints.wait()
        barrier(self.rank)
        found = on_main(lambda: self._checkpoint_to_go_back_to(), self.rank)
        progress = Progress.of(found.state["progress"], step=found.step)
        now = self.progress
        progress.totals, progress.bad_lines, progress.spikes = now.totals, now.bad_lines, now.spikes
        progress.seconds, progress.rollbacks = now.seconds, now.rollbacks + 1
        progress.rolled_back = now.rolled_back + now.images - progress.images
        state = {**found.state, "data": self._data_state(), "progress": progress.state()}
        if self.rank.is_main:
            run_directory.write_rollback(self.config.run.out, found, state)
            tell(f"\ngoing back to step {found.step}, past the samples of step {now.step}\n")
        self._restore(found, state)
        self.journal.rewind(self.progress)

    def _checkpoint_to_go_back_to(self) -> Checkpoint:
        found, _ = newest(self.config.run.out)
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
        self.summary = f"stopped at step {self.progress.step}; the same command continues from here"
        return self.stops.status

    def _save(self) -> None:
        """Checkpoint. Every rank takes part: the data position is made of theirs."""
        self.progress.rollbacks = 0
        state = {
            "data": self._data_state(),
            "progress": self.progress.state(),
            "guard": self.training.guard.state(),
            "averaged": self.training.average.steps,
        }
        files = {name: (self.config.run.out / name).read_bytes() for name in COPIED} if self.rank.is_main else {}
        self.checkpoints.save(
            self.progress.step,
            self.training.tensors(),
            files=files,
            state=state,
            fingerprint=self.inputs.vocabulary.fingerprint,
        )

    def _data_state(self) -> dict[str, object]:
        return to_state(gather(self.position, self.rank), self.inputs.train, teams=self.config.data.tar_teams)

    def _restore(self, checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        restore(checkpoint, self.training.tensors())
        self.training.average.steps = state["averaged"]
        self.training.guard.restore(state["guard"])
        self.progress = Progress.of(state["progress"], step=checkpoint.step)
