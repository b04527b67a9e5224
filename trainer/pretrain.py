"""Pre-training, from top to bottom: images and the nouns of their captions in, a vision transformer out.

In: a `PretrainConfig`. Out: a run directory (`trainer/records/run_directory.py`); its page.html shows what was learnt.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.checkpoints import checkpoint
from trainer.checkpoints.checkpoint import Training
from trainer.config import PretrainConfig
from trainer.config_check import check
from trainer.data.batch import Batch, Position
from trainer.data.device_batches import on_device
from trainer.data.feed import Feed
from trainer.data.resolution import Resolution, resolution_of
from trainer.data.state import from_state, to_state
from trainer.distributed import Place, barrier, gather, join_processes
from trainer.evaluation import Evaluation, Loading, evaluate
from trainer.inputs import Inputs, open_inputs
from trainer.loss.losses import binary_cross_entropy
from trainer.model.range_augment import RangeAugment, psnr_loss
from trainer.model.stem import Stem
from trainer.model.vit import build_model, patch_of
from trainer.optim.optimiser import average_of, learning_rate, optimiser_of, set_learning_rate
from trainer.records import run_directory
from trainer.records.journal import Journal, Progress
from trainer.records.results import write_results
from vocab.errors import FormatError


def pretrain(config: PretrainConfig) -> bool:
    """Train, evaluate, and leave a run directory; continue the run if `config.run.out` already holds it.

    False if SIGTERM stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.run.device) as place:
        check(config, world=place.world)
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)
        inputs = open_inputs(config.data, seed=config.run.seed, thorough=place.main)
        training = build(config, inputs, place)
        found, faults = run_directory.examine(config, inputs.vocabulary)
        data = config.data
        start = from_state(found.state["data"], inputs.train, teams=data.tar_teams) if found is not None else None
        feed = Feed(
            inputs.train,
            resolution_for(config, world=place.world, patch=patch_of(training.model)),
            rank=place.rank,
            world=place.world,
            teams=data.tar_teams,
            workers=data.workers,
            loaders=data.loaders,
            prefetch=data.prefetch,
            start=start,
            pin_memory=data.pin_memory and place.device.type == "cuda",
        )
        barrier(place)  # nobody writes before everybody has looked
        if found is not None:
            checkpoint.restore(found, training, place.device)
        run = Run(config, place, inputs, training, feed, Progress.of(found))
        with run.reporting(faults):
            finished = run.train()
            if finished:
                run.finish()
        if place.main:
            sys.stderr.write(f"{run.summary}\n")
        return finished


def build(config: PretrainConfig, inputs: Inputs, place: Place) -> Training:
    """Model, average and optimiser at step 0."""
    torch.manual_seed(config.run.seed)
    one_size = config.data.resolution == "fixed"
    model = build_model(config.model, inputs.vocabulary, image_size=config.data.image_size, one_size=one_size).to(
        place.device
    )
    start = config.data.range_augment
    augment = RangeAugment(start=start).to(place.device) if start != "off" else None
    return Training(model, average_of(model, config.optim), optimiser_of(model, config.optim, augment=augment), augment)


class Run:
    """One run on one rank, from its first step here to its results."""

    def __init__(
        self,
        config: PretrainConfig,
        place: Place,
        inputs: Inputs,
        training: Training,
        feed: Feed,
        progress: Progress,
    ) -> None:
        self.config, self.place, self.inputs = config, place, inputs
        self.training, self.feed, self.progress = training, feed, progress
        precision = config.run.precision
        self.bfloat16 = precision == "bfloat16" or (precision == "auto" and place.device.type == "cuda")
        self.model = wrap(training, config, place)
        self.journal = Journal(config, place, progress)
        self.position: Position | None = None
        """where the data stands after the last step"""
        self.stop = False
        self.summary = ""

    @contextlib.contextmanager
    def reporting(self, faults: list[FormatError]) -> Iterator[None]:
        """Open the run directory on the main rank, and note a SIGTERM: the step at hand is finished first."""
        previous = signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            if self.place.main:
                run_directory.begin(self.config, self.inputs.vocabulary)
            with self.journal.open(faults), self.feed:
                yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def train(self) -> bool:
        """Take the remaining steps; False if the run was asked to stop before the last one."""
        config, progress = self.config.run, self.progress
        last = self.config.optim.steps
        if progress.step >= last:
            return True
        self.journal.restart_clock()
        for batch in on_device(self.feed, self.place.device):
            progress.step += 1
            self.take_step(batch)
            self.position = batch.position
            stopping = self.stop and self.place.world == 1
            saving = progress.step % config.checkpoint_every == 0 or progress.step == last
            evaluating = config.eval_every > 0 and progress.step % config.eval_every == 0 and progress.step < last
            if progress.step % config.log_every == 0 or saving or evaluating or stopping:
                stopping = self.journal.report(stop=self.stop)
            if saving or stopping:
                self.save()
            if progress.step == last:
                break
            if stopping:
                self.summary = f"stopped at step {progress.step}; the same command continues from here"
                return False
            if evaluating:
                self.evaluate()
        self.feed.close()
        return True

    def take_step(self, batch: Batch) -> None:
        """One optimisation step on this rank's share of the batch."""
        config, training, step = self.config.optim, self.training, self.progress.step
        # Stochastic depth draws from here: a resumed run draws what an undisturbed one would.
        torch.manual_seed(step_seed(self.config.run.seed, step, self.place.rank))
        set_learning_rate(training.optimiser, learning_rate(step, config))
        self.model.train()
        losses = []
        for number in range(config.accumulate):
            # Ranks exchange gradients once, with the last part.
            last = number == config.accumulate - 1
            wrapped = isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if wrapped and not last else contextlib.nullcontext():  # type: ignore[operator]
                loss = self.loss_of(batch.part(number, config.accumulate)) / config.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        norm = nn.utils.clip_grad_norm_(training.model.parameters(), config.clip_norm)
        training.optimiser.step()
        training.optimiser.zero_grad(set_to_none=True)
        training.average.update_parameters(training.model)
        self.journal.note(batch, torch.stack(losses).sum(), norm.detach())

    def loss_of(self, batch: Batch) -> Float[Tensor, ""]:
        """Loss of one of the parts that the step's batch is taken in."""
        with torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, plain, augmented = self.model(batch.images, batch.flips, batch.draws, batch.seeds)
        loss = binary_cross_entropy(logits, batch.offsets, batch.classes, batch.weights)
        if augmented is not None:
            loss = loss + psnr_loss(plain, augmented, progress=self.progress.step / self.config.optim.steps)
        return loss

    def save(self) -> None:
        """Checkpoint. Every rank takes part: the data position is made of theirs."""
        positions = gather(self.position, self.place)
        if self.place.main:
            teams = self.config.data.tar_teams
            checkpoint.save(
                self.config.run.out,
                self.training,
                self.inputs.vocabulary,
                step=self.progress.step,
                state={
                    "data": to_state(positions, self.inputs.train, teams=teams),
                    "progress": self.progress.state(),
                },
                keep=self.config.run.keep_checkpoints,
            )
        barrier(self.place)

    def evaluate(self) -> Evaluation | None:
        """Evaluate the averaged weights and log what they are worth; None on ranks other than the main one."""
        data, run = self.config.data, self.config.run
        result = evaluate(
            self.training.average.module,
            self.inputs.held_out,
            self.place,
            loading=Loading(
                size=data.image_size,
                batch=max(1, data.batch_size // self.place.world // self.config.optim.accumulate),
                workers=run.eval_workers,
                loaders=data.loaders,
            ),
            limit=run.eval_limit,
            bfloat16=self.bfloat16,
        )
        if result is not None:
            self.journal.evaluated(result.report)
        self.journal.restart_clock()
        return result

    def finish(self) -> None:
        """Evaluate, and write the weights, the results and the page."""
        result = self.evaluate()
        if result is None or self.journal.ledger is None:
            return
        self.journal.ledger.add([], result.skipped)
        self.summary = write_results(
            self.config, self.place, self.training.average.module, self.inputs.held_out, result, self.progress
        )

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.stop = True


def resolution_for(config: PretrainConfig, *, world: int, patch: int) -> Resolution:
    """The shape of every step: the same on all ranks, and divisible among them."""
    data = config.data
    return resolution_of(
        data.resolution,
        image_size=data.image_size,
        batch_size=data.batch_size,
        schedule=data.resolution_schedule,
        sizes=data.resolution_sizes,
        steps=config.optim.steps,
        multiple=math.lcm(world, data.tar_teams) * config.optim.accumulate,
        seed=config.run.seed,
        patch=patch,
    )


def wrap(training: Training, config: PretrainConfig, place: Place) -> nn.Module:
    """The model as steps call it: exchanging gradients where there are several ranks, compiled if asked."""
    model: nn.Module = Stem(training.model, training.augment)
    if place.world > 1:
        device_ids = [place.device.index] if place.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=device_ids)
    if config.run.compile:
        model.compile()
    return model


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers of one step on one rank."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
