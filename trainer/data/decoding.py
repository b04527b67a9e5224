"""Pixels of a store's images, decoded by threads ahead of the code that computes with them.

Decoding and scaling run outside of Python's lock, so that threads are enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from trainer.data.images import BadImage, Choose, crop_into
from trainer.data.labelled_images import ImageStore, Read

# Fewer images in a thread's task would show as overhead, more would leave threads idle at a batch's end.
TASK_IMAGES = 8
Wanted = tuple[Int64[np.ndarray, " own"], Sequence[Choose]]
"""numbers of some images in the store, and the crop of each"""
_Cropped = tuple[list[str | None], int]
"""reason why there is no crop, by image; and number of crops from truncated files"""
_Begun = tuple[Tensor, int, list[Future[_Cropped]]]
"""memory of a group of crops, number of crops, and the tasks that write them"""


@dataclass(frozen=True)
class Decoding:
    """Options of decoding."""

    threads: int
    """0: one, which decodes no image ahead"""
    ahead: int
    """groups of images that are decoded ahead"""
    max_pixels: int
    """larger images are refused before they are decoded"""
    take_truncated: bool = False
    """decode truncated files as far as they go"""


@dataclass(frozen=True)
class EvalTransform:
    """Crops and batches of images for a model in evaluation."""

    size: int
    """side of the square that the model sees, pixels"""
    crop: float
    """share of the shorter side that the central crop keeps"""
    batch: int
    """images at a time, per rank"""
    decoding: Decoding
    bfloat16: bool
    """compute under bfloat16 autocast"""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Crops of the images that were wanted together."""

    pixels: UInt8[Tensor, "own size size 3"]
    """black where there is no image; valid until the next group is asked for"""
    reasons: list[str | None]
    """reason why an image is black; None for a decoded one"""
    truncated: int = 0
    """number of truncated files, which were decoded as far as they go"""


def decoded(
    store: ImageStore, wanted: Iterable[Wanted], *, size: int, how: Decoding, pin: bool = False
) -> Iterator[Decoded]:
    """Crop each wanted group of images, in order, and scale the crops to `size`. `pin`: in page-locked memory.

    Close the iterator to end its threads. Raises InputError if the store was changed.
    """
    with ExitStack() as stack:
        read = stack.enter_context(store.open())
        pool = ThreadPoolExecutor(max(1, how.threads), "decode")
        stack.callback(pool.shutdown, cancel_futures=True)
        spare: list[Tensor] = []

        def begin(rows: Int64[np.ndarray, " own"], choosers: Sequence[Choose]) -> _Begun:
            memory = spare.pop() if spare and len(spare[-1]) >= len(rows) else None
            if memory is None:
                memory = torch.empty(len(rows), size, size, 3, dtype=torch.uint8, pin_memory=pin)
            numbers, outs = rows.tolist(), memory.numpy()[: len(rows)]
            slices = [slice(first, first + TASK_IMAGES) for first in range(0, len(numbers), TASK_IMAGES)]
            tasks = [partial(_crop, numbers[own], choosers[own], outs[own], read, how) for own in slices]
            return memory, len(numbers), list(map(pool.submit, tasks))

        begun = (begin(rows, choosers) for rows, choosers in wanted)
        waiting = deque(islice(begun, how.ahead if how.threads else 0))
        while True:
            waiting.extend(islice(begun, 1))
            if not waiting:
                return
            memory, count, tasks = waiting.popleft()
            ended = [task.result() for task in tasks]
            reasons = [reason for each, _ in ended for reason in each]
            yield Decoded(memory[:count], reasons, sum(truncated for _, truncated in ended))
            spare.append(memory)


def _crop(
    rows: Sequence[int],
    choosers: Sequence[Choose],
    outs: UInt8[np.ndarray, "some size size 3"],
    read: Read,
    how: Decoding,
) -> _Cropped:
    """Write the crops of some images; those that cannot be decoded become black."""
    reasons: list[str | None] = []
    truncated = 0
    for row, choose, out in zip(rows, choosers, outs, strict=True):
        try:
            truncated += crop_into(
                read(row), out, choose=choose, max_pixels=how.max_pixels, take_truncated=how.take_truncated
            )
            reasons.append(None)
        except BadImage as bad:
            out[:] = 0
            reasons.append(str(bad))
    return reasons, truncated
