"""Files of features: each appears whole, and temporary files of killed writers are removed.

Other processes and hosts may use the folder too.

    features-9f2c....safetensors                  values   float32 [images, width]
                                                  rows     int64 [images], numbers of the images, ascending
                                                  "key"    metadata: all that the features depend on
    .features-9f2c....safetensors.HOST.TOKEN.tmp  a file being written, locked by its writer
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float32, Int64
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.checkpoints.safetensors_files import ByteRange, header_of, is_altered, sealed_header
from vocab.errors import InputError
from vocab.pages.text import tell
from vocab.store.files import flush, named
from vocab.store.locks import ABANDONED_SECONDS, host, lock

KEY = "key"
UNFINISHED = re.compile(r"\.features-[0-9a-f]{32}\.safetensors\.(?:(?P<host>[A-Za-z0-9-]+)\.)?[0-9a-f]{8}\.tmp")
"""without a host: of an earlier release"""


@dataclass(frozen=True, eq=False)
class Stored:
    """Content of a file of features."""

    values: Float32[Tensor, "rows width"]
    rows: Int64[np.ndarray, " rows"]


def read(path: Path, key: str, *, width: int) -> Stored | None:
    """Read a file; None if there is none, and with a message if it is broken, altered or of another key.

    The numbers are read once, for their checksum; they are then mapped into memory.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get(KEY)
            values, rows = file.get_tensor("values"), file.get_tensor("rows")
        altered = is_altered(path)
    except (SafetensorError, OSError) as error:
        _refuse(path, f"cannot be read ({error})")
        return None
    if altered or found != key:
        _refuse(path, "does not match its checksum" if altered else "holds features of something else")
        return None
    sound = values.dtype == torch.float32 and rows.dtype == torch.int64 and values.shape == (rows.numel(), width)
    if not sound or rows.ndim != 1 or not bool((rows.diff() > 0).all()):
        _refuse(path, f"holds {values.dtype} {tuple(values.shape)} for images {tuple(rows.shape)}")
        return None
    return Stored(values, rows.numpy())


def write(path: Path, stored: Stored, key: str) -> None:
    """Write the file, whole or not at all. Of two processes that write it, the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        work = path.with_name(f".{path.name}.{host()}.{secrets.token_hex(4)}.tmp")
        with named(path), work.open("xb") as file:
            try:
                lock(file, wait=True)
                # Another process may have removed it as abandoned before it was locked.
                if not work.exists():
                    continue
                _write_tensors(file, stored, key)
                file.flush()
                os.fsync(file.fileno())
                work.replace(path)
                flush(path.parent)
                return
            finally:
                work.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of killed writers from a folder, and none of a living writer.

    The system frees a dead writer's lock. This host is sure of its own locks, so files of its own dead writers go at
    once. Locks of other hosts may be unknown here, as on Lustre with `localflock`, and some file systems have no
    locks: such files go after a day without a write.
    """
    for path in sorted(folder.glob(".features-*.tmp")):
        match = UNFINISHED.fullmatch(path.name)
        if match is None:
            continue
        # Its writer may just have finished; another user's file is theirs to remove.
        with suppress(FileNotFoundError, PermissionError), path.open("r+b") as file:
            if _is_abandoned(file, own=match["host"] == host()):
                path.unlink()


def check_room(path: Path, *, rows: int, width: int) -> None:
    """Raise InputError if the disk has no room for the features of `rows` images."""
    needed = rows * (4 * width + 8)
    existing = next(above for above in path.absolute().parents if above.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"--features {path.parent}",
            found=f"a file system with {free:,} bytes free",
            wanted=f"{needed:,}: {rows:,} images, {width:,} numbers each",
            remedy="Make room, or choose another folder.",
        )


def _write_tensors(file: BinaryIO, stored: Stored, key: str) -> None:
    """Write a safetensors file, byte for byte as `save_file` of safetensors does.

    `save_file` itself writes to a random name first (`.tmpwTo4X2`), which could not be recognised after a kill.
    """
    rows, values = stored.rows.astype("<i8", copy=False), stored.values.contiguous().numpy().astype("<f4", copy=False)
    ranges = {
        "rows": ByteRange("I64", rows.shape, 0, rows.nbytes),
        "values": ByteRange("F32", values.shape, rows.nbytes, rows.nbytes + values.nbytes),
    }
    body = [array.data.cast("B") if array.size else b"" for array in (rows, values)]
    file.write(sealed_header(header_of(ranges, {KEY: key}), body))
    for part in body:
        file.write(part)


def _is_abandoned(file: BinaryIO, *, own: bool) -> bool:
    try:
        known = lock(file, wait=False)
    except BlockingIOError:
        return False
    return (known and own) or time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED_SECONDS


def _refuse(path: Path, why: str) -> None:
    tell(f"{path} {why}; its features are computed again\n")
