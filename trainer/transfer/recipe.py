"""A fine-tuning run's options: checked, completed where they depend on the task, and as the training core takes them.

In: a `FinetuneConfig`. Out: an InputError that names an option, the options that were unset, a `PretrainConfig`, whose
optimiser, model and run are what `trainer/step/` goes by.
"""

from __future__ import annotations

import math
from dataclasses import replace

from trainer.config import LossConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.options import Descent, Keeping, Seed, TrainCompute, values_of
from trainer.transfer.config import FinetuneConfig

# CatLIP's recipes, as CoreNet has them: for ImageNet-1k and Places365, and for COCO with its several classes an image.
PEAK_LR, PEAK_LR_SEVERAL = 3e-5, 1e-5
FALL = 10.0
"""the peak's learning rate over the last step's"""
LABEL_SMOOTHING = 0.1
EMA_MOMENTUM = 0.0005
MEMORIES = 10.0
"""the moving average's memories that a run is to be long, so that e^-10 of its first weights is left"""


def check(config: FinetuneConfig, *, world: int) -> None:
    """Raise InputError for the first option that cannot work on so many processes, whatever the task."""
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
    """The options with those filled in that depend on the task. Raises InputError for a warm-up that never ends.

    `image_size`: of the pre-training. `steps`: of the run.
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
    momentum = min(1.0, max(EMA_MOMENTUM, MEMORIES / steps))
    return replace(
        config,
        image_size=config.image_size or image_size,
        peak_lr=peak,
        final_lr=config.final_lr if config.final_lr is not None else peak / FALL,
        label_smoothing=config.label_smoothing if config.label_smoothing is not None else smoothing,
        ema_momentum=config.ema_momentum if config.ema_momentum is not None else momentum,
    )


def core(config: FinetuneConfig, *, steps: int) -> PretrainConfig:
    """A complete configuration as steps, optimiser and learning rate take it."""
    assert config.peak_lr is not None
    assert config.final_lr is not None
    assert config.ema_momentum is not None
    assert config.label_smoothing is not None
    return PretrainConfig(
        model=ModelConfig(drop_path=config.drop_path),
        loss=LossConfig(label_smoothing=config.label_smoothing),
        optim=OptimConfig(
            **values_of(config, Descent),
            steps=steps,
            start_lr=0.0,
            peak_lr=config.peak_lr,
            final_lr=config.final_lr,
            ema_momentum=config.ema_momentum,
            # A few thousand steps from good weights: what goes wrong is a setting, and no batch to be left out. Losses
            # of few images jump, so that only one that is no number ends a run.
            on_spike="stop",
            spike_factor=math.inf,
        ),
        run=RunConfig(out=config.out, **values_of(config, TrainCompute, Seed, Keeping)),
    )
