"""Which files hold the captions, how they are stored, and what their shards are called.

In: paths, folders and globs. Out: an `Inputs`, frozen at the start of a job.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.config import Format
from pipeline.managed_folders import markers_above, refuse_tables, refuse_unfinished
from pipeline.sidecars import is_sidecar
from vocab.errors import InputError
from vocab.leftovers import is_left_out
from vocab.manifest import InputFile
from vocab.storage import BROKEN, entries_below, filesystem_of

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
# x.tsv.part, x.tar.crdownload, x.parquet._COPYING_, x.parquet.5e4d2f.tmp
UNFINISHED_PATTERN = r"\.(part|partial|tmp|temp|crdownload|download|inprogress|incomplete|_COPYING_)$"
# x.TSV, x.tar.gz, x.tgz, x.jsonl.zst
UNREAD_PATTERN = r"\.((parquet|tsv|csv|jsonl|ndjson|tar)(\.(gz|bz2|xz|zst|zip))?|tgz)$"
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
    left_out: tuple[str, ...] = ()
    """files that might be taken for captions and are not read: hidden, named as unfinished, or with an ending that is
    near to one that is read"""

    def shard_of(self, path: str) -> str:
        """The shard of a file: "00017", or below the common folder "emoji/00017" where stems repeat."""
        bare = re.sub(SCHEME_PATTERN, "", path)
        inside = bare[len(self.common_folder) :] if self.common_folder is not None else bare.rpartition("/")[2]
        return re.sub(EXTENSION_PATTERN, "", inside)


def list_inputs(places: tuple[str, ...], format_: Format) -> Inputs:
    """Find the files.

    Raises InputError if a place holds none, if the format cannot be told, and for files of a table with a log of its
    own or of a Spark job that has not ended.
    """
    looked_at: set[str] = set()
    listings = [_listed(place, looked_at) for place in places]
    bare = [path for listing in listings for path in listing.bare]
    around = [path for listing in listings for path in listing.around]
    found = {file.path: file for listing in listings for file in listing.files}
    every = [found[path] for path in sorted(found)]
    refuse_unfinished(bare, around)
    stored = format_ if format_ != "auto" else _told(places, [file.path for file in every])
    files = tuple(file for file in every if file.path.endswith(EXTENSIONS[stored]))
    if not files:
        raise InputError(
            ", ".join(places),
            found=f"no {' or '.join(EXTENSIONS[stored])} file" if every else "no file",
            wanted=f"captions stored as {stored}",
            remedy="Check the path, or name the --format.",
        )
    if ".parquet" in EXTENSIONS[stored]:
        refuse_tables([path for path in bare if path.endswith(EXTENSIONS[stored])], around)
    _refuse_wildcards(files)
    left_out = tuple(sorted({path for listing in listings for path in listing.left_out}))
    stems = [Inputs(stored, (), None).shard_of(file.path) for file in files]
    if len(set(stems)) == len(stems):
        return Inputs(stored, files, None, left_out)
    folders = [os.path.dirname(re.sub(SCHEME_PATTERN, "", file.path)) for file in files]  # noqa: PTH120 - may be a URI
    common = os.path.commonpath(folders)
    return Inputs(stored, files, common.rstrip("/") + "/", left_out)


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


@dataclass(frozen=True)
class _Listing:
    """Files at a place, and whatever else lies there."""

    files: tuple[InputFile, ...]
    left_out: tuple[str, ...]
    bare: tuple[str, ...]
    """paths of `files` inside their file system"""
    around: tuple[str, ...]
    """paths of everything below the place, hidden or not, and of markers above it"""


def _listed(place: str, looked_at: set[str]) -> _Listing:
    """Files at a path, in a folder and below it, or matching a glob (*, ?, [...]; ** for folders).

    `looked_at`: folders above other places, which need not be looked at again; those of this one are added.
    """
    filesystem, path = filesystem_of(place)
    prefix = place.removesuffix(path) if place.endswith(path) else ""
    pattern = None
    if re.search(r"[*?\[]", path):
        pattern = re.compile(fnmatch.translate(path))
        path = re.split(r"[*?\[]", path)[0].rpartition("/")[0] or "/"
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise InputError(place, found="nothing there", wanted="a file, a folder or a glob", remedy="Check the path.")
    infos = _infos_below(filesystem, path) if info.type == pafs.FileType.Directory else [info]
    matching = [i for i in infos if pattern is None or pattern.fullmatch(i.path)]
    if lost := [i.path for i in matching if i.type == pafs.FileType.NotFound and not is_left_out(i.path[len(path) :])]:
        raise InputError(
            lost[0], found="a link that leads nowhere", wanted="a file or a folder", remedy="Mend or remove it."
        )
    named = [i for i in matching if i.type == pafs.FileType.File]
    taken = [i for i in named if not is_left_out(i.path[len(path) :])]
    return _Listing(
        files=tuple(
            InputFile(path=prefix + i.path, size=i.size, modified=i.mtime.isoformat() if i.mtime else "unknown")
            for i in taken
        ),
        left_out=tuple(prefix + i.path for i in named if _is_told(i.path[len(path) :], i.base_name)),
        bare=tuple(i.path for i in taken),
        around=(*(i.path for i in infos), *markers_above(filesystem, path, looked_at)),
    )


def _infos_below(filesystem: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    """List a folder and those below it. Arrow's own listing would follow links in a circle forty times."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        return list(filesystem.get_file_info([entry.path for entry in entries_below(folder, enter=lambda _: True)]))
    return list(filesystem.get_file_info(pafs.FileSelector(folder, recursive=True)))


def _is_told(inside: str, name: str) -> bool:
    """Tell a file that looks like captions but is hidden, unfinished by its name, or of an ending that is not read."""
    known = tuple(ending for endings in EXTENSIONS.values() for ending in endings)
    if name.endswith(known):
        return is_left_out(inside)
    if re.search(UNREAD_PATTERN, name, re.IGNORECASE):
        return True
    whole = re.sub(UNFINISHED_PATTERN, "", name)
    return whole != name and (whole.endswith(known) or whole.rpartition(".")[0].endswith(known))


def _told(places: tuple[str, ...], paths: list[str]) -> StoredFormat:
    """The format whose extension every data file has; of Parquet files, whether they are img2dataset's sidecars.

    Sidecars are told by what they hold, or by tars of the same names beside them.
    """
    held = {stored for path in paths for stored, endings in EXTENSIONS.items() if path.endswith(endings)}
    parquet = [path for path in paths if path.endswith(".parquet")]
    if held == {"parquet", "img2dataset"}:
        return "img2dataset" if _holds_sidecars(parquet) else "parquet"
    if held == {"parquet", "img2dataset", "webdataset"}:
        stems = {path.removesuffix(".parquet") for path in parquet}
        alone = [path for path in paths if path.endswith(".tar") and path.removesuffix(".tar") not in stems]
        if not alone:
            return "img2dataset"
        if _holds_sidecars(parquet):
            raise InputError(
                alone[0],
                found="a tar without its sidecar" + (f", and {len(alone) - 1:,} more" if len(alone) > 1 else ""),
                wanted=f"{alone[0].rpartition('/')[2].removesuffix('.tar')}.parquet beside it, which img2dataset "
                "writes when a tar is whole",
                remedy="Download it again or leave it out; --format img2dataset labels the tars that have a sidecar.",
            )
    held.discard("img2dataset")
    if len(held) != 1:
        raise InputError(
            ", ".join(places),
            found=f"files of {' and '.join(sorted(held)) or 'no known format'}",
            wanted="one of: " + ", ".join(EXTENSIONS),
            remedy="Name the --format, or a glob that matches the files of one format.",
        )
    return held.pop()


def _holds_sidecars(paths: Sequence[str]) -> bool:
    """Tell by the first file that can be read; each task looks at its own again."""
    for path in paths:
        filesystem, inner = filesystem_of(path)
        try:
            with filesystem.open_input_file(inner) as stream:
                return is_sidecar(pq.ParquetFile(stream))
        except BROKEN:
            # For its task to name.
            continue
    return False
