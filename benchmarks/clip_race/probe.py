"""Linear probe of frozen features, in closed form: the same for every tower, with nothing to tune.

In: features of pictures and their classes. Out: the share of held-out pictures that a linear classifier gets right.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

# Of the penalty on the weights, where features have a variance of 1.
RIDGE = 0.1
AT_ONCE = 256


def probe_accuracy(
    features: Float[Tensor, "images width"],
    classes: Int64[Tensor, " images"],
    *,
    held_out: Float[Tensor, "others width"],
    held_out_classes: Int64[Tensor, " others"],
) -> float:
    """Accuracy of least squares with a ridge, from features of mean 0 and variance 1 to one-hot classes."""
    features, held_out = features.double(), held_out.double()
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    targets = torch.nn.functional.one_hot(classes).double()
    known = (features - mean) / deviation
    penalty = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64, device=known.device)
    weight = torch.linalg.solve(known.T @ known + penalty, known.T @ (targets - targets.mean(0)))
    scores = (held_out - mean) / deviation @ weight + targets.mean(0)
    return float((scores.argmax(1) == held_out_classes).double().mean())


@torch.no_grad()
def features_of(
    embed: Callable[[UInt8[Tensor, "batch size size 3"]], Float[Tensor, "batch width"]],
    images: UInt8[Tensor, "images size size 3"],
    device: torch.device,
) -> Float[Tensor, "images width"]:
    """Features of all images, on the CPU."""
    return torch.cat([embed(part.to(device)).float().cpu() for part in torch.split(images, AT_ONCE)])
