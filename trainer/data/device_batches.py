"""Batches on the device that computes with them: copied beside the work, then made float images in [-1, 1].

Mirroring here rather than in the loaders costs no extra pass: it happens while bytes become floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from trainer.data.batch import ON_DEVICE, Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to `device`, in order; on the CPU they stay where they are.

    On a GPU a separate stream copies one batch ahead. The next batch is asked for only when that copy is done, because
    the feed then gives the memory of the copied batch back to its loaders.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
            copied = stream.record_event()
        if ahead is not None:
            yield _ready(*ahead, device)
        copied.synchronize()
        ahead = (moved, copied)
    if ahead is not None:
        yield _ready(*ahead, device)


def _ready(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    """Hand a batch to the current stream, which waits for the copy and keeps the memory until it is done with it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for name in ON_DEVICE:
        getattr(batch, name).record_stream(current)
    return batch


# Mean and standard deviation of a channel: pixels to [-1, 1], as timm's augreg transformers have it.
MEAN, STD = 127.5, 127.5


def prepare(
    images: UInt8[Tensor, "batch size size 3"],
    flips: Bool[Tensor, " batch"] | None,
    *,
    mean: float = MEAN,
    std: float = STD,
) -> Float[Tensor, "batch 3 size size"]:
    """Make a batch the model's input: `(pixels - mean) / std`, float32, mirrored left to right where flips[i].

    `mean` and `std` are of pixels from 0 to 255; released weights want others than ours. Both tensors lie on the same
    device. No shape depends on `flips`, so nothing waits for the host and the function compiles to one kernel.

    The memory of the result is channels-last, the order of the bytes: nothing is transposed here, and the convolution
    that cuts an image into patches then leaves its tokens in the order that the blocks read.
    """
    if flips is not None:
        # On bytes: a quarter of the traffic that mirroring floats would cause.
        images = torch.where(flips[:, None, None, None], images.flip(2), images)
    # In place on the fresh copy that float() makes, so that one float batch is alive and not three.
    return images.permute(0, 3, 1, 2).float().sub_(mean).div_(std)
