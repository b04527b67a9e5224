"""A reader: the part of one loader in every step, read, decoded and written into the batch.

    step     samples of all teams, one after the other; each rank has an equal run of them, and of a rank's run loader w
             of m has samples w, w + m, w + 2 m, ...
    team     ranks that share the same tars; team t of T walks every T-th group (`trainer/data/order.py`)

Every loader walks all the samples of its teams and decodes its own, so that the samples of a loader depend on nothing
but numbers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trainer.data.batch import BatchPart, Meter, Position, Skipped
from trainer.data.crops import BOX_DRAWS, centre_box, random_box
from trainer.data.draws import draws
from trainer.data.group import TarGroup
from trainer.data.images import BadImage, crop_into
from trainer.data.order import Walk, choose_pools
from trainer.data.resolution import StepShape
from trainer.data.ring import Images
from trainer.data.source import Source
from trainer.data.tar_tables import TarTable
from trainer.model.range_augment import DRAWS as AUGMENT_DRAWS

# Random numbers of one sample: for its box, mirroring, its seed, and augmentation on the device.
FLIP, SEED, AUGMENT = BOX_DRAWS, BOX_DRAWS + 1, BOX_DRAWS + 2
SAMPLE_DRAWS = AUGMENT + AUGMENT_DRAWS


@dataclass(frozen=True)
class LoaderShare:
    """The share of a loader in every step: its number and rank among all."""

    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1
    teams: int = 1

    def own(self, batch: int) -> Int64[np.ndarray, " own"]:
        """Numbers of this loader's samples in a step of `batch` samples."""
        of_rank = batch // self.world
        return np.arange(self.rank * of_rank + self.worker, (self.rank + 1) * of_rank, self.workers)

    @property
    def own_teams(self) -> range:
        """The teams that this rank reads for."""
        first = self.rank * self.teams // self.world
        return range(first, max(first + 1, (self.rank + 1) * self.teams // self.world))

    def accounts_for(self, team: int) -> bool:
        """Tell if this loader reports the faults that headers show in a team's tars; exactly one loader does.

        That one also counts the faults of groups without a usable sample.
        """
        return self.worker == 0 and self.rank == team * self.world // self.teams


@dataclass
class _Own:
    """A sample that this loader reads."""

    slot: int
    """its index among this loader's images"""
    group: TarGroup
    tar: int
    """index of its tar in the group"""
    row: int
    """its row in the tar's table"""

    @property
    def table(self) -> TarTable:
        return self.group.tables[self.tar]


class BatchReader:
    """Reader of one loader's share, step by step."""

    def __init__(
        self, source: Source, shape_at: Callable[[int], StepShape], share: LoaderShare, *, start: Position | None = None
    ) -> None:
        self.source, self.shape_at, self.share = source, shape_at, share
        self.step = start.step if start is not None else 0
        self.images = start.images if start is not None else 0
        self._open_seconds = 0.0
        self._walks = {
            team: [
                Walk(
                    order,
                    self._opener(pool),
                    team=team,
                    teams=share.teams,
                    start=start.cursors[team][pool] if start is not None else None,
                )
                for pool, order in enumerate(source.orders)
            ]
            for team in share.own_teams
        }

    def close(self) -> None:
        for walks in self._walks.values():
            for walk in walks:
                walk.close()

    def _opener(self, pool: int) -> Callable[[int], TarGroup]:
        def open_group(number: int) -> TarGroup:
            began = time.perf_counter()
            # Loaders begin with different tars of the group, so that one indexes a tar while the others go on.
            first = self.share.rank * self.share.workers + self.share.worker
            group = self.source.open_group(pool, number, first=first, teams=self.share.teams)
            self._open_seconds += time.perf_counter() - began
            return group

        return open_group

    def fill(self, images: Images) -> BatchPart:
        """Write this loader's images of the next step into a rank's batch, and return what belongs to them.

        `images`: the whole batch of the rank; every `workers`-th image of it is written.
        """
        began, cpu = time.perf_counter(), time.thread_time()
        self._open_seconds = 0.0
        shape = self.shape_at(self.step)
        account: Counter[str] = Counter()
        skipped: list[Skipped] = []
        # The same for all loaders, also for those that have no sample in the last batch.
        ended = all(walk.ended for walks in self._walks.values() for walk in walks)
        own = self._advance(shape, account, skipped)
        mine = images[self.share.worker :: self.share.workers]
        numbers = self._draws(own)
        part = self._part(own, numbers, len(mine), account, skipped)
        part.meter.open_seconds = self._open_seconds
        self._decode(own, numbers, mine, part)
        part.ended = ended
        part.meter.busy_seconds = time.perf_counter() - began
        part.meter.cpu_seconds = time.thread_time() - cpu
        self.step += 1
        return part

    def _advance(self, shape: StepShape, account: Counter[str], skipped: list[Skipped]) -> list[_Own]:
        """Walk over the step's samples, and return this loader's."""
        per_team = shape.batch // self.share.teams
        numbers = self.share.own(shape.batch)
        slots = np.full(shape.batch, -1)
        slots[numbers] = np.arange(len(numbers))
        own: list[_Own] = []
        for team, walks in self._walks.items():
            own_slots = slots[team * per_team : (team + 1) * per_team]
            pools = choose_pools(
                self.source.weights, seed=self.source.seed, team=team, first=self.images, count=per_team
            )
            for pool, walk in enumerate(walks):
                pool_slots = own_slots[pools == pool]
                begin = 0
                for group, since, until in walk.take(len(pool_slots)):
                    here = pool_slots[begin : begin + until - since]
                    begin += until - since
                    wanted = np.flatnonzero(here >= 0)
                    positions = since + wanted
                    found = zip(here[wanted], group.tar_of[positions], group.row_of[positions], strict=True)
                    own += [_Own(int(slot), group, int(tar), int(row)) for slot, tar, row in found]
                    account.update(group.left_out_at(positions))
                if self.share.accounts_for(team):
                    for entered in walk.entered:
                        if len(entered) == 0:
                            account.update(entered.left_out)
                        if entered.epoch == 0:
                            skipped += [Skipped(*fault) for fault in entered.faults()]
        self.images += per_team
        return own

    def _part(
        self,
        own: list[_Own],
        numbers: Float64[np.ndarray, "own draws"],
        count: int,
        account: Counter[str],
        skipped: list[Skipped],
    ) -> BatchPart:
        """The part of the batch as it is before its images are decoded."""
        slots = [sample.slot for sample in own]
        classes: list[Int64[np.ndarray, " positives"]] = [np.empty(0, np.int64)] * count
        tars, indices = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
        weights, flips = np.zeros(count, np.float32), np.zeros(count, np.bool_)
        by_slot = np.zeros((count, SAMPLE_DRAWS))
        by_slot[slots] = numbers
        for sample in own:
            table, row = sample.table, sample.row
            tars[sample.slot] = sample.group.numbers[sample.tar]
            indices[sample.slot] = table.indices[row]
            classes[sample.slot] = table.classes[table.class_ends[row] : table.class_ends[row + 1]]
        lengths = np.array([len(found) for found in classes], np.int64)
        weights[slots] = 1
        unlabelled = (lengths == 0) & (weights > 0)
        if self.source.options.unlabelled == "weigh" and self.source.train:
            weights[unlabelled] = self.source.options.unlabelled_weight
        account.update(samples=len(own), unlabelled=int(unlabelled.sum()))
        if self.source.train and self.source.options.flip:
            flips = by_slot[:, FLIP] >= 0.5
        return BatchPart(
            step=self.step,
            first=self.share.worker,
            of=self.share.workers,
            ends=np.concatenate([[0], np.cumsum(lengths)]),
            classes=np.concatenate([np.empty(0, np.int64), *classes]),
            tars=tars,
            indices=indices,
            weights=weights,
            flips=flips,
            draws=by_slot[:, AUGMENT:].astype(np.float32),
            seeds=(by_slot[:, SEED] * (1 << 53)).astype(np.int64),
            position=Position(
                self.step + 1,
                self.images,
                {team: tuple(walk.cursor for walk in walks) for team, walks in self._walks.items()},
            ),
            account=account,
            skipped=skipped,
            meter=Meter(),
        )

    def _draws(self, own: list[_Own]) -> Float64[np.ndarray, "own draws"]:
        """Random numbers of the samples, from (seed, epoch, shard, index) alone."""
        return draws(
            seed=self.source.seed,
            epoch=np.array([sample.group.epoch for sample in own], np.int64),
            shards=np.array([sample.group.hashes[sample.tar] for sample in own], np.uint64),
            indices=np.array([sample.table.indices[sample.row] for sample in own], np.int64),
            count=SAMPLE_DRAWS,
        )

    def _decode(
        self, own: list[_Own], numbers: Float64[np.ndarray, "own draws"], mine: Images, part: BatchPart
    ) -> None:
        """Read and decode the samples; bad ones become black, get weight 0, and are counted and named."""
        meter, options = part.meter, self.source.options
        for sample in own:
            sample.group.announce(sample.tar, sample.row)
        present: Bool[np.ndarray, " images"] = np.zeros(len(mine), np.bool_)
        for sample, row in zip(own, numbers, strict=True):
            began = time.perf_counter()
            content = sample.group.read(sample.tar, sample.row)
            read = time.perf_counter()
            try:
                truncated = crop_into(
                    content,
                    mine[sample.slot],
                    choose=self._chooser(row),
                    max_pixels=options.max_pixels,
                    take_truncated=options.take_truncated,
                )
                present[sample.slot] = True
                if truncated:
                    part.account["truncated"] += 1
            except BadImage as bad:
                part.account["bad"] += 1
                if sample.group.epoch == 0:
                    shard = sample.group.tars[sample.tar].shard
                    part.skipped.append(Skipped(shard, sample.table.keys[sample.row], str(bad)))
            meter.read_seconds += read - began
            meter.decode_seconds += time.perf_counter() - read
            meter.bytes += len(content)
        meter.images += len(own)
        if not present.all():
            mine[~present] = 0
            part.weights[~present] = 0

    def _chooser(self, row: Float64[np.ndarray, " draws"]) -> Callable[[int, int], tuple[int, int, int, int]]:
        options = self.source.options
        if self.source.train:
            return partial(random_box, draws=row[:BOX_DRAWS], min_area=options.min_crop_area)
        return partial(centre_box, share=options.eval_crop)
