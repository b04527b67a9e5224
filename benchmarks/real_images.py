"""The whole road on real pictures: caption labels from Spark, pre-training, mean average precision on held-out tars.

    python -m benchmarks.real_images [--data DIR] [--steps 2000]

In: images/emoji and images/coco_ccby of the folder with real data (CATLIP_DATA). Out: the run directory, and one JSON
object whose peer is what class frequencies alone give on the same held-out pictures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.measuring.setting import DATA
from pipeline.config import Label, Prune
from pipeline.prune import prune
from pipeline.run import label_captions
from pipeline.session import spark_session
from trainer.records.record import read_results
from vocab.errors import run_cli


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
    min_count: int = 5
    """threshold of the vocabulary"""


def measure(options: RealImages) -> dict[str, object]:
    """Run the three verbs and collect what they report."""
    images = options.data / "images"
    labels, vocabulary_file, run = options.out / "labels", options.out / "vocabulary.parquet", options.out / "run"
    with spark_session("local[2]", name="real images") as spark:
        captions = (str(images / "emoji"), str(images / "coco_ccby"))
        manifest = label_captions(spark, Label(captions, str(labels)))
    vocabulary = prune(Prune((str(labels),), vocabulary_file, min_count=options.min_count)).vocabulary
    held_out = [images / "emoji" / "00003.tar", images / "coco_ccby" / "00001.tar"]
    training = [tar for folder in ("emoji", "coco_ccby") for tar in sorted((images / folder).glob("*.tar"))]
    command = [
        *(sys.executable, "-m", "trainer", "pretrain", "sample"),
        *("--images", *(str(tar) for tar in training if tar not in held_out)),
        *("--eval-images", *(str(tar) for tar in held_out)),
        *("--labels", str(labels), "--vocabulary", str(vocabulary_file), "--out", str(run)),
        *(
            "--steps",
            str(options.steps),
            "--batch-size",
            str(options.batch_size),
            "--warmup-steps",
            str(options.steps // 20),
        ),
    ]
    subprocess.run(command, check=True)
    results = read_results(run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    record = results.records[0]
    return {
        "rows": manifest.rows,
        "labelled": manifest.labelled,
        "empty": manifest.empty,
        "rejected": manifest.rejected,
        "classes": len(vocabulary),
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
