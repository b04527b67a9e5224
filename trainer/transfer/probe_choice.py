"""Which learning rate and weight decay a probe takes: by a tenth of the training images, of a grid.

In: a preset, or the user's numbers; features of the training images. Out: a `Choice`, with which all of them are then
trained on.

The test images have no part in it. Of a few held-out images the most accurate setting is so by luck: among those that
are not worse by more than such luck explains, the loss decides, which says more of each image. Where there are too few
images to hold any out, such as one of each class, the grid's middle setting is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Tensor

from trainer.data.labelled_images import LabelledImages
from trainer.transfer.head import Head
from trainer.transfer.measures import Measured, measure
from trainer.transfer.probe_grid import GridSchedule, Setting, train_grid

# Half a decade apart, around what works: few images take few steps, which have to be large.
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
DECAYS = (0.0, 0.1)
# CatLIP's linear probe of ImageNet-1k.
PAPER_RATE, PAPER_DECAY = 3e-5, 0.0
HELD_OUT = 0.1
FEWEST = 20
"""images from which on a tenth is held out"""
ERRORS = 2.0
"""standard errors of a difference that may be luck"""
# Logits that exist at a time.
CHUNK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Choice:
    """A setting, and how it came about."""

    setting: Setting
    why: str
    sure: bool = True
    """whether it was chosen as was asked for; else `why` is to be told"""


def grid_of(preset: Literal["grid", "paper"], rates: Sequence[float], decays: Sequence[float]) -> tuple[Setting, ...]:
    """The settings to choose among, by learning rate; numbers that are given take the place of the preset's."""
    usual_rates, usual_decays = (RATES, DECAYS) if preset == "grid" else ((PAPER_RATE,), (PAPER_DECAY,))
    return tuple(
        Setting(rate, decay) for rate in sorted(rates or usual_rates) for decay in sorted(decays or usual_decays)
    )


def choose(
    values: Float32[Tensor, "images width"],
    images: LabelledImages,
    *,
    grid: Sequence[Setting],
    schedule: GridSchedule,
    start: Head,
    seed: int,
) -> Choice:
    """The setting of the grid that does best on held-out images (`best_of`). Raises as `train_grid`."""
    if len(grid) == 1:
        return Choice(grid[0], "the only one")
    held_out = split(images, seed=seed)
    count = int(held_out.sum())
    if not count:
        why = f"the middle one of {len(grid)}, for {len(images):,} images are too few to hold out some"
        return Choice(middle(grid), why, sure=False)
    kept, seen = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    heads = train_grid(
        values[torch.from_numpy(kept).to(values.device)],
        images.select(kept),
        grid=grid,
        schedule=schedule,
        start=start,
        seed=seed,
    )
    own, features = images.select(seen), values[torch.from_numpy(seen).to(values.device)]
    best = best_of(
        [measure(scored(head, features), own) for head in heads], [loss_of(head, features, own) for head in heads]
    )
    return Choice(grid[best], f"the best of {len(grid)} on {count:,} images that were held out")


def best_of(measured: Sequence[Measured], losses: Sequence[float]) -> int:
    """The setting of the lowest loss, among those that are not worse than the one of the highest metric by more than
    ERRORS standard errors of the mean difference; of equal ones the first.

    The differences are of images, or of classes where average precisions are measured: settings are compared on the
    same ones, so that those on which all agree say nothing.
    """
    first = max(range(len(losses)), key=lambda number: (measured[number].metric[1], -losses[number]))
    alike = []
    for number, one in enumerate(measured):
        behind = measured[first].parts - one.parts
        if len(behind) == 0 or behind.mean() <= ERRORS * behind.std() / math.sqrt(len(behind)):
            alike.append(number)
    return min(alike, key=losses.__getitem__)


def middle(grid: Sequence[Setting]) -> Setting:
    """The middle learning rate, of two the lower one, with the lowest weight decay: where a probe begins with rows that
    know the classes, too large a rate costs more than one that is too small.
    """
    rates = sorted({setting.learning_rate for setting in grid})
    chosen = rates[(len(rates) - 1) // 2]
    return min(
        (setting for setting in grid if setting.learning_rate == chosen), key=lambda setting: setting.weight_decay
    )


def split(images: LabelledImages, *, seed: int) -> Bool[np.ndarray, " images"]:
    """Which images are held out: of each class a tenth, to the next lower or upper number, by chance; none of a class's
    only image. Where images show any number of classes, a tenth of all.

    None at all of fewer than FEWEST images.
    """
    if len(images) < FEWEST:
        return np.zeros(len(images), np.bool_)
    generator = np.random.default_rng(seed)
    strata = np.zeros(len(images), np.int64) if images.multi_label else images.one_class
    luck = generator.random(len(images))
    order = np.lexsort((luck, strata))
    counts = np.bincount(strata)
    rank = np.empty(len(images), np.int64)
    rank[order] = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Image r of n, in random order, stands at (r + u) / n; u is the class's own. So many are below a tenth as the class
    # has tenths, rounded up or down.
    shift = generator.random(len(counts))
    held_out: Bool[np.ndarray, " images"] = (rank + shift[strata]) / counts[strata] < HELD_OUT
    held_out &= counts[strata] > 1
    return held_out


def scored(head: Head, values: Float32[Tensor, "images width"]) -> Iterator[Float32[Tensor, "some classes"]]:
    """Logits of some images after others."""
    rows = max(1, CHUNK_ELEMENTS // len(head.bias))
    for first in range(0, len(values), rows):
        yield head.logits(values[first : first + rows])


def loss_of(head: Head, values: Float32[Tensor, "images width"], images: LabelledImages) -> float:
    """Mean cross entropy, of one class an image or of each class by itself; infinite if it is no number."""
    total, first = 0.0, 0
    offsets, classes = torch.from_numpy(images.offsets), torch.from_numpy(images.classes)
    for logits in scored(head, values):
        ends = offsets[first : first + len(logits) + 1]
        owners = torch.arange(len(logits)).repeat_interleave(ends.diff()).to(logits.device)
        own = classes[int(ends[0]) : int(ends[-1])].to(logits.device)
        losses = F.softplus(logits).sum() if images.multi_label else logits.logsumexp(1).sum()
        total += float(losses - logits[owners, own].sum())
        first += len(logits)
    return total / len(images) if np.isfinite(total) else np.inf
