"""Tensors out of a checkpoint's files: into live ones, by any number of processes, or whole.

In: what a manifest says of the tensors. Out: rows, copied in place. Only those rows are read that a process holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.checkpoints.manifest import StoredTensor, TensorPiece, broken
from trainer.checkpoints.pieces import DTYPES, Rows, Tensors, dtype_name, held_rows, local_part, rows_in
from vocab.errors import MismatchError

SAME_RUN = "Resume with the options and the vocabulary that the run was started with, or start anew in another --out."


class Pieces:
    """The open safetensors files of one checkpoint."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self.folder = folder
        self._files = files
        self._open: dict[str, Any] = {}

    def copy_into(self, part: Tensor, name: str, stored: StoredTensor, rows: Rows) -> None:
        """Copy rows of a stored tensor into the part that holds just these.

        Raises FormatError for a file that is not what the manifest says.
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
        """Hold the headers of the files against the manifest. Raises FormatError where they differ."""
        for name, stored in tensors.items():
            for piece in stored.pieces:
                self._checked(piece, name, stored)

    def _checked(self, piece: TensorPiece, name: str, stored: StoredTensor) -> Any:
        path = self.folder / piece.file
        try:
            if piece.file not in self._open:
                self._open[piece.file] = self._files.enter_context(safe_open(path, "pt"))
            header = self._open[piece.file].get_slice(name)
            found = (header.get_dtype(), header.get_shape())
        except (OSError, SafetensorError) as error:
            raise broken(path, f"no readable tensor {name} ({error})") from error
        wanted = (stored.dtype, [piece.number, *stored.shape[1:]] if stored.shape else [])
        if found != wanted:
            raise broken(path, f"{name} as {found[0]} {found[1]} where the state says {wanted[0]} {wanted[1]}")
        return self._open[piece.file]


@contextmanager
def open_pieces(folder: Path) -> Iterator[Pieces]:
    """The files of a checkpoint; each is opened when it is first needed."""
    with ExitStack() as files:
        yield Pieces(folder, files)


@torch.no_grad()
def read_into(folder: Path, stored: Mapping[str, Mapping[str, StoredTensor]], live: Tensors) -> None:
    """Copy stored tensors into live ones, in place: this rank's rows of those that are sharded.

    Raises MismatchError unless both have the same tensors of the same types and shapes, FormatError for a file that is
    not what the manifest says; both before any tensor is changed.
    """
    check_match(folder, stored, live)
    with open_pieces(folder) as pieces:
        for entries in stored.values():
            pieces.check(entries)
        for file, tensors in live.items():
            for name, tensor in tensors.items():
                rows = held_rows(f"{file}/{name}", tensor)
                pieces.copy_into(local_part(tensor), name, stored[file][name], rows)


def read_whole(folder: Path, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU. Raises FormatError for a file that is not what the manifest says."""
    whole: dict[str, Tensor] = {}
    with open_pieces(folder) as pieces:
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


def _check_names(place: Path, stored: Set[str], live: Set[str], kind: str) -> None:
    missing, extra = sorted(live - stored), sorted(stored - live)
    if not missing and not extra:
        return
    found = [f"no {', '.join(missing[:3])} ({len(missing)} lacking)"] if missing else []
    found += [f"{', '.join(extra[:3])} ({len(extra)} unknown to this run)"] if extra else []
    raise MismatchError(
        place,
        found=" and ".join(found),
        wanted=f"{kind} for each that this run has, and no others",
        remedy=SAME_RUN,
    )
