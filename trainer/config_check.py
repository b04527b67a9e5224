"""Options that cannot work, found before any data is read.

In: a `PretrainConfig` and the number of processes. Out: nothing, or an InputError that names the option.
"""

from __future__ import annotations

from trainer.config import PretrainConfig
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
    positive = {
        "image-size": data.image_size,
        "shuffle-shards": data.shuffle_shards,
        "tar-teams": data.tar_teams,
        "prefetch": data.prefetch,
        "cache-gb": data.cache_gb,
        "unlabelled-weight": data.unlabelled_weight,
        "max-pixels": data.max_pixels,
        "max-member-bytes": data.max_member_bytes,
        "steps": optim.steps,
        "threads": run.threads if run.threads is not None else 1,
        "peak-lr": optim.peak_lr,
        "clip-norm": optim.clip_norm,
        "log-every": run.log_every,
        "checkpoint-every": run.checkpoint_every,
        "keep-checkpoints": run.keep_checkpoints,
        "eval-limit": run.eval_limit,
        "min-crop-area": data.min_crop_area,
        "eval-crop": data.eval_crop,
        "ema-momentum": optim.ema_momentum,
    }
    for name, number in positive.items():
        _require(number > 0, name, f"{number}", "more than 0", f"Choose a larger --{name}.")
    shares = ("min-crop-area", "eval-crop", "ema-momentum", "unlabelled-weight")
    for name in shares:
        _require(positive[name] <= 1, name, f"{positive[name]}", "at most 1", f"Choose a smaller --{name}.")
    for name, number in {
        "workers": data.workers,
        "eval-workers": run.eval_workers,
        "warmup-steps": optim.warmup_steps,
        "eval-every": run.eval_every,
        "holdout-shards": data.holdout_shards,
        "gallery": run.gallery,
        "seed": run.seed,
    }.items():
        _require(number >= 0, name, f"{number}", "0 or more", f"Choose a larger --{name}.")
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


def _require(holds: bool, option: str, found: str, wanted: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"--{option}", found=found, wanted=wanted, remedy=remedy)
