"""A few numbers of every step, heard two steps late: reading one at once would make the host wait for the device.

In: a small tensor on the device after each step, the same on all ranks. Out: `Beat`s, in order, to all ranks alike:
whatever they decide from them they decide at the same step, without asking each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

# Steps that the host may be ahead. The device needs one to work on while the next is being prepared.
LAG = 2
NUMBERS = 4


@dataclass(frozen=True)
class Beat:
    """One step, as it was."""

    step: int
    loss: float
    """mean over all images of all ranks"""
    norm: float
    """of the gradient, before it was clipped"""
    bad: bool
    """no number, or a spike (`guard.py`)"""
    stop: bool
    """whether some rank was asked to stop"""


class Pulse:
    """Beats on their way to the host."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._waiting: deque[tuple[int, Float32[Tensor, " 4"], torch.cuda.Event | None]] = deque()
        self._buffers = [torch.empty(NUMBERS, pin_memory=self._cuda) for _ in range(LAG + 1)]

    def send(self, step: int, numbers: Float32[Tensor, " 4"]) -> None:
        """Start the copy of a step's loss, norm, bad, stop. At most `LAG` may be waiting."""
        assert len(self._waiting) <= LAG, "listen between two steps"
        buffer = self._buffers[step % len(self._buffers)]
        buffer.copy_(numbers, non_blocking=True)
        event = torch.cuda.current_stream().record_event() if self._cuda else None
        self._waiting.append((step, buffer, event))

    def listen(self, *, lag: int = LAG) -> Iterator[Beat]:
        """Beats of all steps but the last `lag`; waits for those alone."""
        while len(self._waiting) > lag:
            step, buffer, event = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            loss, norm, bad, stop = buffer.tolist()
            yield Beat(step, loss, norm, bad > 0, stop > 0)

    def forget(self) -> None:
        """Drop what is on its way: the run goes back to before it."""
        self._waiting.clear()
