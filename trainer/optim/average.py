"""The moving average of the weights: what is evaluated and released.

In: a model, sharded or not. Out: one more copy of its tensors, and the model with them in place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


class Average:
    """Exponential moving average of a model's weights: average = (1 - momentum) * average + momentum * weights.

    `momentum` is the share of the new weights, as in CoreNet, so 1 - decay of torch's `AveragedModel` with
    `get_ema_multi_avg_fn(decay)`, which this equals. That one copies the module, which FSDP2 does not allow; this one
    copies the tensors. Make it of a model that is on its device, and sharded if it is going to be.
    """

    def __init__(self, model: nn.Module, *, momentum: float) -> None:
        self.momentum = momentum
        self.steps = 0
        """updates so far; the first one copies"""
        self._model = model
        self._swapped = False
        _reshard(model)
        self._live: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
        copies = {id(tensor): tensor.detach().clone() for tensor in self._live.values()}
        self._kept = {name: copies[id(tensor)] for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights; buffers are copied. The host waits for nothing."""
        assert not self._swapped, "the model holds the averaged weights"
        weights: list[Tensor] = []
        averages: list[Tensor] = []
        for live, kept in self._pairs():
            if self.steps and isinstance(live, nn.Parameter) and live.is_floating_point():
                weights.append(_own(live))
                averages.append(_own(kept))
            else:
                _own(kept).copy_(_own(live))
        if weights:
            torch._foreach_lerp_(averages, weights, self.momentum)
        self.steps += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model holds the averaged weights inside, and its own again after, whatever is raised inside.

        Contents change places, tensor by tensor, so that compiled code and shards stay valid and no third copy exists.
        """
        assert not self._swapped, "the model holds the averaged weights"
        exchanged: list[tuple[Tensor, Tensor]] = []
        self._swapped = True
        try:
            _reshard(self._model)
            for live, kept in self._pairs():
                _exchange(live, kept)
                exchanged.append((live, kept))
            yield
        finally:
            _reshard(self._model)
            for live, kept in exchanged:
                _exchange(live, kept)
            self._swapped = False

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors under the model's names, live: a checkpoint is copied into them, DTensors as such."""
        return dict(self._kept)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each tensor of the model and its average, once, also where it has two names."""
        return iter({id(live): (live, self._kept[name]) for name, live in self._live.items()}.values())


def _own(tensor: Tensor) -> Tensor:
    """This process's share of a DTensor; every share averages alone."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def _exchange(live: Tensor, kept: Tensor) -> None:
    ours, theirs = _own(live), _own(kept)
    spare = ours.clone()
    ours.copy_(theirs)
    theirs.copy_(spare)


def _reshard(model: nn.Module) -> None:
    """Drop weights that FSDP2 gathered for a forward pass and kept: the next one would use them, whatever they are."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
