"""Commands of the project, in processes of their own or in this one."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vocab.errors import run_cli


def cli(*arguments: object, room: str = "pipeline", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ROOM` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", room, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )


def called(*arguments: object, room: str = "pipeline") -> subprocess.CompletedProcess[str]:
    """Do what `python -m ROOM` does, in this process, which has imported the room."""
    status, out, err = None, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [room, *map(str, arguments)])
        try:
            run_cli(importlib.import_module(f"{room}.__main__").main)
        except SystemExit as exit:
            status = exit.code
    return subprocess.CompletedProcess(arguments, status or 0, out.getvalue(), err.getvalue())


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the Makefile in a folder, without the flags and variables of the make that runs the tests."""
    command = ["make", "--file", str(ROOT / "Makefile"), "--directory", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Block())
"""


def import_without(blocked: set[str], statement: str) -> subprocess.CompletedProcess[str]:
    """Run a statement in a Python that cannot import the `blocked` packages."""
    code = BLOCK.format(blocked=blocked) + statement
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
