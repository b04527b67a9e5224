"""Our side of the feed's benchmarks: all that they know of `trainer`'s data path.

In: a `Corpus`. Out: its batches, the draws behind them, its join; and what is measured in a process of its own.

The scripts of the family call the four functions `our_*` and nothing else of `trainer`.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from torch import Tensor

from benchmarks.feed_corpus import Corpus
from benchmarks.feed_peers import Choose, Crop
from trainer.batches import Feed, Source
from trainer.images import ASPECT, CROP_TRIES, sample_rng
from trainer.labels import find_shards, join
from trainer.shards import Sample
from vocab.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

MEGABYTE = 1 << 20
# A process is started as `python -c CHILD`; its standard input is JSON, and so is the last line of its output.
CHILD = """
import json, sys, time
from pathlib import Path
from benchmarks import feed_ours
ready = time.time()
given = json.load(sys.stdin)
corpus = feed_ours.Corpus(Path(given["folder"]), given["image_size"], given["batch_size"])
result = {call}
print(json.dumps(result | {{"start": ready - given["started"]}}))
"""
STOP = "feed_ours.stop_in_the_middle(corpus, marks=given['marks'], stop=given['stop'])"
RESUME = "feed_ours.resume(corpus, state=given['state'])"


@dataclass(frozen=True)
class Fed:
    """One batch of ours."""

    images: UInt8[Tensor, "batch size size 3"]
    offsets: Int64[Tensor, " batch_plus_1"]
    classes: Int64[Tensor, " positives"]
    samples: list[tuple[int, int]]
    """(tar, index in the tar) of each image"""
    state: dict[str, Any]
    """what a resume from behind this batch takes; JSON"""


def our_source(corpus: Corpus, *, seed: int = 0) -> Source:
    """The corpus as the trainer sees it."""
    labels = LabelShards.open(corpus.labels, checksums=False)
    shards = find_shards(labels, corpus.tars)
    return Source(
        tars=tuple(corpus.tars),
        shards=tuple(shards[tar] for tar in corpus.tars),
        labels=labels,
        vocabulary=Vocabulary.load(corpus.vocabulary),
        image_size=corpus.image_size,
        batch_size=corpus.batch_size,
        seed=seed,
    )


def our_feed(source: Source, *, workers: int, state: dict[str, Any] | None = None) -> Iterator[Fed]:
    """Training batches without end; 0 workers: made in this process."""
    feed = Feed(source, rank=0, world=1, workers=workers, state=state)
    for batch in feed:
        # Through JSON, as checkpoints keep it.
        kept = json.loads(json.dumps(feed.state([feed.positions])))
        yield Fed(batch.images, batch.offsets, batch.classes, batch.samples, kept)


def our_join(source: Source, *, shard: str, keys: Sequence[str]) -> Callable[[], object]:
    """The join of one tar, ready to be timed."""
    samples = [Sample(key, index) for index, key in enumerate(keys)]
    return lambda: join(source.labels, source.vocabulary, shard=shard, samples=samples)


def our_choice(source: Source, *, epoch: int, tar: int, index: int) -> Choose:
    """The crop that our feed takes of one sample in one epoch."""
    # Equal to trainer.images.random_crop, which draws and crops in one.
    rng = sample_rng(seed=source.seed, epoch=epoch, shard=source.shards[tar], index=index)
    shares = rng.uniform(source.min_crop_area, 1, CROP_TRIES)
    ratios = np.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), CROP_TRIES))
    place = rng.uniform(size=2)
    mirrored = source.flip and bool(rng.random() < 0.5)

    def choose(width: int, height: int) -> Crop:
        at = place
        for share, ratio in zip(shares.tolist(), ratios.tolist(), strict=True):
            across = round(math.sqrt(share * width * height * ratio))
            down = round(math.sqrt(share * width * height / ratio))
            if 0 < across <= width and 0 < down <= height:
                break
        else:
            across = max(1, min(width, round(height * ASPECT[1])))
            down = max(1, min(height, round(width / ASPECT[0])))
            at = np.array([0.5, 0.5])
        left, top = int(at[0] * (width - across + 1)), int(at[1] * (height - down + 1))
        return Crop((left, top, left + across, top + down), mirrored)

    return choose


def stop_in_the_middle(corpus: Corpus, *, marks: Sequence[int], stop: int) -> dict[str, Any]:
    """Read `stop` samples with one worker: its megabytes at the marks, the state then, and what comes next."""
    feed = our_feed(our_source(corpus), workers=1)
    megabytes: list[dict[str, float]] = []
    read, start = 0, time.perf_counter()
    for fed in feed:
        before, read = read, read + len(fed.images)
        megabytes += [worker_memory() for mark in marks if before < mark <= read]
        if read >= stop:
            break
    seconds = time.perf_counter() - start
    return {"memory": megabytes, "rate": read / seconds, "state": fed.state, "samples": next(feed).samples}


def resume(corpus: Corpus, *, state: dict[str, Any]) -> dict[str, Any]:
    """Seconds to open labels and vocabulary, and from there to the first batch behind the state, with one worker."""
    start = time.perf_counter()
    source = our_source(corpus)
    opened = time.perf_counter()
    fed = next(our_feed(source, workers=1, state=state))
    return {"open": opened - start, "resume": time.perf_counter() - opened, "samples": fed.samples}


def worker_memory() -> dict[str, float]:
    """Megabytes of this process's only child: its share of the pages it has (PSS), and all of them (RSS)."""
    (worker,) = multiprocessing.active_children()
    lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return {name.lower(): round(kilobytes[name] * 1024 / MEGABYTE, 1) for name in ("Pss", "Rss")}


def in_fresh_process(call: str, corpus: Corpus, **given: Any) -> dict[str, Any]:
    """What a call gives in an interpreter that has imported nothing but this module; `start`: seconds until then."""
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
    root = Path(__file__).resolve().parent.parent
    ended = subprocess.run(command, cwd=root, check=True, input=text, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result
