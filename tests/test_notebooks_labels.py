"""The notebook: runs from its first cell to its last, and is committed as one that never ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.labels import HOSTILE_NAME, hostile_labels, small_labels
from tests.notebooks import holds_no_output, run_notebook

NOTEBOOK = ROOT / "notebooks" / "labels.ipynb"


def run(monkeypatch: pytest.MonkeyPatch, **environment: object) -> list[dict[str, Any]]:
    """The outputs of all cells, run in a kernel of its own."""
    return run_notebook(NOTEBOOK, monkeypatch, **{"CLASSES": None, **environment})


def test_the_committed_notebook_holds_no_output() -> None:
    assert holds_no_output(NOTEBOOK)


def test_it_shows_the_figures_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = small_labels(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in labels.iterdir()}
    (tmp_path / "classes.txt").write_text("n02084071\nn02121620\n")
    outputs = run(monkeypatch, LABELS=labels, CLASSES=tmp_path / "classes.txt", MIN_COUNT=30)
    text = "".join(output.get("text", "") for output in outputs)
    assert "92 = 91 + 1 + 0" in text
    assert "person, individual, someone" in text
    assert "1 synsets were seen once" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert {path.name: path.stat().st_mtime_ns for path in labels.iterdir()} == before


def test_it_names_rejects_and_says_how_to_give_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _ = hostile_labels(tmp_path)
    outputs = run(monkeypatch, LABELS=labels)
    text = "".join(output.get("text", "") for output in outputs)
    assert f"1 of 1 rows rejected in {HOSTILE_NAME!a}" in text
    assert "Set CLASSES to a file of wnids" in text
