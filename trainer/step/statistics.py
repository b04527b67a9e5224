"""Running statistics of a model's batch norms, which a step changes while it sees images, beside the optimiser.

Each rank norms by the images that it computes at a time, as torch does. The running statistics, which evaluation uses,
are the mean over ranks, so that all ranks have the same. A step that is skipped leaves them as they were, and a
backward pass that computes blocks again does not change them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from jaxtyping import Float32
from torch import Tensor, nn

from vocab.errors import InputError


class BatchStatistics:
    """The running statistics of a model's batch norms; empty for a model without."""

    def __init__(self, model: nn.Module) -> None:
        norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        self._tensors = [tensor for norm in norms for tensor in norm.buffers(recurse=False)]
        # timm's mark of a module whose blocks are computed again in the backward pass.
        self._again = any(getattr(part, "grad_checkpointing", False) for part in model.modules())

    def check(self, images: int) -> None:
        """Raise InputError for a number of images that batch norms cannot be computed over at a time."""
        if self._tensors and images < 2:
            raise InputError(
                "--batch-size",
                found="1 image at a time for a model with batch norms",
                wanted="at least 2 in each part of a process's share of the batch",
                remedy="Raise it, lower --accumulate, or take fewer processes.",
            )

    def copies(self) -> list[Tensor]:
        """Copy all statistics and counts of batches."""
        return [tensor.clone() for tensor in self._tensors]

    @torch.no_grad()
    def put_back(self, copies: list[Tensor], where: Float32[Tensor, ""] | None = None) -> None:
        """Write `copies` back, only if `where`, on the device, is 1; the host need not know."""
        for tensor, copy in zip(self._tensors, copies, strict=True):
            tensor.copy_(copy if where is None else torch.where(where > 0, copy, tensor))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Surround a backward pass: blocks that it computes again see the images of the forward pass once more."""
        seen = self.copies() if self._again else None
        yield
        if seen is not None:
            self.put_back(seen)

    @torch.no_grad()
    def average(self, world: int) -> None:
        """Replace the statistics by their means over `world` ranks, which all must call it."""
        means = [tensor for tensor in self._tensors if tensor.is_floating_point()]
        if world == 1 or not means:
            return
        flat = torch.cat([tensor.flatten() for tensor in means])
        dist.all_reduce(flat)
        parts = torch.split(flat / world, [tensor.numel() for tensor in means])
        for tensor, mean in zip(means, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))
