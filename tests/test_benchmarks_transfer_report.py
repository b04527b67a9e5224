"""Gains, spreads, curves and figures of the transfer benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measuring.clock import Spent
from benchmarks.transfer_study.report import clip_differences, curves_json, difference_of, gain_of, race_table
from benchmarks.transfer_study.sides import Point
from trainer.records.record import Record
from vocab.errors import InputError


def record(init: str, seed: int, value: float, *, percent: float = 1.0, task: str = "seen") -> Record:
    """A probe's."""
    return Record(task, "probe", init, percent, seed, "top1", value, 3500, 1.0, {})


def test_a_gain_is_the_mean_of_paired_differences_and_its_spread_theirs() -> None:
    records = [record("random", seed, value) for seed, value in enumerate((0.10, 0.20, 0.12))]
    records += [record("transfer", seed, value) for seed, value in enumerate((0.13, 0.21, 0.14))]
    records += [record("transfer", 0, 0.9, percent=5.0), record("transfer", 0, 0.9, task="unseen")]
    gain = gain_of(records, task="seen", method="probe", percent=1.0)
    assert (gain.mean, gain.spread, gain.seeds) == (2.0, 1.0, 3)
    assert difference_of([0.015]).spread is None


def test_a_seed_without_its_pair_is_named() -> None:
    records = [record("random", 0, 0.1), record("random", 1, 0.1), record("transfer", 0, 0.2)]
    with pytest.raises(InputError, match=r"seeds \[0, 1\] of random init, \[0\] of Transfer Init"):
        gain_of(records, task="seen", method="probe", percent=1.0)


def runs_of(*, catlip: float, clip: float, short: float) -> dict[int, dict[str, list[Point]]]:
    """One race of two probes a side."""
    start = Point(0, 0.0, Spent(), 0.05)
    return {
        3: {
            "catlip": [start, Point(64, 0.5, Spent(2.0, 3.0), catlip)],
            "clip": [start, Point(64, 0.5, Spent(3.0, 4.5), clip)],
            "clip_same_time": [start, Point(48, 0.375, Spent(2.04, 3.1), short)],
        }
    }


def test_the_same_time_and_the_same_images_are_two_comparisons() -> None:
    found = clip_differences(runs_of(catlip=0.2, clip=0.21, short=0.18))
    assert (found["catlip_minus_clip_same_time"], found["catlip_minus_clip_same_images"]) == (2.0, -1.0)
    assert found["clip_race"]["clip_same_time"] == {
        "accuracy": [0.18],
        "images": 48,
        "seconds": [2.0],
        "processor_seconds": [3.1],
    }


def test_curves_say_epoch_seconds_images_accuracy_and_seed() -> None:
    runs = runs_of(catlip=0.2, clip=0.21, short=0.18)
    curves = curves_json(runs)
    assert curves["side"]["catlip"] == [
        {"epoch": 0.0, "seconds": 0.0, "images": 0, "accuracy": 0.05, "seed": 3},
        {"epoch": 0.5, "seconds": 2.0, "images": 64, "accuracy": 0.2, "seed": 3},
    ]
    assert [len(curves["side"][side]) for side in ("catlip", "clip")] == [2, 2]
    assert curves["same_time"]["clip"][1]["images"] == 48
    assert race_table(runs).splitlines()[-1] == "| 3 | clip same time | 48 | 2.0 | 18.00% |"


def test_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install '.[notebooks]'")
    from benchmarks.transfer_study.figures import draw_curves, draw_shares

    draw_curves(tmp_path / "figure4.png", runs_of(catlip=0.2, clip=0.21, short=0.18))
    records = [
        record(init, seed, 0.1, percent=p) for init in ("random", "transfer") for seed in (0, 1) for p in (1.0, 5.0)
    ]
    draw_shares(tmp_path / "figure5.png", records)
    for name in ("figure4.png", "figure5.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_shares_that_were_measured_are_the_ticks_and_nothing_else_is() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install '.[notebooks]'")
    from benchmarks.transfer_study.figures import shares_figure

    shares = (1.0, 5.0, 10.0, 25.0, 100.0)
    records = [record(init, 0, 0.1, percent=share) for init in ("random", "transfer") for share in shares]
    (axes,) = shares_figure([*records, record("random", 0, 0.1, percent=50.0, task="unseen")]).axes[:1]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5", "10", "25", "100"]
    assert axes.get_xticks().tolist() == list(shares)
    assert axes.get_xticks(minor=True).tolist() == []
    assert axes.get_xscale() == "log"
