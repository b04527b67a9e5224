"""Saving: checkpoints written beside training, by one process or by all ranks.

In: live tensors, a few small files, a small JSON state. Out: a folder that exists whole or not at all.

`save` copies and returns; a thread writes. Training goes on meanwhile, and its changes do not reach the checkpoint.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from trainer.checkpoints.checkpoint import FOLDER, folder_name
from trainer.checkpoints.manifest import (
    FILE_NAME,
    STATE,
    CheckpointManifest,
    RankManifest,
    StoredTensor,
    TensorPiece,
    await_commit,
    collect_rank_manifests,
    leave_failure,
    read_manifest,
    write_rank_manifest,
)
from trainer.checkpoints.pieces import Tensors, dtype_name
from trainer.checkpoints.retention import clear_leftovers, hidden_name, prune, publish
from trainer.checkpoints.snapshot import HostCopies, Snapshot
from vocab.errors import CatlipError, FormatError, InputError, remedy_of
from vocab.store.files import Written, flush, write_file

PATIENCE_AFTER_ERRORS = 10.0
"""seconds that the main rank waits for files of the other ranks after training has failed: they may be gone"""


@dataclass(frozen=True)
class _Job:
    """All that the thread needs, without live tensors."""

    snapshot: Snapshot
    files: dict[str, bytes]
    manifest: CheckpointManifest
    """manifest without files, and with tensors that have no pieces yet"""
    split: bool
    """True if other ranks write parts too"""


class Checkpoints:
    """The writer of a run's checkpoints on one rank. A context manager; every rank makes one.

    All ranks call `save` for the same steps. If no tensor is sharded, the main rank alone writes, and the calls of the
    other ranks do nothing.
    """

    def __init__(
        self, run: Path, rank: int, world: int, *, nonce: str, keep: int, keep_every: int = 0, timeout: float = 1800.0
    ) -> None:
        """`nonce`: letters and digits that are unique to this attempt at the run, the same on all ranks.

        The newest `keep` checkpoints are kept, and those of every `keep_every` steps (0: none). `timeout`: seconds to
        wait for slower ranks. The main rank removes leftovers of dead attempts. Raises InputError for a nonce with
        other characters, `keep` below 1 and `keep_every` below 0.
        """
        if not re.fullmatch("[0-9A-Za-z]{1,64}", nonce) or keep < 1 or keep_every < 0:
            raise InputError(
                "checkpoints",
                found=f"nonce {nonce!r}, keep {keep}, keep_every {keep_every}",
                wanted="a nonce of letters and digits, keep >= 1, keep_every >= 0",
                remedy="Keep at least one checkpoint (--keep-checkpoints 1).",
            )
        self.run, self.rank, self.world = run, rank, world
        self.nonce, self.keep, self.keep_every, self.timeout = nonce, keep, keep_every, timeout
        self._copies = HostCopies(rank, world)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._give_up_at = float("inf")
        if rank == 0:
            clear_leftovers(run, nonce=nonce)

    def save(
        self,
        step: int,
        tensors: Tensors,
        *,
        files: Mapping[str, bytes],
        state: Mapping[str, Any],
        fingerprint: str,
    ) -> None:
        """Copy everything as it is now, and begin to write it; wait first for the previous checkpoint.

        `tensors`: maps of live tensors by the names of their files. `files`: contents of other files by their names.
        `state`: JSON. `fingerprint`: the vocabulary's. Ranks other than the main one may leave the last three empty.
        Raises FormatError if the previous checkpoint could not be written, InputError for a state that is not JSON
        (NaN is not), an invalid name, and tensors that cannot be saved.
        """
        self.wait()
        snapshot = self._copies.take(tensors)
        outline = {
            file: {
                name: StoredTensor(dtype_name(f"{file}/{name}", tensor), tuple(tensor.shape), ())
                for name, tensor in live.items()
            }
            for file, live in tensors.items()
        }
        manifest = CheckpointManifest(step, _plain(state), torch.__version__, fingerprint, {}, outline)
        _check_names(step, files, tensors)
        split = any(file.name != f"{file.file}.safetensors" for file in snapshot.files)
        if self.rank == 0 or split:
            captured = {name: bytes(content) for name, content in files.items()}
            self._pending = self._thread.submit(self._write, _Job(snapshot, captured, manifest, split))

    def check(self) -> None:
        """Raise the FormatError of a failed write, once; do not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk, whole and under its name; on every rank that wrote.

        Raises FormatError if it could not be written; earlier checkpoints are unchanged.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self, *, patience: float | None = None) -> None:
        """Wait for the last checkpoint, and end the thread. Raises FormatError if it could not be written.

        `patience`: seconds to wait for the other ranks; the timeout if None.
        """
        if patience is not None:
            self._give_up_at = time.monotonic() + patience
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(patience=PATIENCE_AFTER_ERRORS)
        except CatlipError as fault:
            error.add_note(f"The last checkpoint was not written either: {fault}")

    def _write(self, job: _Job) -> None:
        """Write a whole checkpoint, in the thread."""
        folder = self.run / FOLDER / folder_name(job.manifest.step)
        work = folder.with_name(hidden_name(folder.name, self.nonce, "tmp"))
        try:
            job.snapshot.wait()
            work.mkdir(parents=True, exist_ok=True)
            written = _write_tensors(work, job.snapshot)
            if self.rank == 0:
                self._complete(work, folder, job, written)
            else:
                write_rank_manifest(work, self.rank, written)
        except FormatError:
            self._abandon(work)
            raise
        except OSError as error:
            self._abandon(work)
            raise _unwritten(folder, error) from error
        if self.rank > 0:
            await_commit(work, folder, given_up=self._patience())
            return
        try:
            prune(self.run, step=job.manifest.step, keep=self.keep, keep_every=self.keep_every, nonce=self.nonce)
        except OSError as error:
            raise _unremoved(folder.parent, error) from error

    def _complete(self, work: Path, folder: Path, job: _Job, own: RankManifest) -> None:
        """Finish a checkpoint on the main rank: the other files, the state last, and the name."""
        files = {name: write_file(work / name, [content]) for name, content in job.files.items()}
        by_rank = [own]
        if job.split:
            by_rank += collect_rank_manifests(work, self.world, given_up=self._patience())
        written: dict[str, Written] = {}
        for each in by_rank:
            written |= each.files
        manifest = CheckpointManifest(
            step=job.manifest.step,
            state=job.manifest.state,
            torch=job.manifest.torch,
            vocabulary=job.manifest.vocabulary,
            files=written | files,
            tensors=_joined(job.manifest.tensors, by_rank),
        )
        write_file(work / STATE, [manifest.to_json()])
        read_manifest(work)  # rows that no rank or two ranks wrote are found here, not on resume
        flush(work)
        publish(work, folder, nonce=self.nonce)

    def _abandon(self, work: Path) -> None:
        if self.rank == 0:
            shutil.rmtree(work, ignore_errors=True)
        else:
            leave_failure(work, self.rank)

    def _patience(self) -> Callable[[], bool]:
        until = time.monotonic() + self.timeout
        return lambda: time.monotonic() > min(until, self._give_up_at)


def _write_tensors(work: Path, snapshot: Snapshot) -> RankManifest:
    files, pieces = {}, {}
    for file in snapshot.files:
        files[file.name] = write_file(work / file.name, file.blocks())
        pieces[file.file] = {name: TensorPiece(file.name, *rows) for name, rows in file.rows.items()}
    return RankManifest(files, pieces)


def _joined(
    outline: dict[str, dict[str, StoredTensor]], by_rank: list[RankManifest]
) -> dict[str, dict[str, StoredTensor]]:
    """The tensors with the pieces of all ranks, in the order of their rows."""
    return {
        file: {
            name: StoredTensor(
                stored.dtype,
                stored.shape,
                tuple(
                    sorted(
                        (own.pieces[file][name] for own in by_rank if name in own.pieces.get(file, {})),
                        key=lambda piece: piece.first,
                    )
                ),
            )
            for name, stored in tensors.items()
        }
        for file, tensors in outline.items()
    }


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the state as JSON gives it back, which the caller's later changes do not reach."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(state), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            "state of a checkpoint",
            found=f"a value that JSON cannot hold ({error})",
            wanted="objects with names, lists, strings, whole and finite numbers",
            remedy="Convert it before saving.",
        ) from error
    return plain


def _check_names(step: int, files: Mapping[str, bytes], tensors: Tensors) -> None:
    taken = {f"{file}.safetensors" for file in tensors} | {STATE}
    wrong = [name for name in [*files, *taken] if not FILE_NAME.fullmatch(name)]
    wrong += [name for name in files if name in taken or name.startswith("rank-")]
    if wrong or step < 0:
        raise InputError(
            f"checkpoint of step {step}",
            found=f"files named {', '.join(map(repr, wrong))}" if wrong else "a step before the first",
            wanted="a step from 0 on, and names of letters, digits, '.', '_' and '-' that are not taken",
            remedy="Choose other names.",
        )


def _unwritten(folder: Path, error: OSError) -> FormatError:
    return FormatError(
        folder,
        found=f"a checkpoint that could not be written ({error})",
        wanted="space and permission to write it",
        remedy=f"{remedy_of(error)} The run continues from the previous checkpoint.",
    )


def _unremoved(folder: Path, error: OSError) -> FormatError:
    return FormatError(
        folder,
        found=f"an old checkpoint that could not be removed ({error}); the new one is written",
        wanted="permission to remove it",
        remedy="Remove it, and start the same command again.",
    )
