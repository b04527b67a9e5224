"""Peak rate of a device in matrix products: stated by its maker, and measured.

Rates are floating-point operations per second; a multiplication and its addition are two.

Stated rates come from NVIDIA's data sheets: tensor cores, dense, bfloat16 with sums in float32; half of the rate where
a sheet gives it with sparsity. V100 and T4 have no bfloat16; their rates are for float16.

    V100        "NVIDIA Tesla V100 GPU accelerator", 2018: SXM2 125, PCIe 112
    T4          "NVIDIA T4 70W low profile PCIe GPU accelerator", 2018: 65
    A100        "NVIDIA A100 tensor core GPU", 2022: 312
    A30, A10    their data sheets, 2021: 165, 125
    A40         "NVIDIA A40", 2021: 149.7
    L4, L40S    their data sheets, 2023: 242 and 733 with sparsity, L40S stated 362 without
    H100, H200  their data sheets, 2023 and 2024: SXM 1,979 with sparsity, H100 PCIe 1,513, NVL of either 1,671
    B200        "NVIDIA HGX B200", 2025: eight have 36,000 with sparsity
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import torch

TERA = 1e12
CUDA_SIDE, CPU_SIDE = 8192, 1024
"""sides of the measured product: large enough to saturate a GPU; tens of milliseconds on the CPU"""
PEAK_ATTEMPTS = 5
"""products that are timed, of which the fastest counts"""


@dataclass(frozen=True)
class Card:
    """A kind of GPU, as its data sheet has it."""

    words: tuple[str, ...]
    """words of the device's name, all of which it has"""
    tflops: int | float
    """dense matrix products, bfloat16, TFLOP/s"""
    gigabytes: int
    """memory, 10^9 bytes"""


@dataclass(frozen=True)
class Peaks:
    """Peak rates of a device, floating-point operations per second."""

    stated: float | None
    """the maker's, for bfloat16 matrix products; None for a device that is not in our table"""
    measured: float
    """rate of a large matrix product, in the precision of the run, before its first step"""


# The first that fits a name counts.
CARDS = (
    Card(("b200",), 2250.0, 180),
    Card(("h200", "nvl"), 835.5, 141),
    Card(("h200",), 989.0, 141),
    Card(("h100", "nvl"), 835.5, 94),
    Card(("h100", "pcie"), 756.0, 80),
    Card(("h100",), 989.0, 80),
    Card(("a100", "40gb"), 312.0, 40),
    Card(("a100",), 312.0, 80),
    Card(("l40s",), 362.0, 48),
    Card(("l4",), 121.0, 24),
    Card(("a40",), 149.7, 48),
    Card(("a30",), 165.0, 24),
    Card(("a10",), 125.0, 24),
    Card(("v100", "pcie", "32gb"), 112.0, 32),
    Card(("v100", "pcie"), 112.0, 16),
    Card(("v100", "32gb"), 125.0, 32),
    Card(("v100",), 125.0, 16),
    Card(("t4",), 65.0, 16),
)


def card_of(name: str) -> Card | None:
    """Look up a GPU by the name that torch.cuda.get_device_name gives, or by a short one such as "H100".

    None for one that is not in the table, and for a slice of a GPU (MIG), whose rate is a part of it.
    """
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    if "mig" in words:
        return None
    return next((card for card in CARDS if words.issuperset(card.words)), None)


def stated_peak(name: str) -> float | None:
    """Look up the dense bfloat16 operations per second of a GPU by its name; None where it is not known."""
    card = card_of(name)
    return card.tflops * TERA if card is not None else None


def measured_peak(device: torch.device, dtype: torch.dtype, *, side: int | None = None) -> float:
    """Measure operations per second in the fastest of several products of two square matrices, `side` rows each."""
    cuda = device.type == "cuda"
    side = side or (CUDA_SIDE if cuda else CPU_SIDE)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    # Once unmeasured: the first call chooses a kernel and wakes the device.
    seconds = [_seconds(left, right, product, cuda=cuda) for _ in range(PEAK_ATTEMPTS + 1)][1:]
    return 2 * side**3 / min(seconds)


def peaks_of(tflops: float | None, device: torch.device, *, bfloat16: bool) -> Peaks:
    """Look up and measure the peaks of a device. `tflops`: its stated peak; unset: that of our table."""
    cuda = device.type == "cuda"
    stated = tflops * TERA if tflops is not None else stated_peak(torch.cuda.get_device_name(device)) if cuda else None
    return Peaks(stated, measured_peak(device, torch.bfloat16 if bfloat16 else torch.float32))


def _seconds(left: torch.Tensor, right: torch.Tensor, product: torch.Tensor, *, cuda: bool) -> float:
    if not cuda:
        began = time.perf_counter()
        torch.mm(left, right, out=product)
        product[0, 0].item()  # waits for a device that computes beside the host
        return time.perf_counter() - began
    with torch.cuda.device(left.device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        torch.mm(left, right, out=product)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
