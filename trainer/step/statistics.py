"""Running statistics of a model's batch norms, which a step changes while it sees images, beside the optimiser.

Each rank norms by the images that it computes at a time, as torch does. The running statistics, which evaluation uses,
are the mean over ranks, so that all ranks have the same; and a step that is skipped leaves them as they were.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float32
from torch import Tensor, nn


class BatchStatistics:
    """The running statistics of batch norms that do not keep them; empty for a model without."""

    def __init__(self, model: nn.Module) -> None:
        norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        self._tensors = [tensor for norm in norms for tensor in norm.buffers(recurse=False)]

    def copies(self) -> list[Tensor]:
        """Copy all statistics and counts of batches."""
        return [tensor.clone() for tensor in self._tensors]

    @torch.no_grad()
    def put_back(self, copies: list[Tensor], where: Float32[Tensor, ""] | None = None) -> None:
        """Write `copies` back, only if `where`, on the device, is 1; the host need not know."""
        for tensor, copy in zip(self._tensors, copies, strict=True):
            tensor.copy_(copy if where is None else torch.where(where > 0, copy, tensor))

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
