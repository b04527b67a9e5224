"""One folder for the temporary files of a run and its Spark; removal of those that dead runs left.

In: the system's folder for temporary files. Out: a folder in it, named by host and process, that goes with the run. A
run that was killed cannot remove its own; the next one does, once neither the run nor a child of it is alive.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocab.store.locks import has_ended, host

PREFIX = "catlip-spark"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this process that goes with the block, however it ends."""
    parent = Path(tempfile.gettempdir())
    remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}.{host()}.{os.getpid()}.", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def used_by_children(folder: Path) -> Iterator[None]:
    """Let processes that start in the block write below the folder: Java, and the Python workers that it starts."""
    changed = {
        "TMPDIR": str(folder),
        # Java does not look at TMPDIR. Options of the configuration come later, and win.
        "SPARK_SUBMIT_OPTS": f'{os.environ.get("SPARK_SUBMIT_OPTS", "")} -Djava.io.tmpdir="{folder}"'.strip(),
    }
    before = {name: os.environ.get(name) for name in changed}
    own, tempfile.tempdir = tempfile.tempdir, str(folder)
    os.environ.update(changed)
    try:
        yield
    finally:
        tempfile.tempdir = own
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of runs of this host whose process and children are gone."""
    name = re.compile(rf"{PREFIX}\.{re.escape(host())}\.(?P<pid>\d+)\.\w+")
    for folder in parent.iterdir():
        match = name.fullmatch(folder.name)
        if match is not None and has_ended(int(match["pid"])) and not _has_children(folder):
            # Another user's folder stays.
            shutil.rmtree(folder, ignore_errors=True)


def _has_children(folder: Path) -> bool:
    """Tell whether a process lives that was started with the folder as its TMPDIR, where /proc tells."""
    wanted = f"TMPDIR={folder}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes().split(b"\0"):
                return True
        except OSError:
            # Another user's process, or one that has just ended.
            continue
    return False
