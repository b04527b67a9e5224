"""The learning rate of a step: a line up to the peak, then a cosine, or a plateau and a short fall.

In: the number of a step and an `OptimConfig`. Out: the rate; a function of nothing else, so that a resumed run has it.
"""

from __future__ import annotations

import math

from trainer.config import OptimConfig


def learning_rate(step: int, config: OptimConfig) -> float:
    """The rate of step `step`, counted from 1: linear from start to peak, then by `config.schedule` to the final rate.

    Step 0 has the starting rate, steps after the last one have the last one's.

    cosine: half a cosine from the end of warm-up to the last step (Loshchilov and Hutter, arXiv 1608.03983).
    wsd: the peak, then 1 - sqrt(share) of the way in the last `decay_share` of the steps, the shape that Hägele et al.,
    arXiv 2405.18392, prefer to a line; for language models they report that a fall of 10 to 20 % of the steps reaches a
    cosine or does better. Not tried here on images. A fall that would begin within warm-up begins at its end.
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
    """The last step at the peak under wsd: a run to here is what runs of other lengths can branch off from."""
    return config.steps - round(config.decay_share * config.steps)


def _share(step: int, start: int, end: int) -> float:
    """How much of the way from `start` to `end` lies behind, 0 to 1; none of a way that has no length."""
    return max(0.0, (step - start) / (end - start)) if end > start else 0.0
