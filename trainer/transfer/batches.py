"""Training batches of a task's images: a function of the seed and the number of the batch, whoever makes them.

    positions    0, 1, 2, ... through all epochs; batch b has those from (b - 1) * batch on
    epoch        position // images; each has an order of its own, and a batch may hold the end of one and the start
                 of the next
    rank r       the r-th of equal pieces of a batch, so that neighbours stay together (`mixing.py`)

Nothing is kept between steps: a run goes on from the number of batches taken, on any number of processes.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float64, Int64

from trainer.data.batch import Batch, Position, Skipped
from trainer.data.crops import BOX_DRAWS, random_box
from trainer.data.decoding import Decoded, Decoding, decoded
from trainer.data.draws import draws
from trainer.data.images import Choose
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.model.range_augment import DRAWS

# A stream of random numbers that must not be that of the crops, as in trainer/data/order.py.
IMAGE_ORDER = (1 << 63) - 4
# What each image draws: a box, whether it is mirrored, and the seed of whatever else is random.
FLIP, SEED = BOX_DRAWS, BOX_DRAWS + 1
IMAGE_DRAWS = BOX_DRAWS + 2
SEEDS = 1 << 53


@dataclass(frozen=True)
class EpochPlan:
    """Plan of a run of several epochs: the images of each step, and their crops."""

    images: int
    """training images"""
    batch: int
    """images of a step, over all ranks"""
    epochs: int
    seed: int
    image_size: int
    min_crop_area: float = 1.0
    flip: bool = False

    @property
    def steps(self) -> int:
        """Steps of the run; the last one ends the last epoch, with a few images of one more where it has room."""
        return -(-self.epochs * self.images // self.batch)

    def epochs_seen(self, step: int) -> float:
        """Return how often each image has been seen after a step, in the mean.

        With few images and a large batch, the last step sees them several times more than `epochs` says.
        """
        return round(step * self.batch / self.images, 3)

    def epochs_after(self, step: int) -> int:
        """Count the epochs that are over after a step."""
        return min(step * self.batch // self.images, self.epochs)

    def evaluation_due(self, step: int, *, every: int) -> bool:
        """Tell whether a step ended an epoch that an evaluation follows: one in `every`, or none with 0."""
        if every == 0 or step == 0:
            return False
        return self.epochs_after(step) // every > self.epochs_after(step - 1) // every

    def at(self, step: int, rank: Rank) -> tuple[Int64[np.ndarray, " own"], Int64[np.ndarray, " own"]]:
        """Choose the images of a rank in batch `step`, counted from 1, and the epoch of each."""
        own = self.batch // rank.world
        first = (step - 1) * self.batch + rank.index * own
        epochs, positions = np.divmod(np.arange(first, first + own, dtype=np.int64), self.images)
        chosen = np.empty(own, np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            chosen[here] = image_order(self.images, seed=self.seed, epoch=epoch)[positions[here]]
        return chosen, epochs


# An order of 1.3 million images is 10 MB, and a batch needs two at most.
@lru_cache(maxsize=2)
def image_order(images: int, *, seed: int, epoch: int) -> Int64[np.ndarray, " images"]:
    """Draw the order of an epoch from a random number for each image: a library's permutation may change."""
    numbers = np.arange(images)
    keys = draws(seed=seed ^ IMAGE_ORDER, epoch=epoch, shards=np.zeros(images, np.uint64), indices=numbers, count=1)
    order: Int64[np.ndarray, " images"] = np.argsort(keys[:, 0], kind="stable")
    return order


def batches(
    images: LabelledImages, plan: EpochPlan, rank: Rank, *, after: int, decoding: Decoding, pin: bool
) -> Generator[Batch, None, None]:
    """Yield this rank's share of every batch after the first `after`, without end. Close it to end its threads.

    `tars` of a batch are zeros and `indices` the images' numbers. A batch's pixels stay as they are until the next one
    is asked for. An image that cannot be decoded is black and weighs nothing; those of the first epoch are named in
    `skipped`. `pin`: in page-locked memory. Raises InputError for a store that was changed.
    """
    drawn = (_Drawn.at(number, images, plan, rank) for number in itertools.count(after + 1))
    # Drawn ahead, as far as images are decoded ahead.
    to_decode, to_batch = itertools.tee(drawn)
    wanted = ((images.rows[one.images], one.choosers(plan)) for one in to_decode)
    crops = decoded(images.store, wanted, size=plan.image_size, how=decoding, pin=pin)
    began = time.perf_counter()
    for made, one in zip(crops, to_batch, strict=True):
        batch = replace(_batch(made, one, images, plan), waited=time.perf_counter() - began)
        yield batch.pin() if pin else batch
        began = time.perf_counter()


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A rank's share of a batch before it is decoded."""

    step: int
    images: Int64[np.ndarray, " own"]
    epochs: Int64[np.ndarray, " own"]
    draws: Float64[np.ndarray, "own draws"]

    @classmethod
    def at(cls, step: int, images: LabelledImages, plan: EpochPlan, rank: Rank) -> _Drawn:
        chosen, epochs = plan.at(step, rank)
        # By the number in the store: an image is cut alike whatever else was selected.
        rows = images.rows[chosen]
        shards = np.zeros(len(rows), np.uint64)
        return cls(
            step,
            chosen,
            epochs,
            draws(seed=plan.seed, epoch=epochs, shards=shards, indices=rows, count=IMAGE_DRAWS),
        )

    def choosers(self, plan: EpochPlan) -> list[Choose]:
        return [partial(random_box, draws=row, min_area=plan.min_crop_area) for row in self.draws[:, :BOX_DRAWS]]


def _batch(made: Decoded, drawn: _Drawn, images: LabelledImages, plan: EpochPlan) -> Batch:
    reasons = made.reasons
    own = images.select(drawn.images)
    bad = [number for number, reason in enumerate(reasons) if reason is not None]
    weights = torch.ones(len(own))
    weights[bad] = 0
    account = Counter(samples=len(own), bad=len(bad))
    if made.truncated:
        account["truncated"] = made.truncated
    return Batch(
        images=made.pixels,
        offsets=torch.from_numpy(own.offsets),
        classes=torch.from_numpy(own.classes),
        weights=weights,
        flips=torch.from_numpy((drawn.draws[:, FLIP] >= 0.5) & plan.flip),
        draws=torch.zeros(len(own), DRAWS),
        seeds=torch.from_numpy((drawn.draws[:, SEED] * SEEDS).astype(np.int64)),
        tars=torch.zeros(len(own), dtype=torch.int32),
        indices=torch.from_numpy(drawn.images.astype(np.int32)),
        position=Position(drawn.step, drawn.step * plan.batch, {}),
        ends=own.offsets.tolist(),
        account=account,
        skipped=[Skipped("", own.names[number], str(reasons[number])) for number in bad if drawn.epochs[number] == 0],
    )
