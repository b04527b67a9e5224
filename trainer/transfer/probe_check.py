"""Options of `python -m trainer probe` that cannot work, whatever the task.

In: a `ProbeConfig`. Out: an InputError that names the first one, before any data is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trainer.transfer.config import ProbeConfig
from vocab.errors import InputError


def check(config: ProbeConfig) -> None:
    """Raise InputError for the first option that cannot work."""
    _check_several("percent", config.percent, lambda share: 0 < share <= 100, "shares above 0, at most 100")
    _check_several("seeds", config.seeds, lambda seed: 0 <= seed < 1 << 63, "seeds from 0 to below 2^63")
    above = "finite numbers above 0"
    _check_several("learning-rates", config.learning_rates or (1.0,), lambda rate: 0 < rate < math.inf, above)
    decays = "finite numbers, 0 or more"
    _check_several("weight-decays", config.weight_decays or (0.0,), lambda decay: 0 <= decay < math.inf, decays)
    for option, works, value, wanted in (
        ("alpha", 0 < config.alpha <= 1, config.alpha, "a path similarity above 0, at most 1"),
        ("epochs", config.epochs > 0, config.epochs, "1 or more"),
        ("train-batch", config.train_batch > 0, config.train_batch, "1 or more"),
        ("batch", config.batch > 0, config.batch, "1 or more"),
        ("workers", config.workers >= 0, config.workers, "0 or more"),
        ("final-share", 0 <= config.final_share <= 1, config.final_share, "a share, 0 to 1"),
        ("label-smoothing", 0 <= config.label_smoothing < 1, config.label_smoothing, "0 or more, less than 1"),
        ("neighbours", config.neighbours >= 0, config.neighbours, "0 or more"),
        ("temperature", 0 < config.temperature < math.inf, config.temperature, "a finite number above 0"),
        ("crop", config.crop is None or 0 < config.crop <= 1, config.crop, "a share above 0, at most 1"),
        ("image-size", config.image_size is None or config.image_size > 0, config.image_size, "1 pixel or more"),
    ):
        _require(works, option, f"{value}", wanted)


def _check_several(
    option: str, values: tuple[float, ...] | tuple[int, ...], works: Callable[[float], bool], wanted: str
) -> None:
    """At least one value, no two alike, and each one works."""
    shown = " ".join(f"{value:g}" for value in values) or "none"
    _require(all(map(works, values)) and len(values) > 0, option, shown, wanted)
    _require(len(set(values)) == len(values), option, shown, "each number once")


def _require(works: bool, option: str, found: str, wanted: str) -> None:
    if not works:
        remedy = "python -m trainer probe --help says what it means."
        raise InputError(f"--{option}", found=found, wanted=wanted, remedy=remedy)
