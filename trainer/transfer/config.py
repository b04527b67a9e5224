"""What the verbs of transfer are told: frozen dataclasses, a docstring under every field, which is also its --help.

In: the command line. Out: one dataclass for each verb, written as config.json beside its results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from trainer.transfer.tasks.task_config import TaskConfig
from vocab.store.locations import Place


@dataclass(frozen=True)
class ProbeConfig:
    """Train linear classifiers on a frozen model's features of a task, and compare with its nearest neighbours."""

    model: Positional[Place]
    """run directory, or a folder that export or import wrote"""
    task: TaskConfig
    """the task's images and classes"""
    out: Place
    """folder of the results; it must not exist"""
    init: Literal["random", "transfer"] = "random"
    """the classifier's first weights: random, or rows of the pre-trained one, by the classes' synsets"""
    alpha: float = 0.5
    """for transfer: least path similarity of a class's synset and the one whose row it takes; 1 takes the same synset
    alone, 0.5 one that is a step above or below as well"""
    percent: tuple[float, ...] = (100.0,)
    """shares of the training images, of each class, one after another; 1 % is among the 5 % of the same seed"""
    seeds: tuple[int, ...] = (0,)
    """each decides which images, their order, random weights, and what a setting is chosen on"""
    preset: Literal["grid", "paper"] = "grid"
    """grid: the best of several learning rates and weight decays, by cross-validation on the training images; paper:
    CatLIP's learning rate, 3e-5, without weight decay"""
    learning_rates: tuple[float, ...] = ()
    """learning rates of the first step, to choose among; none given: the preset's"""
    weight_decays: tuple[float, ...] = ()
    """AdamW's weight decays, to choose among; none given: the preset's"""
    epochs: int = 30
    """times that every training image is seen"""
    train_batch: int = 256
    """images of an optimisation step"""
    final_share: float = 1 / 30
    """learning rate of the last step over that of the first, by a cosine; CatLIP's 1e-6 over 3e-5"""
    label_smoothing: float = 0.0
    """share of each target that is spread over all classes"""
    neighbours: int = 20
    """nearest neighbours that vote for an image's class; 0 leaves them out"""
    temperature: float = 0.07
    """of their votes, exp(cosine / temperature); as DINO has both numbers"""
    image_size: int | None = None
    """side of the square the model sees, pixels; unset: the pre-training's. Position embeddings are interpolated"""
    crop: float | None = None
    """share of the shorter side that the central crop keeps; unset: the pre-training's"""
    batch: int = 256
    """images at a time through the model, per process"""
    workers: int = 8
    """threads of a process that decode images; 0 decodes between batches"""
    features: Path | None = None
    """folder that keeps computed features for other settings, shares and verbs, 4 bytes a number; unset: `features` in
    the folder of `task.cache`. It may be deleted at any time"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the model; auto: bfloat16 autocast on CUDA, float32 on the CPU. The probe itself is float32"""


@dataclass(frozen=True)
class ZeroShotConfig:
    """Tell a task's classes by the pre-trained classifier alone, by the rows of their synsets. Nothing is trained."""

    model: Positional[Place]
    """run directory, or a folder that export or import wrote"""
    out: Place
    """folder of the results; it must not exist"""
    task: TaskConfig = field(default_factory=lambda: TaskConfig(train="", test=""))
    """the task's images and classes. Nothing is learnt: without `train`, the classes are those of `test`"""
    alpha: float = 1.0
    """least path similarity of a class's synset and the one whose row scores it; 1 takes the same synset alone"""
    hyponyms: Literal["none", "max", "any"] = "none"
    """rows of all that lies below a class's synset score it too: by the largest, or by what they say together"""
    prior: Literal["keep", "remove"] | None = None
    """take what each synset's frequency in the pre-training corpus says off what its row says; unset: remove them for
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
    """folder that keeps computed features for other settings, shares and verbs, 4 bytes a number; unset: `features` in
    the folder of `task.cache`. It may be deleted at any time"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA, float32 on the CPU"""


@dataclass(frozen=True)
class FinetuneConfig:
    """Train a pre-trained model on a task, all of it. Defaults: the paper's recipe for ImageNet-1k."""

    model: Positional[Place]
    """run directory, or a folder that export or import wrote"""
    task: TaskConfig
    """the task's images and classes"""
    out: Path
    """directory of the results; naming that of a stopped run continues it"""
    init: Literal["random", "transfer"] = "random"
    """the new classifier's first weights: random, or rows of the pre-trained one, by the classes' synsets"""
    alpha: float = 0.5
    """for transfer: least path similarity of a class's synset and the one whose row it takes; 1 takes the same synset
    alone, 0.5 one that is a step above or below as well"""
    percent: float = 100.0
    """share of the training images, of each class; 1 % is among the 5 % of the same seed"""
    seed: int = 0
    """decides which images, their order, crops and flips, and random weights"""
    epochs: int = 10
    """times that every training image is seen"""
    batch: int = 512
    """images per optimisation step, over all processes"""
    image_size: int | None = None
    """side of the square the model sees, pixels; unset: the pre-training's. Position embeddings are interpolated"""
    min_crop_area: float = 0.08
    """least share of the image's area in a random resized crop"""
    flip: bool = True
    """mirror half of the training images"""
    mixup: float = 0.0
    """parameter of the Beta distribution by which neighbours of a batch are blended; 0: they are not"""
    cutmix: float = 0.0
    """parameter of the Beta distribution by which boxes are exchanged between neighbours; with mixup, each has half"""
    label_smoothing: float | None = None
    """unset: 0.1, or 0 for several classes an image"""
    drop_path: float = 0.0
    """stochastic depth rate of the last block"""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """AdamW; or Muon for the matrices of the blocks and AdamW for everything else"""
    peak_lr: float | None = None
    """learning rate after warm-up; unset: 3e-5, or 1e-5 for several classes an image"""
    final_lr: float | None = None
    """learning rate at the last step, by a cosine; unset: a tenth of the peak"""
    warmup_steps: int = 0
    """steps in which the learning rate rises from 0"""
    weight_decay: float = 0.05
    """weight decay; none on norms, biases, position and class tokens"""
    layer_decay: float = 1.0
    """learning rate of a block over that of the block above it"""
    beta2: float = 0.999
    """decay of AdamW's second moment"""
    clip_norm: float = 1.0
    """largest norm of the gradient"""
    ema_momentum: float | None = None
    """share of the new weights in the moving average that is evaluated; unset: the paper's 0.0005, or 10 / steps in
    runs so short that it would still hold what they began with"""
    accumulate: int = 1
    """parts in which a process takes its share of the batch, one backward pass each"""
    on_spike: Literal["stop", "skip", "rollback"] = "stop"
    """at a loss that is NaN or infinite: stop with the batch's names; do not take the step; or go back to the last
    checkpoint and on with the batches that come after"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA, float32 on the CPU"""
    compile: bool = False
    """torch.compile the model"""
    activation_checkpointing: bool = False
    """compute the blocks' activations again in the backward pass instead of keeping them"""
    threads: int | None = None
    """CPU threads of a process; unset leaves torch's choice"""
    workers: int = 8
    """threads of a process that decode images; 0 decodes between steps"""
    prefetch: int = 2
    """batches that are decoded ahead"""
    log_every: int = 50
    """steps between two lines of metrics.jsonl"""
    eval_every: int = 1
    """epochs between evaluations; 0 evaluates at the end only"""
    checkpoint_every: int = 1000
    """steps between checkpoints; the last step always has one"""
    keep_checkpoints: int = 1
    """newest checkpoints to keep"""
    wandb: str | None = None
    """project of Weights & Biases to log to as well; pip install '.[wandb]'"""


@dataclass(frozen=True)
class TransferConfig:
    """Measure a pre-trained model on several tasks, and write one table of results."""

    model: Positional[Place]
    """run directory, or a folder that export or import wrote"""
    tasks: Place
    """TOML file of the tasks, local or not: docs/transfer.md says what it holds"""
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


# A stopped run may go on with other values of these: none of them changes what is learnt.
CHANGEABLE = frozenset(
    "out device compile activation_checkpointing threads workers prefetch log_every eval_every checkpoint_every "
    "keep_checkpoints on_spike wandb task.cache task.cache_gb task.max_bad_share task.allow_pipe".split()
)
# So may these, which say where things lie: what they are is in the checkpoint's fingerprint.
PLACES = frozenset("model task.train task.test task.class_names".split())
