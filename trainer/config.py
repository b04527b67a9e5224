"""What a pre-training run is told: frozen dataclasses, a docstring under every field, which is also its --help.

In: a recipe (`trainer/recipes/`) and the command line. Out: one `PretrainConfig`, checked before any data is read,
written as config.json into the run directory.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.records.secrets import public
from vocab.store.sealing import SEAL, to_sealed_json


@dataclass(frozen=True)
class DataConfig:
    """Images, their labels, and how a batch is made of them."""

    images: tuple[str, ...] = ()
    """image tars (WebDataset): files, folders, globs, brace ranges such as "cc3m/{00000..00331}.tar"; s3://, gs://,
    http(s)://; "IMAGES::LABELS" names the labels of one of several data sets"""
    labels: str = ""
    """label shards of these images, made by `python -m pipeline label`"""
    vocabulary: str = ""
    """vocabulary.parquet pruned from these labels, made by `python -m pipeline prune`"""
    source_weights: tuple[float, ...] = ()
    """share of the samples that each of `images` gives, in any unit; without them every sample is seen equally often"""
    eval_images: tuple[str, ...] = ()
    """tars to evaluate on; without them the last `holdout-shards` tars of each of `images` are held out"""
    eval_labels: str | None = None
    """label shards of `eval-images`, if not the same as `labels`"""
    holdout_shards: int = 1
    """tars of each of `images`, from the end of the sorted list, kept out of training for evaluation"""
    allow_foreign_vocabulary: bool = False
    """accept a vocabulary that was not counted from these labels"""
    image_size: int = 224
    """side of the square the model sees, pixels"""
    batch_size: int = 2048
    """images per optimisation step, over all processes"""
    resolution: Literal["fixed", "schedule", "variable"] = "fixed"
    """image-size always; the sizes of `resolution-schedule`; or another size at every step, as in the paper, with as
    many images as keep the pixels of a step about constant"""
    resolution_schedule: str = "0:112,0.5:160,0.8:224"
    """for the resolution schedule: from which share of training on which size"""
    resolution_sizes: tuple[int, int, int] = (128, 320, 16)
    """for the variable resolution: smallest size, largest size, step between sizes"""
    min_crop_area: float = 0.08
    """least share of the image's area in a random resized crop"""
    flip: bool = True
    """mirror half of the training images"""
    range_augment: Literal["off", "corenet", "narrow"] = "off"
    """learn how strongly to change brightness and contrast and how much noise to add (RangeAugment), from the wide
    ranges that the paper's code starts with, or from narrow ones, for runs of a few thousand steps"""
    eval_crop: float = 0.875
    """share of the shorter side that the centre crop of evaluation keeps"""
    unlabelled: Literal["keep", "drop", "weigh"] = "keep"
    """samples with no class of the vocabulary: all negative, as in the paper; left out; or of less weight"""
    unlabelled_weight: float = 0.1
    """what a sample without a class counts for with `--unlabelled weigh`; others count for 1"""
    max_unmatched_share: float = 0.5
    """stop if more of the first shards' samples than this have no row in the labels, or more of their rows no sample"""
    shuffle_shards: int = 16
    """tars whose samples are shuffled together"""
    tar_teams: int = 1
    """1: all processes share all tars, and a step's images are the same whatever their number. N: tars are dealt out to
    N teams of processes, so that a machine fetches its own alone; the number of machines, where tars are remote"""
    workers: int = 4
    """loaders per process; 0 loads in the training process"""
    loaders: Literal["processes", "threads"] = "processes"
    """what a loader is"""
    prefetch: int = 3
    """batches that are loaded ahead"""
    pin_memory: bool = True
    """lock the batches' memory, so that a GPU copies from it while it computes"""
    cache: Path | None = None
    """folder for what several processes of a machine share: copies of remote tars, tables of their samples; unset:
    open-catlip in the user's cache folder"""
    cache_gb: float = 200.0
    """copies of remote tars are dropped, the longest unused first, above so many GB"""
    allow_pipe: bool = False
    """allow "pipe:COMMAND" in images: the command is run by a shell, with your rights"""
    max_pixels: int = 89_478_485
    """larger images are skipped as decompression bombs, before they are decoded; so are those whose decoder needs more
    memory than 4 bytes for each of this many pixels and than 384 times the file"""
    truncated_images: Literal["refuse", "take"] = "refuse"
    """images that break off behind their header: bad samples; or taken as far as they go, and counted (JPEG, PNG, GIF,
    BMP and uncompressed TIFF; of other formats nothing can be decoded)"""
    max_member_bytes: int = 64 << 20
    """larger tar members are skipped unread"""
    max_bad_share: float = 0.1
    """stop once more samples than this share are bad (after the first 100)"""


@dataclass(frozen=True)
class ModelConfig:
    """The vision transformer, by timm's names. Unset sizes are the architecture's own."""

    model: str = "vit_base_patch16_224"
    """timm architecture"""
    patch_size: int | None = None
    """side of a patch, pixels"""
    embed_dim: int | None = None
    """width"""
    depth: int | None = None
    """number of blocks"""
    num_heads: int | None = None
    """attention heads"""
    global_pool: Literal["token", "avg", "map"] | None = None
    """what the classifier reads: class token, average of the patches, or attention pooling"""
    drop_path: float = 0.0
    """stochastic depth rate of the last block"""
    patch_keep: float = 1.0
    """share of the patches that a training step sees, others for every image and step; 0.25 to 1"""
    full_patches_share: float = 0.1
    """share of training, at its end, in which steps see all patches, whatever `patch-keep`"""


LossName = Literal["bce", "softmax", "softmax-idf", "asymmetric"]


@dataclass(frozen=True)
class LossConfig:
    """What the logits are told. Defaults: CatLIP's."""

    loss: LossName = "bce"
    """binary cross entropy of every class, summed (CatLIP); softmax cross entropy over an image's classes, alike or
    by inverse document frequency (SuperClass); asymmetric loss, which lets easy negatives count less (Ridnik et al.)"""
    label_smoothing: float = 0.0
    """share of every target that is spread over all classes"""
    asymmetric_focus: tuple[float, float] = (0.0, 4.0)
    """for the asymmetric loss: focusing exponents of positives and of negatives"""
    asymmetric_margin: float = 0.05
    """for the asymmetric loss: probability below which a negative counts nothing"""
    head_chunk: int = 1024
    """images whose logits exist at a time, per process; the memory of the classifier's logits follows from it"""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, learning rate, moving average. Defaults: CatLIP's ViT-B/16."""

    steps: int = 200_000
    """optimisation steps of the whole run"""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """AdamW; or Muon for the matrices of the blocks and AdamW for everything else"""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """of the learning rate after warm-up: cosine; or stable and then decaying, in the last `decay-share`"""
    decay_share: float = 0.2
    """for wsd: share of the steps, at the end, in which the rate falls to `final-lr`"""
    warmup_steps: int = 10_000
    """steps of linear warm-up"""
    start_lr: float = 1e-6
    """learning rate before the first step"""
    peak_lr: float = 1e-3
    """learning rate after warm-up"""
    final_lr: float = 1e-5
    """learning rate at the last step"""
    beta1: float = 0.9
    """decay of AdamW's first moment"""
    beta2: float = 0.999
    """decay of AdamW's second moment"""
    muon_momentum: float = 0.95
    """momentum of Muon"""
    weight_decay: float = 0.2
    """weight decay; none on norms, biases, position and class tokens"""
    layer_decay: float = 1.0
    """learning rate of a block over that of the block above it; 1 for pre-training, less for fine-tuning"""
    clip_norm: float = 1.0
    """largest norm of the gradient"""
    accumulate: int = 1
    """parts in which a process takes its share of the batch, one backward pass each"""
    ema_momentum: float = 0.0005
    """share of the new weights in the moving average that is evaluated and released"""
    on_spike: Literal["stop", "skip", "rollback"] = "stop"
    """at a loss that is no number, or a spike: stop with the batch's keys; do not take the step; or go back to the last
    checkpoint and on with the batches that come after"""
    spike_factor: float = 2.0
    """a loss above this multiple of its running mean is a spike, if it is far above what the loss is used to as well"""


@dataclass(frozen=True)
class RunConfig:
    """Where and how the run happens, and what it writes."""

    out: Path = Path("runs/pretrain")
    """run directory; naming the directory of a stopped run continues it"""
    seed: int = 0
    """decides initial weights, order, crops and flips"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA, float32 on the CPU"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """with several processes: every one has the whole model (DDP), or a share of weights and optimiser (FSDP2), for
    models that one GPU cannot hold"""
    compile: bool = False
    """torch.compile the model, for every resolution before the first step"""
    activation_checkpointing: bool = False
    """compute the blocks' activations again in the backward pass instead of keeping them"""
    threads: int | None = None
    """CPU threads of a process; unset leaves torch's choice"""
    peak_tflops: float | None = None
    """the device's stated peak in bfloat16 matrix products, TFLOP/s, if it is not in our table"""
    log_every: int = 50
    """steps between two lines of metrics.jsonl"""
    eval_every: int = 0
    """steps between evaluations; 0 evaluates at the end only"""
    eval_limit: int = 20_000
    """images to evaluate on at most, the first ones of the held-out tars"""
    eval_workers: int = 2
    """data loading processes per rank while evaluating"""
    probe_images: tuple[str, ...] = ()
    """tars with a .cls beside each image: train a linear probe on the averaged weights' features at each evaluation"""
    probe_eval_images: tuple[str, ...] = ()
    """tars with .cls that the probe is measured on"""
    checkpoint_every: int = 1000
    """steps between checkpoints; the last step always has one"""
    keep_checkpoints: int = 2
    """newest checkpoints to keep"""
    keep_every: int = 0
    """keep those of every so many steps too; 0 keeps the newest only"""
    gallery: int = 24
    """held-out pictures shown on page.html"""
    wandb: str | None = None
    """project of Weights & Biases to log to as well; pip install '.[wandb]'"""


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-train a vision transformer on synsets mined from captions."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


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

# Options that earlier releases did not have, whatever part of a configuration they are in: what those releases did.
LATER = {"truncated_images": "refuse", "multi_label": False}


def to_json(config: Any) -> str:
    """The text of config.json, of the dataclass of any verb: without the passwords, signatures and commands in its
    places, for it is passed on.
    """
    return to_sealed_json(as_json(config), indent=2)


def as_json(config: Any) -> dict[str, Any]:
    """The content of config.json, as it is read back."""
    content: dict[str, Any] = json.loads(json.dumps(public(asdict(config))))
    return content


def differences(
    stored: dict[str, Any], config: Any, *, changeable: Collection[str] = CHANGEABLE
) -> dict[str, tuple[object, object]]:
    """Fields that differ between a run's config.json and `config`, as name -> (stored, now), changeable ones aside.

    Secrets in places make no difference, for a signature is another one tomorrow, nor does the file's seal.
    """
    now = _flat(as_json(config))
    before = _flat(public(stored))  # of an older release, which wrote them down
    before = {name: LATER[name.rpartition(".")[2]] for name in now if name.rpartition(".")[2] in LATER} | before
    return {
        name: (before.get(name), now.get(name))
        for name in sorted(before.keys() | now.keys())
        if name not in (*changeable, SEAL) and before.get(name) != now.get(name)
    }


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
