"""A checkpoint: everything a run needs to go on as if it had not been stopped.

In: a run directory. Out: its newest checkpoint whose checksums hold; its tensors, copied into live ones by as many
processes as there are now (each reads only the rows that it holds), or whole.

    checkpoints/step-00001000/
      model.safetensors  ema.safetensors  optimizer.safetensors  augment.safetensors      by one process, or under DDP
      model-00001-of-00004.safetensors ...                                                by four that shard (FSDP2)
      vocabulary.parquet    config.json
      state.json            where the run stands, which rows lie where, sha256 of all files above and of itself

No pickle: nothing in a checkpoint can run code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.checkpoints.manifest import REMOVE, CheckpointManifest, StoredTensor, TensorPiece, broken, read_manifest
from trainer.checkpoints.pieces import DTYPES, Rows, Tensors, dtype_name, held_rows, local_part, rows_in
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
        return self.manifest.step

    @property
    def state(self) -> dict[str, Any]:
        """State that the caller of `save` gave."""
        return self.manifest.state

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the vocabulary whose classes the model has learnt."""
        return self.manifest.vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes of the weights. Raises FormatError if the vocabulary cannot be read."""
        return Vocabulary.load(self.path / "vocabulary.parquet")

    def load(self, file: str) -> dict[str, Tensor]:
        """Load the whole tensors of one map ("model", "ema") onto the CPU, joined from their pieces.

        Raises MismatchError if there is no such map, FormatError for a file that contradicts the manifest.
        """
        if file not in self.manifest.tensors:
            raise MismatchError(
                self.path,
                found=f"tensors of {', '.join(self.manifest.tensors) or 'nothing'}",
                wanted=f"those of {file}",
                remedy="Name one of them.",
            )
        return read_whole(self.path, self.manifest.tensors[file])


def newest(run: Path) -> tuple[Checkpoint | None, list[FormatError]]:
    """The newest checkpoint whose checksums hold, and the errors of newer ones.

    Reads every byte of it. Raises FormatError if there are checkpoints and none of them is whole.
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
            wanted="a checkpoint to resume from",
            remedy=f"Copy one of them again from where it was whole; or remove {run} and start anew.",
        )
    if faults:
        raise faults[0]
    return None, []


def open_checkpoint(folder: Path, *, checksums: bool = True) -> Checkpoint:
    """Open the checkpoint in a folder. Raises FormatError if it is not whole.

    Without `checksums`, only sizes are compared: for the other ranks, once the main rank has read every byte.
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


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def folders_of(run: Path) -> dict[int, Path]:
    """Folders of checkpoints by their steps, oldest first; their contents are not checked."""
    matches = ((_NAME.fullmatch(path.name), path) for path in (run / FOLDER).glob("step-*"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match is not None))


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise broken(path, f"a file that cannot be read ({error})") from error


SAME_RUN = "Resume with the options and the vocabulary that the run was started with, or start anew in another --out."


class Pieces(ExitStack):
    """The open safetensors files of one checkpoint, closed with the context; each is opened when it is first needed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._open: dict[str, Any] = {}

    def copy_into(self, part: Tensor, name: str, stored: StoredTensor, rows: Rows) -> None:
        """Copy rows of a stored tensor into the live part that holds these rows.

        Raises FormatError for a file that contradicts the manifest.
        """
        for piece in stored.pieces:
            start, stop = max(piece.first, rows.first), min(piece.first + piece.number, rows.first + rows.number)
            if start >= stop:
                continue
            file = self._checked(piece, name, stored)
            if not stored.shape:
                part.copy_(file.get_tensor(name))
                continue
            read = file.get_slice(name)[start - piece.first : stop - piece.first]
            part[start - rows.first : stop - rows.first].copy_(read)

    def check(self, tensors: Mapping[str, StoredTensor]) -> None:
        """Compare the headers of the files with the manifest. Raises FormatError if they differ."""
        for name, stored in tensors.items():
            for piece in stored.pieces:
                self._checked(piece, name, stored)

    def _checked(self, piece: TensorPiece, name: str, stored: StoredTensor) -> Any:
        path = self.folder / piece.file
        try:
            if piece.file not in self._open:
                self._open[piece.file] = self.enter_context(safe_open(path, "pt"))
            header = self._open[piece.file].get_slice(name)
            found = (header.get_dtype(), header.get_shape())
        except (OSError, SafetensorError) as error:
            raise broken(path, f"no readable tensor {name} ({error})") from error
        wanted = (stored.dtype, [piece.number, *stored.shape[1:]] if stored.shape else [])
        if found != wanted:
            raise broken(path, f"{name} as {found[0]} {found[1]} where the state says {wanted[0]} {wanted[1]}")
        return self._open[piece.file]


@torch.no_grad()
def restore(checkpoint: Checkpoint, live: Tensors) -> None:
    """Copy a checkpoint's tensors into live ones, in place; each rank reads the rows that it holds.

    Raises MismatchError unless both have the same maps with the same tensors of the same types and shapes, FormatError
    for a file that contradicts the manifest; both before any tensor is changed.
    """
    folder, stored = checkpoint.path, checkpoint.manifest.tensors
    check_match(folder, stored, live)
    with Pieces(folder) as pieces:
        for entries in stored.values():
            pieces.check(entries)
        for file, tensors in live.items():
            for name, tensor in tensors.items():
                rows = held_rows(f"{file}/{name}", tensor)
                pieces.copy_into(local_part(tensor), name, stored[file][name], rows)


def read_whole(folder: Path, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Read whole tensors onto the CPU. Raises FormatError for a file that contradicts the manifest."""
    whole: dict[str, Tensor] = {}
    with Pieces(folder) as pieces:
        # Checked first: nothing is allocated for a shape that no file has.
        pieces.check(stored)
        for name, entry in stored.items():
            whole[name] = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
            pieces.copy_into(whole[name], name, entry, Rows(0, rows_in(entry.shape)))
    return whole


def check_match(folder: Path, stored: Mapping[str, Mapping[str, StoredTensor]], live: Tensors) -> None:
    """Raise MismatchError unless stored and live tensors have the same names, types and shapes."""
    _check_names(folder, stored.keys(), live.keys(), "a map of tensors")
    for file, tensors in live.items():
        _check_names(folder / file, stored[file].keys(), tensors.keys(), "a tensor")
        for name, tensor in tensors.items():
            entry, dtype = stored[file][name], dtype_name(f"{file}/{name}", tensor)
            if (entry.shape, entry.dtype) != (tuple(tensor.shape), dtype):
                raise MismatchError(
                    f"{folder / file}, tensor {name}",
                    found=f"{entry.dtype} {list(entry.shape)}",
                    wanted=f"{dtype} {list(tensor.shape)}, as this run has it",
                    remedy=SAME_RUN,
                )


def _check_names(location: Path, stored: Set[str], live: Set[str], kind: str) -> None:
    missing, extra = sorted(live - stored), sorted(stored - live)
    if not missing and not extra:
        return
    found = [f"no {', '.join(missing[:3])} ({len(missing)} lacking)"] if missing else []
    found += [f"{', '.join(extra[:3])} ({len(extra)} unknown to this run)"] if extra else []
    raise MismatchError(
        location,
        found=" and ".join(found),
        wanted=f"{kind} for each that this run has, and no others",
        remedy=SAME_RUN,
    )
