"""CatLIP's training step beside CLIP's: the same image tower, the same images, the same device, the same run.

    python benchmarks/clip.py [--quick] [--device auto] [--batch 1024] [--global-batch 65536] [--rounds 5]
                              [--skip-accuracy] [--seeds 0 1 2] [--data DIR]

In: nothing but this checkout and open_clip; for the accuracy images/tiny_imagenet of the folder with real data
(CATLIP_DATA). Out: what either side reached; last, one JSON object.

    ratio_same_recipe       images/s of CatLIP over CLIP: a whole step of so many images, forward, backward, optimiser;
                            ours clips the gradient and keeps its moving average too, as its recipe has it
    ratio_same_batch        the same with a batch that neither can take at once: CatLIP adds up the gradients of its
                            parts, which is exact; CLIP passes every part twice (open_clip's --accum-freq)
    ratio_half_patches      as that, CatLIP with half of the patches, CLIP with all
    ratio_time_to_accuracy  CLIP's seconds over CatLIP's to the same accuracy of a probe (`clip_race/accuracy.py`)

ViT-B/16 at 224 pixels with 24,320 classes against open_clip's ViT-B-16, images and captions made up; on a GPU in
bfloat16 and compiled, both. The two take turns, the first of a round changing from round to round, and a ratio is the
median over the rounds, by the wall clock; on a CPU _by_processor beside it is by the processor's clock, for machines
that do other work. See `clip_race/peer.py` for CLIP's settings.

A GPU's figures stand under the names above. Elsewhere a small batch stands in for the large one, and its figures stand
under the same names with _cpu behind them. Under torchrun every process has its share, and the accuracy is left out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if (
    __name__ == "__main__"
):  # as a script or with -m: the project's modules are found, and threads that wait do not spin,
    # which they must be told before torch is imported: other programs would count as our work by the processor's clock
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import gc
import json
import statistics
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal

import torch
import tyro

from benchmarks.clip_race.accuracy import Outcome, Race, outcome_of, race
from benchmarks.clip_race.corpus import has_pictures, read_corpus
from benchmarks.clip_race.sides import build_sides, fit_clip
from benchmarks.clip_race.towers import BASE, SMALL, Architecture, require_open_clip
from benchmarks.measuring.clock import by_turns, ratio, summary
from benchmarks.measuring.setting import DATA, machine, say
from trainer.distributed import Rank, join_processes
from vocab.errors import InputError, run_cli

LARGE_BATCH = ("ratio_same_batch", "ratio_half_patches")
KEYS = ("ratio_same_recipe", *LARGE_BATCH, *(f"{key}_cpu" for key in LARGE_BATCH), "ratio_time_to_accuracy")


@dataclass(frozen=True)
class Sizes:
    """Sizes that a device works through in a quarter of an hour."""

    architecture: Architecture
    batch: int
    global_batch: int
    rounds: int
    large_rounds: int
    race: Race
    classes: int
    """classes of the pictures in the race, at most 200"""


CPU = Sizes(BASE, 8, 32, rounds=5, large_rounds=2, race=Race(1000, 64, 100, 2000), classes=40)
CUDA = Sizes(BASE, 1024, 65_536, rounds=15, large_rounds=3, race=Race(4000, 256, 200, 7500), classes=200)
QUICK = Sizes(SMALL, 4, 16, rounds=2, large_rounds=1, race=Race(24, 32, 12, 300), classes=10)


@dataclass(frozen=True)
class ClipBenchmark:
    """CatLIP's training step beside CLIP's."""

    quick: bool = False
    """a small model and few steps, to see that everything works; its figures say nothing"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    batch: int | None = None
    """images of a step, or of a part of the large batch, per process; 1024 on a GPU, 8 elsewhere"""
    global_batch: int | None = None
    """images of the large batch, per process: a multiple of `batch`; 65,536 on a GPU, 32 elsewhere"""
    rounds: int | None = None
    """rounds in which everything compared is timed once; 15 on a GPU, 5 elsewhere, fewer for the large batch"""
    skip_accuracy: bool = False
    """leave out the time to accuracy, which takes most of the time on a CPU"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of weights, order and captions, for the time to accuracy"""
    data: Path = DATA
    """folder with images/tiny_imagenet"""

    def sizes(self, device: torch.device) -> Sizes:
        """The device's sizes, with what was asked for. Raises InputError for a batch that parts do not make up."""
        usual = QUICK if self.quick else CUDA if device.type == "cuda" else CPU
        batch = self.batch or usual.batch
        found = Sizes(
            usual.architecture,
            batch,
            self.global_batch or max(usual.global_batch // batch, 2) * batch,
            self.rounds or usual.rounds,
            min(self.rounds or usual.large_rounds, usual.large_rounds),
            usual.race,
            usual.classes,
        )
        if found.global_batch % batch or found.global_batch // batch < 2:
            raise InputError(
                "--global-batch",
                found=f"{found.global_batch}",
                wanted=f"a multiple of --batch, {batch}, of two parts or more",
                remedy=f"Choose {2 * batch} or {4 * batch}.",
            )
        return found


def measure(options: ClipBenchmark, rank: Rank) -> dict[str, Any]:
    """Measure everything asked for; prints as it goes, returns the JSON object."""
    require_open_clip()
    sizes = options.sizes(rank.device)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(rank.device) if rank.device.type == "cuda" else "cpu"
    }
    result |= dict.fromkeys(KEYS) | of_speed(sizes, rank)
    gc.collect()
    result |= of_accuracy(options, sizes, rank)
    return result | {
        "processes": rank.world,
        "quick": options.quick,
        "machine": f"{machine()}, {', '.join(f'{name} {version(name)}' for name in ('torch', 'timm'))}",
        "peers": {"open_clip_torch": version("open_clip_torch")},
    }


def of_speed(sizes: Sizes, rank: Rank) -> dict[str, Any]:
    """The three ratios of images/s; on a CPU by both clocks."""
    cuda = rank.device.type == "cuda"
    parts = sizes.global_batch // sizes.batch
    sides, found = build_sides(sizes.architecture, batch=sizes.batch, parts=parts, rank=rank)
    first = by_turns(
        {"catlip": sides.catlip_small, "clip": sides.clip_small},
        rounds=sizes.rounds,
        device=rank.device,
        warm_up=3 if cuda else 1,
    )
    fit_clip(sides)
    second = by_turns(
        {
            "catlip": sides.catlip_large,
            "catlip_half": lambda: sides.catlip_large(patch_keep=0.5),
            "clip": sides.clip_large,
        },
        rounds=sizes.large_rounds,
        device=rank.device,
        # On a GPU shapes are compiled that no step has had yet.
        warm_up=1 if cuda else 0,
    )
    compared = {
        "ratio_same_recipe": (first, "catlip"),
        "ratio_same_batch": (second, "catlip"),
        "ratio_half_patches": (second, "catlip_half"),
    }
    for key, (spent, ours) in compared.items():
        name = key if cuda or key not in LARGE_BATCH else f"{key}_cpu"
        found[name] = ratio(spent, "clip", ours)
        if not cuda:
            found[f"{name}_by_processor"] = ratio(spent, "clip", ours, clock="processor")
    return found | {
        "batch": sizes.batch,
        "global_batch": sizes.global_batch,
        "parts": {"catlip": sides.parts, "clip": sides.clip_parts},
        "small": summary(first, images=sizes.batch * rank.world),
        "large": summary(second, images=sizes.global_batch * rank.world),
    }


def of_accuracy(options: ClipBenchmark, sizes: Sizes, rank: Rank) -> dict[str, Any]:
    """The ratio of times to accuracy, or why there is none."""
    if options.skip_accuracy:
        return {"accuracy_left_out": "--skip-accuracy"}
    if rank.world > 1:
        return {"accuracy_left_out": "several processes"}
    if not has_pictures(options.data):
        return {"accuracy_left_out": f"no images/tiny_imagenet in {options.data}"}
    runs: list[Outcome] = []
    for seed in options.seeds:
        corpus = read_corpus(options.data, classes=sizes.classes, image_size=SMALL.image_size, seed=seed)
        say(
            f"{len(corpus.train.images):,} pictures of {sizes.classes} classes to train on; "
            f"{len(corpus.labels.vocabulary)} labels from their "
            f'captions, such as "{corpus.captions[0]}"'
        )
        runs.append(outcome_of(race(corpus, SMALL, sizes.race, rank, seed=seed)))
        say(f"  both reach {runs[-1].target:.4f}: CLIP takes {runs[-1].ratio} times as long")
    ratios = [run.ratio for run in runs if run.ratio is not None]
    return {
        "ratio_time_to_accuracy": round(statistics.median(ratios), 3) if ratios else None,
        "accuracy": {
            "seeds": options.seeds,
            "classes": sizes.classes,
            "steps": sizes.race.steps,
            "batch": sizes.race.batch_size,
            "runs": [asdict(run) for run in runs],
        },
    }


def main() -> None:
    """Measure and print."""
    options = tyro.cli(ClipBenchmark)
    with join_processes(options.device) as rank:
        result = measure(options, rank)
        if rank.is_main:
            say(json.dumps(result))


if __name__ == "__main__":
    run_cli(main)
