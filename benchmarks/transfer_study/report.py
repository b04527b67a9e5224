"""Results of the transfer benchmark: gains with their spread, curves.json, two figures.

In: records of `trainer/records/record.py` and the curves of the CLIP race. Out: numbers, and files for
notebooks/transfer.ipynb.

A gain is a difference of pairs: Transfer Init minus random init on the same images in the same order, in points of
accuracy, for each seed; its spread is the sample standard deviation of these differences.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.transfer_study.sides import Point
from trainer.records.record import Record
from vocab.errors import InputError
from vocab.pages.tables import markdown_table
from vocab.store.files import write_whole

POINTS = 100
# Curves of one run by the names of the sides.
Curves = Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Gain:
    """A paired difference over seeds, points of accuracy."""

    mean: float
    spread: float | None
    """None for one seed, which has none"""
    seeds: int


def gain_of(records: Sequence[Record], *, task: str, method: str, percent: float) -> Gain:
    """Transfer Init over random init. Raises InputError if a seed has one of the two and not the other, or none."""
    values = {
        init: {
            record.seed: record.value
            for record in records
            if (record.task, record.method, record.percent, record.init) == (task, method, percent, init)
        }
        for init in ("random", "transfer")
    }
    random, transfer = values["random"], values["transfer"]
    if not random or random.keys() != transfer.keys():
        raise InputError(
            f"records of {method} on {task} at {percent} %",
            found=f"seeds {sorted(random)} of random init, {sorted(transfer)} of Transfer Init",
            wanted="the same seeds of both, at least one",
            remedy="Run both inits with the same --seeds.",
        )
    return difference_of([transfer[seed] - random[seed] for seed in sorted(random)])


def difference_of(differences: Sequence[float]) -> Gain:
    """Mean and spread of differences of shares, in points."""
    points = [POINTS * difference for difference in differences]
    spread = round(statistics.stdev(points), 3) if len(points) > 1 else None
    return Gain(round(statistics.fmean(points), 3), spread, len(points))


def clip_differences(runs: Mapping[int, Curves]) -> dict[str, Any]:
    """CatLIP minus CLIP at the end of the races, points: after the same time, and on the same images."""
    found: dict[str, Any] = {}
    for key, other in (("same_time", "clip_same_time"), ("same_images", "clip")):
        gain = difference_of([run["catlip"][-1].accuracy - run[other][-1].accuracy for run in runs.values()])
        found |= {f"catlip_minus_clip_{key}": gain.mean, f"catlip_minus_clip_{key}_spread": gain.spread}
    ends = {side: [run[side][-1] for run in runs.values()] for side in next(iter(runs.values()))}
    return found | {
        "clip_race": {
            side: {
                "accuracy": [round(point.accuracy, 4) for point in points],
                "images": points[0].images,
                "seconds": [round(point.spent.wall, 1) for point in points],
                "processor_seconds": [round(point.spent.processor, 1) for point in points],
            }
            for side, points in ends.items()
        }
    }


def curves_json(runs: Mapping[int, Curves]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """curves.json: for each side all probes of all seeds.

    {"side": {"catlip": [{"epoch": 0.0, "seconds": 0.0, "images": 0, "accuracy": 0.046, "seed": 0}, ...],
              "clip": [...]},
     "same_time": {"clip": [...]}}
    """

    def rows(side: str) -> list[dict[str, float]]:
        return [
            {
                "epoch": round(point.epoch, 3),
                "seconds": round(point.spent.wall, 2),
                "images": point.images,
                "accuracy": round(point.accuracy, 4),
                "seed": seed,
            }
            for seed, run in runs.items()
            for point in run[side]
        ]

    return {"side": {"catlip": rows("catlip"), "clip": rows("clip")}, "same_time": {"clip": rows("clip_same_time")}}


def write_json(path: Path, value: object) -> None:
    """A JSON file, whole or not at all."""
    with write_whole(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def race_table(runs: Mapping[int, Curves]) -> str:
    """The end of every race as Markdown."""
    rows = [
        (seed, side.replace("_", " "), f"{last.images:,}", f"{last.spent.wall:.1f}", f"{last.accuracy:.2%}")
        for seed, run in runs.items()
        for side, curve in run.items()
        for last in curve[-1:]
    ]
    return markdown_table(("seed", "side", "images", "seconds", "probe accuracy"), rows) + "\n"
