"""Gradient clipping: the norm of all gradients of a model, held to a limit.

In: a model after the backward pass, sharded or not. Out: its gradients, scaled in place, and the norm they had.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.model.range_augment import RangeAugment


@torch.no_grad()
def clip(model: nn.Module, max_norm: float) -> Float[Tensor, ""]:
    """Scale the gradients so that their norm, taken over all of them, is at most `max_norm`; what it was.

    Equals `torch.nn.utils.clip_grad_norm_`. Where the gradients are DTensors, all of them have to be; the norm is that
    of the whole gradients, a plain tensor. RangeAugment's ranges, where the model holds them, are neither counted nor
    scaled: their loss is of another size.
    The host waits for nothing, so that a gradient that is no number gives a norm that is none.
    """
    ranges = {id(own) for part in model.modules() if isinstance(part, RangeAugment) for own in part.parameters()}
    parameters = [p for p in model.parameters() if p.grad is not None and id(p) not in ranges]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
