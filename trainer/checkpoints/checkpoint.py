"""A checkpoint: everything a run needs to go on as if it had not been stopped.

In: a run directory. Out: its newest checkpoint whose checksums hold; its tensors put into live ones, by as many
processes as there are now, or whole.

    checkpoints/step-00001000/
      model.safetensors  ema.safetensors  optimizer.safetensors  augment.safetensors      by one process, or under DDP
      model-00001-of-00004.safetensors ...                                                by four that shard (FSDP2)
      vocabulary.parquet    config.json
      state.json            where the run stands, which rows lie where, sha256 of all files above and of itself

No pickle: nothing in a checkpoint can run code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.checkpoints.disk import checksum_of
from trainer.checkpoints.manifest import REMOVE, CheckpointManifest, broken, read_manifest
from trainer.checkpoints.pieces import Tensors
from trainer.checkpoints.reading import read_into, read_whole
from vocab.errors import FormatError, MismatchError
from vocab.vocabulary import Vocabulary

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8,15})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole."""

    path: Path
    manifest: CheckpointManifest

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.manifest.step

    @property
    def state(self) -> dict[str, Any]:
        """What the caller of `save` wanted to know again."""
        return self.manifest.state

    @property
    def fingerprint(self) -> str:
        """That of the vocabulary whose classes it learnt."""
        return self.manifest.vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes of its weights. Raises FormatError if it holds none that can be read."""
        return Vocabulary.load(self.path / "vocabulary.parquet")

    def load(self, file: str) -> dict[str, Tensor]:
        """The whole tensors of one map ("model", "ema"), on the CPU, joined from their pieces.

        Raises MismatchError if it has no such map, FormatError for a file that is not what the manifest says.
        """
        if file not in self.manifest.tensors:
            raise MismatchError(
                self.path,
                found=f"tensors of {', '.join(self.manifest.tensors) or 'nothing'}",
                wanted=f"those of {file}",
                remedy="Name one that it has.",
            )
        return read_whole(self.path, self.manifest.tensors[file])


def newest(run: Path) -> tuple[Checkpoint | None, list[FormatError]]:
    """The newest checkpoint whose checksums hold, and what is wrong with the newer ones.

    Reads every byte of it. Raises FormatError if there are checkpoints and none of them holds.
    """
    faults: list[FormatError] = []
    for folder in reversed(folders_of(run).values()):
        try:
            return open_checkpoint(folder), faults
        except FormatError as fault:
            faults.append(fault)
    if len(faults) > 1 and all(fault.remedy == REMOVE for fault in faults):
        raise FormatError(
            run / FOLDER,
            found="no checkpoint that is whole (" + "; ".join(f"{each.thing}: {each.found}" for each in faults) + ")",
            wanted="one to go on from",
            remedy=f"Copy one of them again from where it was whole; or remove {run} and start anew.",
        )
    if faults:
        raise faults[0]
    return None, []


def open_checkpoint(folder: Path, *, checksums: bool = True) -> Checkpoint:
    """The checkpoint in a folder. Raises FormatError if it is not whole.

    Without `checksums` only sizes are compared: for the other ranks, once the main one has read every byte.
    """
    manifest = read_manifest(folder)
    if folder_name(manifest.step) != folder.name:
        raise broken(folder, f"the checkpoint of step {manifest.step}, under another name")
    for name, written in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise broken(path, "no such file")
        if (size := path.stat().st_size) != written.size:
            raise broken(path, f"{size:,} bytes where {written.size:,} were written")
        if checksums and _checksum(path) != written.sha256:
            raise broken(path, "bytes that do not match their checksum")
    return Checkpoint(folder, manifest)


def restore(checkpoint: Checkpoint, tensors: Tensors) -> None:
    """Put a checkpoint's tensors into live ones, in place; each rank reads the rows that it holds.

    Raises MismatchError unless both have the same maps with the same tensors of the same types and shapes, FormatError
    for a file that is not what the manifest says; both before any tensor is changed.
    """
    read_into(checkpoint.path, checkpoint.manifest.tensors, tensors)


def folder_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def folders_of(run: Path) -> dict[int, Path]:
    """Folders of checkpoints by their steps, oldest first; what they hold is not looked at."""
    matches = ((_NAME.fullmatch(path.name), path) for path in (run / FOLDER).glob("step-*"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match is not None))


def _checksum(path: Path) -> str:
    try:
        return checksum_of(path)
    except OSError as error:
        raise broken(path, f"a file that cannot be read ({error})") from error
