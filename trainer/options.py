"""Options that several verbs have, each declared once, with the numbers that it may be.

A verb's configuration inherits the parts that it needs: `class ProbeConfig(Compute, FeatureOptions, ...)`. An option so
has one name, one text in --help and one check, and a function that needs a device is given a `Compute`, whichever verb
it works for. Parts are inherited, not nested: a program that sets one option of a part keeps the verb's own defaults of
the others, and config.json, recipes and tasks files call every option what the command line calls it.

An option is checked when its dataclass is built, by `dataclasses.replace` too. Options that must be given, and those
that do not go together, are for the verb to check, since a recipe may leave them to the command line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from vocab.errors import InputError
from vocab.store.field_types import is_of, name_of


@dataclass(frozen=True)
class Bounds:
    """Range of the numbers that an option may be; NaN is in none."""

    low: int | float = 0
    high: int | float = math.inf
    above_low: bool = False
    """leave out `low` itself"""
    below_high: bool = False
    """leave out `high` itself; below infinity is finite"""

    def contain(self, number: int | float) -> bool:
        """Tell whether a number is in the range."""
        is_above = self.low < number if self.above_low else self.low <= number
        return is_above and (number < self.high if self.below_high else number <= self.high)

    def __str__(self) -> str:
        text = f"more than {self.low:,}" if self.above_low else f"{self.low:,} or more"
        if self.high < math.inf:
            text += f", and less than {self.high:,}" if self.below_high else f", and at most {self.high:,}"
        return f"{text}, and finite" if self.high == math.inf and self.below_high else text


Config = TypeVar("Config", bound="Options")
Positive = Annotated[int, Bounds(above_low=True)]
NotNegative = Annotated[int, Bounds()]
PositiveNumber = Annotated[float, Bounds(above_low=True, below_high=True)]
NotNegativeNumber = Annotated[float, Bounds(below_high=True)]
Share = Annotated[float, Bounds(high=1)]
PositiveShare = Annotated[float, Bounds(high=1, above_low=True)]
BelowOne = Annotated[float, Bounds(high=1, below_high=True)]
Percent = Annotated[float, Bounds(high=100, above_low=True)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every part: check each option's type and bounds."""

    PREFIX: ClassVar[str] = "--"
    """beginning of the options' names on the command line"""
    SECTIONS: ClassVar[dict[str, tuple[str, ...]]] = {
        "optimiser": (
            "optimiser", "schedule", "decay_share", "warmup_steps", "start_lr", "peak_lr", "final_lr", "weight_decay",
            "layer_decay", "clip_norm", "accumulate", "ema_momentum", "beta1", "beta2", "muon_momentum",
        ),
        "augmentation": ("min_crop_area", "flip", "range_augment", "mixup", "cutmix"),
        "image size during training": ("resolution", "resolution_schedule", "resolution_sizes"),
        "evaluation during training": (
            "eval_every", "eval_limit", "eval_workers", "gallery", "probe_images", "probe_eval_images",
        ),
        "checkpoints and logs": (
            "checkpoint_every", "keep_checkpoints", "keep_every", "log_every", "wandb", "on_spike", "spike_factor",
        ),
        "computing": (
            "device", "precision", "parallel", "compile", "activation_checkpointing", "threads", "head_chunk",
            "peak_tflops",
        ),
        "loading": (
            "workers", "loaders", "prefetch", "pin_memory", "shuffle_shards", "tar_teams", "max_member_bytes",
        ),
        "remote tars": ("cache", "cache_gb", "allow_pipe"),
        "images that cannot be used": ("max_bad_share", "max_pixels", "truncated_images"),
    }  # fmt: skip
    """headings of --help, with the fields under them; the others come first (`vocab/command_line.py`)"""

    def __post_init__(self) -> None:
        """Raise InputError for the first option that is of another type than declared, or out of its bounds."""
        kind: Any = type(self)  # typed as Any, for mypy finds no hash in the type of a dataclass
        for name, (hint, bounds) in declared(kind).items():
            value = getattr(self, name)
            if not is_of(value, hint):
                wanted = f"a value of type {name_of(hint)}"
                self.require(name, False, repr(value), wanted, remedy="--help lists the values of every option.")
            numbers = [number for number in (value if isinstance(value, tuple) else [value]) if number is not None]
            if bounds is not None and (wrong := [number for number in numbers if not bounds.contain(number)]):
                change = f"Choose a {'smaller' if wrong[0] > bounds.low else 'larger'} {self.option(name)}."
                shown = " ".join(f"{number}" for number in numbers)
                self.require(name, False, shown, f"{bounds}", remedy=change)

    def option(self, name: str) -> str:
        """Name of a field on the command line: --peak-lr."""
        return f"{self.PREFIX}{name.replace('_', '-')}"

    def require(self, name: str, holds: bool, found: str, wanted: str, *, remedy: str) -> None:
        """Raise InputError, naming the option of a field, unless what is claimed holds."""
        if not holds:
            raise InputError(self.option(name), found=found, wanted=wanted, remedy=remedy)

    def require_each_once(self, name: str) -> None:
        """Raise InputError unless an option of several values has one, and none twice."""
        values = getattr(self, name)
        shown = " ".join(f"{value}" for value in values)
        self.require(name, len(values) > 0, "none", "one or more values", remedy="Give at least one.")
        self.require(name, len(set(values)) == len(values), shown, "each value once", remedy="Remove the second one.")


@cache
def declared(kind: type) -> dict[str, tuple[Any, Bounds | None]]:
    """Type and bounds of every field."""
    plain, extended = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    return {field.name: (plain[field.name], _bounds_in(extended[field.name])) for field in fields(kind)}


def _bounds_in(hint: Any) -> Bounds | None:
    """Bounds of `Positive`, `Positive | None` or `tuple[Positive, ...]`."""
    if get_origin(hint) is Annotated:
        return next((each for each in get_args(hint)[1:] if isinstance(each, Bounds)), None)
    return next((bounds for each in get_args(hint) if (bounds := _bounds_in(each)) is not None), None)


def own_first(kind: type[Config]) -> type[Config]:
    """List a dataclass's own fields before those of its parts, the order that --help and config.json have them in."""
    every, own = kind.__dataclass_fields__, kind.__annotations__
    kind.__dataclass_fields__ = {name: every[name] for name in sorted(every, key=lambda name: name not in own)}
    return kind


def values_of(config: Options, *parts: type[Options]) -> dict[str, Any]:
    """Options that a configuration has from some parts, to build another one that has these parts."""
    return {field.name: getattr(config, field.name) for part in parts for field in fields(part)}


@dataclass(frozen=True, kw_only=True)
class Compute(Options):
    """Device and number format."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """device that computes

    auto: CUDA if there is such a GPU, else the CPU
    mps: the GPU of an Apple computer, for one process"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """number format of the model; probes are trained in float32 in any case

    auto: bfloat16 on CUDA, float32 elsewhere
    bfloat16: autocast, with weights in float32"""

    def is_bfloat16(self, device_type: str) -> bool:
        """Tell whether the model computes in bfloat16 on a type of device: "cuda", "mps" or "cpu"."""
        return self.precision == "bfloat16" or (self.precision == "auto" and device_type == "cuda")


@dataclass(frozen=True, kw_only=True)
class StepCompute(Compute):
    """How a training step is computed."""

    activation_checkpointing: bool = False
    """compute the blocks' activations again in the backward pass instead of keeping them: less memory, more work"""
    threads: Positive | None = None
    """CPU threads of each process (default: torch's choice)"""


@dataclass(frozen=True, kw_only=True)
class TrainCompute(StepCompute):
    """How a training step of an image model is computed."""

    compile: bool = False
    """compile the model with torch.compile, for every image size before the first step"""


@dataclass(frozen=True, kw_only=True)
class Cache(Options):
    """Copies of remote tars, and tars that a command writes."""

    cache: Path | None = None
    """folder on a local disk for copies of remote tars and tables of all tars' samples, shared by all processes of a
    machine (default: open-catlip in the user's cache folder)"""
    cache_gb: PositiveNumber = 200.0
    """largest size of the copies, GB (10^9 bytes); the copy unused for longest is removed first"""
    allow_pipe: bool = False
    """accept "pipe:COMMAND" in place of a tar: a shell runs the command with your rights"""


@dataclass(frozen=True, kw_only=True)
class Decode(Options):
    """Which images are decoded, and how many may fail."""

    max_bad_share: Share = 0.1
    """largest share of broken or missing images; the verb stops above it. Pre-training looks at it after its first 100
    samples"""
    max_pixels: Positive = 89_478_485
    """largest image that is decoded, pixels (PIL's limit). A larger one is a bad sample, and so is one whose decoder
    needs more than 4 bytes for each of these pixels and more than 384 times its file"""
    truncated_images: Literal["refuse", "take"] = "refuse"
    """images whose file breaks off behind its header

    refuse: bad samples
    take: decode and count what is there: JPEG, PNG, GIF, BMP and uncompressed TIFF; no other format can be"""

    @property
    def take_truncated(self) -> bool:
        """True if images that break off are taken."""
        return self.truncated_images == "take"


@dataclass(frozen=True, kw_only=True)
class Crops(Options):
    """Random crops and flips of training images."""

    min_crop_area: PositiveShare = 0.08
    """smallest share of an image's area that a random crop keeps"""
    flip: bool = True
    """mirror half of the training images, drawn at random"""


@dataclass(frozen=True, kw_only=True)
class Seed(Options):
    """The seed of every draw."""

    seed: NotNegative = 0
    """seed of every draw: initial weights, choice and order of images, crops and flips"""


@dataclass(frozen=True, kw_only=True)
class Descent(Options):
    """Optimiser. Defaults: CatLIP's for ViT-B/16."""

    optimiser: Literal["adamw", "muon"] = "adamw"
    """optimiser of the weights

    adamw: AdamW for all weights
    muon: Muon for the matrices of the blocks, AdamW for all others"""
    warmup_steps: NotNegative = 10_000
    """steps in which the learning rate rises linearly to its peak"""
    weight_decay: NotNegativeNumber = 0.2
    """weight decay; norms, biases, position embeddings and class tokens have none"""
    layer_decay: PositiveShare = 1.0
    """learning rate of a block divided by that of the block above it; 1 gives all blocks the same"""
    beta2: BelowOne = 0.999
    """decay of AdamW's second moment"""
    clip_norm: Annotated[float, Bounds(above_low=True)] = 1.0
    """largest norm of the gradient; a longer gradient is scaled down to it"""
    accumulate: Positive = 1
    """parts into which a process splits its share of the batch, each with a backward pass of its own"""
    on_spike: Literal["stop", "skip", "rollback"] = "stop"
    """answer to a loss that is NaN, infinite or a spike

    stop: end the run and name the batch's samples
    skip: leave out the step
    rollback: return to the last checkpoint, and go on with the batches that follow"""

    def __post_init__(self) -> None:
        """Raise InputError for a number that is out of bounds, and for steps that Muon cannot skip."""
        super().__post_init__()
        self.require(
            "optimiser",
            self.optimiser == "adamw" or self.on_spike != "skip",
            f"{self.optimiser} with --on-spike {self.on_spike}",
            "adamw, or --on-spike stop or rollback",
            remedy="torch's Muon cannot leave out a step.",
        )


@dataclass(frozen=True, kw_only=True)
class Keeping(Options):
    """Log and checkpoints of a run."""

    log_every: Positive = 50
    """steps between two lines of metrics.jsonl"""
    checkpoint_every: Positive = 1000
    """steps between two checkpoints; the last step always has one"""
    keep_checkpoints: Positive = 2
    """number of newest checkpoints to keep"""
    peak_tflops: PositiveNumber | None = None
    """the GPU's stated peak in bfloat16 matrix products, TFLOP/s (default: from our table of GPUs)"""
    wandb: Annotated[str | None, "NAME"] = None
    """Weights & Biases project to log to as well; needs pip install '.[wandb]'"""
