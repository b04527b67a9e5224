"""Time of work that takes turns with other work, by two clocks.

In: callables. Out: seconds of each of them in each round, and ratios.

On a CPU, read the processor's clock, which counts all threads of this process and no other program. On a GPU that
clock shows the host's work alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.measuring.setting import say

Clock = Literal["wall", "processor"]


@dataclass(frozen=True)
class Spent:
    """Seconds by the two clocks."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def by(self, clock: Clock) -> float:
        """Return the seconds by one of the clocks."""
        return self.wall if clock == "wall" else self.processor


def timed(work: Callable[[], object], device: torch.device) -> Spent:
    """Time work until the device has done it."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Spent(time.perf_counter() - wall, time.process_time() - processor)


def by_turns(
    works: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device, warm_up: int
) -> dict[str, list[Spent]]:
    """Time all works in each round, after `warm_up` rounds that do not count; every round turns their order."""
    found: dict[str, list[Spent]] = {name: [] for name in works}
    for number in range(-warm_up, rounds):
        for name in works if number % 2 == 0 else reversed(list(works)):
            spent = timed(works[name], device)
            if number >= 0:
                found[name].append(spent)
        if number >= 0:
            say("  " + ", ".join(f"{name} {spent[-1].wall:.3f} s" for name, spent in found.items()))
    return found


def ratio(found: Mapping[str, list[Spent]], one: str, other: str, *, clock: Clock = "wall") -> float:
    """Return the median over the rounds of the seconds of one over those of the other."""
    ratios = [first.by(clock) / second.by(clock) for first, second in zip(found[one], found[other], strict=True)]
    return round(statistics.median(ratios), 3)


def summary(found: Mapping[str, list[Spent]], *, images: int) -> dict[str, dict[str, Any]]:
    """Summarise the images per second and the seconds of each."""
    return {
        name: {
            "images_per_second": round(images / statistics.median(one.wall for one in spent), 3),
            "seconds": [round(one.wall, 3) for one in spent],
            "processor_seconds": [round(one.processor, 3) for one in spent],
        }
        for name, spent in found.items()
    }
