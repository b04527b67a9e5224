"""Notebooks as tests run them: from the first cell to the last, in a kernel of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def run_notebook(path: Path, monkeypatch: pytest.MonkeyPatch, **environment: object) -> list[dict[str, Any]]:
    """Run a notebook and return the outputs of all cells; variables that are None are unset."""
    for package in ("nbclient", "nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install '.[notebooks]'")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name, value in environment.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def holds_no_output(path: Path) -> bool:
    """Tell whether a notebook has never been run."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return bool(cells) and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
