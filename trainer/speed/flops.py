"""Floating-point operations of a training image, counted by torch while a model runs without data.

A multiplication and its addition are two operations. Matrix products, the convolution that cuts patches and attention
count; elementwise work (norms, GELU, softmax) does not, as everywhere where a utilisation (MFU) is stated. Forward and
backward are three times the forward pass: the gradient of a product is two products of its size (Kaplan et al., arXiv
2001.08361, section 2.1). Activation checkpointing's second forward pass is not work of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from trainer.model.backbone import logits
from trainer.model.per_image import seeds_of, set_patch_share
from vocab.pages.text import counted

TRAINING_OVER_FORWARD = 3
COST_RATE = 4e14
"""operations per second by which a run's cost is stated: about 40 % of the peak of an H100"""
LEAST_HOURS = 0.01
"""hours from which a cost is stated"""


def image_flops(build: Callable[[], nn.Module]) -> Callable[[int, float], int]:
    """Make a function from size and share of the patches to `training_flops`, each counted when it is first asked for.

    A large model and many resolutions take some seconds, for which not every rank need wait before the first step.
    `build`: makes the model on the meta device.
    """
    model = cache(build)
    return cache(lambda size, share: training_flops(model(), size=size, share=share))


def training_flops(model: nn.Module, *, size: int, share: float = 1.0) -> int:
    """Count the operations of one training image, forward and backward.

    `model`: on the meta device; its classifier counts as it is. `size`: side of the image, pixels. `share`: share of
    the patches that are seen.
    """
    set_patch_share(model, share)
    return TRAINING_OVER_FORWARD * forward_flops(model.train(), size=size)


def forward_flops(model: nn.Module, *, size: int) -> int:
    """Count the operations of one image's forward pass, in the mode that the model is in."""
    meta = torch.device("meta")
    # Of two images, because batch norms refuse to train on a single value of a channel.
    seeds_of(model).set(torch.zeros(2, dtype=torch.int64, device=meta))
    whole = _Classified(model)
    weights = {name: weight.detach() for name, weight in whole.named_parameters()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        # Detached: torch's counter follows gradients of weights that are handed to modules, as CaiT's class token is.
        functional_call(whole, weights, torch.empty(2, 3, size, size, device=meta))
    return int(counter.get_total_flops()) // 2


class _Classified(nn.Module):
    """Logits of a model as one module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch classes"]:
        return logits(self.model, images)


def cost(operations: int, *, steps: int, batch: int) -> str:
    """Say what a run will cost. `operations`: of one training image.

    >>> cost(350 * 10**9, steps=40_420, batch=16)
    '40,420 steps of 16 images: 0.35 TFLOP an image, 226 PFLOP in all, 0.16 hours at 400 TFLOP/s'
    >>> cost(10**7, steps=32, batch=16)
    '32 steps of 16 images'
    """
    total = operations * steps * batch
    run, hours = f"{counted(steps, 'step')} of {counted(batch, 'image')}", total / COST_RATE / 3600
    if hours < LEAST_HOURS:
        return run
    return (
        f"{run}: {operations / 1e12:.3g} TFLOP an image, {total / 1e15:.3g} PFLOP in all, {hours:.2g} hours at "
        f"{COST_RATE / 1e12:g} TFLOP/s"
    )
