"""What the verbs beside pretrain are told: frozen dataclasses, a docstring under every field, which is also its --help.

In: the command line. Out: one dataclass for each of feed, plan, export and import.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from trainer.config import DataConfig, PretrainConfig
from vocab.store.locations import Location


@dataclass(frozen=True)
class FeedConfig:
    """Run the data path alone, and say what limits it."""

    data: DataConfig = field(default_factory=lambda: DataConfig(holdout_shards=0, batch_size=256))
    """images and labels, as a run has them; nothing is held out unless asked for"""
    seconds: float = 20.0
    """how long to measure, after the first batch"""
    gpu_rate: float = 4500.0
    """images per second that are wanted; 4,500 is ViT-B/16 on an H200"""
    seed: int = 0
    """decides order and crops, as in a run"""


@dataclass(frozen=True)
class ExportConfig:
    """Give a run's weights to others: a folder that timm and the Hugging Face Hub read."""

    run: Positional[Location]
    """run directory, finished or with a checkpoint"""
    out: Location
    """folder to write; it must not exist"""
    checkpoint: int | None = None
    """step of the checkpoint to take; unset takes the finished run's weights, or else the newest checkpoint's"""
    weights: Literal["ema", "model"] = "ema"
    """the moving average, which is what was evaluated; or the weights of the step itself, from a checkpoint"""
    backbone: bool = False
    """leave out the classifier: features instead of logits"""
    onnx: bool = False
    """write model.onnx as well, and compare it with the model; pip install '.[onnx]'"""
    licence: str = "other"
    """licence of the weights, for the model card, by the Hub's name of it: apache-2.0, cc-by-4.0, ..."""


@dataclass(frozen=True)
class ImportConfig:
    """Bring CatLIP weights that Apple released with CoreNet into the form in which runs are exported."""

    weights: Positional[Location]
    """the .pt file: vit_base.pt, vit_large.pt or vit_huge.pt"""
    vocabulary: Location
    """the .pkl file released beside it: synsets with their counts, the most frequent first"""
    out: Location
    """folder to write; it must not exist"""
    model: Literal["vit_base", "vit_large", "vit_huge"] | None = None
    """what the weights must be; unset reads it from their shapes"""
    classes: int = 24_320
    """classes that the classifier must have: so many of the vocabulary's first synsets are used"""
    image_size: int = 224
    """side of the images that the position embeddings are written for, pixels; 224 leaves them as they were released"""


@dataclass(frozen=True)
class PlanConfig:
    """Say what a run will cost, in memory, work and hours, before it is launched. Needs no data."""

    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """the run"""
    gpu: str = "H100"
    """kind of GPU: "H200", "A100 40GB", or as torch.cuda.get_device_name calls it; `peak-tflops` and `gpu-memory` say
    what is not in our table"""
    gpus: int = 8
    """how many, one process each"""
    gpu_memory: float | None = None
    """memory of a GPU, GB (10^9 bytes); unset: as the table has it"""
    mfu: float = 0.4
    """share of the GPU's stated peak that the model's work is expected to reach; what activation checkpointing computes
    again is not of it"""
    classes: int | None = None
    """classes; unset: those of `vocabulary`, or without one 24,320, CatLIP's"""
    price: float | None = None
    """of a GPU for an hour, in any currency"""
