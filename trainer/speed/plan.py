"""Costs of a run before it is launched: memory of a GPU, floating-point work, hours.

In: a `PlanConfig`. Out: a few lines to read, and a last line that is one JSON object. No data is needed, and no GPU.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from trainer.config import PretrainConfig
from trainer.data.resolution import StepShape
from trainer.model.backbone import classifier_of, on_meta, patch_of
from trainer.model.per_image import patch_share
from trainer.optim.optimiser import groups_of
from trainer.pretrain import resolution_for
from trainer.speed.flops import training_flops
from trainer.speed.memory import GIGA, Memory, exchange_bytes, memory
from trainer.speed.peak import TERA, card_of
from trainer.step.statistics import BatchStatistics
from trainer.verb_config import PlanConfig
from vocab.errors import InputError
from vocab.pages.text import counted
from vocab.vocabulary import Vocabulary

CATLIP_CLASSES = 24_320
MOST_PARTS = 4096
"""parts of a step that are tried"""


@dataclass(frozen=True)
class Costs:
    """Costs of a run."""

    classes: int
    parameters: int
    flops_per_image: dict[tuple[int, float], int]
    """forward and backward, by image size and share of the patches"""
    flops: int
    """operations of the whole run"""
    images: int
    steps: int
    peak: float
    """stated operations per second of one GPU"""
    hours: float
    memory: Memory
    """memory of a process in the heaviest step"""
    heaviest: tuple[StepShape, float]
    """step that needs most memory, and the share of the patches in it"""
    limit: float
    """memory of a GPU, bytes"""
    part: int
    """images that a process computes at a time in that step, as configured"""
    accumulate: int | None
    """parts with which it fits; None if no number of parts does"""

    @property
    def fits(self) -> bool:
        return self.memory.total(self.part) <= self.limit

    @property
    def rate(self) -> float:
        """Average images per second of all GPUs together."""
        return self.images / (self.hours * 3600)


def plan(config: PlanConfig) -> list[str]:
    """Compute the costs and put them in lines; the last one is JSON."""
    return report(reckon(config), config)


def reckon(config: PlanConfig) -> Costs:
    """Compute the costs. Raises InputError for a GPU that is not in the table, and as the run itself would."""
    run = config.pretrain
    rate, limit = gpu_of(config)
    classes = classes_of(config)
    model = on_meta(run.model, classes=classes, image_size=run.data.image_size, one_size=run.data.one_size)
    groups_of(model, run.optim)  # for its errors
    taken = steps_of(run, model, world=config.gpus)
    fewest = min(shape.batch for shape, _ in taken)
    BatchStatistics(model).check(fewest // (config.gpus * run.optim.accumulate))
    kinds = sorted({(shape.size, share) for shape, share in taken})
    work = {(size, share): training_flops(model, size=size, share=share) for size, share in kinds}
    flops = sum(steps * shape.batch * work[shape.size, share] for (shape, share), steps in taken.items())
    # Memory goes with work, for both go with the tokens; all but attention's square, which is small there.
    shape, share = max(taken, key=lambda step: step[0].batch * step[1] * step[0].size ** 2)
    needed = memory(
        model,
        classifier_of(model),
        size=shape.size,
        share=share,
        world=config.gpus,
        parallel=run.run.parallel,
        optimiser=run.optim.optimiser,
        checkpointing=run.run.activation_checkpointing,
        augmented=run.data.range_augment != "off",
        head_chunk=run.loss.head_chunk,
        bfloat16=run.run.precision != "float32",
        accumulate=run.optim.accumulate,
    )
    return Costs(
        classes=classes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops_per_image=work,
        flops=flops,
        images=sum(steps * shape.batch for (shape, _), steps in taken.items()),
        steps=run.optim.steps,
        peak=rate,
        hours=flops / (rate * config.mfu * config.gpus) / 3600,
        memory=needed,
        heaviest=(shape, share),
        limit=limit,
        part=math.ceil(shape.batch / (config.gpus * run.optim.accumulate)),
        accumulate=_parts_that_fit(config, model, needed, size=shape.size, limit=int(limit)),
    )


def gpu_of(config: PlanConfig) -> tuple[float, float]:
    """Look up stated operations per second and bytes of one GPU. Raises InputError for an unknown one."""
    card, tflops, gigabytes = card_of(config.gpu), config.pretrain.run.peak_tflops, config.gpu_memory
    if card is None and (tflops is None or gigabytes is None):
        raise InputError(
            "--gpu",
            found=config.gpu,
            wanted="a GPU of our table, such as A100, H100, H200 or B200",
            remedy="Or say what it can do: --peak-tflops NUMBER --gpu-memory GB.",
        )
    if tflops is None:
        tflops = card.tflops if card is not None else 0.0
    if gigabytes is None:
        gigabytes = card.gigabytes if card is not None else 0.0
    return tflops * TERA, gigabytes * GIGA


def classes_of(config: PlanConfig) -> int:
    """Number of classes: from `--classes`, else the vocabulary's, else CatLIP's 24,320."""
    if config.classes is not None:
        return config.classes
    vocabulary = config.pretrain.data.vocabulary
    return len(Vocabulary.load(vocabulary)) if vocabulary else CATLIP_CLASSES


def steps_of(run: PretrainConfig, model: nn.Module, *, world: int) -> Counter[tuple[StepShape, float]]:
    """Count the run's steps of each shape and share of the patches, exactly: nothing in them is random."""
    resolution = resolution_for(run, world=world, patch=patch_of(model))
    steps = run.optim.steps
    return Counter((resolution.at(step), patch_share(step, run.model, steps=steps)) for step in range(steps))


def _parts_that_fit(config: PlanConfig, model: nn.Module, needed: Memory, *, size: int, limit: int) -> int | None:
    """Find the least number of parts, at least the configured one, whose images fit into `limit` bytes of a process.

    `needed`: memory with the configured number of parts.
    """
    run = config.pretrain
    several = needed
    if needed.fixed["exchange"]:
        several = replace(needed, fixed={**needed.fixed, "exchange": exchange_bytes(model, accumulate=2)})
    for parts in range(run.optim.accumulate, MOST_PARTS + 1):
        if run.data.batch_size % (math.lcm(config.gpus, run.data.tar_teams) * parts) == 0:
            again = replace(run, optim=replace(run.optim, accumulate=parts))
            shapes = resolution_for(again, world=config.gpus, patch=patch_of(model)).shapes()
            batch = next(shape.batch for shape in shapes if shape.size == size)
            most = (needed if parts == run.optim.accumulate else several).most_images(limit)
            if batch // (config.gpus * parts) <= most:
                return parts
    return None


def report(planned: Costs, config: PlanConfig) -> list[str]:
    """Write the costs for people and, on the last line, for programs."""
    shape, share = planned.heaviest
    most = planned.memory.most_images(int(planned.limit))
    per_step = planned.flops / planned.steps
    gpu_hours = planned.hours * config.gpus
    named = config.classes is not None or config.pretrain.data.vocabulary
    assumed = "" if named else " assumed (as in Apple's weights; --vocabulary or --classes gives yours)"
    lines = [
        _verdict(planned, config),
        f"{config.pretrain.model.model}, {counted(planned.classes, 'class', 'classes')}{assumed}: "
        f"{planned.parameters / 1e6:,.1f} M parameters",
        "",
        f"memory of each {config.gpu}, {counted(config.gpus, 'process', 'processes')} "
        f"({config.pretrain.run.parallel}), "
        f"{counted(planned.part, 'image')} of {shape.size} px at a time, {share:.0%} of their patches:",
        *planned.memory.table(planned.part),
        f"  at most {counted(most, 'image')} at a time",
        "",
        *(
            f"an image of {size} px, {share:.0%} of its patches: {work / GIGA:,.1f} GFLOP forward and backward"
            for (size, share), work in sorted(planned.flops_per_image.items())
        ),
        f"a step: {planned.images / planned.steps:,.0f} images, {per_step / TERA:,.1f} TFLOP on average",
        f"the run: {planned.steps:,} steps, {planned.images:,} images, {planned.flops:.3g} FLOP",
        f"at {config.mfu:.0%} of {planned.peak / TERA:,.0f} TFLOP/s: {planned.rate:,.0f} images/s, "
        f"{planned.hours:,.1f} hours, {gpu_hours:,.0f} GPU-hours"
        + (f", {gpu_hours * config.price:,.0f} at {config.price:g} an hour" if config.price is not None else ""),
    ]
    return [*lines, json.dumps(_numbers(planned, gpus=config.gpus, price=config.price))]


def _numbers(planned: Costs, *, gpus: int, price: float | None) -> dict[str, Any]:
    """Collect the numbers of the last line."""
    total, gpu_hours = planned.memory.total(planned.part), planned.hours * gpus
    return {
        "classes": planned.classes,
        "parameters": planned.parameters,
        "memory_gb": round(total / GIGA, 2),
        "memory_limit_gb": round(planned.limit / GIGA, 2),
        "memory": {name: round(size / GIGA, 3) for name, size in planned.memory.parts(planned.part).items()},
        "fits": planned.fits,
        "part": planned.part,
        "most_images": planned.memory.most_images(int(planned.limit)),
        "accumulate": planned.accumulate,
        "gflop_per_image": {
            f"{size}px {share:g}": round(work / GIGA, 2) for (size, share), work in planned.flops_per_image.items()
        },
        "tflop_per_step": round(planned.flops / planned.steps / TERA, 2),
        "flop": planned.flops,
        "images": planned.images,
        "images_per_second": round(planned.rate, 1),
        "hours": round(planned.hours, 2),
        "gpu_hours": round(gpu_hours, 1),
        "price": round(gpu_hours * price, 2) if price is not None else None,
    }


def _verdict(planned: Costs, config: PlanConfig) -> str:
    needed = f"{planned.memory.total(planned.part) / GIGA:.2f} GB of {planned.limit / GIGA:.0f} on each {config.gpu}"
    if planned.fits:
        return f"fits: {needed}"
    if planned.accumulate is not None:
        return f"does not fit: {needed}; fits with --accumulate {planned.accumulate}"
    other = "" if config.pretrain.run.parallel == "fsdp" else " --parallel fsdp,"
    return (
        f"does not fit: {needed}, nor in any number of parts; try{other} --activation-checkpointing, more --gpus or a "
        "larger --gpu"
    )
