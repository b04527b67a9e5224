"""Options of the verbs for dense tasks, as frozen dataclasses whose field docstrings are the --help."""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from trainer.config import OptimConfig
from trainer.options import (
    BelowOne,
    Bounds,
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
    PEAK_OVER_FINAL,
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


@dataclass(frozen=True)
class SegmentRecipe:
    """Defaults of a head: DINOv3's linear protocol on ADE20K, or the paper's DeepLabv3 there."""

    epochs: int
    batch: int
    scale: tuple[float, float]
    warmup_steps: int
    weight_decay: float
    blocks: tuple[str, ...]


LINEAR = SegmentRecipe(32, 16, (0.5, 2.0), 1500, 1e-3, ("last", "-2", "last4"))
DEEPLAB = SegmentRecipe(50, 32, (0.5, 1.5), 500, 0.1, ("last",))
DEEPLAB_PEAK_LR = 3e-5
EMA_MOMENTUM = 1e-4
WARMUP_PART = 10
"""steps of a run over those of its warm-up, at least"""
LINEAR_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""around DINOv3's 1e-3"""
BLOCKS = re.compile(r"last(?P<count>[1-9]\d?)?|(?P<number>-?\d{1,3})", re.ASCII)
"""form of a choice of blocks"""


@own_first
@dataclass(frozen=True)
class MaskTask(Decode, LocalSides):
    """Images of a task, and the class of each of their pixels."""

    PREFIX = "--task."

    train: Annotated[str, "IMAGES::MASKS"] = ""
    """images to train on and their masks: two folders, paired by the names of the files; or ANNOTATIONS.json::IMAGES,
    COCO's panoptic annotations (with ::PNGS for their PNGs, if these lie in a folder of another name) or its objects.
    Zero-shot segmentation needs none"""
    test: Annotated[str, "IMAGES::MASKS"] = ""
    """images to test on and their masks, in any of these forms"""
    _: KW_ONLY
    class_names: Location | None = None
    """names of the classes, where masks have numbers alone: a .txt or .json list in the order of the classes, or a
    .json, .csv or .tsv of number and name"""
    ignore: tuple[Annotated[int, Bounds(0, 65_535)], ...] = ()
    """values in a mask that are no class: such pixels are neither trained on nor scored (default: 255)"""
    zero: Literal["auto", "class", "ignored"] = "auto"
    """value 0 in a mask

    auto: a class, but in folders of the name ADE20K or ADEChallengeData2016
    class: the first class
    ignored: no class, and every other value is one less"""


@own_first
@dataclass(frozen=True)
class SegmentConfig(ModelChoice, PlanFirst, Descent, DecodeThreads, StepCompute, TransferInit, Seed, Keeping):
    """Tell the class of every pixel: train a head on a pre-trained model's feature maps, frozen or with the model.

    Unset options are those of DINOv3's linear protocol, or of the paper's DeepLabv3.
    """

    task: MaskTask
    """images and masks of the task"""
    out: Path
    """directory of the results; the directory of a stopped run continues that run"""
    _: KW_ONLY
    head: Literal["linear", "deeplab", "zero-shot"] = "linear"
    """part of the model above its feature maps

    linear: batch norm, dropout and a linear classifier; the model stays frozen
    deeplab: DeepLabv3's pyramid of dilated convolutions; the model is trained with it
    zero-shot: the pre-trained classifier's rows of the classes' synsets; nothing is trained, and --out must be new"""
    image_size: Positive = 512
    """side of the square crops that the model sees, pixels. Position embeddings are interpolated to it"""
    blocks: tuple[str, ...] = ()
    """feature maps to choose among: last, or the number of a block, -2 for the one before the last; lastN: the last N
    blocks side by side (default: last -2 last4 for the linear head, last for Transfer Init and deeplab)"""
    stride: Positive | None = None
    """with --head deeplab: pixels between neighbours of a plain transformer's map; half the patch lets patches
    overlap (default: half the patch, as in the paper, where four divides the patch; elsewhere the model's own)"""
    learning_rates: tuple[PositiveNumber, ...] = ()
    """with --head linear: peak learning rates, all trained at once; the best is found on held-out training images
    (default: 1e-4 3e-4 1e-3 3e-3 1e-2)"""
    holdout: BelowOne = 0.1
    """with several blocks or learning rates: share of the training images that are held out to choose by; with 0 the
    first of --blocks is taken with the learning rate nearest 0.001"""
    epochs: Positive | None = None
    """number of times that every training image is seen (default: 32 for linear, 50 for deeplab)"""
    batch: Positive | None = None
    """images per optimisation step, over all processes (default: 16 for linear, 32 for deeplab)"""
    percent: Percent = 100.0
    """share of the training images, in percent; the images of 1 % are among the 5 % of the same seed"""
    scale: tuple[PositiveNumber, PositiveNumber] | None = None
    """smallest and largest shorter side of a training image over --image-size, before the crop
    (default: 0.5 2 for linear, 0.5 1.5 for deeplab)"""
    max_class_share: PositiveShare = 0.75
    """largest share of a training crop that one class may cover; the crop is drawn anew above it, up to ten times"""
    flip: bool = True
    """mirror half of the training images, drawn at random"""
    dropout: BelowOne = 0.1
    """share of the channels below the classifier that a training image goes without"""
    head_width: Positive = 512
    """with --head deeplab: channels of each branch"""
    drop_path: BelowOne = 0.0
    """with --head deeplab: stochastic depth rate of the last block"""
    warmup_steps: NotNegative | None = None  # type: ignore[assignment]
    """steps in which the learning rate rises linearly to its peak (default: 1,500 for linear, 500 for deeplab, but at
    most a tenth of all steps)"""
    weight_decay: NotNegativeNumber | None = None  # type: ignore[assignment]
    """weight decay (default: 0.001 for linear, 0.1 for deeplab)"""
    peak_lr: PositiveNumber | None = None
    """with --head deeplab: learning rate after warm-up (default: 3e-5)"""
    final_lr: NotNegativeNumber | None = None
    """with --head deeplab: learning rate at the last step (default: a tenth of the peak); linear heads end at 0"""
    ema_momentum: PositiveShare | None = None
    """share of the new weights in the moving average, which is evaluated (default: the paper's 0.0001, or 10 / steps in
    runs so short that the average would still hold their first weights)"""
    keep_checkpoints: Positive = 1
    eval_every: NotNegative = 0
    """epochs between evaluations; with 0 the end of the run alone has one"""
    slide_stride: PositiveShare = 2 / 3
    """step of the sliding window in evaluation over its side"""
    prefetch: Positive = 2
    """batches that are decoded ahead"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for options that the head does not have."""
        super().__post_init__()
        for name in ("blocks", "learning_rates"):
            if getattr(self, name):
                self.require_each_once(name)
        for choice in self.blocks:
            wanted = "last, last4 or another number of blocks, or the number of a block such as -2"
            remedy = "--help lists the forms."
            self.require("blocks", BLOCKS.fullmatch(choice) is not None, repr(choice), wanted, remedy=remedy)
        of_deeplab = (
            *("stride", "peak_lr", "final_lr", "layer_decay", "drop_path", "activation_checkpointing"),
            *("head_width", "clip_norm"),
        )
        of_heads = ("learning_rates", "holdout")
        of_training = (
            *("blocks", "epochs", "percent", "init", "scale", "flip", "max_class_share", "dropout", "eval_every"),
            *("warmup_steps", "weight_decay", "ema_momentum", "plan"),
        )
        others = {
            "linear": of_deeplab,
            "deeplab": of_heads,
            "zero-shot": (*of_deeplab, *of_heads, *of_training),
        }
        instead = {("linear", "peak_lr"): "learning_rates", ("deeplab", "learning_rates"): "peak_lr"}
        unset = {each.name: each.default for each in fields(self)}
        for name in others[self.head]:
            value = getattr(self, name)
            wanted = f"no {self.option(name)} with --head {self.head}"
            other = instead.get((self.head, name))
            remedy = f"Give {self.option(other)} in its place." if other else "Leave it out."
            self.require(name, value == unset[name], f"{value}", wanted, remedy=remedy)
        self.require(
            "optimiser",
            self.optimiser == "adamw",
            self.optimiser,
            "adamw for segmentation",
            remedy="Leave --optimiser out.",
        )
        self.require(
            "blocks",
            len(self.blocks) < 2 or self.head == "linear",
            " ".join(self.blocks),
            "one choice, for --head deeplab is trained on one",
            remedy="Give the best one that --head linear found.",
        )
        self.require(
            "init",
            self.init == "random" or (self.head == "linear" and self.blocks in ((), ("last",))),
            f"transfer with --head {self.head} and --blocks {' '.join(self.blocks) or 'unset'}",
            "--head linear and --blocks last, the map that the pre-trained classifier reads",
            remedy="Leave out --init transfer, or the other two.",
        )

    def for_head(self) -> SegmentConfig:
        """Fill in the options that depend on the head alone."""
        if self.head == "zero-shot":
            return replace(self, batch=self.batch or LINEAR.batch)
        usual = DEEPLAB if self.head == "deeplab" else LINEAR
        blocks = ("last",) if self.init == "transfer" else usual.blocks
        return replace(
            self,
            epochs=self.epochs or usual.epochs,
            batch=self.batch or usual.batch,
            scale=self.scale or usual.scale,
            blocks=self.blocks or blocks,
            learning_rates=(self.learning_rates or LINEAR_RATES) if self.head == "linear" else (),
            weight_decay=usual.weight_decay if self.weight_decay is None else self.weight_decay,
        )

    def check(self, *, world: int) -> None:
        """Raise InputError for a batch that `world` processes cannot share out; the batch must be set."""
        assert self.batch is not None
        check_shares(self, self.batch, world=world, accumulate=self.accumulate)

    def completed(self, *, steps: int) -> SegmentConfig:
        """Fill in the options that depend on the run's steps, after `for_head`."""
        usual = LINEAR if self.head == "linear" else DEEPLAB
        peak = DEEPLAB_PEAK_LR if self.peak_lr is None else self.peak_lr
        warmup = min(usual.warmup_steps, steps // WARMUP_PART) if self.warmup_steps is None else self.warmup_steps
        check_warmup(self, warmup, steps=steps)
        linear = self.head == "linear"
        return replace(
            self,
            warmup_steps=warmup,
            peak_lr=None if linear else peak,
            final_lr=None if linear else peak / PEAK_OVER_FINAL if self.final_lr is None else self.final_lr,
            ema_momentum=self.ema_momentum or momentum_for(steps, usual=EMA_MOMENTUM),
        )

    def optim(self, *, steps: int) -> OptimConfig:
        """Make the options of optimiser and learning rate from a complete configuration.

        Linear heads share a schedule whose peak is their largest rate, and neither clip each other's gradients.
        """
        assert self.ema_momentum is not None
        linear = self.head == "linear"
        given = {**values_of(self, Descent), **({"clip_norm": math.inf} if linear else {})}
        return OptimConfig(
            **given,
            steps=steps,
            start_lr=0.0,
            peak_lr=max(self.learning_rates) if linear else self.peak_lr or DEEPLAB_PEAK_LR,
            final_lr=0.0 if linear or self.final_lr is None else self.final_lr,
            ema_momentum=self.ema_momentum,
            # As in fine-tuning: losses of few images jump.
            spike_factor=math.inf,
        )
