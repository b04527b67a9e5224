"""Deaths: one sentence about what ended a rank from outside of this program, on that rank and on all the others.

Torch tells the surviving ranks only that a connection was closed, in a page of text each. So a rank that still can
leaves its last words in the store of the process group, and a rank that was killed is found missing among the processes
of its machine.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from vocab.errors import CatlipError, MissingRequirementError, is_out_of_memory
from vocab.store.locks import has_ended, machine

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# What gloo and NCCL say on a rank whose peer is gone; they raise a bare RuntimeError or a child of DistError.
LOST_PEER = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe")
LAST_WORDS = "last words"
LEFT = "left by"
# The last words of a rank, or its end, are looked for so long.
LOOK_SECONDS = 5.0
MOST_WORDS = 400


def memory_error(error: BaseException, *, where: str) -> CatlipError | None:
    """Put an error that memory was refused into words; None for any other. `where`: the process that ran short."""
    on_device = isinstance(error, torch.OutOfMemoryError)
    if not on_device and not is_out_of_memory(error):
        return None
    return MissingRequirementError(
        f"{'GPU memory' if on_device else 'memory'} of {where}",
        found=_first_line(error) or "an allocation that failed",
        wanted="memory for its batches",
        remedy="Lower --batch-size (or raise --accumulate)"
        + (", or use --activation-checkpointing." if on_device else ", --workers or --prefetch, or raise `ulimit -v`."),
    )


def is_lost_peer(error: BaseException) -> bool:
    """Tell whether an error says that another rank, or the connection to it, is gone."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in LOST_PEER)


def no_group(error: BaseException, *, world: int) -> CatlipError:
    """Make the error for ranks that do not come together."""
    return MissingRequirementError(
        "process group",
        found=_first_line(error),
        wanted=f"{world} ranks that reach each other",
        remedy="Check that all of them were started, and torchrun's --master-addr and --master-port.",
    )


@dataclass(frozen=True)
class Process:
    """Process of a rank."""

    machine: str
    """host, and its process namespace: where the number counts"""
    number: int

    @staticmethod
    def own() -> Process:
        return Process(machine(), os.getpid())

    def is_gone(self, *, seen_from: Process) -> bool:
        """Tell whether the rank has ended; False for a rank of another machine, which cannot be seen."""
        return self.machine == seen_from.machine and has_ended(self.number)


@dataclass(frozen=True)
class Peers:
    """The ranks of a process group."""

    store: Store
    processes: list[Process]
    """machine and number of each rank's process"""

    def tell(self, rank: int, error: BaseException) -> None:
        """Leave this rank's last words, unless those of another rank are there already."""
        words = str(error) if isinstance(error, CatlipError) else f"{type(error).__name__} {_first_line(error)}".strip()
        self._leave(rank, words)

    def explain(self, rank: int) -> CatlipError:
        """Make the error for a rank that has lost a peer: which one, and what ended it."""
        deadline = time.monotonic() + LOOK_SECONDS
        while True:
            lost, words = self._lost(rank)
            if words or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        words = words or "a closed connection, and no word of the rank behind it"
        if lost is not None:
            self._leave(lost, words)
        return MissingRequirementError(
            f"rank {lost}" if lost is not None else "another rank",
            found=words,
            wanted=f"all {len(self.processes)} ranks running",
            remedy="Remove the cause; the same command then goes on from the last checkpoint.",
        )

    def leave(self, rank: int) -> None:
        """Say that this rank needs the store no longer."""
        with suppress(RuntimeError):
            self.store.set(f"{LEFT} {rank}", "")

    def linger(self, rank: int) -> None:
        """Wait until every other rank has left the store or has ended: the store goes with its host."""
        deadline = time.monotonic() + LOOK_SECONDS
        waited_for = [other for other in range(len(self.processes)) if other != rank]
        with suppress(RuntimeError):
            while waited_for and time.monotonic() < deadline:
                time.sleep(0.02)
                waited_for = [other for other in waited_for if not self._has_left(other, rank)]

    def _has_left(self, other: int, rank: int) -> bool:
        gone = self.processes[other].is_gone(seen_from=self.processes[rank])
        return gone or self.store.check([f"{LEFT} {other}"])

    def _lost(self, rank: int) -> tuple[int | None, str]:
        """Find the rank that ended first, as far as is known, and its last words."""
        words = "a killed process (by signal 9 where the system had no memory left: see dmesg)"
        try:
            if self.store.check([LAST_WORDS]):
                first, _, last = self.store.get(LAST_WORDS).decode().partition(" ")
                return int(first), last
        except RuntimeError:
            # The store is gone if its host is, which torchrun is on one machine, and rank 0 without torchrun.
            words = "a process that has ended or was killed (its output says why; after signal 9 see dmesg)"
        own = self.processes[rank]
        for other, process in enumerate(self.processes):
            if process.is_gone(seen_from=own):
                return other, words
        return None, ""

    def _leave(self, rank: int, words: str) -> None:
        with suppress(RuntimeError):
            self.store.compare_set(LAST_WORDS, "", f"{rank} {words[:MOST_WORDS]}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:MOST_WORDS]
