"""Tables of tars: which samples can be trained on, where their images lie and which classes they have.

A table is made from the headers of a tar, its labels and a vocabulary, once per machine. It is kept in a cache folder
that bounds itself; all processes that read the tar map it from there.

    CACHE/tar-tables.txt    marks the folder; without it nothing in the folder is ever removed
    CACHE/HASH.tar-table    a table: an Arrow IPC file of one row, `SCHEMA`, and 4 bytes of CRC-32; HASH covers all that
                            the table depends on
    CACHE/HH.lock           held by the process that makes a table whose hash begins with HH
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64

from trainer.data import open_files
from trainer.data.labels import join
from trainer.data.tar_index import FAULTS, TRUNCATED_TAR, NoTarError, index_tar, no_readable_tar
from trainer.data.tar_locations import shown_tar
from vocab.errors import InputError
from vocab.store.files import write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.locks import lock
from vocab.vocabulary import Vocabulary

# Increases whenever the same tar and labels give another table.
FORMAT_VERSION = 4
UNREADABLE_TAR = "unreadable_tar"
ACCOUNT = ("samples", "bad", "unmatched", "surplus_labels", "unlabelled")
SCHEMA = pa.schema(
    [
        ("keys", pa.list_(pa.string())),
        ("indices", pa.list_(pa.int32())),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int64())),
        ("class_ends", pa.list_(pa.int64())),
        ("classes", pa.list_(pa.int32())),
        ("fault_keys", pa.list_(pa.string())),
        ("fault_reasons", pa.list_(pa.string())),
        ("account", pa.list_(pa.int64())),
    ]
)

_CRC_BYTES = 4


@dataclass(frozen=True, eq=False)
class TarTable:
    """The samples of a tar that can be trained on: with an image, as far as headers show, and a row in the labels."""

    key_array: pa.StringArray
    """[samples]"""
    indices: Int32[np.ndarray, " samples"]
    """index of the sample in its tar, among all samples"""
    offsets: Int64[np.ndarray, " samples"]
    """where the image begins in the file"""
    sizes: Int64[np.ndarray, " samples"]
    """bytes of the image"""
    class_ends: Int64[np.ndarray, " samples_plus_1"]
    """classes[class_ends[i] : class_ends[i + 1]] are those of sample i, ascending"""
    classes: Int64[np.ndarray, " positives"]
    faults: list[tuple[str, str]]
    """key and reason of each sample that cannot be used, in the tar's order"""
    account: dict[str, int]
    """counts. samples: all of the tar; bad: samples with a fault; unmatched: other samples without a row;
    surplus_labels: rows whose sample the tar lacks; unlabelled: usable samples without a class of the vocabulary. If
    the tar breaks off, rows without a sample count as samples behind the break, and as bad"""

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def keys(self) -> list[str]:
        """Keys of the samples, decoded when first asked for."""
        decoded: list[str] = self.key_array.to_pylist()
        return decoded


@dataclass(frozen=True)
class TableInputs:
    """All that a table is made from, beside the tar's file."""

    location: str
    """origin of the tar, which may be a URL"""
    shard: str
    labels: LabelShards
    vocabulary: Vocabulary
    max_member_bytes: int


def make_table(path: Path, of: TableInputs) -> TarTable:
    """Make the table of a tar. The table of a file that is not a tar has no samples, and all its labels count as bad.

    `path`: the local file. Raises InputError for a tar that is missing or cannot be read, FormatError for labels that
    cannot be read.
    """
    try:
        index = index_tar(path, max_member_bytes=of.max_member_bytes, location=shown_tar(of.location))
    except NoTarError:
        return _unreadable(len(of.labels.read_shard(of.shard)))
    joined = join(of.labels, of.vocabulary, shard=of.shard, keys=index.keys)
    bad = index.faults > 0
    usable = ~bad & joined.matched
    (kept,) = np.nonzero(usable)
    lengths = np.diff(joined.ends)
    broken = len(index) > 0 and bool(index.faults[-1] == TRUNCATED_TAR)
    lost = joined.surplus if broken else 0
    return TarTable(
        key_array=pa.array(index.keys, pa.string()).take(pa.array(kept)),
        indices=kept.astype(np.int32),
        offsets=index.offsets[kept],
        sizes=index.sizes[kept],
        class_ends=np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
        classes=joined.classes[np.repeat(usable, lengths)].astype(np.int64),
        faults=[(index.keys[row], FAULTS[index.faults[row]]) for row in np.nonzero(bad)[0].tolist()],
        account={
            "samples": len(index) + lost,
            "bad": int(bad.sum()) + lost,
            "unmatched": int((~bad & ~joined.matched).sum()),
            "surplus_labels": joined.surplus - lost,
            "unlabelled": int((lengths[kept] == 0).sum()),
        },
    )


def _unreadable(rows: int) -> TarTable:
    """The table of a file that is not a tar. Its samples are unknown; the labels' rows say how many were lost."""
    none = np.zeros(0, np.int64)
    return TarTable(
        key_array=pa.array([], pa.string()),
        indices=none.astype(np.int32),
        offsets=none,
        sizes=none,
        class_ends=np.zeros(1, np.int64),
        classes=none,
        faults=[("", UNREADABLE_TAR)],
        account=dict.fromkeys(ACCOUNT, 0) | {"samples": max(1, rows), "bad": max(1, rows)},
    )


def write_table(file: Path, table: TarTable) -> None:
    """Write a table whole or not at all, its CRC-32 last. Raises OSError if it cannot be written."""
    columns = {
        "keys": table.key_array,
        **{name: getattr(table, name) for name in ("indices", "offsets", "sizes", "class_ends", "classes")},
        "fault_keys": [key for key, _ in table.faults],
        "fault_reasons": [reason for _, reason in table.faults],
        "account": [table.account[name] for name in ACCOUNT],
    }
    lists = []
    for column in SCHEMA:
        values = pa.array(columns[column.name], column.type.value_type)
        lists.append(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(lists, schema=SCHEMA))
    content = sink.getvalue()
    with write_whole(file) as stream:
        stream.write(content)
        stream.write(zlib.crc32(content).to_bytes(_CRC_BYTES, "little"))


def read_table(file: Path) -> TarTable | None:
    """Map a table into memory. None if there is no such file, or its checksum is wrong.

    Raises OSError for a file that cannot be read.
    """
    try:
        with pa.memory_map(str(file)) as mapped:
            content = mapped.read_buffer()
    except (FileNotFoundError, pa.ArrowInvalid):
        # Arrow does not map an empty file.
        return None
    body, crc = content[: max(0, len(content) - _CRC_BYTES)], content[max(0, len(content) - _CRC_BYTES) :]
    # This also finds a file cut short: its last bytes are not the checksum of the others.
    if len(body) == 0 or zlib.crc32(body) != int.from_bytes(crc.to_pybytes(), "little"):
        return None
    row = pa.ipc.open_file(body).get_batch(0)
    values = {name: row.column(name).values for name in SCHEMA.names}
    arrays = {name: values[name].to_numpy() for name in ("indices", "offsets", "sizes", "class_ends")}
    return TarTable(
        key_array=values["keys"],
        **arrays,
        classes=values["classes"].to_numpy().astype(np.int64),
        faults=list(zip(values["fault_keys"].to_pylist(), values["fault_reasons"].to_pylist(), strict=True)),
        account=dict(zip(ACCOUNT, values["account"].to_pylist(), strict=True)),
    )


_SUFFIX = ".tar-table"
_OURS = re.compile(rf"[0-9a-f]{{32}}{re.escape(_SUFFIX)}")
_UNFINISHED = re.compile(rf"\.{_OURS.pattern}\.[0-9a-f]+\.tmp")
_UNFINISHED_SECONDS = 3600
_MARKER = "tar-tables.txt"
_MARK = b"The trainer keeps here what it found in image tars. It may be removed while no run reads from it.\n"
# Tables are removed down to this share, so that not every further table removes one.
_KEPT_SHARE = 0.9


class TarTables:
    """The tables of a machine's tars, in a folder that all of its processes use.

    `max_bytes` bounds the folder: the tables least recently used are removed. `max_held_samples` bounds the tables that
    one process keeps open. A pickled object keeps none open. Not for several threads at once.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 30, *, max_held_samples: int = 1 << 20) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_held_samples = max_held_samples
        self._held: OrderedDict[str, TarTable] = OrderedDict()
        self._held_samples = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": OrderedDict(), "_held_samples": 0}

    def get(self, path: Path, of: TableInputs) -> TarTable:
        """The table of a tar, as `make_table` makes it; of many processes that ask at once, one makes it.

        The table depends on the location, the size and time of change of the file, the labels and the vocabulary.
        Raises as `make_table`, and InputError if the folder cannot be written.
        """
        name = _name_of(path, of)
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        file = self.folder / f"{name}{_SUFFIX}"
        table = self._map(file)
        if table is None:
            # The process that makes a table keeps it in its own memory, and maps it when it asks again.
            with self._lock(name[:2]):
                # The process that held the lock before may have made it.
                table = self._map(file)
                if table is None:
                    table = make_table(path, of)
                    with self._named_refusals():
                        write_table(file, table)
            self._remove_old(file)
        self._hold(name, table)
        return table

    def _map(self, file: Path) -> TarTable | None:
        """The table in a file. None if there is no file, or a damaged one."""
        with self._named_refusals():
            table = read_table(file)
        if table is not None:
            # The time of change says when it was last used. A user who may only read the folder cannot set it, and so
            # cannot keep tables from being removed.
            with suppress(OSError):
                os.utime(file)
        return table

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with self._named_refusals():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / _MARKER).exists():
                with write_whole(self.folder / _MARKER) as marker:
                    marker.write(_MARK)
            file = (self.folder / f"{name}.lock").open("ab")
        with file:
            with self._named_refusals():
                # Without locks each process makes the table, and the last one's stays.
                lock(file, wait=True)
            yield

    def _remove_old(self, kept: Path) -> None:
        """Remove the tables least recently used, if they are too many, and unfinished files of killed processes."""
        if not (self.folder / _MARKER).exists():
            return
        tables: list[tuple[float, int, Path]] = []
        with self._named_refusals(), os.scandir(self.folder) as entries:
            for entry in entries:
                unfinished = _UNFINISHED.fullmatch(entry.name) is not None
                if not unfinished and _OURS.fullmatch(entry.name) is None:
                    continue
                # Another process may be removing the same ones.
                with suppress(FileNotFoundError):
                    found = entry.stat()
                    if not unfinished:
                        tables.append((found.st_mtime, found.st_size, Path(entry.path)))
                    elif found.st_mtime < time.time() - _UNFINISHED_SECONDS:
                        Path(entry.path).unlink()
        total = sum(size for _, size, _ in tables)
        if total <= self.max_bytes:
            return
        for _, size, file in sorted(tables):
            if total <= _KEPT_SHARE * self.max_bytes:
                break
            if file != kept:
                with self._named_refusals():
                    file.unlink(missing_ok=True)
                total -= size

    def _hold(self, name: str, table: TarTable) -> None:
        self._held[name] = table
        # One for the table itself: a table without samples is not free either.
        self._held_samples += 1 + len(table)
        while self._held_samples > self.max_held_samples and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._held_samples -= 1 + len(dropped)

    @contextmanager
    def _named_refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                self.folder,
                found=f"a folder that cannot be used ({error})",
                wanted=f"a folder to write in, with room for {self.max_bytes:,} bytes",
                remedy=open_files.remedy_of(error, "Name another one on a local disk with --cache, or make room."),
            ) from error


def _name_of(path: Path, of: TableInputs) -> str:
    """A hash of everything that a table depends on."""
    try:
        found = path.stat()
    except OSError as error:
        raise no_readable_tar(shown_tar(of.location), error) from error
    tar = [of.location, found.st_size, found.st_mtime_ns, of.shard, of.max_member_bytes]
    whole = [FORMAT_VERSION, *tar, of.labels.rows_sha256, of.vocabulary.fingerprint]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]
