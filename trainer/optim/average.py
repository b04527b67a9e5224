"""The moving average of the weights, which is evaluated and released: one more copy of the model's tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from trainer.checkpoints.pieces import local_part


class Average:
    """Exponential moving average of a model's weights: average = (1 - momentum) * average + momentum * weights.

    `momentum` is the share of the new weights, as in CoreNet. This equals torch's `AveragedModel` with
    `get_ema_multi_avg_fn(1 - momentum)`, which copies the module, as FSDP2 does not allow; this class copies the
    tensors. Create it once the model is on its device, and sharded if it will be.

    Parameters are averaged. Buffers are copied, the running statistics of batch norms among them, which are averages
    over steps already.
    """

    def __init__(self, model: nn.Module, *, momentum: float, root: nn.Module | None = None) -> None:
        """`root`: module that FSDP2 shards the model with, and which keeps what a forward pass gathered; unset: the
        model itself.
        """
        self.momentum = momentum
        self.steps = 0
        """updates so far; the first one copies"""
        self._root = root if root is not None else model
        self._swapped = False
        _reshard(self._root)
        self._live: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
        copies = {id(tensor): tensor.detach().clone() for tensor in self._live.values()}
        self._kept = {name: copies[id(tensor)] for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the model's weights to the average; copy buffers. Never syncs with the host."""
        assert not self._swapped, "the model holds the averaged weights"
        weights: list[Tensor] = []
        averages: list[Tensor] = []
        for live, kept in self._pairs():
            if self.steps and isinstance(live, nn.Parameter) and live.is_floating_point():
                weights.append(local_part(live))
                averages.append(local_part(kept))
            else:
                local_part(kept).copy_(local_part(live))
        if weights:
            torch._foreach_lerp_(averages, weights, self.momentum)
        self.steps += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the averaged weights into the model for the context, and its own back afterwards, even on an error.

        Contents are exchanged tensor by tensor, so that compiled code and shards stay valid and no third copy exists.
        """
        assert not self._swapped, "the model holds the averaged weights"
        exchanged: list[tuple[Tensor, Tensor]] = []
        self._swapped = True
        try:
            _reshard(self._root)
            for live, kept in self._pairs():
                _exchange(live, kept)
                exchanged.append((live, kept))
            yield
        finally:
            _reshard(self._root)
            for live, kept in exchanged:
                _exchange(live, kept)
            self._swapped = False

    def state_dict(self) -> dict[str, Tensor]:
        """The live averaged tensors under the model's names, DTensors too; a checkpoint is copied into them."""
        return dict(self._kept)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each tensor of the model with its average, once even if it has two names."""
        return iter({id(live): (live, self._kept[name]) for name, live in self._live.items()}.values())


@torch.no_grad()
def _exchange(live: Tensor, kept: Tensor) -> None:
    ours, theirs = local_part(live), local_part(kept)
    spare = ours.clone()
    ours.copy_(theirs)
    theirs.copy_(spare)


def _reshard(model: nn.Module) -> None:
    """Drop weights that FSDP2 gathered for a forward pass and kept: the next pass would use the outdated copies."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
