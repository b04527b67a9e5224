"""Features: what a frozen model's classifier reads, for every image of some tars, each rank having done its share.

In: what computes the features, and `ClassTars`. Out: `Features` on the main rank, in the order of the images, whatever
the number of ranks.

    rank r of W has images r, r + W, r + 2 W, ...; all take equally many batches, for the ranks of a sharded model
    compute each of them together
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from trainer.data.batch import Skipped
from trainer.data.class_tars import ClassTars
from trainer.data.images import BadImage
from trainer.distributed import Place, gather_on_main

# uint8 images, [batch, size, size, 3] on the device, to features, [batch, width].
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the images that could be decoded."""

    values: Float32[Tensor, "images width"]
    """on the device they were computed on"""
    classes: Int64[np.ndarray, " images"]
    """numbers of the classes, as the data set has them"""
    skipped: list[Skipped]
    """images that could not be decoded"""


def extract(
    embed: Embed, tars: ClassTars, place: Place, *, size: int, batch: int, bfloat16: bool, workers: int = 0
) -> Features | None:
    """Features of all images, at `size` pixels, `batch` of them at a time on each rank; None on ranks but the main one.

    `embed`: what a linear classifier reads of images, of a model in evaluation. All ranks must call it. `workers`:
    threads that decode beside the model; 0 decodes in between. Raises InputError for a tar that was changed or is gone.
    """
    own = np.arange(place.rank, len(tars), place.world)
    steps = -(-len(range(0, len(tars), place.world)) // batch)
    shares = [own[step * batch : (step + 1) * batch] for step in range(steps)]
    parts: list[Tensor] = []
    decoded: list[Bool[np.ndarray, " batch"]] = []
    skipped: list[Skipped] = []
    with torch.no_grad(), torch.autocast(place.device.type, torch.bfloat16, enabled=bfloat16):
        for share, (pixels, reasons) in zip(shares, _batches(tars, shares, size, workers), strict=True):
            images = torch.from_numpy(pixels).to(place.device)
            parts.append(embed(images).float()[: len(share)])
            decoded.append(np.array([reason is None for reason in reasons], np.bool_))
            for image, reason in zip(share.tolist(), reasons, strict=True):
                if reason is not None:
                    skipped.append(Skipped(*tars.name(image), reason))
    values = _interleave(torch.cat(parts), len(tars), place)
    present = gather_on_main(np.concatenate(decoded), place)
    left_out: list[list[Skipped]] = gather_on_main(skipped, place)
    if values is None:
        return None
    kept = np.zeros(len(tars), np.bool_)
    for rank, part in enumerate(present):
        kept[rank :: place.world] = part
    return Features(
        values=values[torch.from_numpy(kept).to(values.device)],
        classes=tars.classes[kept],
        skipped=sorted((bad for part in left_out for bad in part), key=lambda bad: (bad.shard, bad.key, bad.reason)),
    )


def _batches(
    tars: ClassTars, shares: Sequence[Int64[np.ndarray, " _"]], size: int, workers: int
) -> Iterator[tuple[UInt8[np.ndarray, "batch size size 3"], list[str | None]]]:
    """Pixels of each share, black where there is none, and why; the next one is decoded meanwhile.

    A share may have no images, but its pixels have at least one: a model wants something to look at.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers, "probe")) if workers else None
        files = stack.enter_context(_Files(tars))
        ahead: list[tuple[UInt8[np.ndarray, "batch size size 3"], list[Future[str | None] | str | None]]] = []
        for number in range(len(shares) + 1):
            if number < len(shares):
                images = shares[number].tolist()
                open_files = files.of(images)
                pixels = np.zeros((max(1, len(images)), size, size, 3), np.uint8)
                jobs = list(zip(images, open_files, pixels, strict=False))
                ahead.append(
                    (pixels, [pool.submit(_decode, tars, *job) if pool else _decode(tars, *job) for job in jobs])
                )
            if number > 0:
                pixels, reasons = ahead.pop(0)
                yield pixels, [each.result() if isinstance(each, Future) else each for each in reasons]


def _decode(tars: ClassTars, image: int, file: BinaryIO, out: UInt8[np.ndarray, "size size 3"]) -> str | None:
    """Write an image's crop to `out`; why there is none."""
    try:
        tars.crop(tars.content(image, file.fileno()), out)
    except BadImage as bad:
        out[:] = 0
        return str(bad)
    return None


class _Files:
    """The tars that a few images lie in, open; those before them are closed as soon as nobody reads them."""

    def __init__(self, tars: ClassTars) -> None:
        self._tars = tars
        self._open: dict[int, BinaryIO] = {}
        self._before: set[int] = set()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._open.values():
            file.close()

    def of(self, images: Sequence[int]) -> list[BinaryIO]:
        """The tar of each image. Those of the last call stay open, for it may still be decoded."""
        numbers = self._tars.tars[list(images)].tolist() if images else []
        for number in self._open.keys() - set(numbers) - self._before:
            self._open.pop(number).close()
        self._before = set(numbers)
        for number in self._before - self._open.keys():
            self._open[number] = self._tars.cache.open(self._tars.places[number])
        return [self._open[number] for number in numbers]


def _interleave(own: Float32[Tensor, "own width"], images: int, place: Place) -> Float32[Tensor, "images width"] | None:
    """All ranks' rows on the main rank, row i of rank r at i * ranks + r; None on the others."""
    if place.world == 1:
        return own
    rows = -(-images // place.world)
    padded = own.new_zeros(rows, own.shape[1])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(place.world)] if place.main else None
    dist.gather(padded, parts)
    return None if parts is None else torch.stack(parts, 1).flatten(0, 1)[:images]
