"""Tables as one file: a zip of arrays with a header; equal tables give equal bytes on any day and machine.

Arrays and string arrays have names. No pickle is written or read.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vocab.errors import FormatError
from vocab.word_table import bytes_of

TEXT = ".text"
"""suffix of the names of string arrays, which are stored as newline-joined bytes"""


DAMAGED = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""errors of zipfile, its decompressor and numpy for a damaged archive"""


@dataclass(frozen=True)
class Kind:
    """One kind of packed file."""

    file: str
    """file name in vocab/data"""
    version: int
    holds: str
    """for error messages: "the packed nouns of WordNet 3.0" """
    made_by: str
    """command that writes the file"""


def pack(kind: Kind, tables: Mapping[str, NDArray[np.generic] | pa.StringArray], about: Mapping[str, str]) -> bytes:
    """Make the file's bytes. `about`, stored beside the tables, names their sources and licence."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, table in tables.items():
        if isinstance(table, np.ndarray):
            arrays[name] = table
        else:
            arrays[name + TEXT] = np.frombuffer("\n".join(table.to_pylist()).encode(), dtype=np.uint8)
    header = {"version": kind.version, "about": dict(about)}
    arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(member, content.getvalue(), compresslevel=9)
    return buffer.getvalue()


def unpack(kind: Kind, content: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Inverse of `pack`: tables by name, each an array or a string array, and `about`.

    Raises FormatError for bytes that are not such a file, or another version of it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Whole members: their checksums are compared when the last byte was read, before numpy looks at any.
            members = {member.removesuffix(".npy"): io.BytesIO(archive.read(member)) for member in archive.namelist()}
        arrays = {name: np.lib.format.read_array(member, allow_pickle=False) for name, member in members.items()}
        header = json.loads(arrays.pop("header").tobytes())
    except DAMAGED as error:
        raise FormatError(
            kind.file,
            found=f"unreadable ({error})",
            wanted="an archive of arrays",
            remedy="Install the project again.",
        ) from error
    if header.get("version") != kind.version:
        raise FormatError(
            kind.file,
            found=f"version {header.get('version')}",
            wanted=f"version {kind.version}",
            remedy="Install the version of the project that wrote it.",
        )
    tables = {
        name.removesuffix(TEXT): strings_of(array) if name.endswith(TEXT) else array for name, array in arrays.items()
    }
    return tables, header["about"]


def read(kind: Kind) -> bytes:
    """Read the file that comes with the package, from a folder or from the zip that Spark ships.

    Raises FormatError if it is missing.
    """
    packed = resources.files("vocab").joinpath("data", kind.file)
    if not packed.is_file():
        raise FormatError(
            kind.file,
            found="no such file in vocab/data",
            wanted=kind.holds,
            remedy=f"Install the project again, or run: {kind.made_by}",
        )
    return packed.read_bytes()


def strings_of(joined: NDArray[np.uint8]) -> pa.StringArray:
    """Make a string array over newline-joined text; the text is used in place once the newlines are removed."""
    breaks = np.flatnonzero(joined == ord("\n"))
    ends = np.append(breaks, len(joined)) - np.arange(len(breaks) + 1)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    text = joined[joined != ord("\n")]
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(text))


def ascii_list(array: pa.StringArray) -> list[str]:
    """`array.to_pylist()` for an array of plain ASCII without nulls, several times as fast."""
    text, edges = bytes_of(array)
    whole = text.tobytes().decode("ascii")
    return [whole[a:b] for a, b in pairwise(edges.tolist())]
