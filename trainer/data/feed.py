"""The feed of a rank: its batches, one after the other, from loaders that run beside it.

In: a source, the shape of every step, and a position to begin at. Out: `Batch`es, each with the position after it.

    loaders    processes or threads; each fills its share of every batch (`loaders.py`, `reader.py`)
    ring       buffers of the batches that are being filled, waiting, or in use (`ring.py`)

A batch holds the next samples of one order, whatever the number of ranks and loaders.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from trainer.data.batch import Batch, Position, Skipped, assemble
from trainer.data.loaders import LoaderPool, Loaders
from trainer.data.open_files import check_limit
from trainer.data.reader import BatchReader, LoaderShare
from trainer.data.resolution import Resolution
from trainer.data.ring import Ring
from trainer.data.source import Source
from vocab.errors import InputError

# A batch stays unchanged until this many more batches have been asked for.
HELD = 1
# Bad samples that an error names.
MAX_NAMED = 3
# The share of bad samples is checked from this many samples on.
BAD_SHARE_FROM = 100


class Feed:
    """Batches of one rank. Iterate once; `close` (or leave a `with` block) ends the loaders.

    Batches lie in shared memory: a batch stays unchanged until `HELD` more batches have been asked for.
    """

    def __init__(
        self,
        source: Source,
        resolution: Resolution,
        *,
        rank: int = 0,
        world: int = 1,
        teams: int = 1,
        workers: int = 0,
        loaders: Loaders = "processes",
        prefetch: int = 3,
        start: Position | None = None,
        pin_memory: bool = False,
    ) -> None:
        """`workers`: loaders of this rank; 0 loads in the calling process. `prefetch`: batches filled ahead.

        Raises InputError if neither of teams and ranks divides the other, or a process may not have a group's tars
        open.
        """
        if world % teams and teams % world:
            raise InputError(
                "--tar-teams",
                found=f"{teams} teams for {world} processes",
                wanted="a divisor or a multiple of the processes",
                remedy="Start another number of processes; the teams of a run cannot change.",
            )
        self.source, self.resolution = source, resolution
        self._shares = [LoaderShare(rank, world, worker, max(1, workers), teams) for worker in range(max(1, workers))]
        self._workers, self._loaders, self._prefetch = workers, loaders, prefetch
        self._start, self._pin = start, pin_memory
        tars = sum(min(order.group_size, len(order.hashes)) for order in source.orders)
        check_limit(tars * len(self._shares[0].own_teams) * (workers if loaders == "threads" else 1))
        self._account: Counter[str] = Counter()
        self._bad: list[Skipped] = []
        """the first few bad samples"""
        self._pool: LoaderPool | None = None

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __iter__(self) -> Iterator[Batch]:
        batches = self._inline() if self._workers == 0 else self._shared()
        for batch in batches:
            # Before the check: the caller writes down which samples were bad.
            yield batch
            self._account.update(batch.account)
            self._bad += batch.skipped[: MAX_NAMED - len(self._bad)]
            check_bad_share(self._account, self.source.options.max_bad_share, examples=examples_of(self._bad))

    def _count(self, step: int) -> tuple[int, int]:
        """Number and size of the images of this rank at a step."""
        shape = self.resolution.at(step)
        return shape.batch // self._shares[0].world, shape.size

    def _inline(self) -> Iterator[Batch]:
        made = BatchReader(self.source, self.resolution.at, self._shares[0], start=self._start)
        with contextlib.closing(made) as reader:
            while True:
                began = time.perf_counter()
                count, size = self._count(reader.step)
                images = np.empty((count, size, size, 3), np.uint8)
                part = reader.fill(images)
                if part.ended:
                    return
                batch = replace(assemble(images, [part]), waited=time.perf_counter() - began, ready=0)
                yield batch.pin() if self._pin else batch

    def _make_tables(self) -> None:
        """Make tables of the first tars, beginning with the last one, while the loaders start."""
        share = self._shares[0]
        for team in share.own_teams:
            for pool in range(len(self.source.orders)):
                group = self._start.cursors[team][pool][0] if self._start is not None else team
                self.source.make_tables(pool, group)

    def _shared(self) -> Iterator[Batch]:
        world = self._shares[0].world
        ring = Ring(
            self._prefetch + HELD + 1,
            max(3 * (shape.batch // world) * shape.size**2 for shape in self.resolution.shapes()),
        )
        if self._pin:
            ring.pin()
        processes = self._loaders == "processes"
        pool = LoaderPool(self.source, self.resolution.at, self._shares, ring, self._start, processes=processes)
        self._pool = pool
        try:
            self._make_tables()
            first = self._start.step if self._start is not None else 0
            for step in itertools.count(first):
                if step - first > HELD:
                    pool.release()
                began = time.perf_counter()
                ready = pool.ready(step)
                parts = pool.parts(step)
                if any(part.ended for part in parts):
                    return
                count, size = self._count(step)
                batch = assemble(ring.images(step % ring.slots, count=count, size=size), parts)
                batch = replace(batch, waited=time.perf_counter() - began, ready=ready)
                yield batch.pin() if self._pin else batch
        finally:
            self.close()


def check_bad_share(
    account: Counter[str], max_bad_share: float, *, examples: str, fewest: int = BAD_SHARE_FROM
) -> None:
    """Raise InputError if more than `max_bad_share` of the samples are bad, from `fewest` samples on."""
    samples, bad = account["samples"], account["bad"]
    if samples >= fewest and bad > max_bad_share * samples:
        raise InputError(
            "images",
            found=f"{bad:,} bad samples of {samples:,}{examples}",
            wanted=f"at most {100 * max_bad_share:g}%",
            remedy="Mend or leave out such tars (python -m pipeline check finds them), or raise --max-bad-share.",
        )


def examples_of(skipped: Sequence[Skipped]) -> str:
    """Names of the first few bad samples: ", for example 00017/000170042: broken_image"; empty if there are none."""
    named = ", ".join(f"{bad.name}: {bad.reason}" for bad in skipped[:MAX_NAMED])
    return f", for example {named}" if named else ""
