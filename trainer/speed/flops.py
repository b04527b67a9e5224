"""How many floating-point operations a training image costs, counted by torch while a model runs without data.

In: a model on the meta device (`trainer.model.vit.on_meta`). Out: operations per image.

A multiplication and its addition are two operations. Counted are matrix products, the convolution that cuts patches,
attention; not counted what goes by the element (norms, GELU, softmax), as everywhere where a utilisation (MFU) is
stated. Forward and backward are three times the forward pass: each product has two of its size in its gradient (Kaplan
et al., arXiv 2001.08361, section 2.1). What activation checkpointing computes again is not work of the model.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from trainer.model.per_image import seeds_of, set_patch_share

TRAINING_OVER_FORWARD = 3


def training_flops(model: nn.Module, *, size: int, share: float = 1.0) -> int:
    """Operations of one training image, forward and backward.

    `model`: on the meta device; its classifier counts as it is. `size`: side of the image, pixels. `share`: of the
    patches that are seen.
    """
    set_patch_share(model, share)
    return TRAINING_OVER_FORWARD * forward_flops(model.train(), size=size)


def forward_flops(model: nn.Module, *, size: int) -> int:
    """Operations of one image's forward pass, in the mode that the model is in."""
    meta = torch.device("meta")
    seeds_of(model).set(torch.zeros(1, dtype=torch.int64, device=meta))
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        # Detached: torch's counter follows gradients of weights that are handed to modules, as CaiT's class token is.
        functional_call(model, weights, torch.empty(1, 3, size, size, device=meta))
    return int(counter.get_total_flops())
