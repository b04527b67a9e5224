"""Optimisation: AdamW with its groups, the learning rate of a step, the moving average of the weights.

In: a model and an `OptimConfig`. Out: an optimiser, `learning_rate(step)`, an averaged model.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.config import OptimConfig

# Tokens and positions are no weights of a layer: pulling them to zero regularises nothing.
NOT_DECAYED = ("pos_embed", "cls_token", "reg_token", "dist_token")


def optimiser_of(model: nn.Module, config: OptimConfig, *, augment: nn.Module | None = None) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, none on norms, biases, position and class tokens.

    `augment`: learnt augmentation that trains with the model; its parameters have one dimension.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    augmentation = augment.named_parameters() if augment is not None else ()
    for name, parameter in itertools.chain(model.named_parameters(), augmentation):
        if parameter.requires_grad:
            alone = parameter.ndim <= 1 or name.rpartition(".")[2] in NOT_DECAYED
            (free if alone else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.start_lr, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, config: OptimConfig) -> float:
    """The rate of step `step`, counted from 1: linear from start to peak, then a cosine to the final rate."""
    if step <= config.warmup_steps:
        return config.start_lr + (config.peak_lr - config.start_lr) * step / config.warmup_steps
    share = min(1.0, (step - config.warmup_steps) / (config.steps - config.warmup_steps))
    return config.final_lr + (config.peak_lr - config.final_lr) * (1 + math.cos(math.pi * share)) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` in every group from the next step on."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def average_of(model: nn.Module, config: OptimConfig) -> AveragedModel:
    """Exponential moving average of the weights; the first update copies them.

    CoreNet's `momentum` m is the share of the new weights: average = (1 - m) * average + m * weights.
    """
    averaging = get_ema_multi_avg_fn(1 - config.ema_momentum)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=averaging)
