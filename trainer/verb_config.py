"""Options of feed, plan, export and import, as frozen dataclasses whose field docstrings are the --help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from trainer.config import DataConfig, PretrainConfig
from trainer.options import Bounds, NotNegativeNumber, Options, Positive, PositiveNumber, PositiveShare, Seed, own_first
from vocab.store.locations import Location


@own_first
@dataclass(frozen=True)
class FeedConfig(Seed):
    """Run the data path alone, and say what limits it.

    Without --vocabulary every synset of the labels is a class.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("images", "labels")

    data: DataConfig = field(default_factory=lambda: DataConfig(holdout_shards=0, batch_size=256))
    """images and labels; nothing is held out unless --holdout-shards says so"""
    seconds: Annotated[float, Bounds(above_low=True)] = 20.0
    """duration of the measurement after the first batch, seconds"""
    gpu_rate: float = 4500.0
    """images per second that training needs; the default is ViT-B/16's on an H200"""


@dataclass(frozen=True)
class ExportConfig(Options):
    """Export a run's weights as a folder that timm and the Hugging Face Hub read."""

    run: Positional[Location]
    """run directory, finished or with a checkpoint"""
    out: Location
    """folder to write; it must not exist"""
    checkpoint: int | None = None
    """step of the checkpoint to export (default: the finished run's weights, or else the newest checkpoint)"""
    weights: Literal["ema", "model"] = "ema"
    """weights to export

    ema: the moving average, which was evaluated
    model: those of the step itself, from a checkpoint"""
    backbone: bool = False
    """leave out the classifier, so that the model gives features instead of logits"""
    onnx: bool = False
    """also write model.onnx, and compare its output with the model's; needs pip install '.[onnx]'"""
    licence: Annotated[str, "NAME"] = "other"
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
    """architecture that the weights must have (default: read from their shapes)"""
    classes: Positive = 24_320
    """number of classes that the classifier must have; as many of the vocabulary's first synsets are used"""
    image_size: Positive = 224
    """side of the images that the position embeddings are interpolated to, pixels; released ones are for 224"""


@dataclass(frozen=True)
class PlanConfig(Options):
    """Say what a run will cost, in memory, work and hours, before it is launched.

    No data is needed. Takes every option that python -m trainer pretrain RECIPE --help lists, too. For detect and
    segment, their option --plan says it.
    """

    pretrain: Annotated[PretrainConfig, "elsewhere"] = field(default_factory=PretrainConfig)
    """recipe of the run"""
    gpu: Annotated[str, "NAME"] = "H100"
    """kind of GPU, such as "H200" or "A100 40GB", or its name from torch.cuda.get_device_name. A GPU that is not in our
    table needs --peak-tflops and --gpu-memory"""
    gpus: Positive = 8
    """number of GPUs, with one process each"""
    gpu_memory: PositiveNumber | None = None
    """memory of a GPU, GB (10^9 bytes) (default: from our table)"""
    mfu: PositiveShare = 0.4
    """expected share of the GPU's stated peak that goes into the model's work (MFU); work that activation checkpointing
    repeats does not count"""
    classes: Positive | None = None
    """number of classes (default: the vocabulary's, or CatLIP's 24,320 without --vocabulary)"""
    price: NotNegativeNumber | None = None
    """price of one GPU for one hour, in any currency (default: no price is shown)"""
