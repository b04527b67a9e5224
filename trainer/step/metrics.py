"""Loss and gradient norm of every step: judged on the device at once, read by the host two steps later.

    numbers = torch.stack([loss, norm, guard.judge(loss, norm), stop])     on the device, the same on all ranks
    metrics.push(step, numbers)                                            starts their copy to the host
    for each in metrics.read(): ...                                        earlier steps, without waiting for this one

All ranks read the same numbers after the same step, so they decide alike without asking each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

MOST_STEPS_AHEAD = 2
"""steps that the host may be ahead of the device, which needs one to work on while the next is prepared"""
NUMBERS_PER_STEP = 4
MEAN_MOMENTUM = 0.02
"""weight of a new loss in the running means, which therefore remember about 50 steps"""
WARM_STEPS = 20
"""steps before the running means mean anything"""
SPIKE_DEVIATIONS = 8.0
"""mean absolute deviations above the mean from which a loss is a spike; a normal distribution has one in 10^10 steps"""


@dataclass(frozen=True)
class StepMetrics:
    """Numbers of one step."""

    step: int
    loss: float
    """mean over all images of all ranks"""
    norm: float
    """gradient norm before clipping"""
    bad: bool
    """the loss or the norm is NaN or infinite, or the loss is a spike (`Guard`)"""
    stop: bool
    """some rank was asked to stop"""


class DeferredMetrics:
    """Step metrics on their way to the host; reading them at once would make the host wait for the device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._waiting: deque[tuple[int, Float32[Tensor, " 4"], torch.cuda.Event | None]] = deque()
        self._buffers = [torch.empty(NUMBERS_PER_STEP, pin_memory=self._cuda) for _ in range(MOST_STEPS_AHEAD + 1)]

    def push(self, step: int, numbers: Float32[Tensor, " 4"]) -> None:
        """Start the copy of a step's loss, norm, bad and stop. At most `MOST_STEPS_AHEAD` may be waiting."""
        assert len(self._waiting) <= MOST_STEPS_AHEAD, "read between two steps"
        buffer = self._buffers[step % len(self._buffers)]
        buffer.copy_(numbers, non_blocking=self._cuda)
        event = torch.cuda.current_stream().record_event() if self._cuda else None
        self._waiting.append((step, buffer, event))

    def read(self, *, lag: int = MOST_STEPS_AHEAD) -> Iterator[StepMetrics]:
        """Yield the metrics of all steps but the last `lag`, in order; waits for no others."""
        while len(self._waiting) > lag:
            step, buffer, event = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            loss, norm, bad, stop = buffer.tolist()
            yield StepMetrics(step, loss, norm, bad > 0, stop > 0)

    def clear(self) -> None:
        """Drop what is on its way: the run goes back to an earlier step."""
        self._waiting.clear()


class Guard:
    """Judge of losses, on the device, where the optimiser can still leave a step out.

    A step is bad if its loss or gradient norm is not finite. Once there is a running mean of the loss, a step is also
    bad if its loss exceeds that mean both `factor` times and by `SPIKE_DEVIATIONS` mean absolute deviations: losses of
    small batches jump. Means and deviation are over good steps.
    """

    def __init__(self, device: torch.device, *, factor: float) -> None:
        self.factor = factor
        self._mean, self._deviation, self._steps = torch.zeros(3, device=device).unbind()

    def judge(self, loss: Float32[Tensor, ""], norm: Float32[Tensor, ""]) -> Float32[Tensor, ""]:
        """Return 1 for a bad step, else 0; the host waits for nothing. Both numbers are the same on all ranks."""
        finite = loss.isfinite() & norm.isfinite()
        above = loss - self._mean
        far = above > SPIKE_DEVIATIONS * self._deviation
        spike = (self._steps >= WARM_STEPS) & (loss > self.factor * self._mean) & far
        good = finite & ~spike
        # At first a plain mean, so that the first losses of a run do not stay in it.
        share = (1 / (self._steps + 1)).clamp(min=MEAN_MOMENTUM)
        self._mean = torch.where(good, self._mean + share * above, self._mean)
        self._deviation = torch.where(good, self._deviation + share * (above.abs() - self._deviation), self._deviation)
        self._steps = self._steps + good
        return (~good).float()

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"mean": float(self._mean), "deviation": float(self._deviation), "steps": float(self._steps)}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a state."""
        self._mean = torch.full_like(self._mean, state["mean"])
        self._deviation = torch.full_like(self._deviation, state["deviation"])
        self._steps = torch.full_like(self._steps, state["steps"])
