"""Options of feed, plan, export and import, as frozen dataclasses whose field docstrings are the --help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional

from trainer.config import DataConfig, PretrainConfig
from trainer.options import Bounds, NotNegativeNumber, Options, Positive, PositiveNumber, PositiveShare, Seed, own_first
from vocab.store.locations import Location


@own_first
@dataclass(frozen=True)
class FeedConfig(Seed):
    """Run the data path alone, and say what limits it."""

    data: DataConfig = field(default_factory=lambda: DataConfig(holdout_shards=0, batch_size=256))
    """images and labels of a run; nothing is held out unless --holdout-shards says so"""
    seconds: Annotated[float, Bounds(above_low=True)] = 20.0
    """duration of the measurement after the first batch, seconds"""
    gpu_rate: float = 4500.0
    """images per second that training needs; 4,500 is ViT-B/16 on an H200"""


@dataclass(frozen=True)
class ExportConfig(Options):
    """Give a run's weights to others: a folder that timm and the Hugging Face Hub read."""

    run: Positional[Location]
    """run directory, finished or with a checkpoint"""
    out: Location
    """folder to write; it must not exist"""
    checkpoint: int | None = None
    """step of the checkpoint to export; unset: the finished run's weights, or else the newest checkpoint's"""
    weights: Literal["ema", "model"] = "ema"
    """ema: the moving average, which was evaluated; model: the weights of the step itself, from a checkpoint"""
    backbone: bool = False
    """leave out the classifier, so that the model gives features instead of logits"""
    onnx: bool = False
    """also write model.onnx, and compare its output with the model's (pip install '.[onnx]')"""
    licence: str = "other"
    """licence of the weights for the model card, by its name on the Hub: apache-2.0, cc-by-4.0, ..."""


@dataclass(frozen=True)
class ImportConfig(Options):
    """Bring CatLIP weights that Apple released with CoreNet into the form in which runs are exported."""

    weights: Positional[Location]
    """released .pt file: vit_base.pt, vit_large.pt or vit_huge.pt"""
    vocabulary: Location
    """released .pkl file of synsets with their counts, the most frequent first"""
    out: Location
    """folder to write; it must not exist"""
    model: Literal["vit_base", "vit_large", "vit_huge"] | None = None
    """architecture that the weights must have; unset: read from their shapes"""
    classes: Positive = 24_320
    """number of classes that the classifier must have; as many of the vocabulary's first synsets are used"""
    image_size: Positive = 224
    """side of the images that the position embeddings are interpolated to, pixels; 224: as released"""


@dataclass(frozen=True)
class PlanConfig(Options):
    """Say what a run will cost, in memory, work and hours, before it is launched. Needs no data."""

    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """recipe of the run"""
    gpu: str = "H100"
    """kind of GPU, such as "H200" or "A100 40GB", or its name from torch.cuda.get_device_name;
    a GPU that is not in our table needs `peak-tflops` and `gpu-memory`"""
    gpus: Positive = 8
    """number of GPUs, with one process each"""
    gpu_memory: PositiveNumber | None = None
    """memory of a GPU, GB (10^9 bytes); unset: from our table"""
    mfu: PositiveShare = 0.4
    """expected share of the GPU's stated peak that goes into the model's work (MFU);
    work that activation checkpointing repeats does not count"""
    classes: Positive | None = None
    """number of classes; unset: those of `vocabulary`, or without a vocabulary CatLIP's 24,320"""
    price: NotNegativeNumber | None = None
    """price of one GPU for one hour, in any currency; unset: no price is shown"""
