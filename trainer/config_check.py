"""Options that cannot work, found before any data is read.

In: a `PretrainConfig` and the number of processes, or a `DataConfig`. Out: nothing, or an InputError that names the
option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainer.config import DataConfig, PretrainConfig
from vocab.errors import InputError


def check(config: PretrainConfig, *, world: int) -> None:
    """Raise InputError for the first option that cannot work, `world` being the number of processes."""
    data, model, optim, run = config.data, config.model, config.optim, config.run
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
    }
    not_negative = {
        "eval-workers": run.eval_workers,
        "warmup-steps": optim.warmup_steps,
        "eval-every": run.eval_every,
        "gallery": run.gallery,
        "seed": run.seed,
    }
    _check_numbers(positive, not_negative, at_most_1=("ema-momentum",))
    _require(
        optim.warmup_steps < optim.steps,
        "warmup-steps",
        f"{optim.warmup_steps} of {optim.steps} steps",
        "fewer than all steps",
        "Lower --warmup-steps or raise --steps.",
    )
    _require(
        bool(data.eval_images) or data.holdout_shards > 0,
        "holdout-shards",
        "0, and no --eval-images",
        "something to evaluate on",
        "Give one of the two.",
    )
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


def _require(holds: bool, option: str, found: str, wanted: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"--{option}", found=found, wanted=wanted, remedy=remedy)
