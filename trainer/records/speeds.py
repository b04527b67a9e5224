"""Speed of a run between two lines of its log, and what it waited for, over all ranks."""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.data.batch import Meter, Skipped
from trainer.speed.peak import TERA, measured_peak, stated_peak


@dataclass(frozen=True)
class Peaks:
    """Most floating-point operations a second of one device."""

    stated: float | None
    """the maker's, for bfloat16 matrix products; None for a device that is not in our table"""
    measured: float
    """rate of a large matrix product, in the precision of the run, before its first step"""


def peaks_of(tflops: float | None, device: torch.device, *, bfloat16: bool) -> Peaks:
    """Look up and measure the peaks of a device. `tflops`: its stated peak; unset: that of our table."""
    cuda = device.type == "cuda"
    stated = tflops * TERA if tflops is not None else stated_peak(torch.cuda.get_device_name(device)) if cuda else None
    return Peaks(stated, measured_peak(device, torch.bfloat16 if bfloat16 else torch.float32))


@dataclass(frozen=True)
class WindowShare:
    """One rank's numbers since the last line of the log, as the other ranks get them."""

    images: int
    operations: int
    """floating-point operations of the rank's steps"""
    waited: float
    ready: float
    meter: Meter
    account: Counter[str]
    skipped: list[Skipped]


def speeds(shares: list[WindowShare], elapsed: float, peaks: Peaks, device: torch.device) -> dict[str, Any]:
    """Compute images a second, model FLOP utilisation (MFU), memory, and what the data path did.

    Utilisation is the operations that the model needs (`speed/flops.py`), whatever was done twice, over those that the
    ranks' devices could have done in the time. Numbers of loaders are left out where there are none.
    """
    meter = Meter()
    for share in shares:
        meter.add(share.meter)
    loading = meter.busy_seconds + meter.idle_seconds
    rate = sum(share.operations for share in shares) / elapsed / len(shares)
    return {
        "images_per_second": sum(share.images for share in shares) / elapsed,
        "tflops_per_device": rate / 1e12,
        "mfu": rate / peaks.stated if peaks.stated is not None else None,
        "mfu_measured": rate / peaks.measured,
        "memory_gb": memory(device) / 1e9,
        "data_wait_share": float(np.mean([share.waited for share in shares])) / elapsed,
    } | (_loader_speeds(shares, meter, elapsed) if loading > 0 else {})


def _loader_speeds(shares: list[WindowShare], meter: Meter, elapsed: float) -> dict[str, float]:
    return {
        "batches_ready": float(np.mean([share.ready for share in shares])),
        "read_mb_per_second": meter.bytes / 1e6 / elapsed,
        "decode_ms_per_image": 1e3 * meter.decode_seconds / max(1, meter.images),
        "loaders_idle_share": meter.idle_seconds / (meter.busy_seconds + meter.idle_seconds),
    }


def memory(device: torch.device) -> int:
    """Return the most bytes that this process has held: of the GPU's memory, or without a GPU of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
