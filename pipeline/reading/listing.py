"""Files at a location: one file, all below a folder, or those that a glob or braces name.

in/                        every file below; hidden ones and systems' leftovers are left out
in/*.tsv  in/dt=*/lang=en  files that match, and all below folders that match; * and ? and [...] match no slash
in/**/*.tsv                ** matches any number of folders
in/{00000..00331}.tsv      each must be there (`vocab/store/file_names.py`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from pipeline.reading.managed_folders import markers_above
from vocab.errors import InputError
from vocab.store.file_names import expand_braces, is_left_out
from vocab.store.files import entries_below, filesystem_of
from vocab.store.manifest import InputFile

GLOB_SIGNS = re.compile(r"[*?\[]")
SIGNS = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class Listing:
    """Files at a location, and everything else found there."""

    files: tuple[InputFile, ...]
    left_out: tuple[str, ...]
    """files left out because they are hidden or leftovers"""
    is_file: bool
    """the location is the name of a file"""
    by_extension: bool
    """the location is a glob that ends in an extension"""
    bare: tuple[str, ...]
    """paths of `files` in their file system"""
    around: tuple[str, ...]
    """paths of everything below the location, hidden or not, and of markers above it"""


def files_at(location: str, looked_at: set[str], *, apart_from: str | None = None) -> Listing:
    """List a location, without the folder `apart_from`.

    `looked_at`: folders above other locations, which are not searched again; the folders above this location are added.

    Raises InputError for a location that does not exist, a missing name in braces, and a link that leads nowhere.
    """
    signs = None if _stands(location) else SIGNS.search(location)
    end = len(location) if signs is None else location.rfind("/", 0, signs.start()) + 1
    folder = location[:end] if end or not location else "."
    filesystem, path = filesystem_of(folder)
    # "s3://bucket/in" is s3:// and bucket/in.
    bare = folder.rstrip("/") or folder
    prefix = bare.removesuffix(path) if bare.endswith(path) else ""
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise InputError(location, found="nothing there", wanted="a file, a folder or a glob", remedy="Check the path.")
    infos = _infos_below(filesystem, path, apart_from) if info.type == pafs.FileType.Directory else [info]
    matching = infos if signs is None else _matching(location, location[end:], path, infos)
    if lost := [i.path for i in matching if i.type == pafs.FileType.NotFound and not is_left_out(i.path[len(path) :])]:
        raise InputError(
            lost[0], found="a link that leads nowhere", wanted="a file or a folder", remedy="Fix or remove it."
        )
    named = [i for i in matching if i.type == pafs.FileType.File]
    taken = [i for i in named if not is_left_out(i.path[len(path) :])]
    return Listing(
        files=tuple(
            InputFile(path=prefix + i.path, size=i.size, modified=i.mtime.isoformat() if i.mtime else "unknown")
            for i in taken
        ),
        left_out=tuple(prefix + i.path for i in named if is_left_out(i.path[len(path) :])),
        is_file=info.type == pafs.FileType.File,
        by_extension=signs is not None and re.search(r"\.\w+$", location) is not None,
        bare=tuple(i.path for i in taken),
        around=(*(i.path for i in infos), *markers_above(filesystem, path, looked_at)),
    )


def _stands(location: str) -> bool:
    """Tell whether something lies at a location whose name may hold the signs of a glob."""
    if SIGNS.search(location) is None:
        return True
    try:
        filesystem, path = filesystem_of(location)
    except InputError:
        # Braces do not make a URI.
        return False
    is_query = "?" in location and not isinstance(filesystem, pafs.LocalFileSystem)
    return not is_query and filesystem.get_file_info(path).type != pafs.FileType.NotFound


def _infos_below(filesystem: pafs.FileSystem, folder: str, apart_from: str | None) -> list[pafs.FileInfo]:
    """List everything below a folder, without the folder `apart_from`.

    Links are followed here, because Arrow's own listing would follow a circle of them forty times.
    """
    selected: Any = pafs.FileSelector(folder, recursive=True)
    if isinstance(filesystem, pafs.LocalFileSystem):
        selected = [entry.path for entry in entries_below(folder, enter=lambda _: True)]
    infos: list[pafs.FileInfo] = filesystem.get_file_info(selected)
    if apart_from is None or (other := filesystem_of(apart_from))[0] != filesystem:
        return infos
    return [info for info in infos if not f"{info.path}/".startswith(f"{other[1].rstrip('/')}/")]


def _matching(location: str, glob: str, folder: str, infos: Sequence[pafs.FileInfo]) -> list[pafs.FileInfo]:
    """Files and folders that a glob below a folder names, and those below such folders.

    Raises InputError if there are none, and for a name in braces that is missing: none is left out silently.
    """
    names = [f"{folder.rstrip('/')}/{name}".rstrip("/") for name in expand_braces(glob)]
    exact = [name for name in names if GLOB_SIGNS.search(name) is None]
    there = {info.path for info in infos} if exact else set()
    if missing := [name for name in exact if name not in there]:
        raise InputError(
            location,
            found=f"no file {missing[0]}" + (f", nor {len(missing) - 1:,} more" if len(missing) > 1 else ""),
            wanted=f"all {len(exact):,} files that the braces name" if len(exact) > 1 else "a file, a folder or a glob",
            remedy="Check the path. Braces name files that must be there; a glob takes those that are.",
        )
    takes = _matcher(names, folder)
    if matching := [info for info in infos if takes(info.path)]:
        return matching
    raise InputError(
        location,
        found="nothing that matches",
        wanted="a glob of files or folders",
        remedy="Check the path; * and ? match no slash, ** does.",
    )


def _matcher(names: Iterable[str], folder: str) -> Callable[[str], bool]:
    """A function that tells whether a path below the folder, or a folder it lies in, is one of the names or globs."""
    exact = {name for name in names if GLOB_SIGNS.search(name) is None}
    globs = [glob_pattern(name) for name in names if name not in exact]
    pattern = re.compile(f"(?:{'|'.join(globs)})(?:/.*)?", re.DOTALL) if globs else None

    def takes(path: str) -> bool:
        if pattern is not None and pattern.fullmatch(path):
            return True
        while exact and len(path) > len(folder):
            if path in exact:
                return True
            path = path.rpartition("/")[0]
        return False

    return takes


def glob_pattern(glob: str) -> str:
    """The regular expression of a glob: * and ? and [...] match no slash, ** does, and /**/ matches one slash too."""
    parts = re.split(r"(/\*\*(?=/)|\*\*|\*|\?|\[!?\]?[^\]]*\])", glob)
    signs = {"/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def of_part(part: str) -> str:
        if part in signs:
            return signs[part]
        if len(part) > 2 and part.startswith("[") and part.endswith("]"):
            inside = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            return f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside.replace('^', chr(92) + '^')}]"
        return re.escape(part)

    return "".join(map(of_part, parts))
