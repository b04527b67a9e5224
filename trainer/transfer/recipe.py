"""Options of a fine-tuning run: checked, completed where they depend on the task, and those of its optimiser."""

from __future__ import annotations

import math
from dataclasses import replace

from trainer.config import OptimConfig
from trainer.options import Descent, values_of
from trainer.transfer.config import FinetuneConfig

# CatLIP's recipes, as CoreNet has them: for ImageNet-1k and Places365, and for COCO with its several classes an image.
PEAK_LR, PEAK_LR_SEVERAL = 3e-5, 1e-5
PEAK_OVER_FINAL = 10.0
"""learning rate at the peak over that of the last step"""
LABEL_SMOOTHING = 0.1
EMA_MOMENTUM = 0.0005
EMA_MEMORIES = 10.0
"""least length of a run in memories of its moving average (1 / momentum steps): e^-10 of the first weights is left"""


def check(config: FinetuneConfig, *, world: int) -> None:
    """Raise InputError for a batch that `world` processes cannot share out."""
    pairs = 2 if config.mixup > 0 or config.cutmix > 0 else 1
    parts = world * config.accumulate * pairs
    config.require(
        "batch",
        config.batch % parts == 0,
        f"{config.batch}",
        f"a multiple of {world} processes x {config.accumulate} parts{' x 2 images that are mixed' * (pairs > 1)}",
        remedy=f"Choose {max(1, round(config.batch / parts)) * parts}, or another --accumulate.",
    )


def complete(config: FinetuneConfig, *, multi_label: bool, image_size: int, steps: int) -> FinetuneConfig:
    """Fill in the options that depend on the task. Raises InputError for a warm-up that never ends.

    `image_size`: that of the pre-training. `steps`: those of the run.
    """
    config.require(
        "warmup_steps",
        config.warmup_steps < steps,
        f"{config.warmup_steps} of {steps} steps",
        "fewer than all steps",
        remedy="Lower --warmup-steps, or --batch.",
    )
    peak = config.peak_lr if config.peak_lr is not None else PEAK_LR_SEVERAL if multi_label else PEAK_LR
    smoothing = 0.0 if multi_label else LABEL_SMOOTHING
    momentum = min(1.0, max(EMA_MOMENTUM, EMA_MEMORIES / steps))
    return replace(
        config,
        image_size=config.image_size or image_size,
        peak_lr=peak,
        final_lr=config.final_lr if config.final_lr is not None else peak / PEAK_OVER_FINAL,
        label_smoothing=config.label_smoothing if config.label_smoothing is not None else smoothing,
        ema_momentum=config.ema_momentum if config.ema_momentum is not None else momentum,
    )


def optim_of(config: FinetuneConfig, *, steps: int) -> OptimConfig:
    """Make the options of optimiser and learning rate from a complete configuration."""
    assert config.peak_lr is not None
    assert config.final_lr is not None
    assert config.ema_momentum is not None
    return OptimConfig(
        **values_of(config, Descent),
        steps=steps,
        start_lr=0.0,
        peak_lr=config.peak_lr,
        final_lr=config.final_lr,
        ema_momentum=config.ema_momentum,
        # Losses of few images jump, so that a high one is no sign: only NaN and infinite losses are bad.
        spike_factor=math.inf,
    )
