"""Tables of tars, made once per machine and kept in a cache folder that bounds itself.

In: a tar, its labels, a vocabulary. Out: its `TarTable`, which all processes that read the tar map from the folder.

    CACHE/tar-tables.txt    says whose folder this is; without it nothing in it is ever removed
    CACHE/HASH.tar-table    a table as `write_table` writes it; HASH is of all that it depends on
    CACHE/HH.lock           held by whoever makes a table whose hash begins so; the system frees it when a process dies
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainer.data import open_files
from trainer.data.tar_index import no_readable_tar
from trainer.data.tar_places import without_secrets
from trainer.data.tar_table import FORMAT_VERSION, TarTable, make_table, read_table, write_table
from vocab.errors import InputError
from vocab.store.files import write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.locks import lock
from vocab.vocabulary import Vocabulary

_SUFFIX = ".tar-table"
_OURS = re.compile(rf"[0-9a-f]{{32}}{re.escape(_SUFFIX)}")
_UNFINISHED = re.compile(rf"\.{_OURS.pattern}\.[0-9a-f]+\.tmp")
_UNFINISHED_SECONDS = 3600
_MARKER = "tar-tables.txt"
_MARK = b"The trainer keeps here what it found in image tars. It may be removed while no run reads from it.\n"
# Removed down to this share, so that it is not every table made from then on that removes one.
_KEPT_SHARE = 0.9


class TarTables:
    """The tables of a machine's tars, in a folder that all of its processes use.

    `max_bytes` bounds the folder: those least recently used are removed. `max_held_samples` bounds what one process
    keeps open. Pickled, it is without what it holds open. Not for several threads at once.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 30, *, max_held_samples: int = 1 << 20) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_held_samples = max_held_samples
        self._held: OrderedDict[str, TarTable] = OrderedDict()
        self._held_samples = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": OrderedDict(), "_held_samples": 0}

    def get(
        self,
        path: Path,
        *,
        place: str,
        shard: str,
        labels: LabelShards,
        vocabulary: Vocabulary,
        max_member_bytes: int,
    ) -> TarTable:
        """The table of a tar, as `make_table` makes it; of many processes that ask at once one makes it.

        `path`: the local file. `place`: where it comes from, which may be a URL; the table is another one when the
        place, the file's size or time of change, the labels or the vocabulary are. Raises as `make_table`, and
        InputError if the folder cannot be written.
        """
        name = _name_of(path, place, shard, labels, vocabulary, max_member_bytes)
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        file = self.folder / f"{name}{_SUFFIX}"
        table = self._map(file)
        if table is None:
            # The one that made it keeps it in its own memory; it maps it when it asks for it again.
            with self._lock(name[:2]):
                # Whoever held the lock before may have made it.
                table = self._map(file)
                if table is None:
                    table = make_table(
                        path,
                        shard=shard,
                        labels=labels,
                        vocabulary=vocabulary,
                        max_member_bytes=max_member_bytes,
                        place=without_secrets(place),
                    )
                    with self._named_refusals():
                        write_table(file, table)
            self._remove_old(file)
        self._hold(name, table)
        return table

    def _map(self, file: Path) -> TarTable | None:
        """The table in a file. None if there is none, or one that is damaged."""
        with self._named_refusals():
            table = read_table(file)
        if table is not None:
            # The time of change says when it was last used. Who may only read the folder cannot keep tables from
            # being removed, and need not.
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
        """Remove the tables least recently used, if they are too many, and what makers that were killed left behind."""
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
        # One for the table itself: those without samples are not free either.
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
                wanted=f"one to write in, with room for {self.max_bytes:,} bytes",
                remedy=open_files.remedy_of(error, "Name another one on a local disk with --cache, or make room."),
            ) from error


def _name_of(
    path: Path, place: str, shard: str, labels: LabelShards, vocabulary: Vocabulary, max_member_bytes: int
) -> str:
    """A hash of everything that a table depends on."""
    try:
        found = path.stat()
    except OSError as error:
        raise no_readable_tar(without_secrets(place), error) from error
    tar = [place, found.st_size, found.st_mtime_ns, shard, max_member_bytes]
    whole = [FORMAT_VERSION, *tar, labels.rows_sha256, vocabulary.fingerprint]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]
