"""Options of the verb detect, and the two recipes that fill in those that are left out."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from trainer.config import OptimConfig
from trainer.options import (
    BelowOne,
    Decode,
    Descent,
    Keeping,
    NotNegative,
    NotNegativeNumber,
    Percent,
    Positive,
    PositiveNumber,
    PositiveShare,
    Seed,
    StepCompute,
    own_first,
    values_of,
)
from trainer.transfer.config import (
    DecodeThreads,
    LocalSides,
    ModelChoice,
    PlanFirst,
    TransferInit,
    check_shares,
    check_warmup,
    momentum_for,
)
from vocab.store.locations import Location

RecipeName = Literal["short", "catlip"]

EMA_MOMENTUM = 1e-4
WARMUP_STEPS, WARMUP_PART = 250, 10
"""steps of warm-up, and the steps of a run over those of its warm-up, at least"""
WINDOWS_FROM = 768
"""image size from which plain transformers attend within windows, pixels"""
LAYER_DECAYS = {12: 0.7, 24: 0.8, 32: 0.9}
"""by the number of a plain transformer's blocks: ViT-B, ViT-L and ViT-H, for ViTDet and CatLIP alike"""


@dataclass(frozen=True)
class DetectRecipe:
    """Defaults of a run."""

    epochs: int
    batch: int
    peak_lr: float
    jitter: tuple[float, float]
    squash: bool
    top_down: bool
    attention: Literal["auto", "global"]
    drop_paths: dict[int, float]
    """by the number of a plain transformer's blocks"""


CATLIP = DetectRecipe(100, 128, 3e-4, (1.0, 1.0), True, True, "global", {12: 0.1, 24: 0.4, 32: 0.5})
"""CatLIP's detector on COCO, as CoreNet has it (projects/catlip/object_detection/maskrcnn_vit_base.yaml: 25 epochs of
images that are repeated four times). ViT-B/16 reaches a box AP of 49.9 and a mask AP of 43.6; about 47 hours of one GPU
at 400 TFLOP/s. CoreNet draws image sizes from 512 to 1280 and learns RangeAugment, which this recipe leaves out."""
SHORT = DetectRecipe(12, 16, 1e-4, (0.1, 2.0), False, False, "auto", {12: 0.1, 24: 0.4, 32: 0.5})
"""ViTDet's choices for a twelfth of its 100 epochs: about 5 hours of one GPU at 400 TFLOP/s for ViT-B/16. Nobody has
published a number for it."""


@own_first
@dataclass(frozen=True)
class DetectTask(Decode, LocalSides):
    """Images of a task, and the objects that they show."""

    PREFIX = "--task."

    train: Annotated[str, "ANNOTATIONS::IMAGES"]
    """images to train on and their objects: ANNOTATIONS.json::IMAGE_FOLDER, COCO's instance annotations; or
    XML_FOLDER::IMAGE_FOLDER, Pascal VOC's, which have boxes alone"""
    test: Annotated[str, "ANNOTATIONS::IMAGES"]
    """images to test on and their objects, in the same form"""
    _: KW_ONLY
    class_names: Location | None = None
    """names of the classes for --init transfer, where the annotations' own are not words: a .txt or .json list in the
    order of the classes, or a .json, .csv or .tsv of label and name"""


@own_first
@dataclass(frozen=True)
class DetectConfig(ModelChoice, PlanFirst, Descent, DecodeThreads, StepCompute, TransferInit, Seed, Keeping):
    """Train a Mask R-CNN on a pre-trained model's feature maps: boxes and masks of a task's objects."""

    task: DetectTask
    """images and objects of the task"""
    out: Path
    """directory of the results; the directory of a stopped run continues that run"""
    _: KW_ONLY
    recipe: RecipeName = "short"
    """source of the options that are left out

    short: 12 epochs of batch 16 with large-scale jitter, ViTDet's choices otherwise; 5 hours of one GPU for ViT-B/16
    on COCO at 400 TFLOP/s, and no published number to expect
    catlip: CatLIP's 100 epochs of batch 128 on squashed images, with global attention and a top-down path; 47 hours,
    and 49.9 box AP and 43.6 mask AP to expect"""
    image_size: Positive = 1024
    """side of the square that the model sees, pixels. Position embeddings are interpolated to it"""
    epochs: Positive | None = None
    """number of times that every training image is seen (default: the recipe's)"""
    batch: Positive | None = None
    """images per optimisation step, over all processes (default: the recipe's)"""
    percent: Percent = 100.0
    """share of the training images, in percent; the images of 1 % are among the 5 % of the same seed"""
    masks: Literal["auto", "on", "off"] = "auto"
    """masks of objects

    auto: learn them where nearly all objects of both sides have one, --task.max-bad-share excepted
    on: learn them; objects without a mask are left out and counted
    off: learn boxes alone"""
    jitter: tuple[PositiveNumber, PositiveNumber] | None = None
    """smallest and largest scale of a training image; at 1 its longer side fills the square (default: the recipe's)"""
    squash: bool | None = None
    """fill the square whatever the image's aspect ratio, in training and at the test (default: the recipe's)"""
    flip: bool = True
    """mirror half of the training images, drawn at random"""
    attention: Literal["auto", "windows", "global"] | None = None
    """attention of a plain transformer (default: the recipe's)

    auto: windows for images of 768 pixels or more
    windows: within windows of 14 x 14 patches, but in four blocks
    global: over the whole image"""
    top_down: bool | None = None
    """add coarser maps of the pyramid to finer ones (default: the recipe's, and always for models of several stages)"""
    head_width: Positive = 256
    """channels of the pyramid and of the heads"""
    head_convolutions: Positive = 4
    """convolutions of the box head and of the mask head"""
    proposals: Positive = 1000
    """boxes of an image that pass on to the heads at the test; twice as many in training"""
    boxes: Positive = 512
    """boxes of an image that the heads learn from"""
    drop_path: BelowOne | None = None
    """stochastic depth rate of the last block (default: the recipe's for 12, 24 and 32 blocks, 0 for other models)"""
    layer_decay: PositiveShare | None = None  # type: ignore[assignment]
    """learning rate of a block divided by that of the block above it; pyramid and heads learn at the full rate
    (default: 0.7, 0.8 and 0.9 for plain transformers of 12, 24 and 32 blocks, 1 for other models)"""
    warmup_steps: NotNegative | None = None  # type: ignore[assignment]
    """steps in which the learning rate rises linearly to its peak (default: 250, at most a tenth of all steps)"""
    weight_decay: NotNegativeNumber = 0.1
    keep_checkpoints: Positive = 1
    peak_lr: PositiveNumber | None = None
    """learning rate after warm-up; it falls to a tenth after 8/9 of the steps, and to a hundredth after 26/27
    (default: the recipe's)"""
    ema_momentum: PositiveShare | None = None
    """share of the new weights in the moving average, which is evaluated (default: the paper's 0.0001, or 10 / steps in
    runs so short that the average would still hold their first weights)"""
    prefetch: Positive = 2
    """batches that are decoded ahead"""
    eval_every: NotNegative = 0
    """epochs between evaluations; with 0 the end of the run alone has one"""

    def completed(self, *, depth: int, stages: int) -> DetectConfig:
        """Fill in the options that the recipe and the model decide.

        `depth`: blocks of a plain transformer, 0 for another model; `stages`: maps that its pyramid begins with.
        """
        recipe = CATLIP if self.recipe == "catlip" else SHORT
        attention = self.attention or recipe.attention
        if attention == "auto":
            attention = "windows" if depth and self.image_size >= WINDOWS_FROM else "global"
        top_down = self.top_down if self.top_down is not None else recipe.top_down
        return replace(
            self,
            epochs=self.epochs or recipe.epochs,
            batch=self.batch or recipe.batch,
            jitter=self.jitter or recipe.jitter,
            squash=self.squash if self.squash is not None else recipe.squash,
            attention=attention,
            top_down=top_down or stages > 1,
            drop_path=self.drop_path if self.drop_path is not None else recipe.drop_paths.get(depth, 0.0),
            layer_decay=self.layer_decay or LAYER_DECAYS.get(depth, 1.0),
            peak_lr=self.peak_lr or recipe.peak_lr,
        )

    def check(self, *, world: int) -> None:
        """Raise InputError for a batch that `world` processes cannot share out, and for a jitter in the wrong order."""
        assert self.batch is not None
        assert self.jitter is not None
        check_shares(self, self.batch, world=world, accumulate=self.accumulate)
        self.require(
            "optimiser",
            self.optimiser != "muon",
            "muon",
            "adamw, with which the published detectors are trained",
            remedy="Leave --optimiser out.",
        )
        self.require(
            "jitter",
            self.jitter[0] <= self.jitter[1],
            f"{self.jitter[0]:g} {self.jitter[1]:g}",
            "the smallest scale first",
            remedy="Exchange the two numbers.",
        )

    def timed(self, *, steps: int) -> DetectConfig:
        """Fill in the options that the length of the run decides. Raises InputError for a warm-up that never ends."""
        warmup = self.warmup_steps if self.warmup_steps is not None else min(WARMUP_STEPS, steps // WARMUP_PART)
        check_warmup(self, warmup, steps=steps)
        momentum = self.ema_momentum or momentum_for(steps, usual=EMA_MOMENTUM)
        return replace(self, warmup_steps=warmup, ema_momentum=momentum)

    def optim(self, *, steps: int) -> OptimConfig:
        """Make the options of optimiser and learning rate from a complete configuration."""
        assert self.peak_lr is not None
        assert self.ema_momentum is not None
        return OptimConfig(
            **values_of(self, Descent),
            steps=steps,
            schedule="step",
            start_lr=0.0,
            peak_lr=self.peak_lr,
            final_lr=self.peak_lr / 100,
            ema_momentum=self.ema_momentum,
            # Losses of few images jump, so that a high one is no sign: only NaN and infinite losses are bad.
            spike_factor=math.inf,
        )
