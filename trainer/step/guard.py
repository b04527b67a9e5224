"""Whether a step's loss is one to learn from, decided on the device, where the optimiser can still leave it out.

In: loss and gradient norm of a step, the same on all ranks. Out: a flag, 1 for a bad step: a loss or a norm that is no
number, or, once there is a running mean of the loss, one that is above it both `factor` times and by far more than the
loss is used to: small batches have losses that jump.
"""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor

# The means have a memory of about 1 / MOMENTUM steps, and mean nothing before WARM of them.
MOMENTUM, WARM = 0.02, 20
# A spike is as many mean absolute deviations above the mean; of a normal distribution, one step in 10^10 is.
FAR = 8.0


class Guard:
    """Running mean and mean absolute deviation of the loss over good steps."""

    def __init__(self, device: torch.device, *, factor: float) -> None:
        self.factor = factor
        self._mean, self._deviation, self._steps = torch.zeros(3, device=device).unbind()

    def judge(self, loss: Float32[Tensor, ""], norm: Float32[Tensor, ""]) -> Float32[Tensor, ""]:
        """1 if the step is bad, else 0; nothing waits for the host."""
        finite = loss.isfinite() & norm.isfinite()
        above = loss - self._mean
        spike = (self._steps >= WARM) & (loss > self.factor * self._mean) & (above > FAR * self._deviation)
        good = finite & ~spike
        # At first a plain mean, so that the first losses of a run do not stay in it.
        share = (1 / (self._steps + 1)).clamp(min=MOMENTUM)
        self._mean = torch.where(good, self._mean + share * above, self._mean)
        self._deviation = torch.where(good, self._deviation + share * (above.abs() - self._deviation), self._deviation)
        self._steps = self._steps + good
        return (~good).float()

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"mean": float(self._mean), "deviation": float(self._deviation), "steps": float(self._steps)}

    def restore(self, state: dict[str, float]) -> None:
        """Go on as if never stopped."""
        self._mean = torch.full_like(self._mean, state["mean"])
        self._deviation = torch.full_like(self._deviation, state["deviation"])
        self._steps = torch.full_like(self._steps, state["steps"])
