"""Worth of a pre-training on other tasks: Transfer Init, zero-shot, CatLIP beside CLIP, on real pictures.

    python benchmarks/transfer.py [--quick] [--device auto] [--out out/transfer] [--seeds 0 1 2] [--data DIR]

In: images/tiny_imagenet of the folder with real data (CATLIP_DATA); open_clip and matplotlib. Out: in --out captioned
tars, labels, the run, tables, plots, curves.json, transfer.json; last, one JSON object.

    transfer_init_gain_1, _5     Transfer Init over random init, linear probe on 1 % and 5 % of the images of classes
                                 that the pre-training has seen, points of accuracy; _spread, over the seeds
    catlip_minus_clip_same_time  linear probe, the same tower trained as CatLIP and as CLIP for the same wall time,
                                 points of accuracy
    probe_speedup                a grid of ten learning rates at once over ten runs (benchmarks/probe_grid.py)

The parts lie in `transfer_study/`. 60 of the 200 classes are held out of the pre-training (`corpus.py`). The others get
captions, the captions get labels from Spark, and `python -m trainer pretrain` learns from those (`pretraining.py`); it
never sees a class number. Then come the verbs of `trainer/transfer/` (`tasks.py`), and the race (`race.py`).

The pictures that the probes of the seen classes train on are those of the pre-training, which had captions and not
classes of them; the test pictures are nobody's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if (
    __name__ == "__main__"
):  # as a script or with -m: the project's modules are found, and threads that wait do not spin,
    # which they must be told before torch is imported: by turns, one side's spinning would slow the other
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import torch
import tyro

from benchmarks import probe_grid
from benchmarks.clip_race.towers import require_open_clip
from benchmarks.measuring.setting import DATA, machine, say
from benchmarks.transfer_study.corpus import Corpus, open_corpus, write_corpus
from benchmarks.transfer_study.figures import draw_curves, draw_shares, require_matplotlib
from benchmarks.transfer_study.pictures import read_pictures
from benchmarks.transfer_study.pretraining import RECIPE, Pretraining, data_of, label, pretrain, results_of
from benchmarks.transfer_study.race import Race, course_of, race
from benchmarks.transfer_study.report import clip_differences, curves_json, gain_of, race_table, write_json
from benchmarks.transfer_study.sides import Point
from benchmarks.transfer_study.tasks import Shares, records_of
from trainer.distributed import Rank, join_processes
from trainer.recipes.files import read_recipe
from trainer.records.record import Record, write_results
from trainer.transfer.report import results_table
from vocab.errors import InputError, OutputExistsError, run_cli
from vocab.store.files import write_whole

Part = Literal["tasks", "finetune", "clip", "speed"]


@dataclass(frozen=True)
class Sizes:
    """Sizes that a device works through in the time available."""

    seen: int
    """classes to pre-train on"""
    unseen: int
    """classes held out, to transfer to"""
    pretraining: tuple[str, ...]
    """fields of the pre-training that are not the recipe's"""
    race: Race
    shares: Shares


PERCENTS = (1.0, 5.0, 10.0, 25.0, 100.0)
SEEDS = (0, 1, 2)
CPU = Sizes(
    140,
    60,
    (),
    Race(500, probes=4, probe_images=4200),
    Shares(PERCENTS, SEEDS, (20, 10, 8, 4, 1), 64, 3e-4),
)
CUDA = Sizes(
    140,
    60,
    ("--steps", "20000", "--warmup-steps", "2000"),
    Race(10_000, probes=20, probe_images=14_000),
    Shares(PERCENTS, SEEDS, (60, 40, 30, 20, 20), 64, 3e-4),
)
QUICK = Sizes(
    10,
    6,
    ("--steps", "60", "--warmup-steps", "6", "--batch-size", "32"),
    Race(12, probes=2, probe_images=200),
    Shares((1.0, 5.0), (0, 1), (1, 1), 64, 3e-4),
)


@dataclass(frozen=True)
class TransferBenchmark:
    """Worth of a pre-training on other tasks."""

    quick: bool = False
    """few classes and steps, to see that everything works; its figures say nothing"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    out: Path = Path("out/transfer")
    """new folder for everything"""
    pretrained: Path | None = None
    """the folder `pretraining` of an earlier --out, whose pictures, labels and run are taken as they are"""
    seeds: tuple[int, ...] = ()
    """seeds of subsets, order, new heads and races; 0 1 2, for --quick 0 1"""
    seed: int = 0
    """seed of the captions; the seed of the pre-training stands in the recipe"""
    skip: tuple[Part, ...] = ()
    """parts to leave out: all verbs on the tasks, the fine-tuning alone, the race with CLIP, the speed of the probe"""
    data: Path = DATA
    """folder with images/tiny_imagenet"""

    def sizes(self, device: torch.device) -> Sizes:
        """The device's sizes, with what was asked for."""
        usual = QUICK if self.quick else CUDA if device.type == "cuda" else CPU
        return replace(usual, shares=replace(usual.shares, seeds=self.seeds or usual.shares.seeds))


def measure(options: TransferBenchmark, rank: Rank) -> dict[str, Any]:
    """Measure everything asked for; prints as it goes, returns the JSON object."""
    require_matplotlib()
    if "clip" not in options.skip:
        require_open_clip()
    if options.out.exists():
        raise OutputExistsError(
            options.out, found="a folder", wanted="a new one", remedy="Choose another --out, or remove it."
        )
    sizes = options.sizes(rank.device)
    options.out.mkdir(parents=True)
    corpus, made, pretraining = pretrained_corpus(options, sizes, rank)
    result: dict[str, Any] = {}
    if "tasks" not in options.skip:
        result |= of_tasks(options, sizes, corpus, made, rank)
    if "clip" not in options.skip:
        result |= of_clip(options, sizes, corpus, made, rank)
    if "speed" not in options.skip:
        speed = probe_grid.measure(quick=options.quick)
        result |= {"probe_speedup": speed["probe_speedup"], "probe_grid": speed}
    result |= {
        "device": torch.cuda.get_device_name(rank.device) if rank.device.type == "cuda" else "cpu",
        "quick": options.quick,
        "pretraining": pretraining,
        "settings": asdict(sizes) | {"recipe": asdict(read_recipe(RECIPE)[1])},
        "machine": f"{machine()}, {', '.join(f'{name} {version(name)}' for name in ('torch', 'timm'))}",
    }
    # Paths and the like as text, as the recipe's config.json has them.
    result = json.loads(json.dumps(result, default=str))
    write_json(options.out / "transfer.json", result)
    return result


def pretrained_corpus(
    options: TransferBenchmark, sizes: Sizes, rank: Rank
) -> tuple[Corpus, Pretraining, dict[str, object]]:
    """Pictures, and the run that was trained on them; made here, or taken from --pretrained."""
    if options.pretrained is not None:
        corpus, made = open_corpus(options.pretrained), Pretraining(options.pretrained)
        return corpus, made, results_of(made.run)
    corpus = write_corpus(
        options.data, options.out / "pretraining", seen=sizes.seen, unseen=sizes.unseen, seed=options.seed
    )
    some = list(corpus.captions.values())[:3]
    say(f"{len(corpus.captions):,} captioned pictures of {sizes.seen} classes, such as {some}")
    made = label(corpus)
    return corpus, made, pretrain(corpus, made, device=rank.device.type, options=sizes.pretraining)


def of_tasks(options: TransferBenchmark, sizes: Sizes, corpus: Corpus, made: Pretraining, rank: Rank) -> dict[str, Any]:
    """Probe, nearest neighbours, zero-shot and fine-tuning; their table and Figure 5."""
    records: list[Record] = []
    work = options.out / "tasks"
    work.mkdir()
    finetune = "finetune" not in options.skip
    for some in records_of(made.run, (corpus.seen, corpus.unseen), sizes.shares, rank, out=work, finetune=finetune):
        records += some
        for record in some:
            say(f"  {record.task} {record.method} {record.init} {record.percent:g} % {record.seed}: {record.value:.4f}")
        # Whole after every step: what is done is not lost.
        write_results(options.out, records, verb="transfer", model=str(made.run))
    with write_whole(options.out / "results.md") as file:
        file.write(results_table(records).encode())
    draw_shares(options.out / "figure5.png", records)
    found: dict[str, Any] = {
        "zero_shot": {record.task: round(record.value, 4) for record in records if record.method == "zeroshot"}
    }
    for percent in sizes.shares.percents:
        for task in ("seen", "unseen"):
            gain = gain_of(records, task=task, method="probe", percent=percent)
            key = f"transfer_init_gain_{percent:g}" if task == "seen" else f"unseen_gain_{percent:g}"
            found |= {key: gain.mean, f"{key}_spread": gain.spread}
    return found


def of_clip(options: TransferBenchmark, sizes: Sizes, corpus: Corpus, made: Pretraining, rank: Rank) -> dict[str, Any]:
    """The races, a seed each; their table, curves.json and Figure 4."""
    recipe = replace(read_recipe(RECIPE)[1], data=data_of(corpus, made))
    size = recipe.data.image_size
    train, test = (read_pictures(tar, size=size) for tar in (corpus.seen.train, corpus.seen.test))
    runs: dict[int, dict[str, list[Point]]] = {}
    for seed in sizes.shares.seeds:
        course = course_of(corpus, recipe, rank, train=train, test=test, seed=seed)
        runs[seed] = race(course, sizes.race, seed=seed)
        write_json(options.out / "curves.json", curves_json(runs))
    with write_whole(options.out / "race.md") as file:
        file.write(race_table(runs).encode())
    draw_curves(options.out / "figure4.png", runs)
    return clip_differences(runs)


def main() -> None:
    """Measure and print."""
    options = tyro.cli(TransferBenchmark)
    with join_processes(options.device) as rank:
        if rank.world > 1:
            raise InputError(
                "benchmarks/transfer.py", found=f"{rank.world} processes", wanted="one", remedy="Start it alone."
            )
        say(json.dumps(measure(options, rank)))


if __name__ == "__main__":
    run_cli(main)
