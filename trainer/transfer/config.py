"""Options of the verbs that measure a pre-trained model, as frozen dataclasses whose field docstrings are the --help.

In: the command line. Out: one dataclass for each verb, written as config.json beside its results; `TaskConfig`, which
all of them have, says where a task's images are.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from trainer.config import OptimConfig
from trainer.options import (
    BelowOne,
    Bounds,
    Cache,
    Compute,
    Crops,
    Decode,
    Descent,
    Keeping,
    NotNegative,
    NotNegativeNumber,
    Options,
    Percent,
    Positive,
    PositiveNumber,
    PositiveShare,
    Seed,
    Share,
    TrainCompute,
    own_first,
    values_of,
)
from vocab.store.files import local_path
from vocab.store.locations import Location

SeedNumber = Annotated[int, Bounds(0, 1 << 63, below_high=True)]
BetaParameter = Annotated[float, Bounds(high=100)]
"""above it lam of mixup and cutmix is close to 1/2, and the table of `mixing.py` underflows"""

# CatLIP's recipes, as CoreNet has them: for ImageNet-1k and Places365, and for COCO with its several classes an image.
PEAK_LR, PEAK_LR_SEVERAL = 3e-5, 1e-5
PEAK_OVER_FINAL = 10.0
"""learning rate at the peak over that of the last step"""
LABEL_SMOOTHING = 0.1
EMA_MOMENTUM = 0.0005
EMA_MEMORIES = 10.0
"""least length of a run in memories of its moving average (1 / momentum steps): e^-10 of the first weights is left"""


@dataclass(frozen=True, kw_only=True)
class TaskImages(Decode):
    """Reading of a task's images, and names of their classes."""

    kind: Literal["auto", "folders", "tars", "csv", "coco"] = "auto"
    """form of the images to train and test on

    auto: by their names, and by what lies in their folders"""
    class_names: Location | None = None
    """names of the classes, as wnids or in words, where the labels are neither: a .txt or .json list in the order of
    the classes, or a .json, .csv or .tsv of label and name"""
    multi_label: bool = False
    """an image of a .csv may have several rows, one for each of its classes, or one row without a label if it shows
    none of them. COCO's annotations are always read so"""
    csv_columns: Annotated[tuple[str, str], "NAME"] = ("path", "label")
    """names of the .csv columns that hold the path of an image and its label"""


@own_first
@dataclass(frozen=True)
class TaskConfig(TaskImages, Cache):
    """Images of a task, and what their classes are called."""

    PREFIX = "--task."

    train: Annotated[str, "PATH"]
    """images to train on: a folder with one folder per class; tars with a .cls in each sample, named by a folder, a
    glob, braces or URLs; a .csv or .tsv of path and label; or ANNOTATIONS.json::IMAGE_FOLDER, COCO's form"""
    test: Annotated[str, "PATH"]
    """images to test on, in any of the forms of --task.train"""


@dataclass(frozen=True, kw_only=True)
class LocalSides(Options):
    """Lists of a task's images, all of which lie on this machine. A task names both sides: `train` and `test`."""

    train_list: Path | None = None
    """text file of the images to train on, one name without suffix a line, such as a train.txt of Pascal VOC's
    ImageSets (default: all images of --task.train)"""
    test_list: Path | None = None
    """text file of the images to test on, in the same form"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for a side that is not on this machine."""
        super().__post_init__()
        for name in ("train", "test"):
            for part in filter(None, getattr(self, name).split("::")):
                local_path(part, option=self.option(name))


@dataclass(frozen=True)
class ModelChoice(Options):
    """The pre-trained model."""

    model: Positional[Location]
    """run directory, or a folder written by export or import; or a model of others to compare with: timm's name of
    pre-trained weights, hf-hub:NAME, open_clip:ARCHITECTURE::WEIGHTS, or a folder written by timm"""


@dataclass(frozen=True, kw_only=True)
class InputSize(Options):
    """Size of the images that the model sees."""

    image_size: Positive | None = None
    """side of the square image that the model sees, pixels. Position embeddings are interpolated to another size than
    the pre-training's (default: the pre-training's)"""


@dataclass(frozen=True, kw_only=True)
class View(InputSize):
    """Part of an image that the model sees."""

    crop: PositiveShare | None = None
    """share of the shorter side that the centre crop keeps (default: the pre-training's)"""


@dataclass(frozen=True, kw_only=True)
class DecodeThreads(Options):
    """Threads that decode images."""

    workers: NotNegative = 8
    """threads per process that decode images; with 0 images are decoded between two batches"""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(DecodeThreads):
    """Computation of a model's features, and the folder that keeps them."""

    SECTIONS: ClassVar[dict[str, tuple[str, ...]]] = {
        "features": ("batch", "features", "image_size", "crop"),
        **Options.SECTIONS,
    }

    batch: Positive = 256
    """images per process that pass through the model together"""
    features: Path | None = None
    """folder that keeps computed features for other settings, shares and verbs, 4 bytes per number. It may be deleted
    at any time (default: features in the folder for copies of remote tars)"""


@dataclass(frozen=True, kw_only=True)
class TransferInit(Options):
    """First weights of a new classifier."""

    init: Literal["random", "transfer"] = "random"
    """first weights of the new classifier

    random: small random numbers
    transfer: the rows of the pre-trained classifier for the classes' synsets"""
    alpha: PositiveShare = 0.5
    """with --init transfer: smallest path similarity between a class's synset and the synset whose row it takes. 1
    takes the same synset only, 0.5 also one that is a step above or below"""


@dataclass(frozen=True, kw_only=True)
class PlanFirst(Options):
    """Costs of a run before it."""

    plan: bool = False
    """say what the run will cost in memory, work and hours, and stop: no image is read, and nothing is written"""


@dataclass(frozen=True, kw_only=True)
class Epochs(Options):
    """Length of a training."""

    epochs: Positive
    """number of times that every training image is seen"""


@own_first
@dataclass(frozen=True)
class ProbeConfig(ModelChoice, FeatureOptions, View, Compute, TransferInit, Epochs):
    """Train linear classifiers on a frozen model's features of a task, and compare with its nearest neighbours."""

    task: TaskConfig
    """images and classes of the task"""
    out: Location
    """folder of the results; it must not exist"""
    _: KW_ONLY
    epochs: Positive = 30
    percent: tuple[Percent, ...] = (100.0,)
    """shares of the training images of each class, in percent, measured one after another; the images of 1 % are among
    the 5 % of the same seed"""
    seeds: tuple[SeedNumber, ...] = (0,)
    """seeds to measure one after another. Each draws the images of a share, their order, random weights, and the folds
    of cross-validation"""
    preset: Literal["grid", "paper"] = "grid"
    """learning rates and weight decays to try

    grid: several of both; the best is found by cross-validation on the training images
    paper: CatLIP's learning rate 3e-5, without weight decay"""
    learning_rates: tuple[PositiveNumber, ...] = ()
    """learning rates of the first step to choose among (default: the preset's)"""
    weight_decays: tuple[NotNegativeNumber, ...] = ()
    """weight decays of AdamW to choose among (default: the preset's)"""
    train_batch: Positive = 256
    """images per optimisation step of the classifier"""
    final_share: Share = 1 / 30
    """learning rate of the last step divided by that of the first, with a cosine between them; CatLIP's is 1/30"""
    label_smoothing: BelowOne = 0.0
    """share of every target that is spread over all classes"""
    neighbours: NotNegative = 20
    """nearest neighbours that vote for the class of an image; with 0 none are looked up"""
    temperature: PositiveNumber = 0.07
    """temperature of the neighbours' votes, exp(cosine / temperature); DINO's, as is the number of neighbours"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for a list that is empty or has a number twice."""
        super().__post_init__()
        for name in ("percent", "seeds"):
            self.require_each_once(name)
        for name in ("learning_rates", "weight_decays"):
            if getattr(self, name):
                self.require_each_once(name)


@own_first
@dataclass(frozen=True)
class ZeroShotConfig(ModelChoice, FeatureOptions, View, Compute):
    """Classify a task's images with the pre-trained classifier's rows of the classes' synsets. Nothing is trained.

    Without --task.train the classes are those of --task.test.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("test",)

    out: Location
    """folder of the results; it must not exist"""
    task: TaskConfig = field(default_factory=lambda: TaskConfig(train="", test=""))
    """images and classes of the task"""
    alpha: PositiveShare = 1.0
    """smallest path similarity between a class's synset and the synset whose row scores it; 1 takes the same synset
    only"""
    hyponyms: Literal["none", "max", "any"] = "none"
    """score of a class from the rows of all synsets below its own as well

    none: its own row alone
    max: the largest logit
    any: the probability that at least one of them is shown"""
    prior: Literal["keep", "remove"] | None = None
    """share of a score that comes from the frequency of its synset in the pre-training corpus: keep or remove it
    (default: remove for one class per image, where test sets are balanced, and keep for several)"""


@own_first
@dataclass(frozen=True)
class FinetuneConfig(
    ModelChoice,
    Descent,
    Crops,
    InputSize,
    DecodeThreads,
    TrainCompute,
    TransferInit,
    Epochs,
    Seed,
    Keeping,
):
    """Train a pre-trained model on a task, all of it. Defaults: the paper's recipe for ImageNet-1k."""

    task: TaskConfig
    """images and classes of the task"""
    out: Path
    """directory of the results; the directory of a stopped run continues that run"""
    _: KW_ONLY
    epochs: Positive = 10
    warmup_steps: NotNegative = 0
    weight_decay: NotNegativeNumber = 0.05
    keep_checkpoints: Positive = 1
    percent: Percent = 100.0
    """share of the training images of each class, in percent; the images of 1 % are among the 5 % of the same seed"""
    batch: Positive = 512
    """images per optimisation step, over all processes"""
    mixup: BetaParameter = 0.0
    """parameter of the Beta distribution by which neighbours in a batch are blended; 0 blends none"""
    cutmix: BetaParameter = 0.0
    """parameter of the Beta distribution by which neighbours in a batch exchange boxes; 0 exchanges none. With --mixup
    as well, each has half of the pairs"""
    label_smoothing: BelowOne | None = None
    """share of every target that is spread over all classes (default: 0.1, or 0 for several classes per image)"""
    drop_path: BelowOne = 0.0
    """stochastic depth rate of the last block"""
    peak_lr: PositiveNumber | None = None
    """learning rate after warm-up (default: 3e-5, or 1e-5 for several classes per image)"""
    final_lr: NotNegativeNumber | None = None
    """learning rate at the last step, reached by a cosine (default: a tenth of the peak)"""
    ema_momentum: PositiveShare | None = None
    """share of the new weights in the moving average, which is evaluated (default: the paper's 0.0005, or 10 / steps in
    runs so short that the average would still hold their first weights)"""
    prefetch: Positive = 2
    """batches that are decoded ahead"""
    eval_every: NotNegative = 1
    """epochs between evaluations; with 0 the end of the run alone has one"""

    def check(self, *, world: int) -> None:
        """Raise InputError for a batch that `world` processes cannot share out."""
        pairs = 2 if self.mixup > 0 or self.cutmix > 0 else 1
        check_shares(self, self.batch, world=world, accumulate=self.accumulate, pairs=pairs)
        self.require(
            "device",
            pairs == 1 or self.device != "mps",
            "mps with --mixup or --cutmix",
            "another device, for the shares of mixed images are drawn in float64, which MPS does not have",
            remedy="Leave out --mixup and --cutmix, or use --device cpu.",
        )

    def completed(self, *, multi_label: bool, image_size: int, steps: int) -> FinetuneConfig:
        """Fill in the options that depend on the task. Raises InputError for a warm-up that never ends.

        `image_size`: that of the pre-training. `steps`: those of the run.
        """
        check_warmup(self, self.warmup_steps, steps=steps)
        peak = self.peak_lr if self.peak_lr is not None else PEAK_LR_SEVERAL if multi_label else PEAK_LR
        smoothing = 0.0 if multi_label else LABEL_SMOOTHING
        momentum = momentum_for(steps, usual=EMA_MOMENTUM)
        return replace(
            self,
            image_size=self.image_size or image_size,
            peak_lr=peak,
            final_lr=self.final_lr if self.final_lr is not None else peak / PEAK_OVER_FINAL,
            label_smoothing=self.label_smoothing if self.label_smoothing is not None else smoothing,
            ema_momentum=self.ema_momentum if self.ema_momentum is not None else momentum,
        )

    def optim(self, *, steps: int) -> OptimConfig:
        """Make the options of optimiser and learning rate from a complete configuration."""
        assert self.peak_lr is not None
        assert self.final_lr is not None
        assert self.ema_momentum is not None
        return OptimConfig(
            **values_of(self, Descent),
            steps=steps,
            start_lr=0.0,
            peak_lr=self.peak_lr,
            final_lr=self.final_lr,
            ema_momentum=self.ema_momentum,
            # Losses of few images jump, so that a high one is no sign: only NaN and infinite losses are bad.
            spike_factor=math.inf,
        )


@own_first
@dataclass(frozen=True)
class TransferConfig(ModelChoice, FeatureOptions, Cache, Compute):
    """Measure a pre-trained model on several tasks, and write one table of results."""

    tasks: Location
    """TOML file of the tasks, a path or a URI; docs/transfer.md says what it holds"""
    out: Path
    """folder of the results; the folder of a stopped suite continues that suite"""


def check_shares(options: Options, batch: int, *, world: int, accumulate: int, pairs: int = 1) -> None:
    """Raise InputError for a batch that processes and their parts cannot share out; `pairs`: 2 if images are mixed."""
    parts = world * accumulate * pairs
    options.require(
        "batch",
        batch % parts == 0,
        f"{batch}",
        f"a multiple of {world} processes x {accumulate} parts{' x 2 images that are mixed' * (pairs > 1)}",
        remedy=f"Choose {max(1, round(batch / parts)) * parts}, or another --accumulate.",
    )


def check_warmup(options: Options, warmup: int, *, steps: int) -> None:
    """Raise InputError for a warm-up that never ends."""
    options.require(
        "warmup_steps",
        warmup < steps,
        f"{warmup} of {steps} steps",
        "fewer than all steps",
        remedy="Lower --warmup-steps, or --batch.",
    )


def momentum_for(steps: int, *, usual: float) -> float:
    """Choose the moving average's share of new weights: `usual`, or more where a run is short."""
    return min(1.0, max(usual, EMA_MEMORIES / steps))


# A stopped run may go on with other values of these: none of them changes what is learnt.
CHANGEABLE = frozenset(
    "out device compile activation_checkpointing threads workers prefetch log_every eval_every checkpoint_every "
    "keep_checkpoints on_spike peak_tflops wandb task.cache task.cache_gb task.max_bad_share task.allow_pipe".split()
)
# So may these, which say where things lie: what they are is in the checkpoint's fingerprint.
PLACES = frozenset("model task.train task.test task.class_names".split())
CHANGEABLE_DENSE = (CHANGEABLE - {"compile"}) | PLACES | {"task.train_list", "task.test_list"}
"""the same of dense tasks, which have lists of images, and steps that are not compiled"""
