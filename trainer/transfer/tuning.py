"""One fine-tuning run on one rank, from its first step here to its results.

In: everything made for step 0, and where an earlier start left off. Out: a trained model, checkpoints, a log. Decisions
that all ranks must take alike follow from beats (`step/pulse.py`), which are the same on all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from trainer.checkpoints.checkpoint import restore
from trainer.checkpoints.retention import check_space
from trainer.checkpoints.writer import Checkpoints
from trainer.data.batch import Batch
from trainer.data.device_batches import on_device
from trainer.data.resolution import FixedResolution
from trainer.distributed import Rank, barrier, on_main, raise_alike
from trainer.records.journal import Progress
from trainer.records.run_directory import Found
from trainer.records.spikes import append_spike
from trainer.step.pulse import LAG, Beat, Pulse
from trainer.step.step import Step
from trainer.step.training import Training
from trainer.stops import Due, StopSignals
from trainer.transfer import tuning_folder
from trainer.transfer.account import Account, Course
from trainer.transfer.batches import batches
from trainer.transfer.scoring import Scored, score
from trainer.transfer.transfer_init import ClassMatch
from trainer.weights.folder import CONFIG
from vocab.errors import InputError


class Tuning:
    """A run while it goes."""

    def __init__(
        self, course: Course, training: Training, matches: list[ClassMatch], rank: Rank, *, nonce: str
    ) -> None:
        """`matches`: what each class begins with, for Transfer Init.

        `nonce`: a word that all ranks of this start share, and no other start.
        """
        self.course, self.training, self.matches, self.rank, self.nonce = course, training, matches, rank, nonce
        self.progress = Progress()
        self.step = Step(course.core, training, rank)
        self.pulse = Pulse(rank.device)
        self.stops = StopSignals(rank)
        self.account = Account(course, rank)
        self._checkpoints: Checkpoints

    @contextlib.contextmanager
    def open(self, found: Found) -> Iterator[None]:
        """Go on from what was found, in a directory that the main rank opens; note signals from here on."""
        config, out = self.course.config, self.course.config.out
        if found.checkpoint is not None:
            restore(found.checkpoint, self.training.tensors())
            self.training.average.steps = found.state["averaged"]
            self.training.guard.restore(found.state["guard"])
            self.progress = Progress.of(found.state["progress"], step=found.checkpoint.step)
        else:
            on_main(lambda: check_space(out, self.training.tensors(), config.keep_checkpoints), self.rank)
        barrier(self.rank)  # nobody writes before everybody has looked
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.stops.noted())
            if self.rank.is_main:
                tuning_folder.begin(config, self.rank, self.matches, step=self.progress.step)
            barrier(self.rank)
            self._checkpoints = stack.enter_context(
                Checkpoints(out, self.rank.index, self.rank.world, nonce=self.nonce, keep=config.keep_checkpoints)
            )
            stack.enter_context(self.account.open(self.progress, found.faults))
            yield

    def train(self) -> int:
        """Take the remaining steps. 0, or 128 + the signal that stopped the run before its end."""
        plan = self.course.plan
        if self.progress.step >= plan.steps:
            return 0
        self.step.warm_up(FixedResolution(plan.image_size, plan.batch))
        if self._evaluation_due() and not on_main(self.account.is_scored, self.rank):
            self.evaluate()  # the run was stopped between the epoch's last step and its evaluation
        self.account.restart_clock()
        made = batches(
            self.course.train,
            plan,
            self.rank,
            after=self.progress.step,
            decoding=self.course.viewing.decoding,
            pin=self.rank.device.type == "cuda",
        )
        with contextlib.closing(made):
            for batch in on_device(made, self.rank.device):
                self._take(batch)
                due = self._due()
                if self._listen(wait=due.anything):
                    return self._stop(line=due.line)
                if due.anything:
                    self.account.report(line=due.line)
                    self._checkpoints.check()
                if due.checkpoint:
                    self._save()
                if due.evaluation:
                    self.evaluate()
        return 0

    def evaluate(self) -> Scored | None:
        """Score the averaged weights on the test images, and log it; None on ranks other than the main one."""
        with self.training.average.swapped():
            scored = score(self.training.objective, self.course.test, self.rank, viewing=self.course.viewing)
        if scored is not None:
            self.account.scored(scored)
        self.account.restart_clock()
        return scored

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        self._checkpoints.wait()

    def _take(self, batch: Batch) -> None:
        self.progress.step += 1
        number = self.progress.step
        self.pulse.send(number, self.step.take(batch, number=number, stop=self.stops.asked))
        self.account.note(batch)

    def _due(self) -> Due:
        config, step = self.course.config, self.progress.step
        last = step == self.course.plan.steps
        return Due(
            line=step % config.log_every == 0 or last,
            checkpoint=step % config.checkpoint_every == 0 or last,
            evaluation=self._evaluation_due() and not last,
        )

    def _evaluation_due(self) -> bool:
        """Whether the last step ended an epoch that is followed by an evaluation."""
        every, plan, step = self.course.config.eval_every, self.course.plan, self.progress.step
        if every == 0 or step == 0:
            return False
        return plan.epochs_after(step) // every > plan.epochs_after(step - 1) // every

    def _listen(self, *, wait: bool) -> bool:
        """Hear of earlier steps, of all of them if the run is to `wait`; whether it is to stop.

        Raises InputError for a loss that is no number.
        """
        stop = False
        for beat in self.pulse.listen(lag=0 if wait else LAG):
            if beat.bad:
                self._end_at(beat)
            self.account.hear(beat)
            stop |= beat.stop
        if stop and not wait:
            self._listen(wait=True)
        return stop

    def _end_at(self, beat: Beat) -> None:
        images, _ = self.course.plan.at(beat.step, Rank(0, 1, self.rank.device))
        if self.rank.is_main:
            names = [self.course.train.names[image] for image in images.tolist()]
            append_spike(self.course.config.out, beat, names, policy="stop")
        raise_alike(
            InputError(
                f"step {beat.step}",
                found=f"a loss of {beat.loss:.4g} and a gradient norm of {beat.norm:.4g}",
                wanted="numbers",
                remedy="Its images are in spikes.jsonl. Lower --peak-lr, or use --precision float32, in a new run.",
            ),
            self.rank,
        )

    def _stop(self, *, line: bool) -> int:
        self.account.report(line=line)
        self._save()
        self._checkpoints.wait()
        return self.stops.status

    def _save(self) -> None:
        state: dict[str, Any] = {
            "progress": self.progress.state(),
            "guard": self.training.guard.state(),
            "averaged": self.training.average.steps,
        }
        files = {CONFIG: (self.course.config.out / CONFIG).read_bytes()} if self.rank.is_main else {}
        self._checkpoints.save(
            self.progress.step,
            self.training.tensors(),
            files=files,
            state=state,
            fingerprint=self.course.fingerprint,
        )
