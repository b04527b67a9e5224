"""How a safetensors file begins: what tensors are in it, and where.

In: names, types, shapes and places of tensors. Out: the bytes before the first of them.

The package safetensors writes whole files that are in memory twice, or to names of its own; what is written here from
buffers, piece by piece, needs the header alone. It is read by the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

METADATA = "__metadata__"
"""name of the header's entry for metadata: texts by name, no tensor"""


class ByteRange(NamedTuple):
    """A tensor of a file."""

    dtype: str
    """as the format writes it: F32, I64, ..."""
    shape: Sequence[int]
    start: int
    """of its bytes, after the header"""
    end: int


def header_of(tensors: Mapping[str, ByteRange], metadata: Mapping[str, str]) -> bytes:
    """The header of these tensors."""
    entries: dict[str, object] = {METADATA: dict(metadata)}
    for name, (dtype, shape, start, end) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return header_text(entries)


def header_text(entries: Mapping[str, object]) -> bytes:
    """The length of a header in 8 bytes, and the header, padded to a multiple of 8."""
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
