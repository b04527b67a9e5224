"""Speed of the data path, tars and label shards to batches, beside its peers: one core, the same tars, the same run.

    python benchmarks/feed.py [--quick] [--pairs 5] [--parts ratios join scaling resume pixels] [--data DIR]

In: images/ of the folder with real data (CATLIP_DATA). Out: what each pipeline reached; last, one JSON object.

    ratios     images/s/core of ours over timm's pipeline and over open_clip's, for photographs of three sizes
    join       microseconds per sample to join 10,000 samples with labels of a million rows
    scaling    two workers over one, divided by what bare JPEG decoding gains from a second process meanwhile
    resume     seconds from the feed's construction to its first batch, in a fresh process, in the middle of an epoch of
               500,000 samples; memory of one worker on the way there
    pixels     mean absolute difference of our crops to PIL's bilinear ones, of 255, over the photographs as they are

All pipelines run in this one process on one core and one thread, their passes by turns: each a whole epoch of the same
tars, so that what a peer reads ahead into its shuffle buffer is paid for by what it takes out of it. A few batches
before each pass are not timed. A ratio is the median over the rounds of the passes' own ratios, by the wall clock;
`_cpu` beside it is by the processor's clock. The files are in the cache: written just before.

Random resized crop of 0.08 to 1 of the image, to 224 pixels, and flips for ours and timm's; open_clip's own defaults
take 0.9 to 1 and flip nothing. Peers resize with PIL's bicubic filter and give normalised floats; ours gives bytes,
which the device normalises. See `feeding/peers.py` for what stands in for what.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found, and numerical libraries keep to
    # one thread, which they must be told before they are imported
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
import tyro

from benchmarks.feeding.corpus import (
    KINDS,
    Corpus,
    Kind,
    Photograph,
    read_photographs,
    write_photographs,
    write_small,
)
from benchmarks.feeding.ours import (
    RESUME,
    STOP,
    forget_tables,
    in_fresh_process,
    our_choice,
    our_feed,
    our_join,
    our_source,
)
from benchmarks.feeding.peers import Decoders, open_clip_batches, plain_crop, require_peers, timm_batches
from benchmarks.measuring.setting import DATA, machine, say
from vocab.errors import run_cli

Part = Literal["ratios", "join", "scaling", "resume", "pixels"]
PARTS: tuple[Part, ...] = ("ratios", "join", "scaling", "resume", "pixels")
PEERS = ("timm", "open_clip")
# Two processes of bare decoding do nearly twice the work of one where nothing else runs.
FREE_CORE = 1.6
# The figures that are always in the JSON object; null where the part was left out.
KEYS = (
    *(f"ratio_{peer}_{kind}" for peer in PEERS for kind in KINDS),
    *("join_microseconds", "scaling_two_workers", "resume_seconds", "worker_mb", "pixel_difference"),
)
# Loader processes of the resumed feed.
RESUME_WORKERS = 2


@dataclass(frozen=True)
class Feed:
    """Speed of the data path beside its peers."""

    data: Path = DATA
    """folder with images/"""
    quick: bool = False
    """a small run, to see that everything works; its figures say nothing"""
    parts: tuple[Part, ...] = PARTS
    """parts to measure"""
    pairs: int = 5
    """rounds in which everything compared is timed once"""
    samples: int = 1024
    """photographs in a pass; a multiple of the batch"""
    batch_size: int = 64
    """images in a batch"""
    image_size: int = 224
    """pixels of a crop's side"""
    small_tars: int = 50
    """tars of small pictures"""
    small_samples: int = 10_000
    """samples in each; at most 10,000"""
    label_shards: int = 100
    """tars that the labels of the join know; at least as many as there are"""

    @property
    def sizes(self) -> Feed:
        """These options, or what a quick run makes of them."""
        if not self.quick:
            return self
        return replace(self, pairs=1, samples=128, small_tars=4, small_samples=512, label_shards=6)


@dataclass(frozen=True)
class Rate:
    """Images per second of one pass."""

    wall: float
    cpu: float


def measure(options: Feed) -> dict[str, Any]:
    """Measure everything asked for; prints as it goes, returns the JSON object."""
    sizes = options.sizes
    photographs = read_photographs(options.data)
    if "ratios" in options.parts:
        require_peers()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    result: dict[str, Any] = dict.fromkeys(KEYS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"ratios", "scaling"} & set(options.parts):
            result |= of_photographs(folder, photographs, sizes)
        if {"join", "resume"} & set(options.parts):
            result |= of_small(folder / "small", photographs, sizes)
        if "pixels" in options.parts:
            result |= of_pixels(folder / "as_they_are", photographs, sizes)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "pillow", "simplejpeg", "numpy"))
    peers = ("webdataset", "open_clip_torch") if "ratios" in options.parts else ()
    return result | {
        "pairs": sizes.pairs,
        "samples": sizes.samples,
        "photographs": len(photographs),
        "quick": options.quick,
        "device": "cpu, one core",
        "machine": f"{machine()}, {versions}",
        "peers": {name: version(name) for name in peers},
    }


def of_photographs(folder: Path, photographs: Sequence[Photograph], sizes: Feed) -> dict[str, Any]:
    """The ratios for each kind, and the scaling over the first of them."""
    found: dict[str, Any] = {"corpora": {}}
    for kind in KINDS if "ratios" in sizes.parts else KINDS[:1]:
        corpus, about = write_photographs(
            folder / kind,
            photographs,
            kind=kind,
            samples=sizes.samples,
            tars=4,
            image_size=sizes.image_size,
            batch_size=sizes.batch_size,
        )
        say(
            f"{kind}: {sizes.samples} samples of {len(photographs)} photographs at quality 90, {about['megapixels']} "
            f"megapixels and {about['kilobytes']} kB on average; {about['upscaled']:.0%} of them upscaled"
        )
        found["corpora"][kind] = about
        if "ratios" in sizes.parts:
            found |= of_kind(corpus, kind, sizes)
        if kind == KINDS[0] and "scaling" in sizes.parts:
            found |= of_workers(corpus, sizes)
    return found


def of_kind(corpus: Corpus, kind: Kind, sizes: Feed) -> dict[str, Any]:
    """Images/s/core of the three pipelines on one corpus, and the ratios."""
    shape = {"image_size": corpus.image_size, "batch_size": corpus.batch_size}
    with on_one_core():
        pipelines: dict[str, Iterator[int]] = {
            "ours": (len(fed.images) for fed in our_feed(our_source(corpus), corpus, workers=0)),
            "timm": (len(images) for images in timm_batches(corpus.tars, **shape)),
            "open_clip": (len(images) for images in open_clip_batches(corpus.tars, **shape)),
        }
        passes = by_turns(pipelines, batches=sizes.samples // sizes.batch_size, rounds=sizes.pairs)
    found: dict[str, Any] = {
        f"images_per_second_{kind}": {
            name: {
                "wall": round(statistics.median(rate.wall for rate in rates)),
                "cpu": round(statistics.median(rate.cpu for rate in rates)),
            }
            for name, rates in passes.items()
        }
    }
    for peer in PEERS:
        pairs = list(zip(passes["ours"], passes[peer], strict=True))
        found[f"ratio_{peer}_{kind}"] = round(statistics.median(own.wall / their.wall for own, their in pairs), 2)
        found[f"ratio_{peer}_{kind}_cpu"] = round(statistics.median(own.cpu / their.cpu for own, their in pairs), 2)
    for name, rates in passes.items():
        say(f"  {name:<10} images/s/core of each pass: {', '.join(f'{rate.wall:,.0f}' for rate in rates)}")
    say(f"  ours over timm {found[f'ratio_timm_{kind}']}, over open_clip {found[f'ratio_open_clip_{kind}']}")
    return found


def by_turns(pipelines: Mapping[str, Iterator[int]], *, batches: int, rounds: int) -> dict[str, list[Rate]]:
    """Rates of each pipeline in each round; before each pass two batches, and before the first four, are not timed."""
    for counts in pipelines.values():
        taken(counts, 2)
    passes: dict[str, list[Rate]] = {name: [] for name in pipelines}
    for _ in range(rounds):
        for name, counts in pipelines.items():
            # Whatever a pipeline has made while others were timed.
            taken(counts, 2)
            passes[name].append(timed(lambda counts=counts: taken(counts, batches)))  # type: ignore[misc]
    return passes


def taken(counts: Iterator[int], batches: int) -> int:
    """Images of the next so many batches."""
    return sum(itertools.islice(counts, batches))


def timed(work: Callable[[], int]) -> Rate:
    """Rate of work that gives how many images it made."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = work()
    return Rate(images / (time.perf_counter() - wall), images / (time.process_time() - cpu))


@contextmanager
def on_one_core() -> Iterator[None]:
    """This process, with all threads that it starts meanwhile, on one of the cores that it may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def of_workers(corpus: Corpus, sizes: Feed) -> dict[str, Any]:
    """Compare the gain of a second worker of the feed with that of a second process of bare decoding."""
    batches = sizes.samples // sizes.batch_size
    feeds, decoding = [], []
    with Decoders(corpus.tars, count=2) as decoders:
        for _ in range(sizes.pairs):
            one, two = (feed_rate(corpus, workers=workers, batches=batches * workers) for workers in (1, 2))
            feeds.append(two / one)
            one, two = (decoders.rate(processes=processes, images=sizes.samples) for processes in (1, 2))
            decoding.append(two / one)
    rounds = np.divide(feeds, decoding).round(3).tolist()
    found = {
        "scaling_two_workers": round(statistics.median(rounds), 3),
        "scaling_rounds": rounds,
        "two_workers_over_one": round(statistics.median(feeds), 3),
        "two_decoders_over_one": round(statistics.median(decoding), 3),
        "bare_decoding_images_per_second": round(one),
    }
    say(
        f"  two workers over one {found['two_workers_over_one']}, two processes of bare decoding over one "
        f"{found['two_decoders_over_one']}: {found['scaling_two_workers']}; bare decoding {one:,.0f} images/s"
    )
    if statistics.median(decoding) < FREE_CORE:
        say("  other programs had most of the second core: the scaling says little")
    return dict(found)


def feed_rate(corpus: Corpus, *, workers: int, batches: int) -> float:
    """Images per second of a new feed with worker processes, once they are under way."""
    counts = (len(fed.images) for fed in our_feed(our_source(corpus), corpus, workers=workers))
    taken(counts, 4 * workers)
    rate = timed(lambda: taken(counts, batches)).wall
    counts.close()
    return rate


def of_small(folder: Path, photographs: Sequence[Photograph], sizes: Feed) -> dict[str, Any]:
    """The join, and the stop and the resume, over very many small pictures."""
    with_tars = "resume" in sizes.parts
    start = time.perf_counter()
    corpus = write_small(
        folder,
        photographs,
        tars=sizes.small_tars if with_tars else 1,
        samples=sizes.small_samples,
        label_shards=sizes.label_shards,
        image_size=sizes.image_size,
        batch_size=sizes.batch_size,
    )
    rows = sizes.label_shards * sizes.small_samples
    say(f"small: {len(corpus.tars)} tars, {rows:,} label rows, written in {time.perf_counter() - start:.0f} s")
    found: dict[str, Any] = {"label_rows": rows}
    if "join" in sizes.parts:
        found |= of_join(corpus, sizes)
    if with_tars:
        found |= of_resume(corpus, sizes)
    return found


def of_join(corpus: Corpus, sizes: Feed) -> dict[str, Any]:
    """Microseconds per sample of the join of one tar, over tars from all over the labels."""
    source = our_source(corpus)
    microseconds: list[float] = []
    for number in np.linspace(0, sizes.label_shards - 1, max(3, 3 * sizes.pairs)).astype(int).tolist():
        shard = f"{number:05d}"
        work = our_join(source, shard=shard, keys=[f"{shard}{place:04d}" for place in range(sizes.small_samples)])
        start = time.perf_counter()
        work()
        microseconds.append(1e6 * (time.perf_counter() - start) / sizes.small_samples)
    found = {"join_microseconds": round(statistics.median(microseconds), 3)}
    say(f"  join: {found['join_microseconds']} microseconds per sample; best {min(microseconds):.3f}")
    return dict(found)


def of_resume(corpus: Corpus, sizes: Feed) -> dict[str, Any]:
    """Memory of a worker that reads half an epoch, and the time to go on from there in a new process."""
    total = sizes.small_tars * sizes.small_samples
    marks = [total // 25, total // 5]
    stopped = in_fresh_process(STOP, corpus, marks=marks, stop=total // 2)
    resumed, again = [], []
    for _ in range(max(1, sizes.pairs // 2 + 1)):
        forget_tables(corpus)
        resumed.append(in_fresh_process(RESUME, corpus, state=stopped["state"], workers=RESUME_WORKERS))
        again.append(in_fresh_process(RESUME, corpus, state=stopped["state"], workers=RESUME_WORKERS))
    early, late = stopped["memory"]
    found = {
        "resume_seconds": round(statistics.median(one["resume"] for one in resumed), 3),
        "resume_seconds_same_machine": round(statistics.median(one["resume"] for one in again), 3),
        "resume_workers": RESUME_WORKERS,
        "resume_open_seconds": round(statistics.median(one["open"] for one in resumed), 3),
        "resume_start_seconds": round(statistics.median(one["start"] for one in resumed), 3),
        "resume_goes_on": all(one["samples"] == stopped["samples"] for one in (*resumed, *again)),
        "resume_state_bytes": len(json.dumps(stopped["state"])),
        "resume_samples": total,
        "worker_mb": late["pss"],
        "worker_mb_growth": round(late["pss"] - early["pss"], 1),
        "worker_mb_early": early["pss"],
        "worker_rss_mb": late["rss"],
        "worker_mb_samples": marks,
        "small_images_per_second": round(stopped["rate"]),
    }
    say(
        f"  resume: {found['resume_seconds']} s to the first batch on a machine that has never read these tars, "
        f"{found['resume_seconds_same_machine']} s on the one that has, after {found['resume_start_seconds']} s of "
        f"interpreter and imports and {found['resume_open_seconds']} s to open labels and vocabulary; the right batch: "
        f"{found['resume_goes_on']}\n"
        f"  one worker: {early['pss']} MiB after {marks[0]:,} samples, {late['pss']} after {marks[1]:,} (PSS; RSS "
        f"{late['rss']}); {found['small_images_per_second']:,} images/s"
    )
    return found


def of_pixels(folder: Path, photographs: Sequence[Photograph], sizes: Feed) -> dict[str, Any]:
    """Our crops against PIL's of the same boxes: one epoch of the photographs as they are; and at half the size, where
    JPEGs are decoded scaled.
    """
    found = differences(folder / "whole", photographs, image_size=sizes.image_size)
    half = differences(folder / "half", photographs, image_size=sizes.image_size // 2)
    say(
        f"pixels: {found['pixel_difference']} of 255 on average, {found['pixel_difference_max']} in the worst crop; "
        f"{half['pixel_difference']} at half the size, {half['pixel_difference_max']} in the worst crop"
    )
    return found | {f"{name}_half_size": value for name, value in half.items()}


def differences(folder: Path, photographs: Sequence[Photograph], *, image_size: int) -> dict[str, float]:
    """Mean absolute differences of crops: their mean and the largest."""
    corpus, _ = write_photographs(
        folder, photographs, kind=None, samples=len(photographs), tars=1, image_size=image_size, batch_size=1
    )
    source = our_source(corpus)
    found: list[float] = []
    for fed in itertools.islice(our_feed(source, corpus, workers=0), len(photographs)):
        ((tar, index),) = fed.samples
        choose = our_choice(source, epoch=0, tar=tar, index=index)
        plain = plain_crop(photographs[index].content, choose, size=image_size)
        found.append(float(np.abs(plain.astype(np.int16) - fed.images[0].numpy()).mean()))
    return {
        "pixel_difference": round(statistics.mean(found), 3),
        "pixel_difference_max": round(max(found), 3),
    }


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(Feed))
    say(json.dumps(result))


if __name__ == "__main__":
    run_cli(main)
