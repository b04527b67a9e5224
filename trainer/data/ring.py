"""A ring of pixel buffers that a process shares with its loaders; and the page-locking of memory for a GPU.

Loaders write pixels where the device copies them from. The memory of the ring is anonymous (memfd), so that it needs no
room in /dev/shm and vanishes with its last process.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vocab.errors import MissingRequirementError

PORTABLE = 1
"""cudaHostRegisterPortable"""
Images = UInt8[np.ndarray, "images size size 3"]


class Ring:
    """`slots` buffers of `slot_bytes` each. Pickled to a child process, it is the same memory there."""

    def __init__(self, slots: int, slot_bytes: int, *, descriptor: int | None = None) -> None:
        """Raises MissingRequirementError if the system has no memory for it."""
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._unlock: Callable[[], object] | None = None
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
        """Page-lock the memory, so that the GPU copies from it while it computes. Raises as `page_lock`."""
        self._unlock = page_lock(
            self._bytes.ctypes.data,
            self.slots * self.slot_bytes,
            purpose="batches",
            remedy="Raise `ulimit -l`, lower --batch-size or --prefetch, or pass --no-pin-memory.",
        )

    def close(self) -> None:
        """Give the memory back once no array refers to it any more."""
        if self._unlock is not None:
            torch.cuda.synchronize()  # a copy may be under way
            self._unlock()
            self._unlock = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def page_lock(address: int, size: int, *, purpose: str, remedy: str) -> Callable[[], object]:
    """Page-lock `size` bytes of this process, so that a GPU copies from and to them while it computes.

    Returns the function that unlocks them. Needs CUDA. `purpose` and `remedy` are for the error. Raises
    MissingRequirementError if the driver refuses.
    """
    driver = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    status = int(driver.cudaHostRegister(address, size, PORTABLE))
    if status != 0:
        raise MissingRequirementError(
            f"page-locked memory for {purpose}",
            found=f"CUDA error {status} for {size / 1e9:.1f} GB",
            wanted="memory that may be page-locked",
            remedy=remedy,
        )
    return partial(driver.cudaHostUnregister, address)


def _reopen(slots: int, slot_bytes: int, descriptor: Any) -> Ring:
    return Ring(slots, slot_bytes, descriptor=descriptor.detach())
