"""Choice of a probe's learning rate and weight decay, by stratified cross-validation on the training images.

The test images have no part in the choice. Folds are held out in turn until they have HELD_OUT_ENOUGH images together:
on few images the most accurate setting is the luckiest. Each fold has the same share of every class (Kohavi 1995) and
at least one image of most classes; otherwise a classifier has seen fewer images of just the classes that it is tested
on, and settings that learn nothing look best. Among settings within one standard error of the most accurate one (the
rule of Breiman et al. 1984) the lowest loss wins, since a loss says more of each image. Where there are too few images
to hold any out, such as one of each class, the grid's middle setting is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from trainer.data.labelled_images import LabelledImages
from trainer.probe.grid import GridSchedule, Setting, train_grid
from trainer.probe.linear import Head, loss_of
from trainer.probe.measures import measure
from vocab.pages.text import counted

# Half a decade apart, around the best rates: few images mean few steps, which have to be large.
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
DECAYS = (0.0, 0.1)
# CatLIP's linear probe of ImageNet-1k.
PAPER_RATE, PAPER_DECAY = 3e-5, 0.0
MOST_FOLDS = 10
HELD_OUT_ENOUGH = 1000
"""held-out images at which no further fold is tried: the standard error is then about 1 %"""
FEWEST_TO_HOLD_OUT = 20
"""training images below which none are held out"""
STANDARD_ERRORS = 1.0
"""a difference of at most so many standard errors may be luck"""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Choice:
    """A setting, and why it was chosen."""

    setting: Setting
    why: str
    sure: bool = True
    """False if too few images allowed a choice by accuracy; `why` then belongs in the report"""


def grid_of(preset: Literal["grid", "paper"], rates: Sequence[float], decays: Sequence[float]) -> tuple[Setting, ...]:
    """List the settings to choose among, by learning rate; numbers that are given replace the preset's."""
    usual_rates, usual_decays = (RATES, DECAYS) if preset == "grid" else ((PAPER_RATE,), (PAPER_DECAY,))
    return tuple(
        Setting(rate, decay) for rate in sorted(rates or usual_rates) for decay in sorted(decays or usual_decays)
    )


def train_best(
    values: Float32[Tensor, "images width"],
    images: LabelledImages,
    *,
    grid: Sequence[Setting],
    schedule: GridSchedule,
    start: Head,
    seed: int,
) -> tuple[Choice, Head]:
    """Choose a setting (`choose`), and train a classifier with it on all images. Raises as `train_grid`."""
    choice = choose(values, images, grid=grid, schedule=schedule, start=start, seed=seed)
    (head,) = train_grid(values, images, grid=[choice.setting], schedule=schedule, start=start, seed=seed)
    return choice, head


def choose(
    values: Float32[Tensor, "images width"],
    images: LabelledImages,
    *,
    grid: Sequence[Setting],
    schedule: GridSchedule,
    start: Head,
    seed: int,
) -> Choice:
    """Choose the setting of the grid that is best on held-out images (`best_of`). Raises as `train_grid`."""
    if len(grid) == 1:
        return Choice(grid[0], "the only one")
    folds = folds_of(images, seed=seed)
    used = count = 0
    parts: list[list[Float64[np.ndarray, " parts"]]] = [[] for _ in grid]
    losses = [0.0] * len(grid)
    while count < HELD_OUT_ENOUGH and (folds == used).any():
        kept, seen = np.flatnonzero(folds != used), np.flatnonzero(folds == used)
        learnt, shown = (values[torch.from_numpy(some).to(values.device)] for some in (kept, seen))
        own = images.select(seen)
        heads = train_grid(learnt, images.select(kept), grid=grid, schedule=schedule, start=start, seed=seed)
        for number, head in enumerate(heads):
            parts[number].append(measure(head.logits_in_parts(shown), own).parts)
            losses[number] += loss_of(head, shown, own) * len(seen)
        used, count = used + 1, count + len(seen)
    if not count:
        why = f"the middle one of {len(grid)}, for {len(images):,} images are too few to hold out some"
        return Choice(middle(grid), why, sure=False)
    best = best_of([np.concatenate(each) for each in parts], losses)
    turns = counted(used, "fold")
    return Choice(grid[best], f"the best of {len(grid)} on {count:,} images that were held out, in {turns}")


def best_of(parts: Sequence[Float64[np.ndarray, " parts"]], losses: Sequence[float]) -> int:
    """Find the setting of the lowest loss among those that fall short of the highest metric by at most
    STANDARD_ERRORS standard errors of the mean difference; of equal ones the first.

    `parts`: what each setting's metric is the mean of (`Measured.parts`): images, or classes where average precisions
    are measured. Settings are compared on the same ones, so that those on which all agree say nothing.
    """
    first = max(range(len(losses)), key=lambda number: (parts[number].sum(), -losses[number]))
    alike = []
    for number, own in enumerate(parts):
        behind = parts[first] - own
        # One image more is one standard error, but for rounding.
        if len(behind) < 2 or behind.mean() <= STANDARD_ERRORS * behind.std(ddof=1) / math.sqrt(len(behind)) + ROUNDING:
            alike.append(number)
    return min(alike, key=losses.__getitem__)


def middle(grid: Sequence[Setting]) -> Setting:
    """Find the middle learning rate, of two the lower one, with the lowest weight decay: where a probe starts from rows
    that know the classes, too large a rate costs more than too small a rate.
    """
    rates = sorted({setting.learning_rate for setting in grid})
    chosen = rates[(len(rates) - 1) // 2]
    return min(
        (setting for setting in grid if setting.learning_rate == chosen), key=lambda setting: setting.weight_decay
    )


def folds_of(images: LabelledImages, *, seed: int) -> Int64[np.ndarray, " images"]:
    """Number the fold in which each image is held out, from 0 on; -1 for never.

    As many folds as classes have images in the mean, at most MOST_FOLDS, so that a fold has an image of each class or
    more: of n images of a class it has n / folds, to the next lower or upper number, by chance. A class's only image is
    never held out. Images that show any number of classes are dealt to MOST_FOLDS folds all together.

    Nothing is held out of fewer than FEWEST_TO_HOLD_OUT images, or of less than two images a class.
    """
    strata = np.zeros(len(images), np.int64) if images.multi_label else images.one_class
    counts = np.bincount(strata)
    folds = min(MOST_FOLDS, len(images) // max(1, int((counts > 0).sum())))
    if len(images) < FEWEST_TO_HOLD_OUT or folds < 2:
        return np.full(len(images), -1)
    generator = np.random.default_rng(seed)
    luck = generator.random(len(images))
    order = np.lexsort((luck, strata))
    rank = np.empty(len(images), np.int64)
    rank[order] = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Image r of n, in random order, stands at (r + u) / n; u is the class's own. A fold is an equal part of 0 to 1, in
    # which there are as many images as n / folds, rounded up or down.
    shift = generator.random(len(counts))
    fold = (rank + shift[strata]) / counts[strata] * folds
    return np.where(counts[strata] > 1, np.floor(fold).astype(np.int64), -1)
