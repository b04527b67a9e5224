"""Batches: uint8 images with sparse labels, in an order that does not depend on who loads them.

In: tars, label shards, a vocabulary. Out: an endless stream of `Batch`es per rank, each with the position from which a
resumed run goes on, the samples that were skipped, and the account of the join.

    stream    one reader of the epoch's order; ranks x max(1, workers) of them share the samples of every group of tars
    position  (epoch, group, samples of the group's order already taken): where a stream stands
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from trainer.images import BadImage, Pixels, centre_crop, decode, random_crop, sample_rng
from trainer.labels import Classes, TarLabels, join
from trainer.shards import Sample, epoch_groups, group_order, index_tar, read_member
from vocab.errors import CatlipError, InputError, MismatchError
from vocab.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

# Of this many samples on, the share of bad ones says something.
BAD_SHARE_FROM = 100

Position = tuple[int, int, int]


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be used."""

    shard: str
    key: str
    reason: str


@dataclass
class Batch:
    """Images and their classes, sparse: classes[offsets[i] : offsets[i + 1]] are those of image i."""

    images: UInt8[Tensor, "batch size size 3"]
    offsets: Int64[Tensor, " batch_plus_1"]
    classes: Int64[Tensor, " positives"]
    samples: list[tuple[int, int]]
    """(tar, index in the tar) of each image; tar is the index in the source's list"""
    stream: int
    """which of the rank's streams made it"""
    position: Position
    """where that stream stands after it"""
    account: dict[str, int]
    """since the stream's last batch: samples, bad, unmatched, unlabelled, surplus_labels"""
    skipped: list[Skipped] = field(default_factory=list)
    """bad samples of the first epoch since the stream's last batch; later epochs meet the same ones again"""

    def part(self, number: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, offsets and classes of one of `count` equal parts, as gradient accumulation takes them."""
        size = len(self.images) // count
        offsets = self.offsets[number * size : (number + 1) * size + 1]
        classes = self.classes[int(offsets[0]) : int(offsets[-1])]
        return self.images[number * size : (number + 1) * size], offsets - offsets[0], classes

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, as DataLoader asks for."""
        tensors = {name: getattr(self, name).pin_memory() for name in ("images", "offsets", "classes")}
        return replace(self, **tensors)


@dataclass(frozen=True)
class Source:
    """Tars with their labels, and what a sample becomes."""

    tars: tuple[Path, ...]
    shards: tuple[str, ...]
    """what the labels call each tar"""
    labels: LabelShards
    vocabulary: Vocabulary
    image_size: int
    batch_size: int
    """images in a batch of one rank"""
    seed: int = 0
    train: bool = True
    """random order, crop and flip, without end; or every sample once, in order, centre-cropped"""
    min_crop_area: float = 0.08
    flip: bool = True
    eval_crop: float = 0.875
    unlabelled: str = "keep"
    shuffle_shards: int = 16
    max_pixels: int = 89_478_485
    max_member_bytes: int = 64 << 20
    max_bad_share: float = 0.1

    def read_group(self, tars: list[int]) -> Group:
        """Headers and labels of some tars."""
        indices = [index_tar(self.tars[tar], max_member_bytes=self.max_member_bytes) for tar in tars]
        joined = [
            join(self.labels, self.vocabulary, shard=self.shards[tar], samples=index)
            for tar, index in zip(tars, indices, strict=True)
        ]
        return Group(tars, indices, joined)


@dataclass(frozen=True)
class Group:
    """Tars whose samples are shuffled together."""

    tars: list[int]
    indices: list[list[Sample]]
    joined: list[TarLabels]

    def __len__(self) -> int:
        return sum(map(len, self.indices))

    def at(self, place: int) -> tuple[int, Sample, TarLabels]:
        """Tar, sample and its tar's labels at a place in the group, tars one after the other."""
        for tar, index, joined in zip(self.tars, self.indices, self.joined, strict=True):
            if place < len(index):
                return tar, index[place], joined
            place -= len(index)
        raise IndexError(place)


class Stream:
    """One reader of a source: walks its share of the order from a position on and decodes what it meets."""

    def __init__(self, source: Source, *, stream: int, streams: int, start: Position = (0, 0, 0)) -> None:
        self.source = source
        self.stream, self.streams = stream, streams
        self.position = start
        self.account: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.skipped: list[Skipped] = []

    def samples(self) -> Iterator[tuple[int, Sample, Classes, Pixels]]:
        """Tar, sample, classes and pixels [size, size, 3] of every usable sample."""
        source = self.source
        epoch, first_group, taken = self.position
        while True:
            size = source.shuffle_shards if source.train else 1
            groups = (
                epoch_groups(len(source.tars), seed=source.seed, epoch=epoch, size=size)
                if source.train
                else [[tar] for tar in range(len(source.tars))]
            )
            usable, whole = 0, (first_group, taken) == (0, 0)
            for number in range(first_group, len(groups)):
                for item in self._group(groups[number], epoch, number, taken):
                    usable += 1
                    yield item
                taken = 0
            if not source.train:
                return
            if usable == 0 and whole:
                raise InputError(
                    "images",
                    found=f"no usable sample for reader {self.stream} of {self.streams} in a whole epoch",
                    wanted="at least one for each",
                    remedy="Fewer --workers or processes, or more images; bad_samples.jsonl names what was skipped.",
                )
            epoch, first_group = epoch + 1, 0

    def _group(
        self, tars: list[int], epoch: int, number: int, taken: int
    ) -> Iterator[tuple[int, Sample, Classes, Pixels]]:
        source = self.source
        group = source.read_group(tars)
        if source.train:
            order = group_order(
                len(group), seed=source.seed, epoch=epoch, group=number, stream=self.stream, streams=self.streams
            )
        else:
            order = list(range((self.stream - number) % self.streams, len(group), self.streams))
        if self.stream == 0 and taken == 0:
            self.account["surplus_labels"] += sum(joined.surplus for joined in group.joined)
        for count, place in enumerate(order[taken:], taken + 1):
            self.position = (epoch, number, count)
            tar, sample, joined = group.at(place)
            classes = self._classes(sample, joined)
            if classes is None:
                continue
            pixels = self._pixels(tar, sample, epoch)
            if pixels is not None:
                yield tar, sample, classes, pixels

    def _classes(self, sample: Sample, joined: TarLabels) -> Classes | None:
        """The sample's classes, or None if it is left out for its labels; counted either way."""
        self.account["samples"] += 1
        if sample.fault is not None:
            return np.empty(0, np.int64)
        classes = joined.classes[sample.index]
        if classes is None:
            self.account["unmatched"] += 1
        elif joined.empty[sample.index]:
            self.account["unlabelled"] += 1
            if self.source.unlabelled == "drop":
                return None
        return classes

    def _pixels(self, tar: int, sample: Sample, epoch: int) -> Pixels | None:
        """The sample's crop, or None if it is bad; counted, named, and fatal if too many are."""
        source = self.source
        shard = source.shards[tar]
        try:
            if sample.fault is not None or sample.image is None:
                raise BadImage(sample.fault or "no_image")
            image = decode(read_member(source.tars[tar], sample.image), max_pixels=source.max_pixels)
        except BadImage as bad:
            self.account["bad"] += 1
            if epoch == 0:
                self.skipped.append(Skipped(shard, sample.key, str(bad)))
            check_bad_share(self.total + self.account, source.max_bad_share, example=f"{shard}/{sample.key}: {bad}")
            return None
        if not source.train:
            return centre_crop(image, size=source.image_size, share=source.eval_crop)
        rng = sample_rng(seed=source.seed, epoch=epoch, shard=shard, index=sample.index)
        return random_crop(image, rng, size=source.image_size, min_area=source.min_crop_area, flip=source.flip)

    def batches(self, local_stream: int) -> Iterator[Batch]:
        """Batches of the source's size; the last one of an evaluation may be smaller, even empty."""
        held: list[tuple[int, Sample, Classes, Pixels]] = []
        for item in self.samples():
            held.append(item)
            if len(held) == self.source.batch_size:
                yield self._collate(held, local_stream)
                held = []
        yield self._collate(held, local_stream)

    def _collate(self, held: list[tuple[int, Sample, Classes, Pixels]], local_stream: int) -> Batch:
        size = self.source.image_size
        images = np.stack([pixels for *_, pixels in held]) if held else np.empty((0, size, size, 3), np.uint8)
        lengths = [len(classes) for _, _, classes, _ in held]
        batch = Batch(
            images=torch.from_numpy(images),
            offsets=torch.tensor([0, *np.cumsum(lengths, dtype=np.int64).tolist()], dtype=torch.int64),
            classes=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *(classes for _, _, classes, _ in held)])),
            samples=[(tar, sample.index) for tar, sample, _, _ in held],
            stream=local_stream,
            position=self.position,
            account=dict(self.account),
            skipped=self.skipped,
        )
        self.total += self.account
        self.account, self.skipped = Counter(), []
        return batch


class Batches(IterableDataset[Batch | CatlipError]):
    """What DataLoader runs in each worker: one stream. Errors come out as values, for their text to survive."""

    def __init__(
        self, source: Source, *, rank: int, world: int, workers: int, starts: list[Position], turn: int
    ) -> None:
        self.source = source
        self.rank, self.world = rank, world
        self.per_rank = max(1, workers)
        self.starts = starts
        self.turn = turn

    def __iter__(self) -> Iterator[Batch | CatlipError]:
        info = get_worker_info()
        # DataLoader asks worker 0 first; after a resume the first batch is due from stream `turn`.
        local = ((info.id if info is not None else 0) + self.turn) % self.per_rank
        stream = Stream(
            self.source,
            stream=self.rank * self.per_rank + local,
            streams=self.world * self.per_rank,
            start=self.starts[local],
        )
        try:
            yield from stream.batches(local)
        except CatlipError as error:
            # Raised here it would reach the trainer as a RuntimeError around a stack trace.
            yield error


class Feed:
    """A rank's batches, one after the other, and where it stands among them."""

    def __init__(
        self,
        source: Source,
        *,
        rank: int,
        world: int,
        workers: int,
        state: dict[str, Any] | None = None,
        pin_memory: bool = False,
    ) -> None:
        """`state`: what `state()` gave when the run was stopped. Raises MismatchError if it is of another set-up."""
        self._setup: dict[str, Any] = {"ranks": world, "workers": workers, "tars": list(source.shards)}
        self._workers = workers
        self._positions: list[Position] = [(0, 0, 0)] * max(1, workers)
        self._batches = 0
        if state is not None:
            self._restore(state, rank)
        self._loader: DataLoader[Batch | CatlipError] = DataLoader(
            Batches(
                source,
                rank=rank,
                world=world,
                workers=workers,
                starts=list(self._positions),
                turn=self._batches % max(1, workers),
            ),
            batch_size=None,
            num_workers=workers,
            pin_memory=pin_memory,
        )

    def _restore(self, state: dict[str, Any], rank: int) -> None:
        for name in ("ranks", "workers"):
            if state[name] != self._setup[name]:
                raise MismatchError(
                    "checkpoint",
                    found=f"{state[name]} {name}",
                    wanted=f"the {self._setup[name]} {name} of this start",
                    remedy=f"Resume with {state[name]} {name}: the order of the data is shared out among them.",
                )
        if state["tars"] != self._setup["tars"]:
            raise MismatchError(
                "checkpoint",
                found=f"a run over {len(state['tars'])} training tars",
                wanted=f"the {len(self._setup['tars'])} tars that --images names now",
                remedy="Give the same --images, or start a new run in another --out.",
            )
        self._positions = [(epoch, group, taken) for epoch, group, taken in state["positions"][rank]]
        self._batches = state["batches"]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, CatlipError):
                raise batch
            self._positions[batch.stream] = batch.position
            self._batches += 1
            yield batch

    @property
    def positions(self) -> list[Position]:
        """Where each stream of this rank stands after the last batch handed out."""
        return list(self._positions)

    def state(self, positions: list[list[Position]]) -> dict[str, Any]:
        """What to keep for a resume, from the positions of all ranks."""
        return self._setup | {"positions": positions, "batches": self._batches}


def check_bad_share(account: Counter[str], max_bad_share: float, *, example: str) -> None:
    """Raise InputError if more than `max_bad_share` of the samples are bad, once there are enough to tell."""
    samples, bad = account["samples"], account["bad"]
    if samples >= BAD_SHARE_FROM and bad > max_bad_share * samples:
        raise InputError(
            "images",
            found=f"{bad:,} bad samples of {samples:,} (the last one {example})",
            wanted=f"at most {max_bad_share:.0%}",
            remedy="Mend the tars that bad_samples.jsonl names, or raise --max-bad-share.",
        )
