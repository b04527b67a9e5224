"""The classifier and its loss in one, by chunks of images, so that never all logits exist at once.

Features, the classifier's weight W and bias b, and sparse targets give the loss and the gradients of all three. The
gradients are formed on the way: a chunk's logits turn into their own gradient d, and then make room for the next.

    for each chunk:  logits = features W' + b  ->  loss, d  ->  d W, d' features, sum of d

Memory besides the gradients is one chunk of logits, whatever the number of images.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.loss.losses import Loss
from trainer.loss.targets import Targets
from vocab.errors import MismatchError


# The offsets are integers that differ at every step: nothing to trace.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def chunked_loss(
    features: Float[Tensor, "images width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"],
    targets: Targets,
    loss: Loss,
    *,
    chunk: int,
) -> Float[Tensor, ""]:
    """Loss in nats per image: the sum of weight times loss over images, divided by their number.

    Equals the loss of `F.linear(features, weight, bias)` for any `chunk`, the number of images whose logits exist at a
    time. It can be differentiated once, with respect to features, weight and bias. The gradients that are needed (none
    under `torch.no_grad`) are formed here; the backward pass scales them.

    Under autocast, and for parameters of less than float32, products are taken in the lower precision and everything
    else in float32: bias, loss, sums over chunks, the result. float64 inputs are computed in float64. Raises
    MismatchError for targets of another number of images than the features.
    """
    if len(targets) != len(features):
        raise MismatchError(
            "targets",
            found=f"those of {len(targets)} images",
            wanted=f"those of {len(features)}, as many as have features",
            remedy="Take features and targets of one batch, or of one part of it.",
        )
    wanted = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (features, weight, bias)]
    with torch.no_grad():
        total, gradients = _loss_and_gradients(features, weight, bias, targets, loss, chunk=chunk, wanted=wanted)
        mean = total / len(features)
    result: Tensor = _WithGradients.apply(mean, features, weight, bias, *gradients) if any(wanted) else mean
    return result


def _loss_and_gradients(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Targets, loss: Loss, *, chunk: int, wanted: list[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The sum of the losses, and its gradients with respect to features, weight and bias, None where not wanted."""
    product = _product_dtype(features, weight)
    exact = torch.promote_types(product, torch.float32)
    images, height = len(features), min(chunk, len(features))
    logits = features.new_empty(height, len(weight), dtype=exact)
    # A chunk in the products' precision: first the product that becomes the logits, then their gradient for products.
    low = logits if product == exact else torch.empty_like(logits, dtype=product)
    weight, bias = weight.to(product), bias.to(exact)  # once, not at every chunk
    total = logits.new_zeros(())
    of_features = features.new_empty(features.shape) if wanted[0] else None
    of_weight = torch.zeros_like(weight, dtype=exact) if wanted[1] else None
    of_bias = torch.zeros_like(bias) if wanted[2] else None
    # The precision of each product is set here, tensor by tensor.
    with torch.autocast(features.device.type, enabled=False):
        for first in range(0, images, chunk):
            last = min(first + chunk, images)
            some, z, d = features[first:last].to(product), logits[: last - first], low[: last - first]
            if low is logits:
                torch.addmm(bias, some, weight.T, out=z)
            else:
                # Adds the bias and converts to the higher precision in one pass.
                torch.add(torch.mm(some, weight.T, out=d), bias, out=z)
            value, gradient = loss(z, targets.cut(first, last))
            total += value
            if of_bias is not None:
                of_bias += gradient.sum(0)
            d = gradient if low is logits else d.copy_(gradient)
            if of_features is not None:
                of_features[first:last] = d @ weight
            if of_weight is not None and low is logits:
                of_weight.addmm_(d.T, some)
            elif of_weight is not None:
                of_weight += d.T @ some
    return total, [of_features, of_weight, of_bias]


def _product_dtype(features: Tensor, weight: Tensor) -> torch.dtype:
    """The type in which a linear layer would multiply in this context; autocast leaves float64 alone."""
    device, dtype = features.device.type, torch.promote_types(features.dtype, weight.dtype)
    lower = torch.is_autocast_enabled(device) and dtype != torch.float64
    return torch.get_autocast_dtype(device) if lower else dtype


class _WithGradients(torch.autograd.Function):
    """Mean of losses whose sum has known gradients with respect to features, weight and bias, given in this order."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, features: Tensor, weight: Tensor, bias: Tensor, *gradients: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.images, ctx.dtypes = len(features), (features.dtype, weight.dtype, bias.dtype)
        return mean.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradient / ctx.images
        # Not in place: a retained graph may be traversed again.
        scaled = (
            None if saved is None else (saved * scale).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (None, *scaled, None, None, None)
