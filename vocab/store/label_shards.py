"""Label shards, format version 1: the one contract between the Spark job and the trainer. FORMAT.md is the users' page.

In and out: a `labels/` directory.

    manifest.json       what this is, what made it, what it was made from, its files and their checksums, its totals
    part-*.parquet      shard: string, key: string, synsets: list<int32> (unique, ascending); sorted by (shard, key);
                        input: string, where rows of several input files may have been joined to one
    counts.parquet      synset: int32, captions: int64; for every synset seen
    rejects.parquet     shard: string, key: string, reason: string; every row that could not be labelled
    lexicon.parquet     word: string, synset: int32; the user's own words, where the job was given some

The manifest is written last. A directory without one is no label directory, whatever else it holds.

Only two modules know the format: this one reads it, `label_writing.py` writes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vocab.errors import FormatError
from vocab.store.files import DAMAGED, SCHEME_PATTERN, filesystem_of, sha256_of
from vocab.store.manifest import MANIFEST, LabelFile, Manifest

COUNTS = "counts.parquet"
REJECTS = "rejects.parquet"
LEXICON = "lexicon.parquet"

SCHEMA = pa.schema([("shard", pa.string()), ("key", pa.string()), ("synsets", pa.list_(pa.int32()))])
INPUT = pa.field("input", pa.string())
"""path of the input file in whose account the row stands; a column of part files that readers do without"""
COUNTS_SCHEMA = pa.schema([("synset", pa.int32()), ("captions", pa.int64())])
REJECTS_SCHEMA = pa.schema([("shard", pa.string()), ("key", pa.string()), ("reason", pa.string())])

# Most parts of a tar's path that can be its shard name: "00000", "emoji/00000", "images/emoji/00000", ...
MAX_SHARD_PARTS = 8


class LabelShards:
    """A finished label directory, open for reading.

    The footers of its files are read once, when first needed; no file stays open. Footers are not pickled.
    """

    def __init__(self, location: str, filesystem: pafs.FileSystem, root: str, manifest: Manifest) -> None:
        self.location = location
        self.manifest = manifest
        self._filesystem = filesystem
        self._root = root
        self._footers: dict[str, Footer] = {}
        self._compared: set[str] = set()
        """names of files whose checksum was found to hold"""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "shard_names"} | {"_footers": {}}

    @classmethod
    def open(cls, directory: str | Path, *, checksums: bool = True) -> LabelShards:
        """Open a label directory and check it against its manifest.

        `checksums` reads every file once; of many processes on one data set only the first needs it. Without it, sizes
        are compared here, and checksums when a file is read from end to end, which `read_shard` does not do. Raises
        FormatError for a missing manifest or file, a changed byte, or a newer format version.
        """
        filesystem, root = filesystem_of(directory)
        location = str(directory)
        try:
            with filesystem.open_input_stream(f"{root}/{MANIFEST}") as stream:
                text = stream.read().decode("utf-8", "replace")
        except FileNotFoundError as error:
            raise FormatError(
                location,
                found=f"no {MANIFEST}",
                wanted="a finished label directory",
                remedy="Make one with: python -m pipeline label. A job that was stopped leaves none: the same command "
                "goes on with it.",
            ) from error
        shards = cls(location, filesystem, root, Manifest.from_json(f"{location}/{MANIFEST}", text))
        for file in shards.manifest.files:
            shards._check(file, checksums=checksums)
        return shards

    def _check(self, file: LabelFile, *, checksums: bool) -> None:
        checksums = checksums and file.path not in self._compared
        check_file(self._filesystem, self._root, file, checksums=checksums)
        if checksums:
            self._compared.add(file.path)

    @property
    def counts_sha256(self) -> str:
        """Checksum of counts.parquet; identifies the corpus that a vocabulary was counted from."""
        return self._named(COUNTS).sha256

    def counts(self) -> pa.Table:
        """counts.parquet: synset: int32, captions: int64."""
        return self._read(self._named(COUNTS))

    def rejects(self) -> pa.Table:
        """rejects.parquet: shard, key, reason."""
        return self._read(self._named(REJECTS))

    def lexicon(self) -> pa.Table | None:
        """lexicon.parquet: word, synset; None for labels that were made without one."""
        file = next((file for file in self.manifest.files if file.path == LEXICON), None)
        return None if file is None else self._read(file)

    @property
    def rejects_name(self) -> str:
        """Name of the file of rejects: rejects.parquet, or rejects-1.parquet after an extension."""
        return self._named(REJECTS).path

    @cached_property
    def rows_sha256(self) -> str:
        """Checksum of the part files' checksums; identifies the rows."""
        return hashlib.sha256("".join(file.sha256 for file in self.manifest.parts).encode()).hexdigest()

    def read_shard(self, shard: str) -> pa.Table:
        """Rows of one shard as key: string, synsets: list<int32>, sorted by key; no rows if the labels lack the shard.

        Opens only files that can hold the shard, and reads only their row groups that can.
        """
        schema = pa.schema([SCHEMA.field("key"), SCHEMA.field("synsets")])
        tables = [
            self._read_groups(file.path, shard, schema)
            for file in self.manifest.parts
            if file.first_shard is not None
            and file.last_shard is not None
            and byte_order(file.first_shard) <= byte_order(shard) <= byte_order(file.last_shard)
        ]
        return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()

    def read_rejects(self, shard: str) -> pa.Table:
        """Rejected rows of one shard as key: string, reason: string; only the row groups that can hold it are read."""
        schema = pa.schema([REJECTS_SCHEMA.field("key"), REJECTS_SCHEMA.field("reason")])
        return self._read_groups(self._named(REJECTS).path, shard, schema).combine_chunks()

    @cached_property
    def shard_names(self) -> frozenset[str]:
        """Names of all shards with a row, from the column `shard` alone.

        Raises FormatError for a part file that cannot be read.
        """
        names: set[str] = set()
        for file in self.manifest.parts:
            if file.first_shard is not None and file.first_shard == file.last_shard:
                names.add(file.first_shard)
            elif file.rows:
                names |= self._names_in(file.path)
        return frozenset(names)

    def _names_in(self, name: str) -> set[str]:
        ranges = self._footer(name).ranges
        names = {held[0].decode() for held in ranges if held is not None and held[0] == held[1]}
        mixed = [group for group, held in enumerate(ranges) if held is None or held[0] != held[1]]
        with self._opened(name, metadata=self._footer(name).metadata, read_dictionary=["shard"]) as parquet:
            for group in mixed:
                names.update(parquet.read_row_group(group, columns=["shard"])["shard"].unique().to_pylist())
        return names

    def find_shard(self, tar_path: str) -> str | None:
        """Shard that labels a tar: the longest end of its path that is one; None if no end is.

        "images/emoji/00000.tar" -> "emoji/00000" if the labels have that shard, else "00000" if they have that. A
        shard that is named by its path counts even if all its rows were rejected: its tar must not get other labels.
        """
        held = self.shard_names
        return next((name for name in possible_shards(tar_path) if name in held or name in self._shards_by_path), None)

    @cached_property
    def _shards_by_path(self) -> frozenset[str]:
        """Shards that the manifest names by paths of input files, with and without each ending of the file's name."""
        config = self.manifest.config
        names = set(config.get("shards", {}).values())
        if (folder := config.get("common_folder")) and not config.get("shard_column"):
            for file in self.manifest.inputs:
                above, _, name = re.sub(SCHEME_PATTERN, "", file.path).removeprefix(folder).rpartition("/")
                endings = name.split(".")
                names.update(f"{above}/{'.'.join(endings[:end])}" for end in range(1, len(endings)) if above)
        return frozenset(names)

    def read_all(self) -> pa.Table:
        """Every row of every part file; for tests and small corpora."""
        tables = [self._read(file).select(SCHEMA.names).cast(SCHEMA) for file in self.manifest.parts]
        return pa.concat_tables([SCHEMA.empty_table(), *tables])

    def _named(self, name: str) -> LabelFile:
        """The manifest's file of that name, or of that name with the number of an extension: counts-2.parquet."""
        stem = name.removesuffix(".parquet")
        return next(file for file in self.manifest.files if re.fullmatch(rf"{stem}(-\d+)?\.parquet", file.path))

    def synset_lists(self) -> Iterator[pa.ListArray]:
        """The synsets of every row, a batch of rows at a time: list<int32>. Memory does not grow with the corpus.

        Raises FormatError for a part file that cannot be read, or that holds a null where the format has a list.
        """
        for file in self.manifest.parts:
            for lists in self._stream(file, "synsets"):
                if lists.null_count or lists.values.null_count:
                    raise self._unreadable(file.path, "nulls in synsets")
                yield lists.cast(SCHEMA.field("synsets").type)

    def reasons(self) -> Iterator[pa.StringArray]:
        """Why rows were rejected, a batch of rows at a time."""
        return self._stream(self._named(REJECTS), "reason")

    def _stream(self, file: LabelFile, column: str) -> Iterator[pa.Array]:
        self._check(file, checksums=True)
        with self._opened(file.path) as parquet:
            for batch in parquet.iter_batches(columns=[column]):
                yield batch.column(column)

    def _footer(self, name: str) -> Footer:
        if name not in self._footers:
            with self._opened(name) as parquet:
                self._footers[name] = Footer.of(parquet.metadata)
        return self._footers[name]

    def _read_groups(self, name: str, shard: str, schema: pa.Schema) -> pa.Table:
        """Rows of one shard in one file, the columns of `schema`."""
        footer = self._footer(name)
        groups = footer.groups_of(shard)
        if not groups:
            return schema.empty_table()
        with self._opened(name, metadata=footer.metadata, pre_buffer=True) as parquet:
            rows = parquet.read_row_groups(groups, columns=["shard", *schema.names])
            return rows.filter(pc.equal(rows["shard"], shard)).select(schema.names).cast(schema)

    def _read(self, file: LabelFile) -> pa.Table:
        self._check(file, checksums=True)
        with self._opened(file.path) as parquet:
            return parquet.read()

    @contextmanager
    def _opened(self, name: str, **options: Any) -> Iterator[pq.ParquetFile]:
        """Open a file of the directory with options of ParquetFile. Raises FormatError where it cannot be read."""
        try:
            with self._filesystem.open_input_file(f"{self._root}/{name}") as file:
                yield pq.ParquetFile(file, **options)
        except DAMAGED as error:
            raise self._unreadable(name, str(error)) from error

    def _unreadable(self, name: str, why: str) -> FormatError:
        return FormatError(
            f"{self.location}/{name}",
            found=f"a file that cannot be read ({why})",
            wanted="the Parquet file named in the manifest",
            remedy="Copy the directory again, or make the labels again.",
        )


def check_file(filesystem: pafs.FileSystem, folder: str, file: LabelFile, *, checksums: bool = True) -> None:
    """Compare a data file with its entry in a manifest. Raises FormatError if it is missing or differs.

    Without `checksums` only sizes are compared.
    """
    path = f"{folder}/{file.path}"
    remedy = "Copy the directory again, or make the labels again."
    info = filesystem.get_file_info(path)
    if info.type != pafs.FileType.File:
        raise FormatError(path, found="no such file", wanted="a file", remedy=remedy)
    if info.size != file.bytes:
        raise FormatError(path, found=f"{info.size:,} bytes", wanted=f"{file.bytes:,} bytes", remedy=remedy)
    if checksums and (found := sha256_of(filesystem, path)) != file.sha256:
        raise FormatError(path, found=f"sha256 {found}", wanted=f"sha256 {file.sha256}", remedy=remedy)


def possible_shards(tar_path: str) -> list[str]:
    """Names that labels may give a tar, in the order to try: ..., "emoji/00000", "00000".

    The stem comes last: beside emoji/00000.tar there may be a 00000.tar in the folder above.
    """
    parts = tar_path.removesuffix(".tar").split("/")
    return ["/".join(parts[-count:]) for count in range(min(len(parts), MAX_SHARD_PARTS), 0, -1)]


@dataclass(frozen=True)
class Footer:
    """Footer of a Parquet file, with the range of shards in each row group."""

    metadata: pq.FileMetaData
    ranges: list[tuple[bytes, bytes] | None]
    """least and greatest shard of each row group, as bytes; None for one without statistics"""

    @classmethod
    def of(cls, metadata: pq.FileMetaData) -> Footer:
        """Make a footer with the ranges from its statistics; a file without a column `shard` has none."""
        held = _shard_statistics(metadata)
        ranges = [(byte_order(s.min), byte_order(s.max)) if s is not None and s.has_min_max else None for s in held]
        return cls(metadata, ranges)

    def groups_of(self, shard: str) -> list[int]:
        """The row groups that can hold a shard."""
        name = byte_order(shard)
        return [group for group, held in enumerate(self.ranges) if held is None or held[0] <= name <= held[1]]


def shard_range(metadata: pq.FileMetaData) -> tuple[str | None, str | None]:
    """Least and greatest shard of a file; None and None for one without rows or without a column `shard`."""
    held = _shard_statistics(metadata)
    if not held or metadata.num_rows == 0:
        return None, None
    return min((s.min for s in held), key=byte_order), max((s.max for s in held), key=byte_order)


def _shard_statistics(metadata: pq.FileMetaData) -> list[Any]:
    """The statistics of the column `shard` in each row group; none if there is no such column."""
    columns = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if "shard" not in columns:
        return []
    place = columns.index("shard")
    return [metadata.row_group(i).column(place).statistics for i in range(metadata.num_row_groups)]


def byte_order(shard: str) -> bytes:
    """Bytes of a shard's name: Parquet and Spark order strings by their bytes."""
    return shard.encode()
