"""Page-locked memory: what the driver is asked for, on a machine without a GPU."""

from __future__ import annotations

import gc
import mmap

import pytest
import torch

from trainer.checkpoints.snapshot import HostCopies, pinned_bytes
from trainer.data.ring import Ring
from vocab.errors import MissingRequirementError


class Driver:
    """CUDA's runtime, as far as page-locking goes."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802
        assert flags == 1
        self.locked[address] = size
        return self.status

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        del self.locked[address]
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return driver


def test_a_pinned_ring_is_locked_as_a_whole_until_it_is_closed(driver: Driver) -> None:
    ring = Ring(3, 5000)
    ring.pin()
    assert list(driver.locked.values()) == [3 * 8192]
    ring.close()
    assert driver.locked == {}


def test_a_buffer_for_checkpoints_is_locked_for_as_long_as_it_lives(driver: Driver) -> None:
    memory = pinned_bytes(1000)
    assert driver.locked == {memory.data_ptr(): mmap.PAGESIZE}
    memory.fill_(7)
    assert memory.tolist() == [7] * 1000
    del memory
    gc.collect()
    assert driver.locked == {}


def test_buffers_for_checkpoints_are_whole_pages_and_share_none(driver: Driver) -> None:
    copies = HostCopies(0, 1)
    # As of a small model: weights, moments, and the map of the learnt augmentation.
    sizes = {"model": 5000, "optimizer": 2 * 5000, "ema": 5000, "augment": 24}
    kept = [copies._buffer(file, size, pinned=True) for file, size in sizes.items()]
    assert [len(each) for each in kept] == list(sizes.values())
    assert all(address % mmap.PAGESIZE == 0 for address in driver.locked)
    pages = [page for address, size in driver.locked.items() for page in range(address, address + size, mmap.PAGESIZE)]
    assert len(pages) == len(set(pages)) == 2 + 3 + 2 + 1


def test_memory_that_the_driver_does_not_lock_is_named_with_its_remedy(driver: Driver) -> None:
    driver.status = 2
    with pytest.raises(MissingRequirementError, match=r"page-locked memory for batches: found CUDA error 2 .*--no-pin"):
        Ring(1, 4096).pin()
    with pytest.raises(MissingRequirementError, match=r"page-locked memory for checkpoints: found CUDA error 2 .*-l\)"):
        pinned_bytes(1 << 20)
