"""Which checkpoints are kept, and what dead attempts leave behind.

In: a run directory. Out: the newest few and every so many, and nothing half written.

    .step-00001000.4f1d.tmp    being written or being removed by the attempt of this nonce
    .step-00001000.4f1d.old    one whose place another of the same step is about to take
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from trainer.checkpoints.checkpoint import FOLDER, folders_of, open_checkpoint
from trainer.checkpoints.disk import flush
from vocab.errors import FormatError

_LEFTOVER = re.compile(r"\.(step-\d{8,15})\.([0-9A-Za-z]+)\.(tmp|old)")


def hidden_name(name: str, nonce: str, kind: str) -> str:
    """Name of a checkpoint's folder while it is no checkpoint: `kind` is tmp or old."""
    return f".{name}.{nonce}.{kind}"


def publish(work: Path, folder: Path, *, nonce: str) -> None:
    """Give a written folder its name, in place of one of the same step, such that a whole one exists at any moment."""
    aside = folder.with_name(hidden_name(folder.name, nonce, "old"))
    if folder.exists():
        folder.rename(aside)
    work.rename(folder)
    flush(folder.parent)
    if aside.exists():
        shutil.rmtree(aside)


def prune(run: Path, *, step: int, keep: int, keep_every: int, nonce: str) -> None:
    """Remove all but the newest `keep` checkpoints up to `step`, which was just written, and those of every
    `keep_every` steps (0: none).

    A folder that does not look whole (its state or a size is wrong) is not counted, and is left for someone to look at;
    checksums are not read again. Later steps than `step` are those of a run that went on from before them: also left.
    The one just written is always among the kept.
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
    """Remove a checkpoint: half removed it has no name any more."""
    gone = folder.with_name(hidden_name(folder.name, nonce, "tmp"))
    folder.rename(gone)
    flush(folder.parent)
    shutil.rmtree(gone)


def clear_leftovers(run: Path, *, nonce: str) -> None:
    """Make the folder of checkpoints, and remove what attempts with another nonce left in it."""
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
