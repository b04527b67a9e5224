"""What the verbs of transfer are told: frozen dataclasses, a docstring under every field, which is also its --help.

In: the command line. Out: one dataclass for each verb, written as config.json beside its results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from trainer.transfer.datasets.task_config import TaskConfig


@dataclass(frozen=True)
class ZeroShotConfig:
    """Tell a task's classes by the pre-trained classifier alone, by the rows of their synsets. Nothing is trained."""

    model: Positional[Path]
    """run directory, or a folder that export or import wrote"""
    out: Path
    """folder of the results; it must not exist"""
    task: TaskConfig = field(default_factory=lambda: TaskConfig(train="", test=""))
    """the task's images and classes. Nothing is learnt: without `train`, the classes are those of `test`"""
    alpha: float = 1.0
    """least path similarity of a class's synset and the one whose row scores it; 1 takes the same synset alone"""
    hyponyms: Literal["none", "max", "any"] = "none"
    """rows of all that lies below a class's synset score it too: by the largest, or by the chance of at least one"""
    prior: Literal["keep", "remove"] | None = None
    """take the log-odds of each synset's frequency in the pre-training corpus off its logits; unset: remove them for
    one class an image, where test sets are balanced, and keep them for several"""
    image_size: int | None = None
    """side of the square the model sees, pixels; unset: the pre-training's. Position embeddings are interpolated"""
    crop: float | None = None
    """share of the shorter side that the central crop keeps; unset: the pre-training's"""
    batch: int = 256
    """images at a time, per process"""
    workers: int = 8
    """threads of a process that decode images; 0 decodes between batches"""
    features: Path | None = None
    """folder that keeps computed features for other verbs and settings; unset computes them anew"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA, float32 on the CPU"""
