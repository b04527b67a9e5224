"""The walls between the rooms: who may import whom, and what each needs to be installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.forks import Forks
from tests.processes import import_without


@pytest.mark.parametrize("package", ["vocab", "pipeline", "trainer"])
def test_each_package_is_the_one_in_this_checkout(package: str) -> None:
    file = importlib.import_module(package).__file__
    assert file == str(ROOT / package / "__init__.py")


def test_the_import_contracts_hold() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_executor_needs_numpy_pyarrow_and_spark_alone() -> None:
    result = import_without(
        {"torch", "timm", "tyro", "PIL", "pandas", "tqdm", "jinja2", "markupsafe"},
        "import pipeline.labeling, pipeline.task, pipeline.run; from vocab import labeler\n"
        "import pyarrow as pa; print(labeler.load().label(pa.array(['dogs'])).to_pylist())",
    )
    assert result.stdout.strip() == "[[2084071]]", result.stderr


def test_a_training_node_needs_no_spark(forks: Forks, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the trainer extra is not installed")
    forks.run(1, tmp_path / "log", train_without_spark)


def train_without_spark() -> None:
    """Find in a fork that the trainer is imported, and that Spark cannot be."""
    assert {"trainer.__main__", "trainer.pretrain"} <= sys.modules.keys()
    for package in ("pyspark", "py4j"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(package)


def test_the_zip_needs_python_alone_and_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    archives = [tmp_path / "dist" / name for name in ("a.zip", "b.zip")]
    for archive in archives:
        command = [sys.executable, "-S", "-E", "-s", "-m", "pipeline.rooms", str(archive)]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert result.stdout == f"{archive}\n", result.stderr
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert {path.name for path in archives[0].parent.iterdir()} == {"a.zip", "b.zip"}


def test_the_labels_work_from_a_zip_as_spark_ships_it(tmp_path: Path) -> None:
    from pipeline.rooms import zip_rooms

    archive = zip_rooms(tmp_path / "rooms.zip")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from vocab import labeler; import pyarrow as pa\n"
    code += "from vocab.pages import page; page.environment().get_template('pipeline/report/report.html')\n"
    code += "page.text_of(page.STYLE)\n"
    code += "print(labeler.__file__, labeler.load().label(pa.array(['dogs'])).to_pylist())"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code, str(archive)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.stdout.startswith(str(archive)), result.stderr
    assert "[[2084071]]" in result.stdout
