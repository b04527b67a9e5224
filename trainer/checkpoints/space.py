"""Room for checkpoints: what they need, known before the first step.

In: live tensors and a run directory. Out: bytes, and an error where the file system has fewer.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.checkpoints.checkpoint import folders_of
from trainer.checkpoints.pieces import Tensors
from vocab.errors import InputError


def bytes_needed(tensors: Tensors) -> int:
    """Bytes of the tensors of one checkpoint, all ranks together.

    The other files (vocabulary, configuration, state) take a few MB and are not in it.
    """
    return sum(tensor.numel() * tensor.element_size() for live in tensors.values() for tensor in live.values())


def check_space(run: Path, tensors: Tensors, keep: int) -> None:
    """Raise InputError if the run's file system has no room for `keep` checkpoints and the one being written.

    Where checkpoints of every so many steps are kept too, count those in `keep`. Checkpoints that a resumed run has
    already are room that it will use again.
    """
    one = bytes_needed(tensors)
    there = list(folders_of(run).values())[-keep:]
    used = sum(path.stat().st_size for folder in there for path in folder.rglob("*") if path.is_file())
    needed = (keep + 1) * one - min(used, keep * one)
    place = next(path for path in [run.absolute(), *run.absolute().parents] if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"--out {run}",
            found=f"a file system with {free:,} bytes free",
            wanted=f"{needed:,}: {keep} checkpoints of {one:,} bytes and one being written"
            + (f", less {min(used, keep * one):,} that are there" if used else ""),
            remedy="Make room, keep fewer (--keep-checkpoints), or choose another --out.",
        )
