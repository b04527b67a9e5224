"""Targets: the classes and weights of some images, never as a dense matrix.

Offsets are known on the host too, so that targets are cut to some of the images, and values are summed by image,
without waiting for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from vocab.errors import MismatchError


@dataclass(frozen=True, eq=False)
class Targets:
    """Classes of images: image i has classes[offsets[i] : offsets[i + 1]], none of them twice.

    Raises MismatchError for lengths that do not fit each other.
    """

    offsets: Int64[Tensor, " images_plus_1"]
    classes: Int64[Tensor, " positives"]
    weights: Float32[Tensor, " images"] | None
    """weight of each image; None: all images weigh 1"""
    ends: list[int]
    """`offsets` on the host"""

    def __post_init__(self) -> None:
        # Only lengths are checked: reading values from the device would make the host wait.
        images = len(self) if self.weights is None else len(self.weights)
        if not len(self.ends) == len(self.offsets) == images + 1 or self.ends[-1] != len(self.classes):
            raise MismatchError(
                "targets",
                found=f"{len(self.ends)} ends, up to {self.ends[-1:]}, {len(self.offsets)} offsets, "
                f"{len(self.classes)} classes, {images} images",
                wanted="offsets and ends one longer than the images, the last end being the number of classes",
                remedy="Take all four from one batch.",
            )

    def __len__(self) -> int:
        return len(self.ends) - 1

    def cut(self, first: int, last: int) -> Targets:
        """The targets of images first..last - 1; mostly views."""
        begin = self.ends[first]
        return Targets(
            offsets=self.offsets[first : last + 1] - begin,
            classes=self.classes[begin : self.ends[last]],
            weights=None if self.weights is None else self.weights[first:last],
            ends=[end - begin for end in self.ends[first : last + 1]],
        )

    @cached_property
    def rows(self) -> Int64[Tensor, " positives"]:
        """The image of each positive."""
        images = torch.arange(len(self), device=self.offsets.device)
        # The output's size is known; passing it saves a synchronisation.
        return images.repeat_interleave(self.offsets.diff(), output_size=len(self.classes))

    def sum_by_image(self, values: Float[Tensor, " positives"]) -> Float[Tensor, " images"]:
        """Sum of each image's values; 0 for an image without a class.

        Equals `zeros(images).index_add_(0, rows, values)`, whose order of addition, and so the last bit, differs from
        call to call on CUDA. Here the values are padded to the largest number that an image has.
        """
        most = max((end - begin for begin, end in zip(self.ends, self.ends[1:], strict=False)), default=0)
        positions = torch.arange(len(self.classes), device=values.device) - self.offsets[self.rows]
        padded = values.new_zeros(len(self), most)
        return padded.index_put_((self.rows, positions), values).sum(1)
