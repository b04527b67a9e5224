"""The learning rate of a step: linear warm-up to the peak, then a cosine, or a plateau and a short decay.

The rate is a function of the step and the options alone, so a resumed run has the same rate.
"""

from __future__ import annotations

import math

from trainer.config import OptimConfig


def learning_rate(step: int, config: OptimConfig) -> float:
    """The rate of step `step`, counted from 1: linear from start to peak, then by `config.schedule` to the final rate.

    Step 0 has the starting rate; steps after the last one have the final rate.

    cosine: half a cosine from the end of warm-up to the last step (Loshchilov and Hutter, arXiv 1608.03983).
    wsd: the peak, then 1 - sqrt(share) of the way in the last `decay_share` of the steps, the shape that Hägele et al.,
    arXiv 2405.18392, prefer to a line. For language models they report that a decay over 10 to 20 % of the steps
    equals or beats a cosine; not tried here on images. A decay that would begin within warm-up begins at its end.
    """
    step = min(step, config.steps)
    if step <= config.warmup_steps:
        return config.start_lr + (config.peak_lr - config.start_lr) * _share(step, 0, config.warmup_steps)
    match config.schedule:
        case "cosine":
            height = (1 + math.cos(math.pi * _share(step, config.warmup_steps, config.steps))) / 2
        case "wsd":
            start = max(config.warmup_steps, decay_start(config))
            height = 1 - math.sqrt(_share(step, start, config.steps))
    return config.final_lr + (config.peak_lr - config.final_lr) * height


def decay_start(config: OptimConfig) -> int:
    """The last step at the peak under wsd, from which runs of other lengths can branch off."""
    return config.steps - round(config.decay_share * config.steps)


def _share(step: int, start: int, end: int) -> float:
    """Share of the way from `start` to `end` that is done, 0 to 1; 0 if the way has no length."""
    return max(0.0, (step - start) / (end - start)) if end > start else 0.0
