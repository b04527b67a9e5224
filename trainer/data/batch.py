"""A batch of a rank: uint8 images with sparse labels, their samples, and the position of the data after them.

A batch is assembled from the parts that loaders made, in the order of the samples. It is copied to the device beside
the work on the batch before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64, UInt8
from torch import Tensor

from trainer.data.order import Cursor

# The tensors of a batch that a step computes with.
ON_DEVICE = ("images", "offsets", "classes", "weights", "flips", "draws", "seeds")


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be used."""

    shard: str
    """empty where images are files"""
    key: str
    reason: str

    @property
    def name(self) -> str:
        """Name of the sample, with its shard if it is of one."""
        return f"{self.shard}/{self.key}" if self.shard else self.key


@dataclass(frozen=True)
class Position:
    """Position in the data between two steps: all that a resumed run needs, whatever ranks and loaders it has."""

    step: int
    """steps taken"""
    images: int
    """samples taken by each team"""
    cursors: dict[int, tuple[Cursor, ...]]
    """by team that this rank reads for, the cursor in each pool"""


@dataclass
class Meter:
    """Work and times of loaders; seconds are summed over loaders."""

    images: int = 0
    bytes: int = 0
    open_seconds: float = 0.0
    """fetching tars, reading headers, joining labels"""
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    """decoding, cropping and resizing"""
    idle_seconds: float = 0.0
    """waiting for a free buffer: the trainer is slower than the loaders"""
    busy_seconds: float = 0.0
    """everything except waiting"""
    cpu_seconds: float = 0.0
    """CPU time within busy_seconds"""

    def add(self, other: Meter) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class BatchPart:
    """Share of one loader in a batch: every `of`-th image, from number `first` on."""

    step: int
    first: int
    of: int
    ends: Int64[np.ndarray, " images_plus_1"]
    classes: Int64[np.ndarray, " positives"]
    tars: Int32[np.ndarray, " images"]
    """number of each image's tar; -1 if there is no sample"""
    indices: Int32[np.ndarray, " images"]
    """index of each sample in its tar"""
    weights: Float32[np.ndarray, " images"]
    flips: Bool[np.ndarray, " images"]
    draws: Float32[np.ndarray, "images draws"]
    seeds: Int64[np.ndarray, " images"]
    position: Position
    account: Counter[str]
    skipped: list[Skipped]
    meter: Meter
    ended: bool = False
    """True: the data has ended, and this part is empty"""


@dataclass
class Batch:
    """Images and their classes, sparse: image i has classes[offsets[i] : offsets[i + 1]].

    The images lie in memory that a later batch is written to (`feed.HELD`): keep a copy, not a view.
    """

    images: UInt8[Tensor, "batch size size 3"]
    offsets: Int64[Tensor, " batch_plus_1"]
    classes: Int64[Tensor, " positives"]
    weights: Float32[Tensor, " batch"]
    """weight of each image in the loss: 1; less without a label, if so configured; 0 if it could not be decoded, or if
    an evaluation's last batch has no sample"""
    flips: Bool[Tensor, " batch"]
    """True: mirror the image on the device"""
    draws: Float32[Tensor, "batch draws"]
    """random numbers in [0, 1) for augmentation on the device"""
    seeds: Int64[Tensor, " batch"]
    """one random number for each image"""
    tars: Int32[Tensor, " batch"]
    indices: Int32[Tensor, " batch"]
    position: Position
    """position of the data after this batch"""
    ends: list[int]
    """`offsets`, on the host"""
    account: Counter[str] = field(default_factory=Counter)
    """counts since the last batch: samples, bad, unmatched, unlabelled, surplus_labels, truncated (decoded as far as
    they go)"""
    skipped: list[Skipped] = field(default_factory=list)
    """bad samples since the last batch, in the first epoch only: later epochs meet the same ones"""
    meter: Meter = field(default_factory=Meter)
    waited: float = 0.0
    """seconds that the rank waited for this batch"""
    ready: int = 0
    """batches that were complete when this one was asked for, itself included"""
    by_image: dict[str, Tensor] = field(default_factory=dict)
    """further targets by name, with a row for each image, as the masks of segmentation"""
    by_label: dict[str, Tensor] = field(default_factory=dict)
    """further targets by name, with a row for each entry of `classes`, as the boxes of detection"""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def samples(self) -> list[tuple[int, int]]:
        """Tar and index in the tar of each image; tar -1 if there is no sample."""
        return list(zip(self.tars.tolist(), self.indices.tolist(), strict=True))

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors that a step computes with to a device; the host does not wait for a copy to CUDA."""
        ahead = device.type == "cuda"
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=ahead), ON_DEVICE)

    def pin(self) -> Batch:
        """Page-lock the small tensors, so that `to` does not wait; loaders' images lie in page-locked memory already.

        Images that the training process loads itself are not page-locked, and `to` waits for them.
        """
        return self._mapped(Tensor.pin_memory, [name for name in ON_DEVICE if name != "images"])

    def computed_with(self) -> list[Tensor]:
        """List all tensors that a step computes with."""
        return [*(getattr(self, name) for name in ON_DEVICE), *self.by_image.values(), *self.by_label.values()]

    def _mapped(self, change: Callable[[Tensor], Tensor], names: Sequence[str]) -> Batch:
        """Change the tensors of these names, and all further targets."""
        by_image = {name: change(tensor) for name, tensor in self.by_image.items()}
        by_label = {name: change(tensor) for name, tensor in self.by_label.items()}
        own: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, by_image=by_image, by_label=by_label, **own)

    def part(self, number: int, count: int) -> Batch:
        """Part `number` of `count` equal parts, for gradient accumulation."""
        size = len(self) // count
        rows = slice(number * size, (number + 1) * size)
        # Offsets are read on the host, from `ends`, which is there before the batch is copied.
        begin, end = self.ends[rows.start], self.ends[rows.stop]
        names = ("images", "weights", "flips", "draws", "seeds", "tars", "indices")
        return replace(
            self,
            offsets=self.offsets[rows.start : rows.stop + 1] - begin,
            classes=self.classes[begin:end],
            ends=[stop - begin for stop in self.ends[rows.start : rows.stop + 1]],
            by_image={name: tensor[rows] for name, tensor in self.by_image.items()},
            by_label={name: tensor[begin:end] for name, tensor in self.by_label.items()},
            **{name: getattr(self, name)[rows] for name in names},
        )


def assemble(images: UInt8[np.ndarray, "batch size size 3"], parts: Sequence[BatchPart]) -> Batch:
    """Assemble a batch from the parts of all loaders of a rank, whose pixels already lie in `images`."""
    count = len(images)

    def interleave(name: str) -> Tensor:
        """Values in the order of images, from values by part."""
        columns = [getattr(part, name) for part in parts]
        whole = np.empty((count, *columns[0].shape[1:]), columns[0].dtype)
        for part, column in zip(parts, columns, strict=True):
            whole[part.first :: part.of] = column
        return torch.from_numpy(whole)

    lengths = np.empty(count, np.int64)
    owners = []
    for part in parts:
        own = np.diff(part.ends)
        lengths[part.first :: part.of] = own
        owners.append(np.repeat(np.arange(part.first, count, part.of), own))
    by_image = np.argsort(np.concatenate(owners), kind="stable")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    account: Counter[str] = Counter()
    meter = Meter()
    for part in parts:
        account.update(part.account)
        meter.add(part.meter)
    cursors: dict[int, tuple[Cursor, ...]] = {}
    for part in parts:
        cursors |= part.position.cursors
    return Batch(
        images=torch.from_numpy(images),
        offsets=torch.from_numpy(offsets),
        classes=torch.from_numpy(np.concatenate([part.classes for part in parts])[by_image]),
        weights=interleave("weights"),
        flips=interleave("flips"),
        draws=interleave("draws"),
        seeds=interleave("seeds"),
        tars=interleave("tars"),
        indices=interleave("indices"),
        position=replace(parts[0].position, cursors=cursors),
        account=account,
        skipped=sorted(
            (bad for part in parts for bad in part.skipped), key=lambda bad: (bad.shard, bad.key, bad.reason)
        ),
        meter=meter,
        ends=offsets.tolist(),
    )


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to `device`, in order; on the CPU they stay where they are.

    On CUDA a separate stream copies one batch ahead. The next batch is asked for only when that copy is done, because
    the feed then gives the memory of the copied batch back to its loaders.
    """
    if device.type == "cpu":
        yield from batches
        return
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
            copied = stream.record_event()
        if ahead is not None:
            yield _ready(*ahead, device)
        copied.synchronize()
        ahead = (moved, copied)
    if ahead is not None:
        yield _ready(*ahead, device)


def _ready(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    """Hand a batch to the current stream, which waits for the copy and keeps the memory until it is done with it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for tensor in batch.computed_with():
        tensor.record_stream(current)
    return batch
