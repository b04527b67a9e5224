"""A ring of pixel buffers that a process and its loaders share: pixels are written where the device copies them from.

In: how many bytes a batch can have. Out: arrays over the same memory in every process that holds the ring. The memory
is anonymous (memfd), so it needs no room in /dev/shm and vanishes with its last process.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vocab.errors import MissingRequirementError

Images = UInt8[np.ndarray, "images size size 3"]


class Ring:
    """`slots` buffers of `slot_bytes` each. Pickled to a child process, it is the same memory there."""

    def __init__(self, slots: int, slot_bytes: int, *, descriptor: int | None = None) -> None:
        """Raises MissingRequirementError if the system has no memory for it."""
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pinned = 0
        made = descriptor is None
        self._descriptor = os.memfd_create("batches") if descriptor is None else descriptor
        try:
            if made:
                os.ftruncate(self._descriptor, slots * self.slot_bytes)
            self._memory = mmap.mmap(self._descriptor, slots * self.slot_bytes)
        except OSError as error:
            os.close(self._descriptor)
            raise MissingRequirementError(
                "shared memory for batches",
                found=f"{error.strerror} for {slots * self.slot_bytes / 1e9:.1f} GB",
                wanted=f"{slots} batches",
                remedy="Lower --batch-size or --prefetch.",
            ) from error
        self._bytes = np.frombuffer(self._memory, np.uint8)

    def __reduce__(self) -> tuple[Callable[..., Ring], tuple[Any, ...]]:
        return _reopen, (self.slots, self.slot_bytes, DupFd(self._descriptor))

    def images(self, slot: int, *, count: int, size: int) -> Images:
        """A buffer as `count` images of `size` pixels a side."""
        begin = slot * self.slot_bytes
        return self._bytes[begin : begin + count * size * size * 3].reshape(count, size, size, 3)

    def pin(self) -> None:
        """Page-lock the memory, so that the GPU copies from it while it computes. Needs CUDA."""
        address, size = self._bytes.ctypes.data, self.slots * self.slot_bytes
        status = int(torch.cuda.cudart().cudaHostRegister(address, size, 0))  # type: ignore[no-untyped-call]
        if status != 0:
            raise MissingRequirementError(
                "page-locked memory for batches",
                found=f"CUDA error {status} for {size / 1e9:.1f} GB",
                wanted="memory that may be locked",
                remedy="Raise `ulimit -l`, lower --batch-size or --prefetch, or pass --no-pin-memory.",
            )
        self._pinned = address

    def close(self) -> None:
        """Give the memory back once no array looks at it any more."""
        if self._pinned:
            torch.cuda.synchronize()  # a copy may be under way
            torch.cuda.cudart().cudaHostUnregister(self._pinned)  # type: ignore[no-untyped-call]
            self._pinned = 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _reopen(slots: int, slot_bytes: int, descriptor: Any) -> Ring:
    return Ring(slots, slot_bytes, descriptor=descriptor.detach())


def bytes_of(count: int, size: int) -> int:
    """Bytes of `count` images."""
    return math.prod((count, size, size, 3))
