"""Memory and time of the classifier and its loss, forward and backward: all logits and a dense target, over ours.

    python -m benchmarks.head_memory [--images 16384] [--classes 24320] [--width 768] [--chunk 1024] [--device cpu]

In: nothing; features are random, an image has 7 random classes. Out: one JSON object, whose `head_memory_ratio` is the
dense version's peak over ours. Both take the same features and weights and must come to the same loss and gradients.

    dense    nn.Linear, a dense float target, binary_cross_entropy_with_logits, summed over classes, mean over images
    ours     trainer/loss/classifier.py with `--loss bce`

A peak is what is held at most beyond features, weights and sparse labels: the gradients that remain are part of it. On
CUDA it is the allocator's; on the CPU each version has a process of its own, and it is the resident memory's (Linux).
Seconds are of a second forward and backward pass, in the same process; `--no-timed` leaves it out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from trainer.config import LossConfig
from trainer.loss.classifier import chunked_loss
from trainer.loss.losses import loss_of
from trainer.loss.targets import Targets
from vocab.errors import run_cli
from vocab.vocabulary import Vocabulary

LABELS = 7  # of an image
RESULTS = ("loss", "feature_gradient", "weight_gradient", "bias_gradient")  # both versions come to the same
MEGABYTE = 1 << 20
# A process is started as `python -c CHILD`; its standard input is the options, and so is the last line of its output.
CHILD = """
import json, sys
from benchmarks import head_memory
given = head_memory.HeadMemory(**json.load(sys.stdin))
print(json.dumps(head_memory.measure_one(given)))
"""


@dataclass(frozen=True)
class HeadMemory:
    """Memory and time of the classifier and its loss."""

    images: int = 16_384
    """images of a step, on one device"""
    classes: int = 24_320
    """classes; the paper's 24,320"""
    width: int = 768
    """width of the features; ViT-B's 768"""
    chunk: int = 1024
    """images whose logits exist at a time, for ours"""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """where to compute"""
    bfloat16: bool = False
    """both under bfloat16 autocast"""
    loss: Literal["bce", "softmax", "asymmetric"] = "bce"
    """ours; another than bce is measured alone"""
    version: Literal["both", "dense", "ours"] = "both"
    """heads to measure"""
    timed: bool = True
    """take a second pass, for the time"""
    threads: int | None = None
    """CPU threads; unset leaves torch's choice"""


def head_memory(images: int, classes: int, width: int, device: Literal["cpu", "cuda"]) -> dict[str, object]:
    """Peaks of both versions in MB, their seconds, and the ratios; see the module."""
    return measure(HeadMemory(images=images, classes=classes, width=width, device=device))


def measure(options: HeadMemory) -> dict[str, object]:
    """Each version by itself, and how they compare. Raises AssertionError if they compute different things."""
    both = options.version == "both" and options.loss == "bce"
    versions: tuple[Literal["both", "dense", "ours"], ...]
    versions = ("dense", "ours") if both else ("ours" if options.version == "both" else options.version,)
    run = measure_one if options.device == "cuda" else in_fresh_process
    found = {version: run(replace(options, version=version)) for version in versions}
    result: dict[str, object] = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "measured": "CUDA allocator" if options.device == "cuda" else "resident memory of a fresh process",
        **{name: value for name, value in asdict(options).items() if name not in ("device", "version", "timed")},
    }
    for version, one in found.items():
        result[f"{version}_peak_mb"] = round(one["peak"] / MEGABYTE)
        if options.timed:
            result[f"{version}_seconds"] = round(one["seconds"], 3)
    if both:
        dense, ours = found["dense"], found["ours"]
        for name in RESULTS:
            apart = abs(dense[name] - ours[name]) / abs(dense[name])
            assert apart < (0.02 if options.bfloat16 else 0.001), (name, dense[name], ours[name])
        result["head_memory_ratio"] = round(dense["peak"] / ours["peak"], 2)
        if options.timed:
            result["head_time_ratio"] = round(dense["seconds"] / ours["seconds"], 2)
    return result


def in_fresh_process(options: HeadMemory) -> dict[str, float]:
    """`measure_one` where nothing was allocated before."""
    process = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(asdict(options)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


def measure_one(options: HeadMemory) -> dict[str, float]:
    """Peak bytes of one version's first pass, the loss and the gradients' norms; seconds of a second pass."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    seed = torch.Generator().manual_seed(0)
    features = torch.randn(options.images, options.width, generator=seed).to(device).requires_grad_()
    torch.manual_seed(0)
    head = nn.Linear(options.width, options.classes).to(device)
    first = torch.randint(options.classes, (options.images, 1), generator=seed)
    classes = (first + torch.arange(LABELS) * 97).remainder(options.classes).flatten()
    ends = list(range(0, LABELS * options.images + 1, LABELS))
    targets = Targets(torch.tensor(ends, device=device), classes.to(device), None, ends)
    step = dense_step if options.version == "dense" else our_step

    def run() -> Tensor:
        for tensor in (features, *head.parameters()):
            tensor.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bfloat16):
            loss = step(features, head, targets, options)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    with torch.no_grad():
        head(features[:1])  # what the libraries set up once is no part of either version
    loss, peak = peak_of(run, device)
    norms = [float(tensor.grad.norm()) for tensor in (features, *head.parameters()) if tensor.grad is not None]
    found = {"peak": peak, **dict(zip(RESULTS, [float(loss), *norms], strict=True))}
    if options.timed:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found["seconds"] = time.perf_counter() - start
    return found


def dense_step(features: Tensor, head: nn.Linear, targets: Targets, options: HeadMemory) -> Tensor:
    """Compute the loss the plain way, with all logits and a dense target."""
    logits = head(features)
    dense = torch.zeros(logits.shape, device=logits.device)
    dense[targets.rows, targets.classes] = 1
    return F.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / len(features)


def our_step(features: Tensor, head: nn.Linear, targets: Targets, options: HeadMemory) -> Tensor:
    """The trainer's."""
    vocabulary = Vocabulary(np.arange(1, dtype=np.int32), np.ones(1, np.int64), rows=2, min_count=1)
    loss = loss_of(LossConfig(loss=options.loss), vocabulary)
    result: Tensor = chunked_loss(features, head.weight, head.bias, targets, loss, chunk=options.chunk)
    return result


def peak_of(run: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    """Call a function; return its result and the most bytes held during the call beyond those before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        return result, torch.cuda.max_memory_allocated() - before
    # The peak so far is forgotten. It belongs to the program, unlike getrusage's, which a parent passes on.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = run()
    return result, resident("VmHWM") - before


def resident(name: str) -> int:
    """Bytes of memory that this process holds now (VmRSS) or has held at most (VmHWM)."""
    lines: dict[str, Any] = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def main() -> None:
    """Measure and print."""
    sys.stdout.write(json.dumps(measure(tyro.cli(HeadMemory))) + "\n")


if __name__ == "__main__":
    run_cli(main)
