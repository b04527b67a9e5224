"""Costs of a run of a dense task, told in place of its first step (`--plan`): memory of a process, work, hours.

In: options, inputs and objective of the run. Out: a few lines to read, and a last line that is one JSON object. Hours
are those of a GPU at COST_RATE, as in the line that a run tells before its first step. Memory is that of a GPU, in
bfloat16 unless --precision says otherwise; activations are measured on tensors without contents
(`trainer/speed/memory.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from trainer.dense.maps import FeatureMaps
from trainer.distributed import Rank
from trainer.model.objective import StepObjective
from trainer.model.per_image import seeds_of
from trainer.speed.flops import COST_RATE
from trainer.speed.memory import BATCHES_ON_DEVICE, BYTE, FLOAT32, GIGA, RESERVED_BYTES, Memory, activations
from trainer.speed.peak import TERA
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.detect_config import DetectConfig
from trainer.transfer.task_results import TaskInputs
from trainer.transfer.task_training import TaskOutcome, images_at_once
from vocab.pages.text import counted, tell

MOMENTS = 2
"""numbers that AdamW keeps for each parameter that learns"""


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """A training step of a dense task, for its costs."""

    objective: StepObjective
    backbone: FeatureMaps
    layers: nn.Module
    """module that computes a loss of images and seeds, for which autograd keeps as much as for a step"""
    operations: int
    """of one training image"""
    logits: int = 0
    """bytes that the logits of pixels take at a time"""
    frozen: bool = False
    """the backbone learns nothing"""
    left_out: str = ""
    """parts of a step whose memory is not counted; empty: none"""


def tell_plan(
    config: SegmentConfig | DetectConfig, inputs: TaskInputs, step: PlannedStep, rank: Rank, *, title: str
) -> TaskOutcome:
    """Tell the costs on the main rank; nothing was run."""
    if rank.is_main:
        tell("\n".join(plan_lines(config, inputs, step, rank, title=title)) + "\n", to=sys.stdout)
    return TaskOutcome(0, None, "")


def plan_lines(
    config: SegmentConfig | DetectConfig, inputs: TaskInputs, step: PlannedStep, rank: Rank, *, title: str
) -> list[str]:
    """Compute the costs of a run and put them in lines; the last one is JSON. `config`: complete."""
    plan, part = inputs.plan, images_at_once(config, rank)
    needed = step_memory(config, step)
    every = sum(each.numel() for each in step.objective.parameters())
    trained = sum(each.numel() for each in learning(step.objective))
    total = step.operations * plan.steps * plan.batch
    hours = total / COST_RATE / 3600
    lines = [
        f"{title}: {counted(len(inputs.task.class_names), 'class', 'classes')}, "
        f"{counted(plan.images, 'training image')}, {counted(plan.steps, 'step')} of {counted(plan.batch, 'image')}",
        f"{trained / 1e6:,.2f} M parameters trained, {(every - trained) / 1e6:,.2f} M frozen",
        *inputs.task.notes,
        "",
        f"memory of each process, {counted(part, 'image')} of {config.image_size} px at a time, on a GPU:",
        *needed.table(part),
        *([f"  not counted: {step.left_out}"] if step.left_out else []),
        "",
        f"an image: {step.operations / TERA:.3g} TFLOP",
        f"the run without its evaluations: {total:.3g} FLOP, {hours:,.2f} GPU-hours at {COST_RATE / TERA:g} TFLOP/s",
    ]
    numbers: dict[str, Any] = {
        "classes": len(inputs.task.class_names),
        "train_images": plan.images,
        "steps": plan.steps,
        "batch": plan.batch,
        "part": part,
        "parameters_trained": trained,
        "parameters_frozen": every - trained,
        "memory_bytes": needed.parts(part),
        "memory_gb": round(needed.total(part) / GIGA, 2),
        "memory_not_counted": step.left_out,
        "flop_per_image": step.operations,
        "flop": total,
        "gpu_hours": round(hours, 4),
    }
    return [*lines, json.dumps(numbers)]


def step_memory(config: SegmentConfig | DetectConfig, step: PlannedStep) -> Memory:
    """Compute the memory of a process in a step. Raises as `activations`."""
    objective, model, size = step.objective, step.backbone.model, config.image_size
    learnt = nbytes(learning(objective))
    how: dict[str, Any] = {"size": size, "bfloat16": config.precision != "float32"}
    saved = activations(model, checkpointing=config.activation_checkpointing, step=step.layers, **how)
    # Autograd keeps nothing of a frozen backbone, whose blocks pass one after another all the same.
    block = activations(model, step=_Maps(step.backbone), **how).block if step.frozen else saved.block
    pixels = 3 * size * size
    return Memory(
        {
            "weights": nbytes(objective.state_dict().values()),
            "gradients": learnt,
            "optimiser": MOMENTS * learnt,
            "average": nbytes(objective.model.state_dict().values()),
            "weights in bfloat16": saved.shared,
            "logits": step.logits,
            "reserved": RESERVED_BYTES,
        },
        {
            "activations": saved.image,
            f"a block's {'forward' if step.frozen else 'backward'} pass": block
            * (2 if config.activation_checkpointing else 1),
            "images": (BATCHES_ON_DEVICE * BYTE + FLOAT32) * pixels,
        },
    )


class _Maps(nn.Module):
    """A backbone's maps, as if it learnt."""

    def __init__(self, backbone: FeatureMaps) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Float[Tensor, "batch 3 size size"], seeds: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        seeds_of(self.backbone.model).set(seeds)
        return torch.stack([each.sum() for each in self.backbone(pixels)]).sum()


def learning(module: nn.Module) -> list[nn.Parameter]:
    """List the parameters that take a gradient."""
    return [each for each in module.parameters() if each.requires_grad]


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Sum up the bytes of tensors."""
    return sum(each.nbytes for each in tensors)
