"""Resolution: the image size and the number of images of every optimisation step.

The shape of a step is the same on every rank and after every resume, because it depends on the options and the number
of the step alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from trainer.config import DataConfig
from vocab.errors import InputError

# Each size is a graph to compile and a buffer to keep; CatLIP has 13.
MOST_SIZES = 64
# Keeps the draw of a size apart from other random numbers of a seed and a step.
SIZE_STREAM = 1

Phases = tuple[tuple[float, int], ...]
"""phases in order, each (share of training at which it begins, size); the first begins at 0"""


@dataclass(frozen=True)
class StepShape:
    """Size and number of the images of a step."""

    size: int
    """side of the images, pixels"""
    batch: int
    """images over all ranks"""


@runtime_checkable
class Resolution(Protocol):
    """The shape of every step. Sent to loader processes."""

    def at(self, step: int) -> StepShape:
        """Shape of a step, counted from 0."""

    def shapes(self) -> tuple[StepShape, ...]:
        """All shapes that occur, by size."""


@dataclass(frozen=True)
class FixedResolution:
    """The same shape in every step."""

    size: int
    batch: int

    def at(self, step: int) -> StepShape:
        return StepShape(self.size, self.batch)

    def shapes(self) -> tuple[StepShape, ...]:
        return (StepShape(self.size, self.batch),)


@dataclass(frozen=True)
class ScheduledResolution:
    """One size after the other, with the same number of images; small images are cheap while there is much to learn.

    A phase begins with the step nearest to its share of `steps`; one that lasts less than a step is passed over.
    """

    phases: Phases
    batch: int
    steps: int

    def at(self, step: int) -> StepShape:
        """Shape of a step, counted from 0; steps after the end have the shape of the last phase."""
        started = [size for share, size in self.phases if step >= round(share * self.steps)]
        return StepShape(started[-1], self.batch)

    def shapes(self) -> tuple[StepShape, ...]:
        starts = {round(share * self.steps) for share, _ in self.phases}
        return _by_size({self.at(step) for step in starts if step < self.steps})


@dataclass(frozen=True)
class VariableResolution:
    """A size drawn for each step, all equally likely, with as many images as keep the pixels of a step about constant.

    CatLIP was trained this way (apple/corenet, data/sampler/variable_batch_sampler.py, data/sampler/utils.py and
    projects/catlip/pretraining: 128 to 320 pixels by 16, around 224). A step then has more images on average than at
    the base size, 1.27 times as many with these sizes. corenet draws again and again from the process's random state
    and rounds a rank's batch down; here seed and step decide, and the batch is the nearest multiple.
    """

    sizes: tuple[int, ...]
    base_size: int
    """the size at which a step has `batch` images"""
    batch: int
    multiple: int
    """every batch is a multiple of this number, and at least this number"""
    seed: int

    def at(self, step: int) -> StepShape:
        word = np.random.SeedSequence([self.seed, step], spawn_key=(SIZE_STREAM,)).generate_state(1)[0]
        return self._shape(self.sizes[int(word) * len(self.sizes) >> 32])

    def shapes(self) -> tuple[StepShape, ...]:
        return _by_size({self._shape(size) for size in self.sizes})

    def _shape(self, size: int) -> StepShape:
        # In integers, halves upwards, so that the result does not depend on a platform's rounding.
        pixels, unit = self.batch * self.base_size**2, self.multiple * size**2
        return StepShape(size, self.multiple * max(1, (2 * pixels + unit) // (2 * unit)))


def grain(batch_size: int) -> int:
    """The largest divisor of a batch that is at most a 64th of it.

    Variable batches are multiples of it, and so within one or two per cent of the intended number of pixels. Then they
    do not depend on the number of processes and parts, if these divide it: a run sees the same batches when it is
    resumed with other numbers.
    """
    return max(part for part in range(1, max(1, batch_size // 64) + 1) if batch_size % part == 0)


def resolution_of(data: DataConfig, *, steps: int, multiple: int, seed: int, patch: int = 1) -> Resolution:
    """Make the resolution that the options ask for; options of another kind are ignored.

    `multiple`: every batch must be a multiple of it (processes times parts), and if variable of `grain` too. `patch`:
    every size must be a multiple of it. Raises InputError for options that do not fit.
    """
    batch = data.batch_size
    _require(
        multiple > 0 and batch % multiple == 0,
        "batch-size",
        found=f"{batch}",
        wanted=f"a multiple of {multiple}",
        remedy=f"Choose {max(1, round(batch / max(1, multiple))) * multiple}.",
    )
    resolution: Resolution
    match data.resolution:
        case "fixed":
            option, resolution = "image-size", FixedResolution(data.image_size, batch)
        case "schedule":
            phases = parse_schedule(data.resolution_schedule)
            option, resolution = "resolution-schedule", ScheduledResolution(phases, batch, steps)
        case "variable":
            choice, even = _sizes_between(*data.resolution_sizes), math.lcm(multiple, grain(batch))
            option, resolution = "resolution-sizes", VariableResolution(choice, data.image_size, batch, even, seed)
            check_size("image-size", data.image_size, patch)
    for shape in resolution.shapes():
        check_size(option, shape.size, patch)
    return resolution


def parse_schedule(text: str) -> Phases:
    """Phases of a text such as "0:112,0.5:160,0.8:224": 112 pixels from the start, 160 from half of training on, ...

    Raises InputError for shares that do not ascend from 0 and stay below 1, and for sizes that are not positive.
    """
    example = 'Write for example "0:112,0.5:160,0.8:224".'
    phases: list[tuple[float, int]] = []
    for part in text.split(","):
        share, _, size = part.partition(":")
        try:
            phases.append((float(share), int(size)))
        except ValueError as error:
            raise InputError(
                "--resolution-schedule",
                found=f"{part.strip()[:80]!r}",
                wanted="SHARE:SIZE, a share of training and a whole number of pixels",
                remedy=example,
            ) from error
    shares = [share for share, _ in phases]
    # Written so that a NaN share fails too.
    ascending = shares[0] == 0 and all(before < after < 1 for before, after in pairwise(shares))
    _require(
        ascending,
        "resolution-schedule",
        found=f"shares {', '.join(f'{share:g}' for share in shares[:MOST_SIZES])}",
        wanted="shares that ascend from 0 and stay below 1",
        remedy=example,
    )
    for _, pixels in phases:
        check_size("resolution-schedule", pixels, 1)
    _check_count("resolution-schedule", len(phases))
    return tuple(phases)


def _sizes_between(least: int, most: int, step: int) -> tuple[int, ...]:
    _require(
        0 < least <= most and step > 0 and (most - least) % step == 0,
        "resolution-sizes",
        found=f"{least} to {most} by {step}",
        wanted="a positive size, one that is not smaller, and a step that leads from the first to the second",
        remedy="CatLIP has 128 320 16.",
    )
    _check_count("resolution-sizes", (most - least) // step + 1)
    return tuple(range(least, most + 1, step))


def _check_count(option: str, count: int) -> None:
    _require(
        count <= MOST_SIZES,
        option,
        found=f"{count} sizes",
        wanted=f"at most {MOST_SIZES}",
        remedy="Take fewer: each of them is compiled and buffered.",
    )


def check_size(option: str, size: int, patch: int) -> None:
    """Raise InputError, naming the option, for images that whole patches do not fill."""
    _require(size > 0, option, found=f"{size}", wanted="more than 0 pixels", remedy="Choose a larger size.")
    below = max(1, size // patch) * patch
    _require(
        size % patch == 0,
        option,
        found=f"{size}",
        wanted=f"a multiple of the patch, {patch}",
        remedy=f"Choose {below} or {below + patch}.",
    )


def _require(holds: bool, option: str, *, found: str, wanted: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"--{option}", found=found, wanted=wanted, remedy=remedy)


def _by_size(shapes: set[StepShape]) -> tuple[StepShape, ...]:
    return tuple(sorted(shapes, key=lambda shape: shape.size))
