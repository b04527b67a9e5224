"""Our side of the feed's benchmarks: all that they know of `trainer`'s data path.

In: a `Corpus`. Out: its batches, the draws behind them, its join; and what is measured in a process of its own.

The scripts of the family call the four functions `our_*` and nothing else of `trainer`.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from benchmarks.feeding.corpus import Corpus
from benchmarks.feeding.peers import Choose, Crop
from trainer.data.crops import BOX_DRAWS, random_box
from trainer.data.draws import draws
from trainer.data.feed import Feed
from trainer.data.group import Tar
from trainer.data.labels import find_shards, join
from trainer.data.reader import SAMPLE_DRAWS
from trainer.data.resolution import FixedResolution
from trainer.data.source import Source, from_state, to_state
from trainer.data.tar_cache import TarCache
from trainer.data.tar_tables import TarTables
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

MEGABYTE = 1 << 20
# A process is started as `python -c CHILD`; its standard input is JSON, and so is the last line of its output.
CHILD = """
import json, sys, time
from pathlib import Path
from trainer.data.loader_server import start_loader_server
start_loader_server()  # as `python -m trainer` does, before it imports torch
from benchmarks.feeding import ours
ready = time.time()
given = json.load(sys.stdin)
corpus = ours.Corpus(Path(given["folder"]), given["image_size"], given["batch_size"])
result = {call}
print(json.dumps(result | {{"start": ready - given["started"]}}))
"""
STOP = "ours.stop_in_the_middle(corpus, marks=given['marks'], stop=given['stop'])"
RESUME = "ours.resume(corpus, state=given['state'], workers=given['workers'])"


@dataclass(frozen=True)
class Fed:
    """One batch of ours."""

    images: UInt8[Tensor, "batch size size 3"]
    flips: Bool[Tensor, " batch"]
    """which of them the device mirrors"""
    offsets: Int64[Tensor, " batch_plus_1"]
    classes: Int64[Tensor, " positives"]
    samples: list[tuple[int, int]]
    """(tar, index in the tar) of each image"""
    state: dict[str, Any]
    """state from which a resumed feed continues after this batch; JSON"""


def our_source(corpus: Corpus, *, seed: int = 0) -> Source:
    """The corpus as the trainer sees it. What is found out of its tars is kept beside them."""
    labels = LabelShards.open(corpus.labels, checksums=False)
    tars = [str(tar) for tar in corpus.tars]
    shards = find_shards(labels, tars)
    return Source(
        tars=tuple(Tar(tar, shards[tar]) for tar in tars),
        labels=(labels,),
        vocabulary=Vocabulary.load(corpus.vocabulary),
        cache=TarCache(corpus.folder / "cache" / "tars", max_bytes=1 << 30),
        tables=TarTables(corpus.folder / "cache" / "tables"),
        seed=seed,
    )


def our_feed(source: Source, corpus: Corpus, *, workers: int, state: dict[str, Any] | None = None) -> Iterator[Fed]:
    """Training batches without end; 0 workers: made in this process."""
    start = from_state(state, source, teams=1) if state is not None else None
    resolution = FixedResolution(corpus.image_size, corpus.batch_size)
    with Feed(source, resolution, workers=workers, start=start) as feed:
        for batch in feed:
            # Through JSON, as checkpoints keep it.
            kept = json.loads(json.dumps(to_state([batch.position], source, teams=1)))
            yield Fed(batch.images, batch.flips, batch.offsets, batch.classes, batch.samples, kept)


def our_join(source: Source, *, shard: str, keys: Sequence[str]) -> Callable[[], object]:
    """The join of one tar, ready to be timed."""
    return lambda: join(source.labels[0], source.vocabulary, shard=shard, keys=keys)


def our_choice(source: Source, *, epoch: int, tar: int, index: int) -> Choose:
    """The crop that our feed takes of one sample in one epoch. It is mirrored on the device, not here."""
    (row,) = draws(
        seed=source.seed,
        epoch=epoch,
        shards=np.array([source.tars[tar].hash], np.uint64),
        indices=np.array([index]),
        count=SAMPLE_DRAWS,
    )

    def choose(width: int, height: int) -> Crop:
        left, top, across, down = random_box(width, height, row[:BOX_DRAWS], min_area=source.options.min_crop_area)
        return Crop((left, top, left + across, top + down), mirrored=False)

    return choose


def stop_in_the_middle(corpus: Corpus, *, marks: Sequence[int], stop: int) -> dict[str, Any]:
    """Read `stop` samples with one worker: its megabytes at the marks, the state then, and what comes next."""
    feed = our_feed(our_source(corpus), corpus, workers=1)
    megabytes: list[dict[str, float]] = []
    read, start = 0, time.perf_counter()
    for fed in feed:
        before, read = read, read + len(fed.images)
        megabytes += [worker_memory() for mark in marks if before < mark <= read]
        if read >= stop:
            break
    seconds = time.perf_counter() - start
    return {"memory": megabytes, "rate": read / seconds, "state": fed.state, "samples": next(feed).samples}


def resume(corpus: Corpus, *, state: dict[str, Any], workers: int) -> dict[str, Any]:
    """Seconds to open labels and vocabulary, and from there to the first batch behind the state."""
    start = time.perf_counter()
    source = our_source(corpus)
    opened = time.perf_counter()
    fed = next(our_feed(source, corpus, workers=workers, state=state))
    return {"open": opened - start, "resume": time.perf_counter() - opened, "samples": fed.samples}


def forget_tables(corpus: Corpus) -> None:
    """Remove all tables of these tars, as on a machine that has never read them."""
    shutil.rmtree(corpus.folder / "cache", ignore_errors=True)


def worker_memory() -> dict[str, float]:
    """Megabytes of this process's only child: its share of the pages it has (PSS), and all of them (RSS)."""
    (worker,) = multiprocessing.active_children()
    lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return {name.lower(): round(kilobytes[name] * 1024 / MEGABYTE, 1) for name in ("Pss", "Rss")}


def in_fresh_process(call: str, corpus: Corpus, **given: Any) -> dict[str, Any]:
    """Run a call in an interpreter that has imported nothing but this module; `start`: seconds until then."""
    text = json.dumps(
        {
            "folder": str(corpus.folder.resolve()),
            "image_size": corpus.image_size,
            "batch_size": corpus.batch_size,
            "started": time.time(),
        }
        | given
    )
    command = [sys.executable, "-c", CHILD.format(call=call)]
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(command, cwd=root, check=True, input=text, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result
