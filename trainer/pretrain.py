"""Pre-training, from top to bottom: images and the nouns of their captions in, a vision transformer out.

In: a `PretrainConfig`. Out: a run directory (see `trainer/run_directory.py`), whose page.html shows what was learnt.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer import checkpoint, run_directory
from trainer.batches import Batch, Feed, Skipped, check_bad_share
from trainer.checkpoint import Checkpoint, Training
from trainer.config import PretrainConfig, check
from trainer.distributed import Place, barrier, gather, join_processes
from trainer.evaluation import Evaluation, evaluate
from trainer.inputs import Inputs, open_inputs
from trainer.ledger import Ledger
from trainer.log import Log
from trainer.loss import binary_cross_entropy
from trainer.model import build_model, normalise
from trainer.optim import average_of, learning_rate, optimiser_of, set_learning_rate
from trainer.page import write_page
from vocab.errors import InputError
from vocab.storage import write_whole


def pretrain(config: PretrainConfig) -> bool:
    """Train, evaluate, and leave a run directory; continue the run if `config.run.out` already holds it.

    False if SIGTERM stopped it before the last step, with a checkpoint to go on from.
    Raises a CatlipError before the first step for whatever can be known by then.
    """
    with join_processes(config.run.device) as place:
        check(config, world=place.world)
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)
        inputs = open_inputs(config, place)
        training = build(config, inputs, place)
        found, faults = run_directory.examine(config, inputs.vocabulary)
        feed = Feed(
            inputs.train,
            rank=place.rank,
            world=place.world,
            workers=config.data.workers,
            state=found.state["data"] if found is not None else None,
            pin_memory=place.device.type == "cuda",
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
    model = build_model(config.model, inputs.vocabulary, image_size=config.data.image_size).to(place.device)
    return Training(model, average_of(model, config.optim), optimiser_of(model, config.optim))


@dataclass
class Progress:
    """How far a run is; what a checkpoint keeps beside tensors."""

    step: int = 0
    seconds: float = 0.0
    """spent training, evaluation aside"""
    totals: dict[str, int] = field(default_factory=dict)
    bad_lines: int = 0
    """lines of bad_samples.jsonl that belong to it"""

    @classmethod
    def of(cls, found: Checkpoint | None) -> Progress:
        """Where a checkpoint stands; the start without one."""
        return cls(step=found.step, **found.state["progress"]) if found is not None else cls()


@dataclass
class Window:
    """What happened since the last line of the log."""

    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    waited: float = 0.0
    account: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


class Run:
    """One run on one rank, from its first step here to its page."""

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
        self.model = wrap(training.model, config, place)
        self.window = Window()
        self.log: Log | None = None
        self.ledger: Ledger | None = None
        self.stop = False
        self.summary = ""

    @contextlib.contextmanager
    def reporting(self, faults: list[Any]) -> Iterator[None]:
        """Open the run directory on the main rank, and note a SIGTERM sent to this process.

        A scheduler that signals the whole process group ends the loading workers first, and torch then this process:
        the run continues from its last checkpoint.
        """
        previous = signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            if not self.place.main:
                yield
                return
            for fault in faults:
                sys.stderr.write(f"warning: {fault} Continuing from step {self.progress.step}.\n")
            out = self.config.run.out
            run_directory.begin(self.config, self.inputs.vocabulary)
            self.ledger = Ledger(out, totals=self.progress.totals, lines=self.progress.bad_lines)
            with Log(out, start=self.progress.step, steps=self.config.optim.steps) as self.log:
                yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def train(self) -> bool:
        """Take the remaining steps; False if the run was asked to stop before the last one."""
        config, progress = self.config.run, self.progress
        batches = iter(self.feed)
        self.window = Window()
        last = self.config.optim.steps
        while progress.step < last:
            began = time.perf_counter()
            batch = next(batches)
            self.window.waited += time.perf_counter() - began
            progress.step += 1
            self.take_step(batch)
            stopping = self.stop and self.place.world == 1
            saving = progress.step % config.checkpoint_every == 0 or progress.step == last
            evaluating = config.eval_every > 0 and progress.step % config.eval_every == 0 and progress.step < last
            if progress.step % config.log_every == 0 or saving or evaluating or stopping:
                stopping = self.report()
            if saving or stopping:
                self.save()
            if stopping and progress.step < last:
                self.summary = f"stopped at step {progress.step}; the same command continues from here"
                return False
            if evaluating:
                self.evaluate()
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
                loss = self.loss_of(batch, number) / config.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        norm = nn.utils.clip_grad_norm_(training.model.parameters(), config.clip_norm)
        training.optimiser.step()
        training.optimiser.zero_grad(set_to_none=True)
        training.average.update_parameters(training.model)
        # Kept on the device: reading a number here would make the device wait for the host in every step.
        self.window.losses.append(torch.stack(losses).sum())
        self.window.norms.append(norm.detach())
        self.window.account.update(batch.account)
        self.window.skipped += batch.skipped
        if self.log is not None:
            self.log.step()

    def loss_of(self, batch: Batch, number: int) -> Float[Tensor, ""]:
        """Loss of one of the parts that the step's batch is taken in."""
        device = self.place.device
        images, offsets, classes = (
            tensor.to(device, non_blocking=True) for tensor in batch.part(number, self.config.optim.accumulate)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.model(normalise(images))
        return binary_cross_entropy(logits, offsets, classes)

    def report(self) -> bool:
        """Bring the ranks' numbers together, judge and log them; whether any rank was asked to stop."""
        window, step, place = self.window, self.progress.step, self.place
        losses = torch.stack(window.losses).tolist() if window.losses else []
        now = time.perf_counter()
        elapsed = now - window.started
        parts = gather((losses, window.account, window.skipped, window.waited, self.stop), place)
        mean = np.mean([part[0] for part in parts], axis=0)
        self._check_finite(mean)
        totals = Counter(self.progress.totals)
        for _, account, *_ in parts:
            totals.update(account)
        self.progress.totals = dict(totals)
        self.progress.seconds += elapsed
        if self.ledger is not None and self.log is not None:
            self.ledger.add([part[1] for part in parts], [bad for part in parts for bad in part[2]])
            self.progress.bad_lines = self.ledger.lines
            values = {
                "loss": float(mean.mean()),
                "learning_rate": learning_rate(step, self.config.optim),
                "images_per_second": len(losses) * self.config.data.batch_size / elapsed,
                "data_wait_share": float(np.mean([part[3] for part in parts])) / elapsed,
                "grad_norm": float(torch.stack(window.norms).mean()),
                "bad_samples": float(totals["bad"]),
                "unmatched_samples": float(totals["unmatched"]),
            }
            self.log.write(step, values)
            self.log.show(
                loss=f"{values['loss']:.3f}",
                images_s=f"{values['images_per_second']:.0f}",
                waits=f"{values['data_wait_share']:.0%}",
                bad=f"{totals['bad']}",
            )
        check_bad_share(totals, self.config.data.max_bad_share, example="see bad_samples.jsonl")
        self.window = Window(started=now)
        return any(part[4] for part in parts)

    def _check_finite(self, losses: Float[np.ndarray, " steps"]) -> None:
        for place, loss in enumerate(losses.tolist()):
            if not np.isfinite(loss):
                step = self.progress.step - len(losses) + 1 + place
                raise InputError(
                    f"step {step}",
                    found=f"a loss of {loss}",
                    wanted="a number",
                    remedy="Lower --peak-lr or --clip-norm, lengthen --warmup-steps, or use --precision float32; "
                    "the same command continues from the last checkpoint.",
                )

    def save(self) -> None:
        """Checkpoint. Every rank takes part: the data position is the sum of theirs."""
        positions = gather(self.feed.positions, self.place)
        if self.place.main:
            progress = {name: value for name, value in asdict(self.progress).items() if name != "step"}
            checkpoint.save(
                self.config.run.out,
                self.training,
                self.inputs.vocabulary,
                step=self.progress.step,
                state={"data": self.feed.state(positions), "progress": progress},
                keep=self.config.run.keep_checkpoints,
            )
        barrier(self.place)

    def evaluate(self) -> Evaluation | None:
        """Evaluate the averaged weights and log what they are worth; None on ranks other than the main one."""
        result = evaluate(
            self.training.average.module,
            self.inputs.held_out,
            self.place,
            workers=self.config.run.eval_workers,
            limit=self.config.run.eval_limit,
            bfloat16=self.bfloat16,
        )
        if result is not None and self.log is not None:
            numbers = asdict(result.report)
            self.log.write(self.progress.step, {f"eval_{name}": value for name, value in numbers.items()})
        self.window = Window()
        return result

    def finish(self) -> None:
        """Evaluate, and write the weights, the results and the page."""
        result = self.evaluate()
        if result is None or self.ledger is None:
            return
        out = self.config.run.out
        state = self.training.average.module.state_dict()
        with write_whole(out / "model.safetensors") as file:
            file.write(serialize({name: tensor.cpu().contiguous() for name, tensor in state.items()}, {"format": "pt"}))
        self.ledger.add([], result.skipped)
        results = {
            "steps": self.progress.step,
            "images_seen": self.progress.step * self.config.data.batch_size,
            "seconds": round(self.progress.seconds, 1),
            "parameters": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "classes": len(self.inputs.vocabulary),
            "device": str(self.place.device),
            "processes": self.place.world,
            "evaluation": asdict(result.report),
            "training_account": self.progress.totals,
            "evaluation_account": result.account,
        }
        with write_whole(out / "results.json") as file:
            file.write((json.dumps(results, indent=2) + "\n").encode())
        write_page(out, self.config, self.inputs.held_out, result, results)
        scored = result.report
        self.summary = (
            f"mean average precision {scored.macro:.3f} (class frequencies alone {scored.baseline_macro:.3f}) "
            f"on {scored.images:,} held-out images\nopen {out / 'page.html'}"
        )

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.stop = True


def wrap(model: nn.Module, config: PretrainConfig, place: Place) -> nn.Module:
    """The model as steps call it: exchanging gradients where there are several ranks, compiled if asked."""
    if place.world > 1:
        device_ids = [place.device.index] if place.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=device_ids)
    if config.run.compile:
        model.compile()
    return model


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers of one step on one rank."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
