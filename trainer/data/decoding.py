"""Pixels of a store's images, decoded by threads ahead of whoever computes with them.

In: an `ImageStore`, and which of its images are wanted next, each with its cut. Out: their pixels, in that order, and
why some are black. Decoding and scaling run outside of Python's lock, so that threads are enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from trainer.data.crops import Box, centre_box
from trainer.data.images import BadImage, Choose, crop_into
from trainer.data.labelled_images import ImageStore, Read

T = TypeVar("T")
# Images that a thread takes at once: fewer would show as overhead, more would leave threads idle at a batch's end.
RUN = 8
_Run = tuple[list[str | None], int]
"""why there is no crop, by image; and how many crops are of files that break off"""


@dataclass(frozen=True)
class Decoding:
    """How images are decoded."""

    threads: int
    """0: in the thread that asks for them"""
    ahead: int
    """groups of images that are decoded ahead"""
    max_pixels: int
    """larger images are refused before they are decoded"""
    take_truncated: bool = False
    """decode files that break off as far as they go"""


@dataclass(frozen=True)
class EvalTransform:
    """How images are shown to a model that does not learn from them."""

    size: int
    """pixels of the square that it sees"""
    crop: float
    """share of the shorter side that the central crop keeps"""
    batch: int
    """images at a time, per rank"""
    decoding: Decoding
    bfloat16: bool
    """compute under bfloat16 autocast"""


@dataclass(frozen=True, eq=False)
class Wanted(Generic[T]):
    """Images that are wanted together."""

    subject: T
    """what the caller wants back with them"""
    rows: Int64[np.ndarray, " own"]
    """numbers of the images in the store"""
    choosers: Sequence[Choose]
    """the cut of each"""


@dataclass(frozen=True, eq=False)
class Decoded(Generic[T]):
    """Images that were wanted together."""

    subject: T
    pixels: UInt8[Tensor, "own size size 3"]
    """black where there are none; they stay as they are until the next are asked for"""
    reasons: list[str | None]
    """why an image is black; None for one that could be decoded"""
    truncated: int = 0
    """images of files that break off, which were decoded as far as they go"""


def central_crops(
    store: ImageStore, groups: Iterable[Int64[np.ndarray, " _"]], viewing: EvalTransform
) -> Iterator[Decoded[None]]:
    """The central crops of groups of a store's images, in order. Raises as `decoded`."""

    def choose(width: int, height: int) -> Box:
        return centre_box(width, height, share=viewing.crop)

    wanted = (Wanted(None, rows, [choose] * len(rows)) for rows in groups)
    return decoded(store, wanted, size=viewing.size, how=viewing.decoding)


def decoded(
    store: ImageStore, wanted: Iterable[Wanted[T]], *, size: int, how: Decoding, pin: bool = False
) -> Iterator[Decoded[T]]:
    """The pixels of all that is wanted, in order. `pin`: in page-locked memory.

    Close it to end its threads. Raises InputError for a store that was changed.
    """
    with ExitStack() as stack:
        read = stack.enter_context(store.open())
        pool = ThreadPoolExecutor(how.threads, "decode") if how.threads else None
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        spare: list[Tensor] = []

        def begin(one: Wanted[T]) -> _Begun[T]:
            memory = spare.pop() if spare and len(spare[-1]) >= len(one.rows) else None
            if memory is None:
                memory = torch.empty(len(one.rows), size, size, 3, dtype=torch.uint8, pin_memory=pin)
            outs, rows = memory.numpy(), one.rows.tolist()
            jobs = [
                partial(_decode, rows[a:b], one.choosers[a:b], outs[a:b], read, how)
                for a, b in ((start, min(start + RUN, len(rows))) for start in range(0, len(rows), RUN))
            ]
            return _Begun(one.subject, len(rows), memory, [pool.submit(job) if pool else job() for job in jobs])

        for begun in _behind(map(begin, wanted), how.ahead if pool is not None else 0):
            yield begun.end()
            spare.append(begun.memory)


@dataclass(frozen=True, eq=False)
class _Begun(Generic[T]):
    """Images that are being decoded."""

    subject: T
    count: int
    memory: Tensor
    runs: list[Future[_Run] | _Run]

    def end(self) -> Decoded[T]:
        """Wait for them."""
        runs = [run.result() if isinstance(run, Future) else run for run in self.runs]
        reasons = [reason for each, _ in runs for reason in each]
        return Decoded(self.subject, self.memory[: self.count], reasons, sum(truncated for _, truncated in runs))


def _behind(begun: Iterator[_Begun[T]], ahead: int) -> Iterator[_Begun[T]]:
    """The same, so many later: that many are begun before one is waited for."""
    waiting: deque[_Begun[T]] = deque()
    for one in begun:
        waiting.append(one)
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _decode(
    rows: Sequence[int],
    choosers: Sequence[Choose],
    outs: UInt8[np.ndarray, "run size size 3"],
    read: Read,
    how: Decoding,
) -> _Run:
    """Write some images' crops."""
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
