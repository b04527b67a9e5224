"""The whole road on real pictures: caption labels from Spark, pre-training, mean average precision on held-out tars.

    python -m benchmarks.real_images [--data DIR] [--steps 2000]

In: images/emoji and images/coco_ccby of the folder with real data (CATLIP_DATA). Out: the run directory, and one JSON
object whose peer is what class frequencies alone give on the same held-out pictures.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from benchmarks.measuring.setting import DATA
from benchmarks.transfer_study.pretraining import Pretraining, verb
from trainer.config import DataConfig
from trainer.pretrain import pretrain
from trainer.recipes.sample import CONFIG
from trainer.records.record import read_results
from vocab.errors import run_cli
from vocab.store.label_shards import LabelShards

FOLDERS = ("emoji", "coco_ccby")
HELD_OUT = ("emoji/00003.tar", "coco_ccby/00001.tar")
MIN_COUNT = 5
"""threshold of the vocabulary"""


@dataclass(frozen=True)
class RealImages:
    """Label, prune and pre-train on emoji and photographs."""

    data: Path = DATA
    """folder with images/"""
    out: Path = Path("out/real")
    """labels, vocabulary and run go here; must be new"""
    steps: int = 2000
    """optimisation steps"""
    batch_size: int = 32
    """images per step"""
    min_count: int = MIN_COUNT
    """threshold of the vocabulary"""


def real_pictures(data: Path, made: Pretraining, *, min_count: int = MIN_COUNT) -> DataConfig:
    """Label the captions, prune a vocabulary, and describe the pictures by the demo's recipe."""
    images = data / "images"
    captions = [str(images / name) for name in FOLDERS]
    held_out = tuple(str(images / tar) for tar in HELD_OUT)
    tars = [str(tar) for name in FOLDERS for tar in sorted((images / name).glob("*.tar"))]
    verb("pipeline", "label", "--captions", *captions, "--out", str(made.labels), "--master", "local[2]")
    pruned = ("--min-count", str(min_count), "--out", str(made.vocabulary))
    verb("pipeline", "prune", "--labels", str(made.labels), *pruned)
    return replace(
        CONFIG.data,
        images=tuple(tar for tar in tars if tar not in held_out),
        eval_images=held_out,
        labels=str(made.labels),
        vocabulary=str(made.vocabulary),
    )


def measure(options: RealImages) -> dict[str, object]:
    """Run the three verbs and collect what they report."""
    made = Pretraining(options.out)
    data = replace(real_pictures(options.data, made, min_count=options.min_count), batch_size=options.batch_size)
    optim = replace(CONFIG.optim, steps=options.steps, warmup_steps=options.steps // 20)
    status = pretrain(replace(CONFIG, data=data, optim=optim, run=replace(CONFIG.run, out=made.run)))
    if status:
        sys.exit(status)
    manifest, results = LabelShards.open(made.labels).manifest, read_results(made.run)
    lines = [json.loads(line) for line in (made.run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    record = results.records[0]
    return {
        "rows": manifest.rows,
        "labelled": manifest.labelled,
        "empty": manifest.empty,
        "rejected": manifest.rejected,
        "classes": results.details["classes"],
        "steps": results.details["steps"],
        "seconds": record.seconds,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "mean_average_precision": record.extra,
        "ratio_to_class_frequencies": round(record.value / record.extra["baseline_macro"], 2),
        "device": results.details["device"],
    }


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(RealImages))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run_cli(main)
