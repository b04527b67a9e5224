"""Whether a step's loss is one to learn from, decided on the device, where the optimiser can still leave it out.

In: loss and gradient norm of a step, the same on all ranks. Out: a flag, 1 for a bad step: a loss or a norm that is no
number, or a loss above `factor` times its running mean, once there is one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor

# The mean has a memory of about 1 / MOMENTUM steps, and means nothing before WARM of them.
MOMENTUM, WARM = 0.02, 20


class Guard:
    """The running mean of the loss over good steps."""

    def __init__(self, device: torch.device, *, factor: float) -> None:
        self.factor = factor
        self._mean, self._steps = torch.zeros((), device=device), torch.zeros((), device=device)

    def judge(self, loss: Float32[Tensor, ""], norm: Float32[Tensor, ""]) -> Float32[Tensor, ""]:
        """1 if the step is bad, else 0; nothing waits for the host."""
        finite = loss.isfinite() & norm.isfinite()
        spike = (self._steps >= WARM) & (loss > self.factor * self._mean)
        good = finite & ~spike
        share = torch.where(self._steps == 0, 1.0, MOMENTUM)
        self._mean = torch.where(good, self._mean + share * (loss - self._mean), self._mean)
        self._steps = self._steps + good
        return (~good).float()

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"mean": float(self._mean), "steps": float(self._steps)}

    def restore(self, state: dict[str, float]) -> None:
        """Go on as if never stopped."""
        self._mean = torch.full_like(self._mean, state["mean"])
        self._steps = torch.full_like(self._steps, state["steps"])
