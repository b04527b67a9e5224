"""Pixels on the device: what becomes of a uint8 batch between the copy and the model.

In: uint8 images as the readers collate them, and which of them to mirror. Out: float images in [-1, 1], channels first.
Mirroring here rather than in the readers costs no extra pass: both happen while bytes become floats.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

# Mean and standard deviation of a channel: pixels to [-1, 1], as timm's augreg transformers have it.
MEAN, STD = 127.5, 127.5


def prepare(
    images: UInt8[Tensor, "batch size size 3"],
    flips: Bool[Tensor, " batch"] | None,
    *,
    mean: float = MEAN,
    std: float = STD,
) -> Float[Tensor, "batch 3 size size"]:
    """The batch as the model takes it: image i mirrored left to right where flips[i], none of them without `flips`.

    Both tensors lie on the same device. No shape depends on `flips`, so nothing waits for the host and the function
    compiles to one kernel. float32; equals `(pixels - mean) / std` of every image by itself, both in steps of a byte;
    weights that others trained want others than ours.

    The memory of the result is channels-last, because that is the order the bytes came in: nothing is transposed here,
    and the convolution that cuts an image into patches then leaves its tokens in the order that the blocks read.
    """
    if flips is not None:
        # On bytes: a quarter of the traffic that mirroring floats would cause.
        images = torch.where(flips[:, None, None, None], images.flip(2), images)
    # In place on the fresh copy that float() makes, so that one float batch is alive and not three.
    return images.permute(0, 3, 1, 2).float().sub_(mean).div_(std)
