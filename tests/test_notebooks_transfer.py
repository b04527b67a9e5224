"""The notebook of results on other tasks: drawn from small tables, and committed as one that never ran."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.notebooks import holds_no_output, run_notebook
from trainer.records.record import Method, Record, write_results

NOTEBOOK = ROOT / "notebooks" / "transfer.ipynb"


def results(folder: Path, *methods: Method, gain: float) -> Path:
    """A folder of results on one task: 1, 10 and 100 % of the images, three seeds, but for one seed of all images."""
    records = [
        Record("pets", method, init, percent, seed, "top1", right / 50, 50, 1.0, {"correct": f"{'1' * right:0<50}"})
        for method in methods
        for init, more in (("random", 0.0), ("transfer", gain))
        for percent, seeds in ((1.0, 3), (10.0, 3), (100.0, 1))
        for seed in range(seeds)
        for right in [int(50 * (0.2 + percent / 200 + more)) + seed]
    ]
    records.append(Record("pets", "zeroshot", "none", 0.0, 0, "top1", 0.3, 50, 1.0, {}))
    folder.mkdir()
    write_results(folder, records, verb="transfer", model="runs/small")
    return folder


def curves(path: Path) -> Path:
    """A curves.json of two seeds."""

    def line(rate: float) -> list[dict[str, float]]:
        return [
            {"epoch": epoch, "seconds": 10.0 * epoch, "images": 100 * epoch, "accuracy": rate * epoch, "seed": seed}
            for seed in (0, 1)
            for epoch in range(4)
        ]

    sides: dict[str, Any] = {"side": {"catlip": line(0.2), "clip": line(0.1)}, "same_time": {"clip": line(0.12)}}
    path.write_text(json.dumps(sides))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Outputs of a run with two folders and curves, and of one with a folder alone."""
    folder = tmp_path_factory.mktemp("transfer")
    places = [results(folder / "a", "probe", "finetune", gain=0.1), results(folder / "b", "probe", gain=0.2)]
    return run_notebook(
        NOTEBOOK,
        {"RESULTS": os.pathsep.join(map(str, places)), "CURVES": curves(folder / "curves.json")},
        {"RESULTS": results(folder / "c", "probe", gain=0.1), "CURVES": None},
    )


def said(outputs: list[dict[str, Any]]) -> tuple[str, int]:
    """Text that a run printed, and the number of figures that it drew; it wrote no warnings."""
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), figures


def test_the_committed_notebook_holds_no_output() -> None:
    assert holds_no_output(NOTEBOOK)


def test_it_draws_figures_5_and_4_of_several_folders(runs: list[list[dict[str, Any]]]) -> None:
    text, figures = said(runs[0])
    # Two methods of the first folder, one of the second, and Figure 4.
    assert figures == 4
    # 10, 11 and 12 of 50 images at 1 %: a spread of 2 points, 4.303 / sqrt(3) times that.
    assert "pets, probe, random, 1 %: top1 22.0 ± 5.0 (3 seeds)" in text
    assert "pets, zeroshot, none, 0 %: top1 30.0 (1 seed)" in text
    assert "pets, finetune, 1 %: +10.0 ± 0.0 (3 seeds)" in text
    assert "pets, probe, 1 %: +20.0 ± 0.0 (3 seeds)" in text


def test_it_says_how_to_give_curves(runs: list[list[dict[str, Any]]]) -> None:
    text, figures = said(runs[1])
    assert figures == 1
    assert "Set CURVES to a curves.json" in text
