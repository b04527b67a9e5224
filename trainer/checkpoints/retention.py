"""Retention: which checkpoints are kept, the leftovers of dead attempts, and the room that all of them need.

.step-00001000.4f1d.tmp    being written or being removed by the attempt with this nonce
.step-00001000.4f1d.old    a checkpoint that is about to be replaced by another of the same step
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from trainer.checkpoints.checkpoint import FOLDER, folders_of, open_checkpoint
from trainer.checkpoints.pieces import Tensors
from vocab.errors import FormatError, InputError
from vocab.store.files import flush

_LEFTOVER = re.compile(r"\.(step-\d{8,15})\.([0-9A-Za-z]+)\.(tmp|old)")


def hidden_name(name: str, nonce: str, kind: str) -> str:
    """Name of a checkpoint's folder before and after it is a checkpoint: `kind` is tmp or old."""
    return f".{name}.{nonce}.{kind}"


def publish(work: Path, folder: Path, *, nonce: str) -> None:
    """Give a written folder its name, replacing one of the same step, so that a whole one exists at any moment."""
    aside = folder.with_name(hidden_name(folder.name, nonce, "old"))
    if folder.exists():
        folder.rename(aside)
    work.rename(folder)
    flush(folder.parent)
    if aside.exists():
        shutil.rmtree(aside)


def prune(run: Path, *, step: int, keep: int, keep_every: int, nonce: str) -> None:
    """Remove old checkpoints: keep the newest `keep` up to `step`, just written, and those of every `keep_every` steps.

    `keep_every` 0: none besides the newest. A folder that does not look whole (a wrong state or size) does not count,
    and is left for someone to look at; checksums are not read again. Steps after `step` are those of a run that was
    resumed from before them: they stay too. The checkpoint just written always stays.
    """
    kept = 0
    for number, folder in reversed(folders_of(run).items()):
        if number > step or (kept >= keep and keep_every and number % keep_every == 0):
            continue
        if number < step and not _looks_whole(folder):
            continue
        kept += 1
        if kept > keep:
            remove(folder, nonce=nonce)


def remove(folder: Path, *, nonce: str) -> None:
    """Remove a checkpoint; a half-removed one no longer has its name."""
    gone = folder.with_name(hidden_name(folder.name, nonce, "tmp"))
    folder.rename(gone)
    flush(folder.parent)
    shutil.rmtree(gone)


def clear_leftovers(run: Path, *, nonce: str) -> None:
    """Make the folder of checkpoints, and remove the leftovers of attempts with another nonce."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    flush(run)
    for path in sorted(folder.iterdir()):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or match[2] == nonce:
            continue
        if match[3] == "old" and not (folder / match[1]).exists():
            path.rename(folder / match[1])  # killed between the two renames
        else:
            shutil.rmtree(path)
    flush(folder)


def _looks_whole(folder: Path) -> bool:
    try:
        open_checkpoint(folder, checksums=False)
    except FormatError:
        return False
    return True


def bytes_needed(tensors: Tensors) -> int:
    """Size of the tensors of one checkpoint, all ranks together, in bytes.

    The other files (vocabulary, configuration, state), a few MB, are not included.
    """
    return sum(tensor.numel() * tensor.element_size() for live in tensors.values() for tensor in live.values())


def check_space(run: Path, tensors: Tensors, keep: int) -> None:
    """Raise InputError if the run's file system has no room for `keep` checkpoints and the one being written.

    `keep` includes the checkpoints of every so many steps. The room of checkpoints that a resumed run has already will
    be used again.
    """
    one = bytes_needed(tensors)
    there = list(folders_of(run).values())[-keep:]
    used = sum(path.stat().st_size for folder in there for path in folder.rglob("*") if path.is_file())
    needed = (keep + 1) * one - min(used, keep * one)
    existing = next(path for path in [run.absolute(), *run.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"--out {run}",
            found=f"a file system with {free:,} bytes free",
            wanted=f"{needed:,}: {keep} checkpoints of {one:,} bytes and one being written"
            + (f", less {min(used, keep * one):,} that are there" if used else ""),
            remedy="Make room, keep fewer (--keep-checkpoints), or choose another --out.",
        )
