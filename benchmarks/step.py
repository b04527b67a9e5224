"""Speed of a training step: from synthetic images, and from tars by the real data path.

    python benchmarks/step.py [--quick] [--device cuda] [--model convnext_tiny] [--batch 1024] [--steps 30] [--data DIR]

In: nothing but a device; for `fed_ratio` images/ of the folder with real data (CATLIP_DATA). Out: what each round
reached; last, one JSON object.

    images_per_second   of whole steps (forward, backward, clipping, AdamW, moving average), bytes on the device, 24,320
                        classes, three of them an image; the median of the rounds
    mfu                 operations that the model needs in that time, over a large matrix product's in the same round
    fed_ratio           the same steps fed from tars of 256-pixel JPEGs, over the synthetic ones; rounds by turns
    memory_gb           most memory held: the GPU's, or this process's on a CPU
    head_memory_ratio   `head_memory.py`: a plain classifier's peak memory over ours

`--model` takes what `python -m trainer pretrain --model` takes, its image size too. The figures that count are those of
ViT-B/16 at 224 pixels in bfloat16 on a GPU with 16 cores. A CPU runs the same steps
in float32 with a small batch, to see that everything works, and for the ratios.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import tyro

from benchmarks.feeding.corpus import read_photographs, write_photographs
from benchmarks.feeding.ours import our_source
from benchmarks.head_memory import head_memory
from benchmarks.measuring.setting import DATA, machine
from trainer.config import DataConfig, LossConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.data.batch import Batch, Position, on_device
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution
from trainer.distributed import Rank, device_of
from trainer.model.backbone import on_meta
from trainer.model.range_augment import DRAWS
from trainer.records.journal import peak_memory
from trainer.speed.flops import training_flops
from trainer.speed.peak import measured_peak
from trainer.step.metrics import DeferredMetrics
from trainer.step.step import Step
from trainer.step.training import build_training
from vocab.errors import run_cli
from vocab.vocabulary import Vocabulary
from vocab.wordnet import load as load_wordnet

POSITIVES = 3


@dataclass(frozen=True)
class StepSpeed:
    """Speed of a training step."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    model: str | None = None
    """timm architecture; unset: vit_base_patch16_224, with --quick vit_tiny_patch16_224"""
    image_size: int = 224
    """pixels"""
    classes: int = 24_320
    """classes of the vocabulary"""
    batch: int | None = None
    """images in a step; unset: 1,024 on CUDA, 8 on a CPU"""
    steps: int | None = None
    """steps in a round; unset: 30 on CUDA, 2 on a CPU"""
    rounds: int = 3
    """rounds of synthetic and fed steps, by turns"""
    compile: bool | None = None
    """compile the blocks; unset: on CUDA"""
    workers: int | None = None
    """loaders; unset: 14 on CUDA, 1 on a CPU"""
    data: Path = DATA
    """folder with images/, for `fed_ratio`"""
    head_images: int = 16_384
    """images of `head_memory_ratio`"""
    parts: tuple[Literal["step", "fed", "head"], ...] = ("step", "fed", "head")
    """parts to measure; fed needs step"""
    quick: bool = False
    """one round, 1,000 classes and few images, to see that everything works; its figures say nothing"""


def measure(options: StepSpeed) -> dict[str, Any]:
    """Measure; prints as it goes, returns the JSON object."""
    rank = Rank(0, 1, device_of(options.device))
    options, cuda = filled(options, rank), rank.device.type == "cuda"
    result: dict[str, Any] = dict.fromkeys(("images_per_second", "mfu", "fed_ratio", "head_memory_ratio"))
    if "step" in options.parts:
        result |= measure_steps(options, rank)
    if "head" in options.parts:
        result |= head_memory(options.head_images, options.classes, width=768, device="cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name(rank.device) if cuda else machine()
    return result | {"device": name, "torch": torch.__version__, "options": shown(options)}


def filled(options: StepSpeed, rank: Rank) -> StepSpeed:
    """The options with what depends on the device."""
    cuda = rank.device.type == "cuda"
    options = replace(
        options,
        model=options.model or ("vit_tiny_patch16_224" if options.quick else "vit_base_patch16_224"),
        batch=options.batch or (1024 if cuda else 8),
        steps=options.steps or (30 if cuda else 2),
        compile=cuda if options.compile is None else options.compile,
        workers=options.workers or (14 if cuda else 1),
    )
    if not options.quick:
        return options
    return replace(options, classes=1000, rounds=1, head_images=1024)


def shown(options: StepSpeed) -> dict[str, Any]:
    """The options that decide what the figures mean."""
    return {name: getattr(options, name) for name in ("model", "image_size", "classes", "batch", "steps", "compile")}


def measure_steps(options: StepSpeed, rank: Rank) -> dict[str, Any]:
    """images_per_second, mfu and fed_ratio."""
    assert options.batch is not None
    config = recipe(options)
    vocabulary = wide_vocabulary(options.classes)
    step = Step(
        build_training(config, vocabulary, rank),
        rank,
        config.optim,
        model=config.model,
        compiled=config.run.compile,
        bfloat16=config.run.is_bfloat16(rank.device.type),
    )
    resolution = FixedResolution(options.image_size, options.batch)
    step.warm_up(resolution)
    model = on_meta(config.model, classes=options.classes, image_size=options.image_size, one_size=True)
    operations = training_flops(model, size=options.image_size)
    precision = torch.bfloat16 if step.bfloat16 else torch.float32
    steps = itertools.count(1)
    rates, peaks, ratios = [], [], []
    with fed(options, vocabulary, rank) as tars:
        made = synthetic(options, rank)
        run_steps(step, made, steps, 2)
        for number in range(options.rounds):
            peaks.append(measured_peak(rank.device, precision))
            rates.append(run_steps(step, made, steps, options.steps))
            line = f"round {number + 1}: {rates[-1]:,.1f} images/s of {peaks[-1] / operations:,.1f} at the peak"
            if tars is not None:
                fed_rate = run_steps(step, tars, steps, options.steps, first=2)
                ratios.append(fed_rate / rates[-1])
                line += f", fed {fed_rate:,.1f}"
            sys.stdout.write(line + "\n")
    rate = statistics.median(rates)
    return {
        "images_per_second": round(rate, 1),
        "mfu": round(statistics.median(r * operations / p for r, p in zip(rates, peaks, strict=True)), 3),
        "fed_ratio": round(statistics.median(ratios), 3) if ratios else None,
        "gflop_per_image": round(operations / 1e9, 1),
        "peak_tflops": round(statistics.median(peaks) / 1e12, 2),
        "memory_gb": round(peak_memory(rank.device) / 1e9, 1),
    }


def run_steps(
    step: Step, batches: Iterable[Batch], numbers: Iterator[int], count: int | None, *, first: int = 0
) -> float:
    """Images a second over `count` steps after the `first` ones."""
    assert count is not None
    metrics, images, began = DeferredMetrics(step.rank.device), 0, 0.0
    for rank, batch in enumerate(itertools.islice(batches, first + count)):
        if rank == first:
            list(metrics.read(lag=0))
            began = time.perf_counter()
        number = next(numbers)
        metrics.push(number, step.take(batch, number=number))
        list(metrics.read())
        images += len(batch) * (rank >= first)
    # The last metrics are there when the last step is done.
    list(metrics.read(lag=0))
    return images / (time.perf_counter() - began)


def recipe(options: StepSpeed) -> PretrainConfig:
    """Make the recipe of ViT-B/16 on DataComp, but for the model and the resolution."""
    assert options.model is not None
    assert options.batch is not None
    assert options.compile is not None
    return PretrainConfig(
        data=DataConfig(image_size=options.image_size, batch_size=options.batch),
        model=ModelConfig(model=options.model),
        loss=LossConfig(),
        optim=OptimConfig(steps=200_000, warmup_steps=10_000),
        run=RunConfig(device=options.device, compile=options.compile),
    )


def wide_vocabulary(classes: int) -> Vocabulary:
    """So many synsets of WordNet, as frequent as the n-th word of a text."""
    synsets = np.sort(load_wordnet().synsets)[:classes].astype(np.int32)
    return Vocabulary(synsets, 10_000_000 // np.arange(1, classes + 1), rows=100_000_000, min_count=1)


def synthetic(options: StepSpeed, rank: Rank) -> Iterator[Batch]:
    """One batch of random bytes on the device, again and again."""
    assert options.batch is not None
    count, size = options.batch, options.image_size
    random = torch.Generator().manual_seed(0)
    batch = Batch(
        images=torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=random),
        offsets=torch.arange(0, POSITIVES * count + 1, POSITIVES),
        classes=torch.randint(0, options.classes, (POSITIVES * count,), generator=random),
        weights=torch.ones(count),
        flips=torch.rand(count, generator=random) < 0.5,
        draws=torch.rand(count, DRAWS, generator=random),
        seeds=torch.arange(count),
        tars=torch.zeros(count, dtype=torch.int32),
        indices=torch.zeros(count, dtype=torch.int32),
        position=Position(0, 0, {}),
        ends=list(range(0, POSITIVES * count + 1, POSITIVES)),
    )
    return itertools.repeat(batch.to(rank.device))


@contextmanager
def fed(options: StepSpeed, vocabulary: Vocabulary, rank: Rank) -> Iterator[Iterator[Batch] | None]:
    """Batches of tars of 256-pixel JPEGs; None if they are not asked for, or the photographs are not there."""
    assert options.batch is not None
    assert options.workers is not None
    if "fed" not in options.parts:
        yield None
        return
    if not (options.data / "images").is_dir():
        sys.stdout.write(f"fed_ratio left out: no images/ in {options.data}; --data or CATLIP_DATA names the folder\n")
        yield None
        return
    with tempfile.TemporaryDirectory() as name:
        corpus, _ = write_photographs(
            Path(name),
            read_photographs(options.data),
            kind="256",
            samples=max(2048, 2 * options.batch),
            tars=8,
            image_size=options.image_size,
            batch_size=options.batch,
        )
        source = replace(our_source(corpus), vocabulary=vocabulary)
        resolution = FixedResolution(options.image_size, options.batch)
        with Feed(source, resolution, workers=options.workers, pin_memory=rank.device.type == "cuda") as feed:
            yield on_device(feed, rank.device)


def main() -> None:
    """Measure and print."""
    sys.stdout.write(json.dumps(measure(tyro.cli(StepSpeed))) + "\n")


if __name__ == "__main__":
    run_cli(main)
