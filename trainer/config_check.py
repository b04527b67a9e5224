"""Options that cannot work, found before any data is read.

In: a `PretrainConfig` and the number of processes, or a `DataConfig`. Out: nothing, or an InputError that names the
option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainer.config import DataConfig, ModelConfig, PretrainConfig
from trainer.loss.losses import check_loss
from vocab.errors import InputError


def check(config: PretrainConfig, *, world: int) -> None:
    """Raise InputError for the first option that cannot work, `world` being the number of processes."""
    data, optim, run = config.data, config.optim, config.run
    labelled = bool(data.labels) or (bool(data.images) and all("::" in images for images in data.images))
    for name, given in [("images", bool(data.images)), ("labels", labelled), ("vocabulary", bool(data.vocabulary))]:
        _require(given, name, "nothing", "a path", f"Add: --{name} PATH.")
    parts = world * optim.accumulate
    _require(
        optim.accumulate > 0 and data.batch_size > 0 and data.batch_size % parts == 0,
        "batch-size",
        f"{data.batch_size}",
        f"a multiple of {world} processes x {optim.accumulate} parts",
        f"Choose {max(1, round(data.batch_size / max(1, parts))) * max(1, parts)}, or another --accumulate.",
    )
    check_data(data)
    check_training(config)
    _require(
        bool(data.eval_images) or data.holdout_shards > 0,
        "holdout-shards",
        "0, and no --eval-images",
        "something to evaluate on",
        "Give one of the two.",
    )
    _require(
        bool(run.probe_images) == bool(run.probe_eval_images),
        "probe-images",
        "only one of --probe-images and --probe-eval-images",
        "images to train the probe on, and others to measure it on",
        "Give both, or none.",
    )


def check_training(config: PretrainConfig) -> None:
    """Raise InputError for the first option of model, loss, optimiser and run that cannot work."""
    model, optim, run = config.model, config.optim, config.run
    check_loss(config.loss)
    check_model(model)
    positive = {
        "steps": optim.steps,
        "threads": run.threads if run.threads is not None else 1,
        "peak-lr": optim.peak_lr,
        "clip-norm": optim.clip_norm,
        "log-every": run.log_every,
        "checkpoint-every": run.checkpoint_every,
        "keep-checkpoints": run.keep_checkpoints,
        "eval-limit": run.eval_limit,
        "ema-momentum": optim.ema_momentum,
        "layer-decay": optim.layer_decay,
        "decay-share": optim.decay_share,
        "peak-tflops": run.peak_tflops if run.peak_tflops is not None else 1.0,
    }
    not_negative = {
        "eval-workers": run.eval_workers,
        "warmup-steps": optim.warmup_steps,
        "eval-every": run.eval_every,
        "keep-every": run.keep_every,
        "gallery": run.gallery,
        "seed": run.seed,
        "start-lr": optim.start_lr,
        "final-lr": optim.final_lr,
        "weight-decay": optim.weight_decay,
    }
    shares = ("ema-momentum", "layer-decay", "decay-share")
    _check_numbers(positive, not_negative, at_most_1=shares)
    _check_below_1({"beta1": optim.beta1, "beta2": optim.beta2, "muon-momentum": optim.muon_momentum})
    finite = {
        "peak-lr": optim.peak_lr,
        "start-lr": optim.start_lr,
        "final-lr": optim.final_lr,
        "weight-decay": optim.weight_decay,
    }
    for name, number in finite.items():
        _require(math.isfinite(number), name, f"{number}", "a number", f"Change --{name}.")
    _require(
        optim.warmup_steps < optim.steps,
        "warmup-steps",
        f"{optim.warmup_steps} of {optim.steps} steps",
        "fewer than all steps",
        "Lower --warmup-steps or raise --steps.",
    )
    _require(
        optim.spike_factor > 1,
        "spike-factor",
        f"{optim.spike_factor}",
        "more than 1",
        "A loss twice its running mean is a spike with 2; inf looks for losses that are no number only.",
    )
    _require(
        run.keep_every % run.checkpoint_every == 0,
        "keep-every",
        f"{run.keep_every}",
        f"a multiple of --checkpoint-every {run.checkpoint_every}, or 0",
        "Only steps that have a checkpoint can be kept.",
    )
    _require(
        optim.optimiser == "adamw" or (optim.on_spike != "skip" and run.parallel != "fsdp"),
        "optimiser",
        f"muon with --on-spike {optim.on_spike} and --parallel {run.parallel}",
        "stop or rollback, and ddp",
        "torch's Muon has whole matrices alone, and no way to leave a step out.",
    )


def check_model(model: ModelConfig) -> None:
    """Raise InputError for the first number among the options of the model that cannot work."""
    sizes = {
        "patch-size": model.patch_size,
        "embed-dim": model.embed_dim,
        "depth": model.depth,
        "num-heads": model.num_heads,
    }
    chosen = {name: size for name, size in sizes.items() if size is not None}
    share = "full-patches-share"
    _check_numbers(chosen, {share: model.full_patches_share}, at_most_1=(share,))
    _check_below_1({"drop-path": model.drop_path})
    _require(0.25 <= model.patch_keep <= 1, "patch-keep", f"{model.patch_keep}", "0.25 to 1", "Change --patch-keep.")
    if model.embed_dim is not None and model.num_heads is not None:
        _require(
            model.embed_dim % model.num_heads == 0,
            "embed-dim",
            f"{model.embed_dim} for {model.num_heads} heads",
            "a multiple of the heads",
            "Change --embed-dim or --num-heads.",
        )


def check_data(data: DataConfig) -> None:
    """Raise InputError for the first number among the options of the data that cannot work."""
    positive = {
        "batch-size": data.batch_size,
        "image-size": data.image_size,
        "shuffle-shards": data.shuffle_shards,
        "tar-teams": data.tar_teams,
        "prefetch": data.prefetch,
        "cache-gb": data.cache_gb,
        "unlabelled-weight": data.unlabelled_weight,
        "max-pixels": data.max_pixels,
        "max-member-bytes": data.max_member_bytes,
        "min-crop-area": data.min_crop_area,
        "eval-crop": data.eval_crop,
    }
    not_negative = {
        "workers": data.workers,
        "holdout-shards": data.holdout_shards,
        "max-bad-share": data.max_bad_share,
        "max-unmatched-share": data.max_unmatched_share,
    }
    shares = ("min-crop-area", "eval-crop", "unlabelled-weight", "max-bad-share", "max-unmatched-share")
    _check_numbers(positive, not_negative, at_most_1=shares)
    _require(math.isfinite(data.cache_gb), "cache-gb", f"{data.cache_gb}", "a number of GB", "Say how much.")


def _check_numbers(
    positive: Mapping[str, int | float], not_negative: Mapping[str, int | float], *, at_most_1: Sequence[str]
) -> None:
    for name, number in positive.items():
        _require(number > 0, name, f"{number}", "more than 0", f"Choose a larger --{name}.")
    for name, number in not_negative.items():
        _require(number >= 0, name, f"{number}", "0 or more", f"Choose a larger --{name}.")
    for name in at_most_1:
        number = {**positive, **not_negative}[name]
        _require(number <= 1, name, f"{number}", "at most 1", f"Choose a smaller --{name}.")


def _check_below_1(numbers: Mapping[str, float]) -> None:
    for name, number in numbers.items():
        _require(0 <= number < 1, name, f"{number}", "0 or more, and less than 1", f"Change --{name}.")


def _require(holds: bool, option: str, found: str, wanted: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"--{option}", found=found, wanted=wanted, remedy=remedy)
