"""Manifests: what a checkpoint consists of, and what each rank has written of it so far.

The manifest of a checkpoint, `state.json`, says where the run stands, which rows of a tensor lie in which file, and
every checksum:

    {"version": 2, "step": 1000, "state": {...}, "torch": "2.14.1", "vocabulary": "9f86d0...",
     "files": {"model-00001-of-00002.safetensors": {"size": 1264, "sha256": "..."}, "config.json": {...}},
     "tensors": {"model": {"head.weight": {"dtype": "F32", "shape": [7, 8],
                 "pieces": [["model-00001-of-00002.safetensors", 0, 4], ["model-00002-of-00002.safetensors", 4, 3]]}}},
     "own_sha256": "..."}

While it is being written, each rank but the main one leaves a manifest of its own files. No collective call is made,
which would meet those of training: the main rank waits for the manifests of all ranks, the others for the folder's own
name.

    .step-00001000.4f1d.tmp/rank-00001.json    {"files": {"model-00002-of-00004.safetensors": {"size": 96, ...}},
                                                "pieces": {"model": {"head.weight": ["model-00002-of-...", 2, 2]}},
                                                "own_sha256": "..."}
    .step-00001000.4f1d.tmp/rank-00002.failed  where a rank could not write its files
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from trainer.checkpoints.pieces import DTYPES, rows_in
from vocab.errors import FormatError
from vocab.store.files import Written, write_file
from vocab.store.sealing import SEAL, digest_of, from_sealed_json, sealed, to_sealed_json

FORMAT_VERSION = 2
STATE = "state.json"
LARGEST = 1 << 26
"""largest state.json that is read, bytes: a thousand ranks and a thousand tensors need half of it"""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

REMOVE = "Remove this checkpoint's folder; the run then continues from the one before, or starts anew."

T = TypeVar("T")


class TensorPiece(NamedTuple):
    """Consecutive rows of a tensor in one file."""

    file: str
    first: int
    number: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint."""

    dtype: str
    """type's name in the safetensors format: F32, I64, ..."""
    shape: tuple[int, ...]
    """shape of the whole tensor"""
    pieces: tuple[TensorPiece, ...]
    """in the order of rows; all of them, none twice"""


@dataclass(frozen=True)
class CheckpointManifest:
    """The contents of state.json."""

    step: int
    state: dict[str, Any]
    """the caller's own"""
    torch: str
    vocabulary: str
    """fingerprint"""
    files: dict[str, Written]
    tensors: dict[str, dict[str, StoredTensor]]

    def to_json(self) -> bytes:
        """The bytes of state.json."""
        body: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "step": self.step,
            "state": self.state,
            "torch": self.torch,
            "vocabulary": self.vocabulary,
            "files": {name: written._asdict() for name, written in sorted(self.files.items())},
            "tensors": {
                file: {name: vars(stored) for name, stored in tensors.items()} for file, tensors in self.tensors.items()
            },
        }
        return json.dumps(sealed(body), allow_nan=False).encode()


def read_manifest(folder: Path) -> CheckpointManifest:
    """Read the manifest of a checkpoint's folder, and no other file.

    Raises FormatError if it is missing, of another version, altered, or says what no writer here writes.
    """
    path = folder / STATE
    if not path.is_file():
        raise broken(path, "no such file")
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise broken(path, f"{size:,} bytes, more than any state has")
        body = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
        if not isinstance(body, dict):
            raise broken(path, "JSON that is not an object")
        _check_version(path, body.get("version"))
        if body.get(SEAL) != digest_of(body):
            raise broken(path, "a state that was altered")
        return _manifest_of(body)
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path, f"no readable state ({error or type(error).__name__})") from error


def broken(path: Path, found: str) -> FormatError:
    """The error for a checkpoint that is not whole."""
    return FormatError(
        path,
        found=found,
        wanted=f"a whole checkpoint of format version {FORMAT_VERSION}",
        remedy=REMOVE,
    )


def _check_version(path: Path, version: object) -> None:
    if version == FORMAT_VERSION and type(version) is int:
        return
    if type(version) is not int:
        raise broken(path, "no readable state (no format version)")
    if version > FORMAT_VERSION:
        raise broken(path, f"format version {version}, written by a newer release")
    raise FormatError(
        path,
        found=f"format version {version}, written by an older release",
        wanted=f"format version {FORMAT_VERSION}",
        remedy="Finish that run with the release it was started with, or start a new one in another --out.",
    )


def _manifest_of(body: dict[str, Any]) -> CheckpointManifest:
    """Build a manifest from JSON. Raises ValueError for what no writer here writes."""
    files = {name: _written_of(name, _typed(entry, dict, name)) for name, entry in _field(body, "files", dict).items()}
    step = _field(body, "step", int)
    if step < 0:
        raise ValueError(f"step {step}")
    return CheckpointManifest(
        step=step,
        state=_field(body, "state", dict),
        torch=_field(body, "torch", str),
        vocabulary=_field(body, "vocabulary", str),
        files=files,
        tensors={
            file: {name: _stored_of(name, _typed(entry, dict, name), files) for name, entry in tensors.items()}
            for file, tensors in _field(body, "tensors", dict).items()
            if _typed(tensors, dict, file) is not None
        },
    )


def _written_of(name: str, entry: dict[str, Any]) -> Written:
    # A name with a separator would reach outside of the folder.
    if not FILE_NAME.fullmatch(name) or name == STATE:
        raise ValueError(f"a file named {name[:80]!r}")
    written = Written(_field(entry, "size", int), _field(entry, "sha256", str))
    if written.size < 0:
        raise ValueError(f"{name} of {written.size} bytes")
    return written


def _stored_of(name: str, entry: dict[str, Any], files: dict[str, Written]) -> StoredTensor:
    dtype, shape = _field(entry, "dtype", str), tuple(_field(entry, "shape", list))
    if dtype not in DTYPES or any(type(size) is not int or not 0 <= size < 1 << 48 for size in shape):
        raise ValueError(f"{name} of type {dtype[:20]!r} and shape {list(shape[:20])}")
    pieces, end = [], 0
    for piece in _field(entry, "pieces", list):
        if not isinstance(piece, list) or [type(part) for part in piece] != [str, int, int]:
            raise ValueError(f"{name} with a piece that is not [file, first, number]")
        made = TensorPiece(*piece)
        if made.file not in files or made.first != end or made.number < 0:
            raise ValueError(
                f"{name} with a piece of {made.number} rows from row {made.first} on in {made.file!r}, after {end} rows"
            )
        pieces.append(made)
        end += made.number
    if end != rows_in(shape):
        raise ValueError(f"{name} with {end} of {rows_in(shape)} rows")
    return StoredTensor(dtype, shape, tuple(pieces))


def _field(body: dict[str, Any], name: str, kind: type[T]) -> T:
    if name not in body:
        raise ValueError(f"no {name!r}")
    return _typed(body[name], kind, name)


def _typed(value: object, kind: type[T], name: str) -> T:
    # Not isinstance: True is an int.
    if type(value) is not kind:
        raise ValueError(f"{name[:80]!r} is {type(value).__name__}, not {kind.__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is not JSON")


POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RankManifest:
    """Files that one rank wrote."""

    files: dict[str, Written]
    pieces: dict[str, dict[str, TensorPiece]]
    """map of tensors ("model") -> name of a tensor -> its rows"""


def write_rank_manifest(work: Path, rank: int, manifest: RankManifest) -> None:
    """Write the manifest of this rank, once its files are on the disk."""
    body = {"files": {name: written._asdict() for name, written in manifest.files.items()}, "pieces": manifest.pieces}
    hidden = work / f".{_manifest_name(rank)}"
    write_file(hidden, [to_sealed_json(body).encode()])
    hidden.rename(work / _manifest_name(rank))


def leave_failure(work: Path, rank: int) -> None:
    """Tell the main rank not to wait for the files of this rank."""
    with contextlib.suppress(
        OSError
    ):  # a failed disk may take no new name either; then the wait of the main rank runs out
        (work / _failure_name(rank)).touch()


def collect_rank_manifests(work: Path, world: int, *, given_up: Callable[[], bool]) -> list[RankManifest]:
    """Take the manifests of all ranks but the main one out of the folder, in the order of the ranks.

    Raises FormatError with the numbers of the ranks that failed, or that wrote no manifest until `given_up`.
    """
    manifests: dict[int, RankManifest] = {}
    while len(manifests) < world - 1:
        silent = [rank for rank in range(1, world) if rank not in manifests]
        failed = [rank for rank in silent if (work / _failure_name(rank)).exists()]
        if failed:
            raise _incomplete(work, f"files that {_ranks(failed)} could not write")
        ready = [rank for rank in silent if (work / _manifest_name(rank)).exists()]
        if not ready and given_up():
            raise _incomplete(work, f"no manifest from {_ranks(silent)}")
        for rank in ready:
            manifests[rank] = _take(work, rank)
        if not ready:
            time.sleep(POLL_SECONDS)
    return [manifests[rank] for rank in sorted(manifests)]


def await_commit(work: Path, folder: Path, *, given_up: Callable[[], bool]) -> None:
    """Wait until the main rank has given the folder its name; for the other ranks.

    Raises FormatError if the main rank removed the folder instead, or did neither until `given_up`.
    """
    while work.exists():
        if given_up():
            raise _incomplete(folder, "no answer from the main rank")
        time.sleep(POLL_SECONDS)
    if not folder.exists():
        raise _incomplete(folder, "a checkpoint that the main rank gave up")


def _take(work: Path, rank: int) -> RankManifest:
    path = work / _manifest_name(rank)
    try:
        body = from_sealed_json(path, path.read_bytes())
        files = {name: Written(**entry) for name, entry in body["files"].items()}
        pieces = {
            file: {name: TensorPiece(*piece) for name, piece in tensors.items()}
            for file, tensors in body["pieces"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _incomplete(path, f"no readable manifest ({error})") from error
    path.unlink()
    for name, written in files.items():
        if (size := (work / name).stat().st_size) != written.size:
            raise _incomplete(work / name, f"{size:,} bytes of {written.size:,} that rank {rank} wrote")
    return RankManifest(files, pieces)


def _manifest_name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _failure_name(rank: int) -> str:
    return f"rank-{rank:05d}.failed"


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(str(rank) for rank in ranks[:20]) + (", ..." if len(ranks) > 20 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}"


def _incomplete(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="the files of all ranks, in one folder of a file system that they share",
        remedy="Read the messages of those ranks. The same command continues from the previous checkpoint.",
    )
