"""CLIP and CatLIP trained side by side on the same captioned pictures, probed on the way: how long each one takes.

In: a `Corpus` and a `Race`. Out: for each side its curve of (seconds of training, accuracy of the probe).

The two take their steps by turns, on the same pictures with the same flips, so that whatever else the machine does
slows both. Only steps count: not the probes, nor making tokens and labels, which happens once for all epochs. CatLIP's
probe reads the averaged weights, CLIP's the weights, as either one releases them.

What can be learnt in minutes on two cores is little: few classes, so that a batch holds each of them more than once and
CLIP's negatives are partly wrong, as they are not in web data; captions made by templates; pictures of 64 pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from benchmarks.clip_race.corpus import Corpus, tokens_of
from benchmarks.clip_race.ours import Bytes, Catlip, batch_of
from benchmarks.clip_race.peer import Clip
from benchmarks.clip_race.probe import features_of, probe_accuracy
from benchmarks.clip_race.towers import Architecture, build_clip, require_same_towers
from benchmarks.measuring.clock import Clock, Spent, timed
from benchmarks.measuring.setting import say
from trainer.config import OptimConfig
from trainer.distributed import Rank
from trainer.model.objective import prepare

# One peak learning rate for both: CatLIP's own, twice open_clip's default.
PEAK_LR = 1e-3
WARM_UP = 0.1
# Of hundreds of steps, not of hundreds of thousands.
EMA_MOMENTUM = 0.02


@dataclass(frozen=True)
class Point:
    """A probe on the way."""

    spent: Spent
    accuracy: float


Curve = list[Point]


@dataclass(frozen=True)
class Race:
    """How long both sides train."""

    steps: int
    batch_size: int
    probe_every: int
    """steps between two probes"""
    probe_images: int
    """pictures that a probe learns from, the first ones; it is measured on two thirds as many that nobody trains on"""


def race(corpus: Corpus, architecture: Architecture, options: Race, rank: Rank, *, seed: int) -> dict[str, Curve]:
    """Train both sides from the seed. Raises MismatchError if their image towers are not the same."""
    tokens, known = tokens_of(corpus.captions, length=architecture.tokens)
    torch.manual_seed(seed)
    clip = Clip(build_clip(architecture, vocabulary=known), rank, compile=False)
    optim = OptimConfig(
        steps=options.steps,
        warmup_steps=max(1, round(WARM_UP * options.steps)),
        peak_lr=PEAK_LR,
        final_lr=PEAK_LR / 100,
        ema_momentum=EMA_MOMENTUM,
    )
    catlip = Catlip(architecture, corpus.labels.vocabulary, rank, compile=False, optim=optim, seed=seed)
    require_same_towers(clip.trunk, catlip.model, image_size=architecture.image_size)
    spent = {"clip": Spent(), "catlip": Spent()}
    curves: dict[str, Curve] = {name: [] for name in spent}

    def look(step: int) -> None:
        for name, accuracy in probes(corpus, clip, catlip, options, rank).items():
            curves[name].append(Point(spent[name], accuracy))
        found = [
            f"{name} {curve[-1].accuracy:.4f} after {curve[-1].spent.wall:.1f} s" for name, curve in curves.items()
        ]
        say(f"  seed {seed}, step {step}: {', '.join(found)}")

    look(0)
    for step, pictures in enumerate(orders(len(corpus.train.images), options, seed=seed), start=1):
        images = corpus.train.images[pictures].to(rank.device)
        flips = torch.rand(len(pictures), generator=torch.Generator().manual_seed(step)) < 0.5
        batch = batch_of(images.cpu(), flips, *corpus.labels.of(pictures), seeds=pictures).to(rank.device)
        texts = tokens[pictures].to(rank.device)
        flips = flips.to(rank.device)
        clip.set_learning_rate(PEAK_LR * cosine(step, options.steps))
        works: dict[str, Callable[[], object]] = {
            "clip": lambda images=images, flips=flips, texts=texts: clip.take(prepare(images, flips), texts),  # type: ignore[misc]
            "catlip": lambda batch=batch: catlip.take(batch),  # type: ignore[misc]
        }
        for name in works if step % 2 else reversed(list(works)):
            spent[name] += timed(works[name], rank.device)
        if step % options.probe_every == 0:
            look(step)
    return curves


def probes(corpus: Corpus, clip: Clip, catlip: Catlip, options: Race, rank: Rank) -> dict[str, float]:
    """Accuracy of the probe on either side's features."""
    clip.model.eval()
    catlip.model.eval()

    def of_clip(images: Bytes) -> Tensor:
        return clip.embed(prepare(images, None))

    with catlip.averaged():
        found = {"clip": probe(of_clip, corpus, options, rank), "catlip": probe(catlip.embed, corpus, options, rank)}
    clip.model.train()
    catlip.model.train()
    return found


def probe(embed: Callable[[Bytes], Tensor], corpus: Corpus, options: Race, rank: Rank) -> float:
    """Accuracy of the probe on one side's features."""
    _, classes = np.unique(np.concatenate([corpus.train.synsets, corpus.held_out.synsets]), return_inverse=True)
    known = torch.from_numpy(classes)
    some, others = options.probe_images, 2 * options.probe_images // 3
    return probe_accuracy(
        features_of(embed, corpus.train.images[:some], rank.device),
        known[: len(corpus.train.images)][:some],
        held_out=features_of(embed, corpus.held_out.images[:others], rank.device),
        held_out_classes=known[len(corpus.train.images) :][:others],
    )


def orders(count: int, options: Race, *, seed: int) -> Iterator[Int64[Tensor, " batch"]]:
    """The pictures of every step, every picture once an epoch."""
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.zeros(0, dtype=torch.int64)
    for _ in range(options.steps):
        while len(waiting) < options.batch_size:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[: options.batch_size]
        waiting = waiting[options.batch_size :]


def cosine(step: int, steps: int) -> float:
    """Share of the peak rate at a step counted from 1: linear warm-up, then half a cosine (open_clip's schedule)."""
    warm_up = max(1, round(WARM_UP * steps))
    if step <= warm_up:
        return step / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


@dataclass(frozen=True)
class Outcome:
    """Result of a race."""

    ratio: float | None
    """CLIP's seconds over CatLIP's to the target; None if a side is there before it has learnt anything"""
    ratio_by_processor: float | None
    """the same by the processor's clock"""
    target: float
    """the smaller of the two best accuracies"""
    clip: list[tuple[float, float]]
    """(seconds, accuracy) at every probe, the first before any step"""
    catlip: list[tuple[float, float]]


def outcome_of(curves: Mapping[str, Curve]) -> Outcome:
    """Times to the accuracy that both sides reach."""
    target = min(max(point.accuracy for point in curve) for curve in curves.values())

    def ratio(clock: Clock) -> float | None:
        clip, catlip = (time_to(curves[name], target, clock) for name in ("clip", "catlip"))
        return round(clip / catlip, 3) if clip > 0 and catlip > 0 else None

    clip, catlip = (
        [(round(point.spent.wall, 1), round(point.accuracy, 4)) for point in curves[name]]
        for name in ("clip", "catlip")
    )
    return Outcome(ratio("wall"), ratio("processor"), round(target, 4), clip, catlip)


def time_to(curve: Curve, target: float, clock: Clock) -> float:
    """When the curve first reaches the target, on straight lines between probes; the first one is before all steps."""
    if curve[0].accuracy >= target:
        return 0.0
    for before, point in itertools.pairwise(curve):
        if point.accuracy >= target:
            share = (target - before.accuracy) / (point.accuracy - before.accuracy)
            return before.spent.by(clock) + share * (point.spent.by(clock) - before.spent.by(clock))
    return math.inf
