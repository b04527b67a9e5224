"""Which files hold the captions, how they are stored, and what their shards are called.

In: paths, folders and globs. Out: an `Inputs`, frozen at the start of a job.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import Literal

import pyarrow.fs as pafs

from pipeline.config import Format
from vocab.errors import InputError
from vocab.manifest import InputFile
from vocab.storage import filesystem_of

StoredFormat = Literal["parquet", "tsv", "csv", "jsonl", "webdataset", "img2dataset"]

EXTENSIONS: dict[StoredFormat, tuple[str, ...]] = {
    "parquet": (".parquet",),
    "tsv": (".tsv", ".tsv.gz"),
    "csv": (".csv", ".csv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
    "webdataset": (".tar",),
    "img2dataset": (".parquet",),
}
# The same as a Java and Python regular expression, to take a stem in SQL as well as here.
EXTENSION_PATTERN = r"\.(parquet|tsv|csv|jsonl|ndjson|tar)(\.gz)?$"
# "file:/a", "file:///a", "s3a://bucket/a" -> "/a", "/a", "/a"
SCHEME_PATTERN = r"^[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?"


@dataclass(frozen=True)
class Inputs:
    """The input files of a job."""

    format: StoredFormat
    files: tuple[InputFile, ...]
    """sorted by path; `path` is what Spark is given"""
    common_folder: str | None
    """without scheme, with a slash at its end; None where every stem is unique and names the shard by itself"""

    def shard_of(self, path: str) -> str:
        """The shard of a file: "00017", or below the common folder "emoji/00017" where stems repeat."""
        bare = re.sub(SCHEME_PATTERN, "", path)
        inside = bare[len(self.common_folder) :] if self.common_folder is not None else bare.rpartition("/")[2]
        return re.sub(EXTENSION_PATTERN, "", inside)


def list_inputs(places: tuple[str, ...], format_: Format) -> Inputs:
    """Find the files. Raises InputError if a place holds none, or if the format cannot be told."""
    found = {file.path: file for place in places for file in _files_of(place)}
    every = [found[path] for path in sorted(found)]
    stored = format_ if format_ != "auto" else _told_by_names(places, [file.path for file in every])
    files = tuple(file for file in every if file.path.endswith(EXTENSIONS[stored]))
    if not files:
        raise InputError(
            ", ".join(places),
            found=f"no {' or '.join(EXTENSIONS[stored])} file" if every else "no file",
            wanted=f"captions stored as {stored}",
            remedy="Check the path, or name the --format.",
        )
    _refuse_wildcards(files)
    stems = [Inputs(stored, (), None).shard_of(file.path) for file in files]
    if len(set(stems)) == len(stems):
        return Inputs(stored, files, None)
    folders = [os.path.dirname(re.sub(SCHEME_PATTERN, "", file.path)) for file in files]  # noqa: PTH120 - may be a URI
    common = os.path.commonpath(folders)
    return Inputs(stored, files, common.rstrip("/") + "/")


def _refuse_wildcards(files: tuple[InputFile, ...]) -> None:
    """Spark reads a path as a glob: a[1].tsv would be a1.tsv."""
    for file in files:
        if signs := set(file.path) & set("{}[]*?\\"):
            raise InputError(
                file.path,
                found=f"{' '.join(sorted(signs))} in a file's name",
                wanted="a path without the signs of a glob",
                remedy="Rename the file or its folder.",
            )


def _files_of(place: str) -> list[InputFile]:
    """Files at a path, in a folder and below it, or matching a glob (*, ?, [...]; ** for folders)."""
    filesystem, path = filesystem_of(place)
    prefix = place.removesuffix(path) if place.endswith(path) else ""
    pattern = None
    if re.search(r"[*?\[]", path):
        pattern = re.compile(fnmatch.translate(path))
        path = re.split(r"[*?\[]", path)[0].rpartition("/")[0] or "/"
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise InputError(place, found="nothing there", wanted="a file, a folder or a glob", remedy="Check the path.")
    infos = [info]
    if info.type == pafs.FileType.Directory:
        infos = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    return [
        InputFile(path=prefix + i.path, size=i.size, modified=i.mtime.isoformat() if i.mtime else "unknown")
        for i in infos
        if i.type == pafs.FileType.File
        and (pattern is None or pattern.fullmatch(i.path))
        and not any(part.startswith((".", "_")) for part in i.path[len(path) :].split("/"))
    ]


def _told_by_names(places: tuple[str, ...], paths: list[str]) -> StoredFormat:
    """The format whose extension every data file has; tars beside Parquet files of the same stems are img2dataset's."""
    held = {stored for path in paths for stored, endings in EXTENSIONS.items() if path.endswith(endings)}
    if held == {"parquet", "img2dataset", "webdataset"}:
        tars = {path.removesuffix(".tar") for path in paths if path.endswith(".tar")}
        sidecars = {path.removesuffix(".parquet") for path in paths if path.endswith(".parquet")}
        if tars <= sidecars:
            return "img2dataset"
    held.discard("img2dataset")
    if len(held) != 1:
        raise InputError(
            ", ".join(places),
            found=f"files of {' and '.join(sorted(held)) or 'no known format'}",
            wanted="one of: " + ", ".join(EXTENSIONS),
            remedy="Name the --format, or a glob that matches the files of one format.",
        )
    return held.pop()
