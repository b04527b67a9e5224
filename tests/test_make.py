"""The front door: what each target of the Makefile installs, and what stops it before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import make


@pytest.mark.parametrize(
    ("target", "installed"),
    [
        (("demo",), ["pipeline", "trainer"]),
        (("labels", "CAPTIONS=x"), ["pipeline"]),
        (("report",), ["pipeline"]),
        (("pretrain", "IMAGES=x"), ["trainer"]),
        (("dist",), []),
        (("test",), ["pipeline,trainer,remote,wandb,onnx,dense,fit,spacy,nltk,peers,dev"]),
    ],
)
def test_a_target_installs_what_it_needs_and_nothing_else(target: tuple[str, ...], installed: list[str]) -> None:
    planned = make("--dry-run", "--always-make", *target).stdout
    assert re.findall(r"pip install .* '\.\[(.+)\]'", planned) == installed, planned
    assert ("requirements.sh python3 java" in planned) == any("pipeline" in extras for extras in installed)


@pytest.mark.parametrize(("cuda", "accepted"), [("None", True), ("'13.0'", False)])
def test_a_torch_without_cuda_comes_first_and_another_is_an_error_in_one_line(
    tmp_path: Path, cuda: str, accepted: bool
) -> None:
    # A Python whose pip does nothing, beside a torch that says how it was built.
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for package, text in (("torch", f"class version:\n    cuda = {cuda}\n"), ("torchvision", "")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(text)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> pip.log\n[ "$1" = -m ] || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for file in (".venv/bin/pip", "setup.cfg", "pyproject.toml", "requirements.sh"):
        (tmp_path / file).write_text("")
    result = make("--silent", ".venv/trainer", "TORCH=cpu", "TORCH_INDEX=file:///wheels", folder=tmp_path)
    first, *others = [line for line in (tmp_path / "pip.log").read_text().splitlines() if line.startswith("-m pip")]
    assert first == "-m pip install -qq --retries 1 --upgrade --index-url file:///wheels torch torchvision"
    assert others == (["-m pip install --quiet --editable .[trainer]"] if accepted else [])
    assert (result.returncode == 0) == (tmp_path / ".venv" / "trainer").exists() == accepted, result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith("make: ")]
    assert said == [] if accepted else len(said) == 1 and "from file:///wheels. Name another index" in said[0]


@pytest.mark.parametrize(
    ("done", "again"),
    [
        ([], [".venv/bin/pip", ".venv/torch-cpu", ".venv/trainer"]),
        # Killed after `python -m venv` had made Python, and before it had made pip.
        ([".venv/bin/python"], [".venv/bin/pip", ".venv/torch-cpu", ".venv/trainer"]),
        ([".venv/bin/pip"], [".venv/torch-cpu", ".venv/trainer"]),
        ([".venv/bin/pip", ".venv/torch-cpu"], [".venv/trainer"]),
        # A new setup.cfg may want another torch, which must come without CUDA too.
        ([".venv/bin/pip", ".venv/torch-cpu", ".venv/trainer", "setup.cfg"], [".venv/torch-cpu", ".venv/trainer"]),
        ([".venv/bin/pip", "setup.cfg", ".venv/torch-cpu", ".venv/trainer"], []),
    ],
)
def test_a_set_up_goes_on_where_it_ended(tmp_path: Path, done: list[str], again: list[str]) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for minute, file in enumerate(["setup.cfg", "pyproject.toml", *done]):
        (tmp_path / file).write_text("")
        os.utime(tmp_path / file, (60 * minute, 60 * minute))
    planned = make("--dry-run", ".venv/trainer", "TORCH=cpu", folder=tmp_path).stdout
    steps = {".venv/bin/pip": "-m venv", ".venv/torch-cpu": "torch torchvision", ".venv/trainer": "--editable"}
    assert [step for step, sign in steps.items() if sign in planned] == again, planned


@pytest.mark.parametrize(
    ("python", "home", "message"),
    [
        ("no-such-python", "", "Python: found no no-such-python; wanted Python 3.11"),
        (sys.executable, "/nowhere", "Java: found no /nowhere/bin/java; wanted Java 17"),
    ],
)
def test_set_up_stops_at_once_without_python_or_java(python: str, home: str, message: str) -> None:
    environment = os.environ | ({"JAVA_HOME": home} if home else {})
    result = subprocess.run(
        ["sh", "requirements.sh", python, "java"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert "apt-get install" in result.stderr


@pytest.mark.parametrize(
    ("version", "accepted"), [("1.8.0_292", False), ("11.0.2", False), ("17.0.15", True), ("21", True)]
)
def test_set_up_knows_an_old_java(tmp_path: Path, version: str, accepted: bool) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    result = subprocess.run(
        ["sh", "requirements.sh", sys.executable, "java"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAVA_HOME": str(tmp_path)},
        check=False,
    )
    assert (result.returncode == 0) == accepted, result.stderr


def test_make_alone_prints_help() -> None:
    said = make().stdout
    assert all(f"make {target}" in said for target in ("demo", "labels", "pretrain", "test", "check", "bench", "clean"))
