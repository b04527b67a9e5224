"""Commands of the project in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


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
