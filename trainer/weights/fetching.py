"""Copies of models in object stores, because weights are loaded from files of this machine.

A copy has the files of a run directory, or of a folder that export or import wrote; and, if they do not include the
wanted weights, one checkpoint.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.fs as pafs

from trainer.checkpoints.checkpoint import FOLDER
from vocab.errors import CatlipError, InputError
from vocab.store.files import HASH_BLOCK, filesystem_of, named
from vocab.store.locations import Location, location_of

WEIGHTS = "model.safetensors"
_STEP = re.compile(rf"{FOLDER}/step-(\d{{8}})/.+")
# Records of a run are left out: they may be larger than its weights.
_LEFT_OUT = re.compile(r".*\.(jsonl|html|csv|lock|tmp)|tensorboard/.*|\..*")


@contextmanager
def local_folder(location: Location, *, step: int | None = None, result: bool = True) -> Iterator[Path]:
    """A folder of this machine that holds a model: the location itself, or a copy that lives as long as the process.

    `step`: step of the wanted checkpoint; None: the newest. `result`: prefer the result of a finished run. Errors of
    the block name the location, not its copy. Raises InputError for a URI that names no folder.
    """
    location = location_of(location)
    if isinstance(location, Path):
        yield location
        return
    folder = Path(_copied(location, step, result).name)
    try:
        yield folder
    except CatlipError as error:
        thing, found = (text.replace(str(folder), location) for text in (error.thing, error.found))
        raise type(error)(thing, found=found, wanted=error.wanted, remedy=error.remedy) from error


@cache
def _copied(location: str, step: int | None, result: bool) -> TemporaryDirectory[str]:
    """The copy, which is removed when the process ends."""
    filesystem, root = filesystem_of(location)
    if filesystem.get_file_info(root).type != pafs.FileType.Directory:
        raise InputError(
            location,
            found="no such folder",
            wanted="a run directory, or a folder that export or import wrote",
            remedy="Check the location of the model, and the credentials of this environment.",
        )
    infos = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    names = [info.path[len(root) + 1 :] for info in infos if info.type == pafs.FileType.File]
    copy = TemporaryDirectory(prefix="open-catlip-model-")
    with named(tempfile.gettempdir()):
        for name in _wanted(names, step, result=result):
            target = Path(copy.name) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with filesystem.open_input_stream(f"{root}/{name}") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, HASH_BLOCK)
    return copy


def _wanted(names: list[str], step: int | None, *, result: bool) -> list[str]:
    """The names of files to copy."""
    steps = {name: int(found[1]) for name in names if (found := _STEP.fullmatch(name))}
    files = [name for name in names if not name.startswith(f"{FOLDER}/") and not _LEFT_OUT.fullmatch(name)]
    if step is None and result and WEIGHTS in names:
        return files
    chosen = max(steps.values(), default=0) if step is None else step
    return files + [name for name, its in steps.items() if its == chosen]
