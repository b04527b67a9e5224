"""Safetensors files: the header of a file, and a seal in its metadata, the sha256 of everything else in the file.

The package safetensors writes whole files that are in memory twice, or to names of its own; a file that is written from
buffers, piece by piece, needs the header alone. The package reads both. A seal travels with its file; checkpoints need
none, because their manifest has the checksums of their files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from safetensors.torch import save as serialize
from torch import Tensor

from vocab.store.files import HASH_BLOCK

METADATA = "__metadata__"
"""name of the header's entry for metadata: texts by name, not a tensor"""


class ByteRange(NamedTuple):
    """A tensor of a file."""

    dtype: str
    """type's name in the format: F32, I64, ..."""
    shape: Sequence[int]
    start: int
    """first of the tensor's bytes, counted from the end of the header"""
    end: int


def header_of(tensors: Mapping[str, ByteRange], metadata: Mapping[str, str]) -> bytes:
    """The header of a file with these tensors, its length included."""
    entries: dict[str, object] = {METADATA: dict(metadata)}
    for name, (dtype, shape, start, end) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return header_text(entries)


def header_text(entries: Mapping[str, object]) -> bytes:
    """A header, padded to a multiple of 8 bytes, behind its length in 8 bytes."""
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


SEAL = "sha256"
VOCABULARY = "vocabulary"
"""name, in the metadata of a classifier's weights, of the fingerprint of its classes"""
LENGTH_BYTES = 8


def sealed_file(tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> list[bytes | memoryview]:
    """A file of weights as timm writes it, with a seal, in blocks to be written one after another.

    `about`: further metadata.
    """
    metadata = {"format": "pt", **(about or {})}
    content = serialize({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    body = memoryview(content)[start:]
    return [sealed_header(content[:start], [body]), body]


def sealed_header(header: bytes, body: Sequence[bytes | memoryview]) -> bytes:
    """The header of a file, its length included, with the seal of header and body in its metadata."""
    entries: dict[str, Any] = json.loads(header[LENGTH_BYTES:])
    digest = _digest(entries, body)
    return header_text({**entries, METADATA: {**entries.get(METADATA, {}), SEAL: digest}})


def is_altered(path: Path) -> bool:
    """Read a file, and tell whether it fails to match its seal.

    False for a file without a seal, of another program, and for a file that is missing or has no readable header, which
    reading its tensors will show. Raises OSError for a file that cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        entries = _entries(file)
        seal = None if entries is None else entries[METADATA].get(SEAL)
        return seal is not None and seal != _digest(entries or {}, iter(lambda: file.read(HASH_BLOCK), b""))


def metadata_of(path: Path) -> Mapping[str, Any]:
    """Metadata of a safetensors file; empty for a file without a readable header."""
    with path.open("rb") as file:
        entries = _entries(file)
    return {} if entries is None else dict(entries[METADATA])


def _entries(file: BinaryIO) -> dict[str, Any] | None:
    """Read the header of an open file, with an entry for its metadata; None if there is no readable header."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > os.fstat(file.fileno()).st_size:
        return None
    try:
        entries = json.loads(file.read(length))
        return {**entries, METADATA: dict(entries.get(METADATA, {}))}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _digest(entries: Mapping[str, Any], body: Iterable[bytes | memoryview]) -> str:
    """sha256 of a header without its seal, and of the bytes behind it."""
    metadata = {name: value for name, value in entries.get(METADATA, {}).items() if name != SEAL}
    digest = hashlib.sha256(json.dumps({**entries, METADATA: metadata}, sort_keys=True).encode())
    for block in body:
        digest.update(block)
    return digest.hexdigest()
