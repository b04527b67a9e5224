"""Training batches of dense tasks: samples that threads make ahead of the steps, each with targets of its own shape.

As in `trainer/transfer/batches.py`, a batch is a function of the seed and its number, so that a run goes on from the
number of batches taken, on any number of processes. A sample is made of an image's number and its random numbers:

    def sample_of(image, draws): ...          # pixels, and masks or boxes; raises BadImage
    batches(images, plan, rank, sample_of, blank=..., draws=8, ...)
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from trainer.data.batch import Batch, Position, Skipped
from trainer.data.decoding import Decoding
from trainer.data.draws import draws
from trainer.data.images import BadImage
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.model.range_augment import DRAWS
from trainer.transfer.batches import SEEDS, EpochPlan


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """Pixels of one image as a step sees them, with its targets."""

    pixels: UInt8[np.ndarray, "size size 3"]
    classes: Int64[np.ndarray, " labels"] = field(default_factory=lambda: np.zeros(0, np.int64))
    by_image: Mapping[str, np.ndarray] = field(default_factory=dict)
    """targets of the image, as `Batch.by_image` has them"""
    by_label: Mapping[str, np.ndarray] = field(default_factory=dict)
    """targets with a row for each of `classes`, as `Batch.by_label` has them"""


SampleOf = Callable[[int, Float64[np.ndarray, " draws"]], TrainingSample]
"""function from the number of an image and its random numbers in [0, 1) to a sample; for any thread; raises BadImage"""


def batches(
    images: LabelledImages,
    plan: EpochPlan,
    rank: Rank,
    sample_of: SampleOf,
    *,
    blank: TrainingSample,
    count: int,
    after: int,
    decoding: Decoding,
) -> Generator[Batch, None, None]:
    """Yield this rank's share of every batch after the first `after`, without end. Close it to end its threads.

    `count`: random numbers of a sample. An image for which `sample_of` raises BadImage is `blank` and weighs nothing;
    those of the first epoch are named in `skipped`.
    """
    pin = rank.device.type == "cuda"
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(max(1, decoding.threads), "samples")
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[tuple[_Drawn, list[_Made]]] = deque()
        began = time.perf_counter()
        for number in itertools.count(after + 1):
            drawn = _Drawn.at(number, images, plan, rank, count=count)
            work = partial(_tried, sample_of, blank)
            made = [pool.submit(work, *each) for each in zip(drawn.images.tolist(), drawn.draws, strict=True)]
            waiting.append((drawn, [future.result for future in made]))
            if len(waiting) <= (decoding.ahead if decoding.threads else 0):
                continue
            drawn, results = waiting.popleft()
            batch = _assembled([result() for result in results], drawn, images, plan)
            batch.waited = time.perf_counter() - began
            # The images are stacked in plain memory, which `pin` of a batch leaves as it is.
            yield replace(batch, images=batch.images.pin_memory()).pin() if pin else batch
            began = time.perf_counter()


_Outcome = tuple[TrainingSample, str | None]
"""a sample, and the reason why it is blank"""
_Made = Callable[[], _Outcome]


def _tried(sample_of: SampleOf, blank: TrainingSample, image: int, own: Float64[np.ndarray, " draws"]) -> _Outcome:
    try:
        return sample_of(image, own), None
    except BadImage as bad:
        return blank, str(bad)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Images of a rank's share of a batch, with their random numbers; the last one of each image is its seed."""

    step: int
    images: Int64[np.ndarray, " own"]
    epochs: Int64[np.ndarray, " own"]
    draws: Float64[np.ndarray, "own draws"]
    seeds: Int64[np.ndarray, " own"]

    @classmethod
    def at(cls, step: int, images: LabelledImages, plan: EpochPlan, rank: Rank, *, count: int) -> _Drawn:
        chosen, epochs = plan.at(step, rank)
        rows = images.rows[chosen]
        shards = np.zeros(len(rows), np.uint64)
        drawn = draws(seed=plan.seed, epoch=epochs, shards=shards, indices=rows, count=count + 1)
        return cls(step, chosen, epochs, drawn[:, :count], (drawn[:, count] * SEEDS).astype(np.int64))


def _assembled(made: Sequence[_Outcome], drawn: _Drawn, images: LabelledImages, plan: EpochPlan) -> Batch:
    samples, reasons = [sample for sample, _ in made], [reason for _, reason in made]
    bad = [number for number, reason in enumerate(reasons) if reason is not None]
    weights = torch.ones(len(samples))
    weights[bad] = 0
    account = Counter(samples=len(samples), bad=len(bad))
    offsets = np.cumsum([0, *(len(sample.classes) for sample in samples)], dtype=np.int64)
    return Batch(
        images=torch.from_numpy(np.stack([sample.pixels for sample in samples])),
        offsets=torch.from_numpy(offsets),
        classes=torch.from_numpy(np.concatenate([sample.classes for sample in samples])),
        weights=weights,
        flips=torch.zeros(len(samples), dtype=torch.bool),
        draws=torch.zeros(len(samples), DRAWS),
        seeds=torch.from_numpy(drawn.seeds),
        tars=torch.zeros(len(samples), dtype=torch.int32),
        indices=torch.from_numpy(drawn.images.astype(np.int32)),
        position=Position(drawn.step, drawn.step * plan.batch, {}),
        ends=offsets.tolist(),
        account=account,
        skipped=[
            Skipped("", images.names[drawn.images[number]], str(reasons[number]))
            for number in bad
            if drawn.epochs[number] == 0
        ],
        by_image=_joined([sample.by_image for sample in samples], np.stack),
        by_label=_joined([sample.by_label for sample in samples], np.concatenate),
    )


def _joined(
    parts: Sequence[Mapping[str, np.ndarray]], join: Callable[[Sequence[np.ndarray]], np.ndarray]
) -> dict[str, Tensor]:
    return {name: torch.from_numpy(join([part[name] for part in parts])) for name in parts[0]}
