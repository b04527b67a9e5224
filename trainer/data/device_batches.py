"""Batches on the device that computes with them: copied while the one before is being worked on.

In: the batches of a `Feed`. Out: the same, their tensors on the device. On the CPU they stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from trainer.data.batch import ON_DEVICE, Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches whose tensors lie on `device`, in order.

    On a GPU a stream of its own copies one batch ahead. The next batch is asked for only when that copy is done,
    because the feed then gives the memory it was copied from to its loaders.
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
    """The batch, for the current stream to use: it waits for the copy, and keeps the memory until it is done."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for name in ON_DEVICE:
        getattr(batch, name).record_stream(current)
    return batch
