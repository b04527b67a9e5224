"""Input files of a job: their paths, their format, and the names of their shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from pipeline.config import Format, Label, StoredFormat, refuse_ignored
from pipeline.reading.listing import Listing, files_at
from pipeline.reading.managed_folders import refuse_tables, refuse_unfinished
from pipeline.reading.parquet import is_sidecar
from pipeline.reading.stored_formats import (
    EXTENSIONS,
    JSON,
    PARQUET,
    TARS,
    TEXT_FORMATS,
    TEXT_PATTERN,
    begins_as,
    is_of_another,
    is_reported,
    json_format_of,
    of_format,
    refuse_compressed,
    stem_of,
)
from vocab.errors import InputError
from vocab.store.files import BROKEN, SCHEME_PATTERN, open_file
from vocab.store.manifest import InputFile
from vocab.store.secrets import without_secrets

MAX_BEGINNINGS = 100
"""most files of a location whose content is read to tell their format"""


@dataclass(frozen=True)
class InputFiles:
    """The input files of a job."""

    format: StoredFormat
    files: tuple[InputFile, ...]
    """sorted by path"""
    common_folder: str | None
    """folder that shards are named from, without scheme, with a slash at its end; None if all stems differ: then a stem
    names the shard"""
    left_out: tuple[str, ...] = ()
    """files that look like captions but are not read: hidden, unfinished by their name, or with an extension similar to
    one that is read"""
    own_shards: Mapping[str, str] = field(default_factory=dict, hash=False)
    """shards, by path without secrets, of files whose stem a file of an earlier day has"""

    def shard_of(self, path: str) -> str:
        """The shard of a file: "00017", or "emoji/00017" below the common folder if stems repeat."""
        if self.own_shards and (own := self.own_shards.get(without_secrets(path))) is not None:
            return own
        bare = re.sub(SCHEME_PATTERN, "", path)
        inside = bare[len(self.common_folder) :] if self.common_folder is not None else bare.rpartition("/")[2]
        return stem_of(inside)

    def of_one_shard(self, files: Iterable[InputFile]) -> tuple[str, str] | None:
        """The paths of two of the files that have the same shard, or None."""
        named: dict[str, str] = {}
        for file in files:
            shard = self.shard_of(file.path)
            if shard in named:
                return named[shard], file.path
            named[shard] = file.path
        return None


class NoInputError(InputError):
    """Raised for locations that hold files, but none of the named format."""


def inputs_of(options: Label) -> InputFiles:
    """Find the input files of a job, without its own output directory, which may lie in their folder.

    Raises InputError for two files of one shard, unless a column names the shards, and what `list_inputs` and
    `refuse_ignored` raise.
    """
    inputs = list_inputs(options.captions, options.format, apart_from=options.out)
    refuse_ignored(options, inputs.format)
    if options.shard_column is None and (same := inputs.of_one_shard(inputs.files)) is not None:
        raise InputError(
            same[1],
            found=f"a second file for shard {inputs.shard_of(same[1])!r}, which {same[0]} has",
            wanted="a shard of its own for each file",
            remedy="Leave one of them out if both hold the same captions; else rename one"
            + ("." if inputs.format == "webdataset" else ", or give --shard-column."),
        )
    return inputs


def list_inputs(locations: tuple[str, ...], format_: Format, *, apart_from: str | None = None) -> InputFiles:
    """Find the files, without those in the folder `apart_from`.

    If the format is named, a file given by itself is taken whatever its name, and of a folder or glob those that
    `of_format` chooses.

    Raises InputError if a location holds no file, if the format is not clear, for files compressed with anything but
    gzip, and for files of a table with a log of its own or of a Spark job that has not ended.
    """
    looked_at: set[str] = set()
    listings = [files_at(location, looked_at, apart_from=apart_from) for location in locations]
    every = {file.path: file for listing in listings for file in listing.files}
    around = [path for listing in listings for path in listing.around]
    bare = {file.path: path for listing in listings for file, path in zip(listing.files, listing.bare, strict=True)}
    refuse_unfinished(list(bare.values()), around)
    if format_ == "auto":
        stored, taken = _format_by_names(locations, sorted(every))
        passed_over = set(filter(TEXT_PATTERN.search, every)) if stored in TEXT_FORMATS else set()
    else:
        named = [_named(listing, format_) for listing in listings]
        stored, taken = format_, sorted({path for paths, _ in named for path in paths})
        passed_over = {path for _, paths in named for path in paths}
    # A tar beside its compressed copy holds the same samples.
    packed = {f"{stem_of(path)}.tar" for path in taken} & set(taken) if stored == "webdataset" else set()
    taken = [path for path in taken if path in packed or f"{stem_of(path)}.tar" not in packed]
    # A file may come twice: by its path, and by a file: URI.
    taken = sorted({bare[path] if path.startswith("file:") else path: path for path in reversed(taken)}.values())
    if not taken:
        raise NoInputError(
            ", ".join(locations),
            found=f"no {' or '.join(EXTENSIONS[stored] or JSON)} file" if every else "no file",
            wanted=f"captions stored as {stored}",
            remedy="Check the path, or name the --format.",
        )
    if stored in PARQUET:
        refuse_tables([bare[path] for path in taken], around)
    left_out = {path for listing in listings for path in listing.left_out if is_reported(_name(path), left_out=True)}
    left_out |= {path for path in every if is_reported(_name(path), left_out=False)} | passed_over
    files = tuple(every[path] for path in taken)
    return InputFiles(stored, files, _common_folder(taken), tuple(sorted(left_out - set(taken))))


def _common_folder(paths: Sequence[str]) -> str | None:
    """The folder that shards are named from if two files have the same stem; None if all stems differ."""
    bare = [re.sub(SCHEME_PATTERN, "", path) for path in paths]
    if len({stem_of(_name(path)) for path in bare}) == len(bare):
        return None
    return os.path.commonpath([os.path.dirname(path) for path in bare]).rstrip("/") + "/"  # noqa: PTH120 - may be a URI


def _named(listing: Listing, stored: StoredFormat) -> tuple[list[str], list[str]]:
    """Paths of a location's files that are taken for a named format, and of files left out that may have it."""
    paths = [file.path for file in listing.files]
    taken, unclear = of_format(paths, stored, by_extension=listing.by_extension)
    if listing.is_file and (TEXT_PATTERN.search(paths[0]) or not is_of_another(paths[0], stored)):
        taken = paths
    refuse_compressed(taken or paths)
    if 0 < len(unclear) <= MAX_BEGINNINGS:
        taken += [path for path in unclear if begins_as(path, stored, like=taken[0])]
    return taken, sorted(set(unclear) - set(taken))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _format_by_names(locations: tuple[str, ...], paths: list[str]) -> tuple[StoredFormat, list[str]]:
    """The format whose extension all data files have, and its files.

    Parquet files are img2dataset's sidecars if their content shows it, or if tars of the same names are beside them.
    Files that are all called .json hold JSON lines or COCO's captions, as their content shows.
    """
    held = {stored for path in paths for stored, endings in EXTENSIONS.items() if path.endswith(endings)}
    parquet = [path for path in paths if path.endswith(".parquet")]
    if held == {"parquet", "img2dataset"}:
        return ("img2dataset" if _holds_sidecars(parquet) else "parquet"), parquet
    if held == {"parquet", "img2dataset", "webdataset"}:
        stems = {path.removesuffix(".parquet") for path in parquet}
        alone = [path for path in paths if path.endswith(EXTENSIONS["webdataset"]) and stem_of(path) not in stems]
        if not alone:
            return "img2dataset", parquet
        if _holds_sidecars(parquet):
            raise _lone_tars(alone)
    held.discard("img2dataset")
    if held <= {"webdataset"} and (tars := [path for path in paths if path.endswith(TARS)]):
        return "webdataset", tars
    if not held and (documents := [path for path in paths if path.endswith(JSON)]):
        return json_format_of(documents)
    if len(held) != 1:
        refuse_compressed([] if held else paths)
        raise InputError(
            ", ".join(locations),
            found=f"files of {' and '.join(sorted(held))}" if held else "no file of a known extension",
            wanted="one of: " + ", ".join(EXTENSIONS),
            remedy="Name the --format, or a glob that matches the files of one format.",
        )
    stored = held.pop()
    return stored, [path for path in paths if path.endswith(EXTENSIONS[stored])]


def _lone_tars(tars: Sequence[str]) -> InputError:
    return InputError(
        tars[0],
        found="a tar without its sidecar" + (f", and {len(tars) - 1:,} more" if len(tars) > 1 else ""),
        wanted=f"{stem_of(_name(tars[0]))}.parquet beside it, which img2dataset writes when a tar is whole",
        remedy="Download it again or leave it out; --format img2dataset labels the tars that have a sidecar.",
    )


def _holds_sidecars(paths: Sequence[str]) -> bool:
    """Tell sidecars by the first file that can be read; each task checks its own files again."""
    for path in paths:
        try:
            with open_file(path) as stream:
                return is_sidecar(pq.ParquetFile(stream))
        except BROKEN:
            # Its task will report the error.
            continue
    return False
