"""The notebook: runs from its first cell to its last, and is committed as one that never ran."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import ROOT
from tests.labels import HOSTILE_NAME, hostile_labels, small_labels
from tests.notebooks import holds_no_output, run_notebook

NOTEBOOK = ROOT / "notebooks" / "labels.ipynb"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Outputs of a run with classes, which changes no file, and of one on hostile labels without classes."""
    folder = tmp_path_factory.mktemp("labels")
    labels, (hostile, _) = small_labels(folder), hostile_labels(tmp_path_factory.mktemp("hostile"))
    before = {path.name: path.stat().st_mtime_ns for path in labels.iterdir()}
    (folder / "classes.txt").write_text("n02084071\nn02121620\n")
    outputs = run_notebook(
        NOTEBOOK,
        {"LABELS": labels, "CLASSES": folder / "classes.txt", "MIN_COUNT": 30},
        {"LABELS": hostile, "CLASSES": None, "MIN_COUNT": None},
    )
    assert {path.name: path.stat().st_mtime_ns for path in labels.iterdir()} == before
    return outputs


def test_the_committed_notebook_holds_no_output() -> None:
    assert holds_no_output(NOTEBOOK)


def test_it_shows_the_figures_of_the_report(runs: list[list[dict[str, Any]]]) -> None:
    outputs = runs[0]
    text = "".join(output.get("text", "") for output in outputs)
    assert "92 = 91 + 1 + 0" in text
    assert "person, individual, someone" in text
    assert "1 synsets were seen once" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


def test_it_names_rejects_and_says_how_to_give_classes(runs: list[list[dict[str, Any]]]) -> None:
    text = "".join(output.get("text", "") for output in runs[1])
    assert f"1 of 1 rows rejected in {HOSTILE_NAME!a}" in text
    assert "Set CLASSES to a file of wnids" in text
