"""Options of a pre-training run, as frozen dataclasses whose field docstrings are the --help, and its config.json.

In: a recipe (`trainer/recipes/`) and the command line. Out: one `PretrainConfig`, checked before any data is read,
written as config.json into the run directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from trainer.options import (
    BelowOne,
    Bounds,
    Cache,
    Crops,
    Decode,
    Descent,
    Keeping,
    NotNegative,
    NotNegativeNumber,
    Options,
    Positive,
    PositiveNumber,
    PositiveShare,
    Seed,
    Share,
    TrainCompute,
    own_first,
)
from vocab.store.sealing import SEAL, to_sealed_json
from vocab.store.secrets import LEFT_OUT, public


@own_first
@dataclass(frozen=True)
class DataConfig(Cache, Decode, Crops):
    """Images, their labels, and how a batch is made of them."""

    images: Annotated[tuple[str, ...], "PATH"] = ()
    """image tars (WebDataset): files, folders, globs, brace ranges such as "cc3m/{00000..00331}.tar", s3://, gs:// or
    https:// addresses. "IMAGES::LABELS" names the labels of these images, where data sets have their own"""
    labels: Annotated[str, "PATH"] = ""
    """label shards of the images, made by python -m pipeline label; or name them in --images"""
    vocabulary: Annotated[str, "PATH"] = ""
    """vocabulary.parquet pruned from these labels, made by python -m pipeline prune"""
    source_weights: tuple[float, ...] = ()
    """share of the samples that each entry of --images gives, in any unit
    (default: every sample is seen equally often)"""
    eval_images: Annotated[tuple[str, ...], "PATH"] = ()
    """image tars to evaluate on (default: the last --holdout-shards tars of each entry of --images)"""
    eval_labels: Annotated[str | None, "PATH"] = None
    """label shards of --eval-images (default: the same as --labels)"""
    holdout_shards: NotNegative = 1
    """tars kept out of training for evaluation, from the end of each sorted entry of --images"""
    allow_foreign_vocabulary: bool = False
    """accept a vocabulary that was not counted from these labels"""
    image_size: Positive = 224
    """side of the square image that the model sees, pixels"""
    batch_size: Positive = 2048
    """images per optimisation step, over all processes"""
    resolution: Literal["fixed", "schedule", "variable"] = "fixed"
    """image size of a step

    fixed: always --image-size
    schedule: the sizes of --resolution-schedule, one after another
    variable: a random size of --resolution-sizes; smaller images come in larger batches (the paper's way)"""
    resolution_schedule: Annotated[str, "SHARE:SIZE,..."] = "0:112,0.5:160,0.8:224"
    """with --resolution schedule: pairs of the share of training at which a size begins, and the size in pixels"""
    resolution_sizes: tuple[int, int, int] = (128, 320, 16)
    """with --resolution variable: smallest size, largest size, and the step between sizes, pixels"""
    range_augment: Literal["off", "corenet", "narrow"] = "off"
    """learn how strongly to change brightness, contrast and noise (RangeAugment)

    corenet: begin with the wide ranges of the paper's code
    narrow: begin with narrow ranges, for runs of a few thousand steps"""
    eval_crop: PositiveShare = 0.875
    """share of the shorter side that the centre crop of evaluation keeps"""
    unlabelled: Literal["keep", "drop", "weigh"] = "keep"
    """training samples without a class of the vocabulary; evaluation always has them, with all classes negative

    keep: train on them with all classes negative (the paper's way); softmax losses learn nothing from them
    drop: leave them out
    weigh: keep them with the weight --unlabelled-weight"""
    unlabelled_weight: PositiveShare = 0.1
    """with --unlabelled weigh: weight of a sample without a class; all other samples weigh 1"""
    max_unmatched_share: Share = 0.5
    """largest share of the first tars' samples without a row in the labels, and of the rows for these tars without a
    sample; the run stops above it"""
    shuffle_shards: Positive = 16
    """tars whose samples are shuffled together"""
    tar_teams: Positive = 1
    """number of teams of processes that divide the tars among them. Give the number of machines where tars are remote:
    each machine then fetches only its own tars. With 1 all processes share all tars, and a step has the same images on
    any number of processes"""
    workers: NotNegative = 4
    """loaders per process; with 0 the training process loads its images itself"""
    loaders: Literal["processes", "threads"] = "processes"
    """kind of loaders"""
    prefetch: Positive = 3
    """batches that are loaded ahead"""
    pin_memory: bool = True
    """lock the batches' memory, so that a GPU copies from it while it computes; with --workers 0 the images' memory is
    not locked, and the training process waits for their copy"""
    max_member_bytes: Positive = 64 << 20
    """largest tar member that is read, bytes; larger ones are skipped"""

    @property
    def one_size(self) -> bool:
        """True if all steps have images of one size."""
        return self.resolution == "fixed"


@dataclass(frozen=True)
class ModelConfig(Options):
    """Image model, by timm's names. Unset sizes are the architecture's own."""

    model: Annotated[str, "NAME"] = "vit_base_patch16_224"
    """architecture, by timm's name, such as vit_base_patch16_224, convnext_tiny, swin_tiny_patch4_window7_224 or
    resnet50"""
    init: Annotated[str | None, "WEIGHTS"] = None
    """first weights (default: random): timm's name of pre-trained weights such as vit_base_patch16_224.augreg_in21k, a
    folder that timm or export wrote, a .safetensors file, or a run directory. Position embeddings and patches of other
    sizes are resized. The classifier is new, or kept where the vocabulary is the same"""
    patch_size: Positive | None = None
    """side of a patch, pixels (default: the architecture's)"""
    embed_dim: Positive | None = None
    """width of the tokens (default: the architecture's)"""
    depth: Positive | None = None
    """number of blocks (default: the architecture's)"""
    num_heads: Positive | None = None
    """number of attention heads (default: the architecture's)"""
    global_pool: Literal["token", "avg", "map"] | None = None
    """input of the classifier (default: the architecture's)

    token: the class token
    avg: the average of the patches
    map: attention pooling"""
    drop_path: BelowOne = 0.0
    """stochastic depth rate of the last block"""
    patch_keep: Annotated[float, Bounds(0.25, 1)] = 1.0
    """share of the patches that a training step sees, drawn anew for every image and step, 0.25 to 1"""
    full_patches_share: Share = 0.1
    """share of training, at its end, in which steps see all patches whatever --patch-keep says"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for a width that the heads do not divide."""
        super().__post_init__()
        if self.embed_dim is not None and self.num_heads is not None:
            found = f"{self.embed_dim} for {self.num_heads} heads"
            divides = self.embed_dim % self.num_heads == 0
            change = "Change --embed-dim or --num-heads."
            self.require("embed_dim", divides, found, "a multiple of the heads", remedy=change)


LossName = Literal["bce", "softmax", "softmax-idf", "asymmetric"]
Exponent = NotNegativeNumber


@dataclass(frozen=True)
class LossConfig(Options):
    """Loss options. Defaults: CatLIP's."""

    loss: LossName = "bce"
    """loss of the classifier

    bce: binary cross entropy of every class, summed (CatLIP)
    softmax: cross entropy over an image's classes
    softmax-idf: softmax weighted by inverse document frequency (SuperClass)
    asymmetric: easy negatives count less (Ridnik et al.)"""
    label_smoothing: BelowOne = 0.0
    """share of every target that is spread over all classes"""
    asymmetric_focus: tuple[Exponent, Exponent] = (0.0, 4.0)
    """with --loss asymmetric: focusing exponents of positives and of negatives"""
    asymmetric_margin: BelowOne = 0.05
    """with --loss asymmetric: probability below which a negative has no loss"""
    head_chunk: Positive = 1024
    """images of a process whose logits exist at the same time; the memory of the logits is proportional to it"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for smoothing where targets cannot be smooth."""
        super().__post_init__()
        # A target between 0 and 1 is neither focused on as a positive nor as a negative, and the paper has none.
        self.require(
            "label_smoothing",
            self.loss != "asymmetric" or self.label_smoothing == 0,
            f"{self.label_smoothing} with --loss asymmetric",
            "0, for this loss has positives and negatives only",
            remedy="Leave out --label-smoothing, or choose another --loss.",
        )


@own_first
@dataclass(frozen=True)
class OptimConfig(Descent):
    """Optimiser, learning rate, moving average. Defaults: CatLIP's for ViT-B/16."""

    steps: Positive = 200_000
    """optimisation steps of the whole run"""
    schedule: Literal["cosine", "wsd", "step"] = "cosine"
    """learning rate after warm-up

    cosine: falling to --final-lr along a cosine
    wsd: stable, then falling in the last --decay-share of the steps
    step: stable, then half of the way to --final-lr (in logarithms) after 8/9 of the steps, all of it after 26/27"""
    decay_share: PositiveShare = 0.2
    """with --schedule wsd: share of the steps, at the end, in which the learning rate falls to --final-lr"""
    start_lr: NotNegativeNumber = 1e-6
    """learning rate before the first step"""
    peak_lr: PositiveNumber = 1e-3
    """learning rate after warm-up"""
    final_lr: NotNegativeNumber = 1e-5
    """learning rate at the last step"""
    beta1: BelowOne = 0.9
    """decay of AdamW's first moment"""
    muon_momentum: BelowOne = 0.95
    """momentum of Muon"""
    ema_momentum: PositiveShare = 0.0005
    """share of the new weights in the moving average, which is evaluated and exported"""
    spike_factor: Annotated[float, Bounds(1, above_low=True)] = 2.0
    """multiple of its running mean above which a loss is a spike, if it also exceeds the usual variation by far; with
    inf only NaN and infinite losses count"""


@own_first
@dataclass(frozen=True)
class RunConfig(TrainCompute, Seed, Keeping):
    """Where and how the run happens, and what it writes."""

    out: Path = Path("runs/pretrain")
    """run directory; the directory of a stopped run continues that run"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """distribution over several processes

    ddp: every process holds the whole model
    fsdp: every process holds a share of the weights and of the optimiser (FSDP2), for models too large for one GPU"""
    eval_every: NotNegative = 0
    """steps between evaluations; with 0 the end of the run alone has one"""
    eval_limit: Positive = 20_000
    """largest number of images to evaluate on, the first ones of the held-out tars"""
    eval_workers: NotNegative | None = None
    """loaders per process while evaluating (default: as many as --workers on a GPU, else 2)"""
    probe_images: Annotated[tuple[str, ...], "PATH"] = ()
    """tars with a .cls beside each image. At each evaluation a linear probe is trained on their features under the
    averaged weights (default: no probe)"""
    probe_eval_images: Annotated[tuple[str, ...], "PATH"] = ()
    """tars with a .cls beside each image, to measure that probe on"""
    keep_every: NotNegative = 0
    """steps between checkpoints that are kept for good, beside the newest ones; with 0 there are none"""
    gallery: NotNegative = 24
    """held-out pictures shown on page.html"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for checkpoints to keep that are never written."""
        super().__post_init__()
        self.require(
            "keep_every",
            self.keep_every % self.checkpoint_every == 0,
            f"{self.keep_every}",
            f"a multiple of --checkpoint-every {self.checkpoint_every}, or 0",
            remedy="Only steps that have a checkpoint can be kept.",
        )


@dataclass(frozen=True)
class PretrainConfig(Options):
    """Pre-train an image model on synsets mined from captions."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("images", "labels", "vocabulary")
    SECTIONS: ClassVar[dict[str, tuple[str, ...]]] = {
        "": ("out", "steps", "batch_size", "image_size", "seed"),
        **Options.SECTIONS,
    }

    data: DataConfig = field(default_factory=DataConfig)
    """images and labels"""
    model: ModelConfig = field(default_factory=ModelConfig)
    """model"""
    loss: LossConfig = field(default_factory=LossConfig)
    """loss"""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """optimiser"""
    run: RunConfig = field(default_factory=RunConfig)
    """run"""

    def __post_init__(self) -> None:
        """Raise InputError for matrices that Muon cannot share out."""
        super().__post_init__()
        # Muon would have to gather each matrix. In torch 2.14, Newton-Schulz runs on shards with 13 collectives for
        # each matrix, and fails for shapes whose result comes out replicated.
        self.optim.require(
            "optimiser",
            self.optim.optimiser == "adamw" or self.run.parallel == "ddp",
            f"{self.optim.optimiser} with --parallel {self.run.parallel}",
            "adamw, or --parallel ddp",
            remedy="torch's Muon works on whole matrices.",
        )


def eval_workers_of(config: PretrainConfig, device_type: str) -> int:
    """Decide how many loaders a process has while it evaluates: on a GPU as many as in training, which then wait."""
    if config.run.eval_workers is not None:
        return config.run.eval_workers
    return config.data.workers if device_type == "cuda" else 2


def check(config: PretrainConfig, *, world: int) -> None:
    """Raise InputError for an option that is missing, or does not go with others or with `world` processes."""
    data, optim, run = config.data, config.optim, config.run
    labelled = bool(data.labels) or (bool(data.images) and all("::" in images for images in data.images))
    for name, is_given in [("images", bool(data.images)), ("labels", labelled), ("vocabulary", bool(data.vocabulary))]:
        data.require(name, is_given, "nothing", "a path", remedy=f"Add: --{name} PATH.")
    _refuse_cut_locations(config)
    parts = world * optim.accumulate
    data.require(
        "batch_size",
        data.batch_size % parts == 0,
        f"{data.batch_size}",
        f"a multiple of {world} processes x {optim.accumulate} parts",
        remedy=f"Choose {max(1, round(data.batch_size / parts)) * parts}, or another --accumulate.",
    )
    optim.require(
        "warmup_steps",
        optim.warmup_steps < optim.steps,
        f"{optim.warmup_steps} of {optim.steps} steps",
        "fewer than all steps",
        remedy="Lower --warmup-steps or raise --steps.",
    )
    data.require(
        "holdout_shards",
        bool(data.eval_images) or data.holdout_shards > 0,
        "0, and no --eval-images",
        "something to evaluate on",
        remedy="Give one of the two.",
    )
    run.require(
        "probe_images",
        bool(run.probe_images) == bool(run.probe_eval_images),
        "only one of --probe-images and --probe-eval-images",
        "images to train the probe on, and others to measure it on",
        remedy="Give both, or none.",
    )


def _refuse_cut_locations(config: PretrainConfig) -> None:
    """Raise InputError for a location whose command or signature was left out, as the config.json of a run has it."""
    for part in (config.data, config.model, config.run):
        for each in fields(part):
            value = getattr(part, each.name)
            for location in value if isinstance(value, tuple) else (value,):
                cut = isinstance(location, str) and re.search(rf"(pipe:|[?=]){re.escape(LEFT_OUT)}", location)
                part.require(
                    each.name,
                    not cut,
                    f"{location}, whose command or signature is left out",
                    "a whole location",
                    remedy=f"config.json keeps no secrets: give {part.option(each.name)} as the run had it.",
                )


# A stopped run may go on with other values of these: none of them changes what is learnt up to a given step.
# `steps` bends the cosine from here on, which is what whoever changes it wants.
CHANGEABLE = (
    "optim.steps optim.on_spike optim.spike_factor data.max_bad_share data.workers data.loaders data.prefetch "
    "data.pin_memory data.cache data.cache_gb data.allow_pipe loss.head_chunk run.out run.device run.parallel "
    "run.compile run.activation_checkpointing run.threads run.peak_tflops run.log_every run.eval_every run.eval_limit "
    "run.eval_workers run.probe_images run.probe_eval_images run.checkpoint_every run.keep_checkpoints run.keep_every "
    "run.gallery run.wandb"
).split()

# So may these, which say where the data lies: data.json says what it is (`trainer/records/run_data.py`).
PLACES = "data.images data.labels data.vocabulary data.eval_images data.eval_labels".split()


def to_json(config: Any) -> str:
    """Write any verb's configuration as the text of config.json.

    Passwords, signatures and commands in its locations are left out, for config.json is passed on.
    """
    return to_sealed_json(as_json(config), indent=2)


def as_json(config: Any) -> dict[str, Any]:
    """Return the content of config.json as it is read back."""
    content: dict[str, Any] = json.loads(json.dumps(public(asdict(config))))
    return content


def differences(
    stored: dict[str, Any], config: Any, *, changeable: Collection[str] = CHANGEABLE
) -> dict[str, tuple[object, object]]:
    """List the fields that differ between a run's config.json and `config`, as name -> (stored, now).

    Changeable fields are left out. Secrets in locations make no difference, for a signature is another one tomorrow,
    nor does the file's seal.
    """
    now = flattened(as_json(config))
    before = flattened(public(stored))
    return {
        name: (before.get(name), now.get(name))
        for name in sorted(before.keys() | now.keys())
        if name not in (*changeable, SEAL) and before.get(name) != now.get(name)
    }


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Name the values of nested dicts by the dotted paths to them."""
    flat: dict[str, object] = {}
    for name, value in nested.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
