"""Features: what a frozen model's classifier reads, for many images, each rank having done its share.

In: what computes the features, and images of any store. Out: `Features` on the main rank, in the order of the images,
whatever the number of ranks.

    rank r of W has images r, r + W, r + 2 W, ...; all take equally many batches, for the ranks of a sharded model
    compute each of them together, and send it to the main rank before the next one
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float32, Int64
from torch import Tensor

from trainer.data.decoding import EvalTransform, central_crops
from trainer.data.labelled_images import ImageStore
from trainer.distributed import Rank, gather_on_main

# uint8 images, [batch, size, size, 3] on the device, to features, [batch, width].
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the images that could be decoded."""

    values: Float32[Tensor, "decoded width"]
    """on the CPU"""
    decoded: Int64[np.ndarray, " decoded"]
    """places of these images among those that were asked for, ascending"""
    faults: dict[int, str]
    """places of the others, ascending, and why"""
    truncated: int = 0
    """images of files that break off, which were decoded as far as they go"""


def extract(
    embed: Embed, store: ImageStore, rows: Int64[np.ndarray, " images"], rank: Rank, viewing: EvalTransform
) -> Features | None:
    """Features of some images of a store, at least one; None on ranks but the main one.

    `embed`: what a linear classifier reads of images, of a model in evaluation. All ranks must call it. Raises
    InputError for a store that was changed or is gone.
    """
    own, at_once = rows[rank.index :: rank.world], viewing.batch * rank.world
    steps = range(-(-len(rows) // at_once))
    shares = [own[step * viewing.batch : (step + 1) * viewing.batch] for step in steps]
    values: Tensor | None = None
    faults: dict[int, str] = {}
    truncated = 0
    with torch.no_grad(), torch.autocast(rank.device.type, torch.bfloat16, enabled=viewing.bfloat16):
        for step, made in enumerate(central_crops(store, shares, viewing)):
            # A rank without images of a step has a black one: a model wants something to look at.
            shown = made.pixels if len(made.pixels) else made.pixels.new_zeros(1, viewing.size, viewing.size, 3)
            part = embed(shown.to(rank.device)).float()
            whole = _interleave(part[: len(made.reasons)], viewing.batch, rank)
            first = step * at_once
            if whole is not None:
                values = torch.empty(len(rows), whole.shape[1]) if values is None else values
                values[first : first + at_once] = whole[: len(rows) - first].cpu()
            truncated += made.truncated
            for number, reason in enumerate(made.reasons):
                if reason is not None:
                    faults[first + number * rank.world + rank.index] = reason
    parts: list[tuple[dict[int, str], int]] = gather_on_main((faults, truncated), rank)
    if values is None:
        return None
    found = dict(sorted((image, reason) for part, _ in parts for image, reason in part.items()))
    decoded = np.setdiff1d(np.arange(len(rows)), np.array(list(found), np.int64))
    sound = values[torch.from_numpy(decoded)] if found else values
    return Features(sound, decoded, found, sum(count for _, count in parts))


def _interleave(own: Float32[Tensor, "own width"], rows: int, rank: Rank) -> Float32[Tensor, "images width"] | None:
    """All ranks' rows of a step on the main rank, row i of rank r at i * ranks + r; None on the others.

    Each rank sends `rows` rows; those that it does not have come last.
    """
    if rank.world == 1:
        return own
    padded = own.new_zeros(rows, own.shape[1])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(rank.world)] if rank.is_main else None
    dist.gather(padded, parts)
    return None if parts is None else torch.stack(parts, 1).flatten(0, 1)
