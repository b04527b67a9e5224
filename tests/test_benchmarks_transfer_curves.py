"""curves.json: what Figure 4 is drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.transfer_study.curves import Point, by_seed, read_curves
from vocab.errors import FormatError

ROW = {"epoch": 1, "seconds": 61.5, "images": 20000, "accuracy": 0.25, "seed": 3}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_curves_are_read_by_side(tmp_path: Path) -> None:
    content = {"side": {"catlip": [ROW, {**ROW, "epoch": 0, "images": 0}], "clip": [ROW]}, "machine": "a slow one"}
    curves = read_curves(written(tmp_path / "curves.json", content))
    assert curves.side["clip"] == (Point(seed=3, epoch=1.0, seconds=61.5, images=20000, accuracy=0.25),)
    assert curves.same_time == {}
    assert [point.images for point in by_seed(curves.side["catlip"])[3]] == [0, 20000]


def test_each_seed_has_a_curve_of_its_own(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "seed": 0}, {**ROW, "images": 10}]
    content = {"side": {"catlip": rows, "clip": rows}, "same_time": {"clip": rows}}
    curves = by_seed(read_curves(written(tmp_path / "curves.json", content)).same_time["clip"])
    assert {seed: [point.images for point in line] for seed, line in curves.items()} == {0: [20000], 3: [10, 20000]}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([], "TypeError"),
        ({"side": {"catlip": [ROW]}}, r"KeyError\('clip'\)"),
        ({"side": {"catlip": [ROW], "clip": []}}, "a side without a point"),
        ({"side": {"catlip": [ROW], "clip": [{**ROW, "accuracy": float("nan")}]}}, "which holds no numbers"),
        ({"side": {"catlip": [ROW], "clip": [{"epoch": 1}]}}, r"KeyError\('seconds'\)"),
        ({"side": {"catlip": [ROW], "clip": [ROW]}, "same_time": [ROW]}, "AttributeError"),
        ({"side": {"catlip": [ROW], "clip": [5]}}, "TypeError"),
    ],
)
def test_a_file_without_curves_is_named(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(FormatError, match=rf"curves\.json: found no curves \(.*{found}"):
        read_curves(written(tmp_path / "curves.json", content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found no curves"):
        read_curves(tmp_path / "curves.json")
