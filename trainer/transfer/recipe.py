"""Options of a fine-tuning run: checked, completed where they depend on the task, and those of its optimiser."""

from __future__ import annotations

import math
from dataclasses import replace

from trainer.config import LossConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.config_check import check_training
from trainer.transfer.config import FinetuneConfig
from vocab.errors import InputError

# CatLIP's recipes, as CoreNet has them: for ImageNet-1k and Places365, and for COCO with its several classes an image.
PEAK_LR, PEAK_LR_SEVERAL = 3e-5, 1e-5
PEAK_OVER_FINAL = 10.0
"""learning rate at the peak over that of the last step"""
LABEL_SMOOTHING = 0.1
EMA_MOMENTUM = 0.0005
EMA_MEMORIES = 10.0
"""least length of a run in memories of its moving average (1 / momentum steps): e^-10 of the first weights is left"""


def check(config: FinetuneConfig, *, world: int) -> None:
    """Raise InputError for the first option that cannot work on so many processes, whatever the task."""
    pairs = 2 if config.mixup > 0 or config.cutmix > 0 else 1
    parts = max(1, world * config.accumulate * pairs)
    _require(
        config.accumulate > 0 and config.batch > 0 and config.batch % parts == 0,
        "batch",
        f"{config.batch}",
        f"a multiple of {world} processes x {config.accumulate} parts{' x 2 images that are mixed' * (pairs > 1)}",
        f"Choose {max(1, round(config.batch / parts)) * parts}, or another --accumulate.",
    )
    for name, value in {
        "epochs": config.epochs,
        "percent": config.percent,
        "prefetch": config.prefetch,
        "min-crop-area": config.min_crop_area,
        "image-size": config.image_size if config.image_size is not None else 1,
        "peak-lr": config.peak_lr if config.peak_lr is not None else 1.0,
    }.items():
        _require(value > 0, name, f"{value}", "more than 0", f"Choose a larger --{name}.")
    for name, value in {
        "workers": config.workers,
        "eval-every": config.eval_every,
        "alpha": config.alpha,
        "mixup": config.mixup,
        "cutmix": config.cutmix,
        "warmup-steps": config.warmup_steps,
    }.items():
        _require(value >= 0, name, f"{value}", "0 or more", f"Choose a larger --{name}.")
    for name, value, most in (
        ("percent", config.percent, 100.0),
        ("min-crop-area", config.min_crop_area, 1.0),
        ("alpha", config.alpha, 1.0),
    ):
        _require(value <= most, name, f"{value}", f"at most {most:g}", f"Choose a smaller --{name}.")
    # Options that pre-training has too. The length of the run is not known yet: `complete` looks at the warm-up.
    steps = config.warmup_steps + 1
    done = complete(config, multi_label=False, image_size=16, steps=steps)
    assert done.label_smoothing is not None
    check_training(
        PretrainConfig(
            model=ModelConfig(drop_path=done.drop_path),
            loss=LossConfig(label_smoothing=done.label_smoothing),
            optim=optim_of(done, steps=steps),
            run=RunConfig(
                seed=done.seed,
                threads=done.threads,
                log_every=done.log_every,
                checkpoint_every=done.checkpoint_every,
                keep_checkpoints=done.keep_checkpoints,
            ),
        )
    )


def complete(config: FinetuneConfig, *, multi_label: bool, image_size: int, steps: int) -> FinetuneConfig:
    """Fill in the options that depend on the task. Raises InputError for a warm-up that never ends.

    `image_size`: that of the pre-training. `steps`: those of the run.
    """
    _require(
        config.warmup_steps < steps,
        "warmup-steps",
        f"{config.warmup_steps} of {steps} steps",
        "fewer than all steps",
        "Lower --warmup-steps, or --batch.",
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
    """Make the options of the optimiser and the learning rate from a complete configuration."""
    assert config.peak_lr is not None
    assert config.final_lr is not None
    assert config.ema_momentum is not None
    return OptimConfig(
        steps=steps,
        optimiser=config.optimiser,
        warmup_steps=config.warmup_steps,
        start_lr=0.0,
        peak_lr=config.peak_lr,
        final_lr=config.final_lr,
        beta2=config.beta2,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
        clip_norm=config.clip_norm,
        accumulate=config.accumulate,
        ema_momentum=config.ema_momentum,
        on_spike=config.on_spike,
        # Losses of few images jump, so that a high one is no sign: NaN and infinity alone are bad.
        spike_factor=math.inf,
    )


def _require(holds: bool, option: str, found: str, wanted: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"--{option}", found=found, wanted=wanted, remedy=remedy)
