"""The manifest of a checkpoint, `state.json`: where it stands, which rows lie in which file, and every checksum.

In: what a writer knows, or the bytes of a file that anyone may have written. Out: the other.

    {"version": 2, "step": 1000, "state": {...}, "torch": "2.14.1", "vocabulary": "9f86d0...",
     "files": {"model-00001-of-00002.safetensors": {"size": 1264, "sha256": "..."}, "config.json": {...}},
     "tensors": {"model": {"head.weight": {"dtype": "F32", "shape": [7, 8],
                 "pieces": [["model-00001-of-00002.safetensors", 0, 4], ["model-00002-of-00002.safetensors", 4, 3]]}}},
     "own_sha256": "..."}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from trainer.checkpoints.disk import Written
from trainer.checkpoints.pieces import DTYPES, rows_in
from vocab.errors import FormatError
from vocab.store.sealing import SEAL, digest_of, sealed

FORMAT_VERSION = 2
STATE = "state.json"
LARGEST = 1 << 26
"""bytes of a state.json that are read at most: a thousand ranks and a thousand tensors need half of it"""
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
    """as safetensors writes it"""
    shape: tuple[int, ...]
    """of the whole tensor"""
    pieces: tuple[TensorPiece, ...]
    """in the order of rows; all of them, none twice"""


@dataclass(frozen=True)
class CheckpointManifest:
    """What state.json says."""

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
    """The manifest of a checkpoint's folder; no other file is looked at.

    Raises FormatError if there is none, if it is of another version, was altered, or says what no writer of ours says.
    """
    path = folder / STATE
    if not path.is_file():
        raise broken(path, "no such file")
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise broken(path, f"{size:,} bytes, more than any state has")
        body = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
        if not isinstance(body, dict):
            raise broken(path, "JSON that is no object")
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
    """Raises ValueError for what no writer of ours says."""
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
            raise ValueError(f"{name} with a piece {made}, after {end} rows")
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
    # Not isinstance: true is an int.
    if type(value) is not kind:
        raise ValueError(f"{name[:80]!r} is {type(value).__name__}, not {kind.__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON")
