"""Choice of the anchors and boxes that a detector learns from: a fixed number of each image, some of them positive.

torchvision draws from the process's random state; here each image's own seed decides, so that ranks, parts of a batch
and resumed runs change nothing for an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from trainer.model.hashes import keys, words

Marks = list[UInt8[Tensor, " _"]]
"""for each image, 1 for a chosen candidate"""


class SeededSampler:
    """A draw of positive and negative candidates; takes the place of torchvision's BalancedPositiveNegativeSampler.

    Of an image of weight 0, which could not be decoded, nothing is chosen.
    """

    def __init__(self, count: int, *, positive_share: float, stream: int) -> None:
        """`count`: candidates of an image, at most `positive_share` of them positive. `stream`: use of the seed."""
        self.count, self.most_positive, self.stream = count, int(count * positive_share), stream
        self.keys: Int64[Tensor, " batch"] | None = None
        self.used: list[bool] = []

    def set(self, seeds: Int64[Tensor, " batch"], weights: Float[Tensor, " batch"]) -> None:
        """Take the seeds and weights of the images of the next forward pass."""
        self.keys, self.used = keys(seeds, self.stream), (weights > 0).tolist()

    def __call__(self, labels: Sequence[Tensor]) -> tuple[Marks, Marks]:
        """Choose by labels, one tensor for each image: from 1 on positive, 0 negative, below 0 neither."""
        assert self.keys is not None
        positives: Marks = []
        negatives: Marks = []
        for own, key, used in zip(labels, self.keys, self.used, strict=True):
            drawn = words(key[None, None], torch.arange(len(own), device=own.device))[0]
            positive = smallest(drawn, own >= 1, self.most_positive if used else 0)
            left = self.count - int(positive.sum()) if used else 0
            positives.append(positive)
            negatives.append(smallest(drawn, own == 0, left))
        return positives, negatives


def smallest(
    drawn: Int64[Tensor, " candidates"], allowed: Bool[Tensor, " candidates"], most: int
) -> UInt8[Tensor, " candidates"]:
    """Mark the allowed candidates with the smallest numbers, at most `most`."""
    numbers = allowed.nonzero()[:, 0]
    kept = drawn[numbers].topk(min(most, len(numbers)), largest=False, sorted=False).indices
    chosen = torch.zeros_like(allowed, dtype=torch.uint8)
    chosen[numbers[kept]] = 1
    return chosen
