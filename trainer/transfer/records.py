"""One number that came out of one method on one task: a cell of the results table.

In: what a verb measured. Out: `Record`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Record:
    """A result."""

    task: str
    method: Literal["probe", "knn", "finetune", "zeroshot"]
    init: str
    percent: float
    """of the training images"""
    seed: int
    metric: str
    value: float
    images: int
    """that it was measured on"""
    seconds: float
    extra: Mapping[str, Any]
    """JSON values"""
