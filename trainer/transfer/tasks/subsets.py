"""Shares of a data set, for results against the number of images.

In: images and a percentage. Out: some of the images; of one seed, the smaller share lies inside of the larger one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from trainer.data.draws import draws, shard_hash
from trainer.data.labelled_images import LabelledImages
from vocab.errors import InputError

SHARES = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)
"""percent of the training images that results are given for"""


def subset(images: LabelledImages, *, percent: float, seed: int) -> LabelledImages:
    """`percent` of the images of each class, to the nearest image, and at least one of every class that has any.

    Where images have any number of classes, `percent` of all images, and at least one. They stay in their order. An
    image's luck hangs on the seed and on its row in the store alone: leaving out broken images moves no other one's.
    100 gives the images themselves. Raises InputError for a percentage outside (0, 100].
    """
    if not 0 < percent <= 100:
        raise InputError(
            "--percent", found=f"{percent:g}", wanted="above 0, and at most 100", remedy="Give 1 for one percent."
        )
    if percent == 100 or len(images) == 0:
        return images
    luck = _luck(images, seed)
    strata = np.zeros(len(images), np.int64) if images.multi_label else images.one_class
    order = np.lexsort((luck, strata))
    counts = np.bincount(strata)
    rank = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Rounding half up, which is monotonic: round() would take 0.5 down and 1.5 up.
    wanted = np.maximum(1, np.floor(counts * (percent / 100) + 0.5).astype(np.int64))
    chosen: Int64[np.ndarray, " some"] = np.sort(order[rank < wanted[strata[order]]])
    return images.select(chosen)


def _luck(images: LabelledImages, seed: int) -> Float64[np.ndarray, " images"]:
    """A number in [0, 1) for each image; the smallest are taken first."""
    shards = np.full(len(images), shard_hash("subset"), np.uint64)
    return draws(seed=seed, epoch=0, shards=shards, indices=images.rows, count=1)[:, 0]
