"""A linear classifier of a task: what it starts as, and what a probe ends with.

In: features. Out: one logit for each class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

STD = 0.01
"""of the weights of a random head: so small that every class is about equally likely at first"""


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier."""

    weight: Float32[Tensor, "classes width"]
    bias: Float32[Tensor, " classes"]

    def logits(self, features: Float32[Tensor, "images width"]) -> Float32[Tensor, "images classes"]:
        """One logit for each class."""
        return torch.addmm(self.bias, features, self.weight.T)


def random_head(classes: int, width: int, *, seed: int) -> Head:
    """Weights of a normal distribution, biases of zero."""
    generator = torch.Generator().manual_seed(seed)
    return Head(torch.randn(classes, width, generator=generator) * STD, torch.zeros(classes))
