"""Outputs of a model for many images, each rank computing its share.

Rank r of W has images r, r + W, r + 2 W, ... All take equally many batches, for the ranks of a sharded model compute
each of them together, and send it to the main rank before the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor

from trainer.data.crops import centre_box
from trainer.data.decoding import EvalTransform, decoded
from trainer.data.labelled_images import ImageStore
from trainer.distributed import Rank, gather_on_main

# uint8 images, [batch, size, size, 3] on the device, to features, [batch, width].
Embed = Callable[[Tensor], Tensor]
# The same, with the numbers of these images among those that were asked for, to what is kept of each, [batch, ...].
Compute = Callable[[Tensor, Int64[np.ndarray, " batch"]], Tensor]


@dataclass(frozen=True, eq=False)
class Outputs:
    """A model's outputs for the images that could be decoded."""

    values: Tensor
    """[decoded, ...] on the CPU"""
    decoded: Int64[np.ndarray, " decoded"]
    """numbers of these images among those that were asked for, ascending"""
    faults: dict[int, str]
    """numbers of the others, ascending, and why"""
    truncated: int = 0
    """number of images whose files break off and that were decoded as far as they go"""


def extract(
    embed: Embed, store: ImageStore, rows: Int64[np.ndarray, " images"], rank: Rank, transform: EvalTransform
) -> Outputs | None:
    """Compute features, float32 [decoded, width], of some images of a store; as `outputs_of`.

    `embed`: from images to the inputs of a linear classifier, of a model in evaluation mode.
    """
    return outputs_of(lambda pixels, _: embed(pixels).float(), store, rows, rank, transform)


def outputs_of(
    compute: Compute, store: ImageStore, rows: Int64[np.ndarray, " images"], rank: Rank, transform: EvalTransform
) -> Outputs | None:
    """Compute outputs for the central crops of some images, at least one; None on ranks other than the main one.

    All ranks must call it. Raises InputError for a store that was changed or is gone.
    """
    numbers = np.arange(len(rows))[rank.index :: rank.world]
    size, at_once = transform.size, transform.batch * rank.world
    starts = range(0, -(-len(rows) // at_once) * transform.batch, transform.batch)
    shares = [numbers[first : first + transform.batch] for first in starts]
    values: Tensor | None = None
    faults: dict[int, str] = {}
    truncated = 0
    with torch.no_grad(), torch.autocast(rank.device.type, torch.bfloat16, enabled=transform.bfloat16):
        choose = partial(centre_box, share=transform.crop)
        wanted = ((rows[share], [choose] * len(share)) for share in shares)
        crops = decoded(store, wanted, size=size, how=transform.decoding)
        for step, (share, made) in enumerate(zip(shares, crops, strict=True)):
            # A rank without images of a step computes a black one: no model takes an empty batch.
            some = len(share) > 0
            shown = made.pixels if some else made.pixels.new_zeros(1, size, size, 3)
            part = compute(shown.to(rank.device), share if some else np.zeros(1, np.int64))
            whole = _interleave(part[: len(share)], transform.batch, rank)
            first = step * at_once
            if whole is not None:
                values = whole.new_empty(len(rows), *whole.shape[1:], device="cpu") if values is None else values
                values[first : first + at_once] = whole[: len(rows) - first].cpu()
            truncated += made.truncated
            for number, reason in zip(share.tolist(), made.reasons, strict=True):
                if reason is not None:
                    faults[number] = reason
    parts: list[tuple[dict[int, str], int]] = gather_on_main((faults, truncated), rank)
    if values is None:
        return None
    found = dict(sorted((image, reason) for part, _ in parts for image, reason in part.items()))
    sound = np.setdiff1d(np.arange(len(rows)), np.array(list(found), np.int64))
    kept = values[torch.from_numpy(sound)] if found else values
    return Outputs(kept, sound, found, sum(count for _, count in parts))


def _interleave(own: Tensor, rows: int, rank: Rank) -> Tensor | None:
    """Gather all ranks' rows of a step on the main rank, row i of rank r at i * ranks + r; None on the others.

    Each rank sends `rows` rows; its padding comes last.
    """
    if rank.world == 1:
        return own
    padded = own.new_zeros(rows, *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(rank.world)] if rank.is_main else None
    dist.gather(padded, parts)
    return None if parts is None else torch.stack(parts, 1).flatten(0, 1)
