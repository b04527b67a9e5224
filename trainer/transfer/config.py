"""What the verbs of transfer are told: frozen dataclasses, a docstring under every field, which is also its --help.

In: the command line. Out: one dataclass for each verb, written as config.json beside its results.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class TransferConfig:
    """Measure a pre-trained model on several tasks, and write one table of results."""

    model: Positional[Path]
    """run directory, or a folder that export or import wrote"""
    tasks: Path
    """TOML file of the tasks: docs/transfer.md says what it holds"""
    out: Path
    """folder of the results; naming that of a stopped suite goes on with what is not done"""
    features: Path | None = None
    """folder that keeps computed features for other suites and verbs; unset: `features` in the folder of `cache`. It
    may be deleted at any time"""
    batch: int = 256
    """images at a time, per process, where features are computed"""
    workers: int = 8
    """threads of a process that decode images; 0 decodes between batches"""
    cache: Path | None = None
    """folder on a local disk for copies of remote tars; unset: open-catlip in the user's cache folder"""
    cache_gb: float = 200.0
    """what the copies of remote tars may take, GB (10^9 bytes)"""
    allow_pipe: bool = False
    """let `pipe:COMMAND` in place of tars run a shell command with your rights; a tasks file cannot"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA, float32 on the CPU"""
