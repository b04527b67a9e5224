"""Speed of linear probes on cached features: ten learning rates at once, over ten runs of one.

    python benchmarks/probe_grid.py [--quick] [--images 20000] [--width 768] [--classes 200] [--device auto]

In: nothing; features are random, of a given width (ViT-B has 768), an image has one class. Out: one JSON object.

    probe_speedup             ten runs of torch's own classes, over ours with ten learning rates at once
    probe_speedup_no_loader   the same without its DataLoader: batches are indexed from memory, AdamW is fused
    probe_speedup_flushed     that one with denormal numbers as 0, which torch does not do unless it is told to
    probe_speedup_own         ten runs of ours with one learning rate each, over the same
    ..._processor             on a CPU: by the processor's clock, which counts this process alone, instead of the wall's

The first peer is written as CLIP_benchmark's linear probe is (LAION; clip_benchmark/metrics/linear_probe.py):
`nn.Linear`, `CrossEntropyLoss`, `AdamW`, a cosine set before every step, and a `DataLoader` over a data set of features
and classes; its loader has no processes of its own, which on two cores makes it faster. All train for the same epochs
on the same features with the same batch size. They take turns, and the order turns too. What ours gives at once must be
what it gives one by one, and the peers must fit the training images as well as ours does.

How much denormal numbers cost depends on the features: with `--centre 0.2`, as here, the higher learning rates tell all
training images apart, as they do features of ViT-B's width of 20,000 images, and gradients vanish; with `--centre 0`
classes are noise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # As a script or with -m: the project's modules are found, and threads that wait do not spin, which they must be
    # told before torch is imported: by turns, one side's spinning would slow the other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measuring.clock import by_turns, ratio, summary
from benchmarks.measuring.setting import machine, say
from trainer.config import OptimConfig
from trainer.data.labelled_images import LabelledImages, Read
from trainer.distributed import device_of
from trainer.optim.optimiser import learning_rate
from trainer.probe.grid import BETAS, GridSchedule, Setting, train_grid
from trainer.probe.linear import Head, random_head
from vocab.errors import run_cli

PEERS = {
    "probe_speedup": "loader",
    "probe_speedup_no_loader": "no_loader",
    "probe_speedup_flushed": "flushed",
    "probe_speedup_own": "one_by_one",
}
SEED = 0


@dataclass(frozen=True)
class ProbeGrid:
    """Speed of linear probes on cached features."""

    quick: bool = False
    """few images and epochs, to see that everything works; its figures say little"""
    images: int = 20_000
    """training images"""
    width: int = 768
    """width of the features; ViT-B's 768"""
    classes: int = 200
    """number of classes; Tiny ImageNet's 200"""
    centre: float = 0.2
    """how far features of a class lie from 0, over how far they lie from each other"""
    epochs: int = 30
    """times that every image is seen"""
    rates: int = 10
    """learning rates"""
    batch: int = 256
    """images of a step"""
    rounds: int = 3
    """times that each side runs; ratios are medians over them"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    threads: int | None = None
    """CPU threads; unset leaves torch's choice"""


@dataclass(frozen=True, eq=False)
class Features:
    """Features and learning rates that all sides train with."""

    values: Tensor
    classes: Tensor
    images: LabelledImages
    start: Head
    schedule: GridSchedule
    rates: list[float]

    @property
    def steps(self) -> int:
        """Number of steps of a run."""
        return self.schedule.epochs * -(-len(self.values) // self.schedule.batch_size)


class _Nowhere:
    """A store that nobody reads: features are all that there is of these images."""

    @contextmanager
    def open(self) -> Iterator[Read]:
        yield lambda image: b""


def made_up(options: ProbeGrid, device: torch.device) -> Features:
    """Features around a centre for each class, so that there is something to learn."""
    generator = torch.Generator().manual_seed(SEED)
    classes = torch.randint(options.classes, (options.images,), generator=generator)
    centres = torch.randn(options.classes, options.width, generator=generator)
    values = options.centre * centres[classes] + torch.randn(options.images, options.width, generator=generator)
    images = LabelledImages(
        store=_Nowhere(),
        rows=np.arange(options.images),
        names=tuple(map(str, range(options.images))),
        offsets=np.arange(options.images + 1),
        classes=classes.numpy(),
        labels=tuple(map(str, range(options.classes))),
        multi_label=False,
        fingerprint="",
    )
    return Features(
        values=values.to(device),
        classes=classes.to(device),
        images=images,
        start=random_head(options.classes, options.width, seed=SEED),
        schedule=GridSchedule(epochs=options.epochs, batch_size=options.batch),
        rates=np.geomspace(1e-5, 1e-1, options.rates).tolist(),
    )


def at_once(features: Features) -> list[Head]:
    """Ours, all learning rates."""
    return _ours(features, features.rates)


def one_by_one(features: Features) -> list[Head]:
    """Ours, a run for each learning rate."""
    return [head for rate in features.rates for head in _ours(features, [rate])]


def loader(features: Features) -> list[Head]:
    """torch's classes, a run for each learning rate, as CLIP_benchmark has them."""
    dataset = TensorDataset(features.values, features.classes)
    batches = DataLoader(dataset, batch_size=features.schedule.batch_size, shuffle=True)
    return [_peer(features, rate, lambda: iter(batches), fused=None) for rate in features.rates]


def no_loader(features: Features) -> list[Head]:
    """The same, batches indexed from memory, with the fused AdamW."""

    def batches() -> Iterator[list[Tensor]]:
        order = torch.randperm(len(features.values)).to(features.values.device)
        for first in range(0, len(order), features.schedule.batch_size):
            chosen = order[first : first + features.schedule.batch_size]
            yield [features.values[chosen], features.classes[chosen]]

    return [_peer(features, rate, batches, fused=True) for rate in features.rates]


def flushed(features: Features) -> list[Head]:
    """The same with denormal numbers as 0, in a thread of its own as ours is."""
    with ThreadPoolExecutor(1, initializer=torch.set_flush_denormal, initargs=(True,)) as thread:
        return thread.submit(no_loader, features).result()


def _ours(features: Features, rates: list[float]) -> list[Head]:
    grid = [Setting(rate, 0.0) for rate in rates]
    return train_grid(
        features.values, features.images, grid=grid, schedule=features.schedule, start=features.start, seed=SEED
    )


def _peer(
    features: Features, rate: float, batches: Callable[[], Iterator[list[Tensor]]], *, fused: bool | None
) -> Head:
    torch.manual_seed(SEED)
    model = nn.Linear(features.values.shape[1], len(features.start.bias)).to(features.values.device)
    with torch.no_grad():
        model.weight.copy_(features.start.weight)
        model.bias.copy_(features.start.bias)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=BETAS, weight_decay=0.0, fused=fused)
    criterion = nn.CrossEntropyLoss()
    course = OptimConfig(
        steps=features.steps, warmup_steps=0, peak_lr=rate, final_lr=rate * features.schedule.final_share
    )
    step = 0
    for _ in range(features.schedule.epochs):
        for values, classes in batches():
            step += 1
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, course)
            optimiser.zero_grad()
            criterion(model(values), classes).backward()
            optimiser.step()
    return Head(model.weight.detach(), model.bias.detach())


def measure(options: ProbeGrid | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Time all sides by turns, compare what they give; the JSON object."""
    options = options or ProbeGrid(quick=quick)
    if options.quick:
        options = replace(options, images=1000, width=64, classes=10, epochs=2, rounds=1)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = device_of(options.device)
    features = made_up(options, device)
    little = made_up(replace(options, images=2 * options.batch, epochs=1), device)
    works: dict[str, Callable[[], object]] = {}
    found: dict[str, list[Head]] = {}
    for side in (at_once, one_by_one, loader, no_loader, flushed):
        side(little)  # what torch sets up once is no part of any side
        works[side.__name__] = lambda side=side: found.__setitem__(side.__name__, side(features))  # type: ignore[misc]
    say(
        f"{options.images:,} images of width {options.width}, {options.classes} classes, {features.steps:,} steps a run"
    )
    spent = by_turns(works, rounds=options.rounds, device=device, warm_up=0)
    result: dict[str, Any] = {key: ratio(spent, peer, "at_once") for key, peer in PEERS.items()}
    if device.type == "cpu":
        result |= {f"{key}_processor": ratio(spent, peer, "at_once", clock="processor") for key, peer in PEERS.items()}
    return result | {
        "accuracy": compare(features, found),
        "seconds": {name: one["seconds"] for name, one in summary(spent, images=options.images).items()},
        "centre": options.centre,
        "width": options.width,
        "classes": options.classes,
        "images": options.images,
        "epochs": options.epochs,
        "learning_rates": options.rates,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": machine(),
        "quick": options.quick,
    }


def compare(features: Features, found: dict[str, list[Head]]) -> dict[str, list[float]]:
    """Accuracy on the training images for each side and learning rate.

    Raises AssertionError if ours gives something else at once than one by one, or if a peer, whose batches come in
    another order, ends elsewhere at the lower learning rates, where all must come to nearly the same.
    """
    accuracy = {
        name: [
            float((head.logits(features.values).argmax(1) == features.classes).float().mean().cpu()) for head in heads
        ]
        for name, heads in found.items()
    }
    for rate, one, other in zip(features.rates, found["at_once"], found["one_by_one"], strict=True):
        # Rounding grows where a gradient is as good as zero, but not to many steps of this size.
        apart = float((one.weight - other.weight).abs().max())
        assert apart < 5 * rate, (rate, apart)
    for peer in ("loader", "no_loader", "flushed"):
        for number, reached in enumerate(accuracy[peer][: len(features.rates) // 2]):
            ours = accuracy["at_once"][number]
            assert abs(reached - ours) < 0.02, (peer, features.rates[number], reached, ours)
    return {name: [round(share, 4) for share in shares] for name, shares in accuracy.items()}


def main() -> None:
    """Measure and print."""
    say(json.dumps(measure(tyro.cli(ProbeGrid))))


if __name__ == "__main__":
    run_cli(main)
