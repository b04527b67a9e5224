"""Five backbones, each pre-trained for the same time: on the pictures of `make demo`, and on emoji and photographs.

    python benchmarks/backbones.py [--quick] [--minutes 3] [--pictures demo real] [--out out/backbones] [--data DIR]

In: nothing for the demo's pictures, which are drawn; for the real ones images/emoji and images/coco_ccby of the folder
with real data (CATLIP_DATA). Out: in --out labels, vocabularies and run directories; a table; last, one JSON object.

    macro_map    macro mean average precision over the classes of the held-out pictures, as `make demo` prints it
    top1         share of the held-out pictures whose most probable class is one of their labels, likewise

Every run has the demo's recipe (`trainer/recipes/sample.py`) but for the model, its peak learning rate, and the number
of steps, with which warm-up and moving average are scaled. On a CPU the time is the processor's, of all threads, so
that other work on the machine takes no steps from a run; pictures are loaded in the same process, where one clock
counts everything. Before the runs, all backbones take steps in turn, which say how many each has time for. Evaluations
come on top.

Peak learning rates but the demo's own: of 1e-3 and 3e-3 the better one, by macro mAP on the demo's pictures after a
minute and a quarter of the processor, seed 1:

    convnext_atto 0.060, 0.058    efficientnet_b0 0.033, 0.047    swin_tiny 0.036, 0.026    vit_tiny 0.066, 0.056
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found, and waiting threads do not spin,
    # which torch must know before it is imported: the processor's clock would count their waiting
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import itertools
import json
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import tyro

from benchmarks.measuring.clock import Clock, by_turns, timed
from benchmarks.measuring.setting import DATA, machine, say
from benchmarks.real_images import FOLDERS, real_pictures
from benchmarks.step import run_steps
from benchmarks.transfer_study.pretraining import Pretraining, verb
from benchmarks.transfer_study.recipe import CONFIG as TRANSFER
from benchmarks.transfer_study.sides import planned
from trainer.config import DataConfig, ModelConfig, PretrainConfig
from trainer.data.batch import on_device
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution
from trainer.distributed import Rank, device_of
from trainer.inputs import open_inputs
from trainer.pretrain import pretrain
from trainer.recipes.sample import CONFIG
from trainer.records.record import read_results
from trainer.step.step import Step
from trainer.step.training import build_training
from vocab.errors import OutputExistsError, run_cli
from vocab.pages.tables import markdown_table

BACKBONES = {
    "resnet10t": (CONFIG.model, 3e-3),
    "convnext_atto": (ModelConfig(model="convnext_atto"), 1e-3),
    "efficientnet_b0": (ModelConfig(model="efficientnet_b0"), 3e-3),
    "swin_tiny_width48": (ModelConfig(model="swin_tiny_patch4_window7_224", embed_dim=48), 1e-3),
    "vit_tiny_patch8_width128_depth4": (TRANSFER.model, 1e-3),
}
"""models, and their peak learning rates"""
LEAST_STEPS = 4
CALIBRATION_STEPS = 4
COLUMNS = ("pictures", "backbone", "parameters", "steps", "macro_map", "top1")


@dataclass(frozen=True)
class Backbones:
    """Compare backbones after the same time of pre-training."""

    quick: bool = False
    """few pictures and steps, to see that everything works; its figures say nothing"""
    minutes: float = 3.0
    """minutes that each run trains: of the processor, all threads together; on CUDA of the clock on the wall"""
    out: Path = Path("out/backbones")
    """new folder for everything"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    pictures: tuple[Literal["demo", "real"], ...] = ("demo", "real")
    """pictures to train on: those of the demo, emoji and photographs"""
    seed: int = 0
    """seed of weights and order"""
    data: Path = DATA
    """folder with images/emoji and images/coco_ccby"""


def measure(options: Backbones) -> dict[str, Any]:
    """Measure; prints as it goes, returns the JSON object."""
    if options.out.exists():
        raise OutputExistsError(
            options.out, found="a folder", wanted="a new one", remedy="Choose another --out, or remove it."
        )
    rank = Rank(0, 1, device_of(options.device))
    configs = {name: config_of(options, *backbone) for name, backbone in BACKBONES.items()}
    runs = []
    for pictures, data in corpora(options).items():
        here = {name: placed(config, data, options.out / pictures / name) for name, config in configs.items()}
        for name, steps in steps_of(here, minutes=0.01 if options.quick else options.minutes, rank=rank).items():
            config = replace(here[name], optim=planned(here[name].optim, steps))
            runs.append({"pictures": pictures, "backbone": name, **trained(config, rank)})
            say(", ".join(f"{column} {runs[-1][column]}" for column in COLUMNS))
    say(markdown_table(COLUMNS, [[run[column] for column in COLUMNS] for run in runs]))
    shown = {name: value for name, value in asdict(options).items() if name not in ("out", "data")}
    return {"runs": runs, "machine": machine(), **shown}


def config_of(options: Backbones, model: ModelConfig, peak: float) -> PretrainConfig:
    """Make the demo's recipe for a backbone, in one process."""
    run = replace(CONFIG.run, device=options.device, seed=options.seed, eval_workers=0, checkpoint_every=1_000_000)
    optim = replace(CONFIG.optim, peak_lr=peak, final_lr=peak / 100)
    return replace(CONFIG, model=model, optim=optim, run=run)


def placed(config: PretrainConfig, data: DataConfig, out: Path) -> PretrainConfig:
    """Give a configuration its pictures and its run directory."""
    return replace(config, data=replace(data, workers=0), run=replace(config.run, out=out))


def corpora(options: Backbones) -> dict[str, DataConfig]:
    """Make the pictures, labels and vocabularies; the real ones are left out, saying so, where they are absent."""
    made = {}
    if "demo" in options.pictures:
        made["demo"] = drawn_pictures(Pretraining(options.out / "demo"), quick=options.quick)
    missing = [folder for name in FOLDERS if not (folder := options.data / "images" / name).is_dir()]
    if "real" in options.pictures and missing:
        say(f"real pictures left out: no {missing[0]}; --data or CATLIP_DATA names the folder")
    elif "real" in options.pictures:
        made["real"] = real_pictures(options.data, Pretraining(options.out / "real"))
    return made


def drawn_pictures(made: Pretraining, *, quick: bool) -> DataConfig:
    """Draw and label the pictures of `make demo`, and prune its vocabulary."""
    images = str(made.folder / "images")
    verb("pipeline", "sample", "--out", images, "--samples", "2000" if quick else "12000", "--seed", "0")
    verb("pipeline", "label", "--captions", images, "--out", str(made.labels), "--master", "local[2]")
    pruned = ("--min-count", "20", "--depictable", "--out", str(made.vocabulary))
    verb("pipeline", "prune", "--labels", str(made.labels), *pruned)
    return replace(CONFIG.data, images=(images,), labels=str(made.labels), vocabulary=str(made.vocabulary))


def steps_of(configs: Mapping[str, PretrainConfig], *, minutes: float, rank: Rank) -> dict[str, int]:
    """Count the steps that each model can take in so many minutes, loading included, by steps taken in turn."""
    with ExitStack() as stack:
        works = {}
        for name, config in configs.items():
            inputs = open_inputs(config.data, seed=config.run.seed)
            training = build_training(config, inputs.vocabulary, rank)
            bfloat16 = config.run.is_bfloat16(rank.device.type)
            step = Step(training, rank, config.optim, model=config.model, compiled=False, bfloat16=bfloat16)
            resolution = FixedResolution(config.data.image_size, config.data.batch_size)
            batches = on_device(stack.enter_context(Feed(inputs.train, resolution)), rank.device)
            works[name] = partial(run_steps, step, batches, itertools.count(1), CALIBRATION_STEPS)
        found = by_turns(works, rounds=3, device=rank.device, warm_up=1)
    clock: Clock = "wall" if rank.device.type == "cuda" else "processor"
    seconds = {name: statistics.median(spent.by(clock) for spent in each) for name, each in found.items()}
    return {name: max(LEAST_STEPS, round(60 * minutes * CALIBRATION_STEPS / each)) for name, each in seconds.items()}


def trained(config: PretrainConfig, rank: Rank) -> dict[str, Any]:
    """Pre-train, and say what the run came to."""
    status: list[int] = []
    spent = timed(lambda: status.append(pretrain(config)), rank.device)
    if any(status):
        sys.exit(status[0])
    results = read_results(config.run.out)
    scores = results.records[0].extra
    return {
        "parameters": results.details["parameters"],
        "peak_lr": config.optim.peak_lr,
        "steps": config.optim.steps,
        "macro_map": round(scores["macro"], 3),
        "top1": round(scores["top1"], 3),
        "processor_minutes": round(spent.processor / 60, 2),
    }


def main() -> None:
    """Measure and print."""
    say(json.dumps(measure(tyro.cli(Backbones))))


if __name__ == "__main__":
    run_cli(main)
