"""How fast a run went between two lines of its log, and what it waited for.

In: every rank's share of a window. Out: numbers by name, over all ranks.
"""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from trainer.config import PretrainConfig
from trainer.data.batch import Meter, Skipped
from trainer.speed.peak import TERA, measured_peak, stated_peak


@dataclass(frozen=True)
class Peaks:
    """Floating-point operations a second that one device can do at most."""

    stated: float | None
    """by its maker, bfloat16 matrix products; None for a device that is not in our table"""
    measured: float
    """a large matrix product, in the precision of the run, before its first step"""


def peaks_of(config: PretrainConfig, device: torch.device, *, bfloat16: bool) -> Peaks:
    """The peaks of a device: as the options have it, or our table; and measured here and now."""
    tflops, cuda = config.run.peak_tflops, device.type == "cuda"
    stated = tflops * TERA if tflops is not None else stated_peak(torch.cuda.get_device_name(device)) if cuda else None
    return Peaks(stated, measured_peak(device, torch.bfloat16 if bfloat16 else torch.float32))


@dataclass(frozen=True)
class Share:
    """One rank's numbers of a window, as the others get them."""

    images: int
    operations: int
    """floating-point operations of its steps"""
    waited: float
    ready: float
    meter: Meter
    account: Counter[str]
    skipped: list[Skipped]


def speeds(shares: list[Share], elapsed: float, peaks: Peaks, device: torch.device) -> dict[str, float | None]:
    """Images a second, model FLOP utilisation, memory, and what the data path did, over all ranks.

    Utilisation counts the operations that the model needs (`speed/flops.py`), whatever was done twice, over what the
    ranks' devices could have done in the time.
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
        "batches_ready": float(np.mean([share.ready for share in shares])),
        "read_mb_per_second": meter.bytes / 1e6 / elapsed,
        "decode_ms_per_image": 1e3 * meter.decode_seconds / max(1, meter.images),
        "loaders_idle_share": meter.idle_seconds / loading if loading else 0.0,
    }


def memory(device: torch.device) -> int:
    """Bytes that this process has taken at most: of the GPU's memory, on the CPU of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
