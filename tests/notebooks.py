"""Notebooks as tests run them: from the first cell to the last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def run_notebook(path: Path, *environments: Mapping[str, object]) -> list[list[dict[str, Any]]]:
    """Run a notebook once for each environment, and return the outputs of each run; variables that are None are unset.

    The runs share a kernel, for starting one and importing takes longer than the cells; no variable outlives a run.
    """
    for package in ("nbclient", "nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install '.[notebooks]'")
    from nbclient import NotebookClient
    from nbformat import v4

    sources = [cell["source"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    runs = []
    for variables in environments:
        unset = [name for name, value in variables.items() if value is None]
        given = {name: str(value) for name, value in variables.items() if value is not None}
        setting = (
            f"%reset -f\nimport os\nos.environ.update({given!r})\nfor name in {unset!r}: os.environ.pop(name, None)"
        )
        runs.append([v4.new_code_cell(setting), *(v4.new_code_cell("".join(source)) for source in sources)])
    notebook = v4.new_notebook(cells=[cell for run in runs for cell in run])
    resources = {"metadata": {"path": str(path.parent)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=":")
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    return [[output for cell in run for output in cell.get("outputs", [])] for run in runs]


def holds_no_output(path: Path) -> bool:
    """Tell whether a notebook has never been run."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return bool(cells) and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
