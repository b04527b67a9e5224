"""Locations of image tars: local files, object stores, web servers, and commands that write a tar.

The options that name images are resolved to locations of single tars, as sorted strings; a local one is a plain path.

    images/                            a folder: every .tar below it, also behind links; names with "." or "_" in front
                                       and systems' leftovers (`vocab/store/file_names.py`) are left out, as `python -m
                                       pipeline label` leaves them out; 0.tar.gz without 0.tar is refused
    images/*.tar                       a glob, or braces as in {00000..00331}.tar
    s3://bucket/laion/{00..99}.tar     any scheme of fsspec: s3, gs, hdfs, ...; folders and globs are listed
    https://host/laion/{00..99}.tar    a web server: exact names only, because it cannot list
    pipe:aws s3 cp s3://b/{00..99}.tar -    a shell command whose output is the tar; only if allowed
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
from fsspec.registry import get_filesystem_class

from vocab.errors import InputError, MissingRequirementError
from vocab.store.file_names import compression_of, expand_braces, is_left_out
from vocab.store.files import entries_below, expanded
from vocab.store.secrets import without_secrets

# Errors that no backend raises on purpose: faults of this program, not of a store.
PROGRAM_FAULTS = (TypeError, AttributeError, AssertionError)
PIPE = "pipe:"
WEB = ("http", "https")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Compressed tars are refused rather than passed over: the labelling job reads those compressed with gzip.
_PACKED_OR_NOT = re.compile(r"\.(tar(\.gz)?|tgz)$")
# file:/tmp/x, as Hadoop writes it, file:///tmp/x and file://localhost/tmp/x
_FILE = re.compile(r"file:(//(localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)


def list_tars(patterns: Sequence[str], *, allow_pipe: bool = False, prefix: str = "--") -> list[str]:
    """List the tars named by files, folders (all .tar below), globs and brace ranges, local or not; sorted, each once.

    Remote names that end in .tar are taken as they are: no request asks if they exist.

    `allow_pipe` lets a pattern run a shell command with the rights of this process whenever its tar is read: allow it
    for patterns of your own only, never for those of a configuration that came from elsewhere. `prefix`: as in
    `TarCache`.

    Raises InputError for a pattern that names no tar or more than `file_names.MAX_NAMES`, an unknown scheme, a folder
    or glob on a web server, and a pipe that is not allowed; MissingRequirementError if a scheme's package is missing.
    """
    tars: set[str] = set()
    for pattern in patterns:
        found = False
        # In a command, lists in braces belong to the shell, or to awk.
        for name in expand_braces(pattern, only_ranges=pattern.startswith(PIPE)):
            named = _tars_of(name, allow_pipe=allow_pipe, prefix=prefix)
            tars.update(named)
            found = found or bool(named)
        if not found:
            raise _no_tar(pattern, "no tar")
    return sorted(tars)


def is_local(location: str) -> bool:
    """Tell by the form of a location alone if it is a file of this machine."""
    return _FILE.match(location) is not None or not (location.startswith(PIPE) or _SCHEME.match(location))


def local_name(location: str) -> str:
    """The path of a local location: file:///a%20b.tar -> /a b.tar, ~/b.tar -> /home/me/b.tar; others as they are."""
    match = _FILE.match(location)
    return expanded(location) if match is None else unquote(location[match.end() :])


def label_path(location: str) -> str:
    """The path that is matched with the labels' shard names: without scheme, user, query string or fragment.

        /data/emoji/00017.tar                          the same
        s3://bucket/emoji/00017.tar?versionId=4        bucket/emoji/00017.tar
        https://host/my%20set/00017.tar?X-Amz-...      host/my set/00017.tar
        pipe:aws s3 cp s3://bucket/emoji/00017.tar -   bucket/emoji/00017.tar, the last word that ends in .tar

    Raises InputError for a command without such a word.
    """
    if location.startswith(PIPE):
        if (tar := _tar_of_command(location)) is None:
            raise _no_tar(location, "a command without a word that ends in .tar", "Name the tar in the command.")
        return tar
    scheme = _scheme_of(location)
    if is_local(location) or scheme is None:
        return local_name(location)
    bare = _without_query(location)[len(scheme) + len("://") :]
    return unquote(bare.rpartition("@")[2] if "@" in bare.split("/")[0] else bare) if scheme in WEB else bare


def shown_tar(location: str) -> str:
    """The location of a tar as messages show it: without secrets, and of a command only the tar's name."""
    tar = _tar_of_command(location) if location.startswith(PIPE) else None
    return without_secrets(location) if tar is None else f"{PIPE}... {tar.rpartition('/')[2]}"


def refuse_pipe(location: str, *, prefix: str = "--") -> InputError:
    """The error for a command where none is allowed. `prefix`: as in `TarCache`."""
    return InputError(
        shown_tar(location),
        found="a shell command",
        wanted="the location of a tar",
        remedy=f"Pass {prefix}allow-pipe if you trust whoever wrote it: it runs with your rights.",
    )


def filesystem_at(location: str) -> tuple[Any, str]:
    """This process's fsspec file system of a location, and the path inside it.

    Credentials and endpoints come from the environment (AWS_ENDPOINT_URL, ...) and fsspec's configuration. A file
    system belongs to the process that opened it: pass locations on, never file systems.
    """
    _check_scheme(_scheme_of(location) or "file")
    try:
        filesystem, path = fsspec.url_to_fs(location)
    except (ValueError, TypeError, OSError) as error:
        raise _no_tar(location, f"a location that cannot be opened ({error})") from error
    return filesystem, path


def _tars_of(name: str, *, allow_pipe: bool, prefix: str) -> Sequence[str]:
    if name.startswith(PIPE):
        if not allow_pipe:
            raise refuse_pipe(name, prefix=prefix)
        return (name,)
    bare = name if is_local(name) else _without_query(name)
    if (packed := compression_of(bare)) is not None and not glob.has_magic(bare) and not os.path.isdir(bare):  # noqa: PTH112
        raise _no_tar(name, f"a file compressed with {packed[0]}", f"Unpack it first: {packed[1]}.")
    if is_local(name):
        return _local_tars(local_name(name))
    scheme = _scheme_of(name)
    if scheme in WEB:
        if not bare.endswith(".tar") or re.search(r"[*\[]", re.sub(r"^\w+://[^/]*", "", bare)):
            remedy = "A web server cannot list: name each tar by an address that ends in .tar; {00000..00331} works."
            raise _no_tar(name, "a folder or glob on a web server", remedy)
        return (name,)
    _check_scheme(scheme or "file")
    exact = bare.endswith(".tar") and not glob.has_magic(bare)
    return (name,) if exact else _unpacked(_listed_tars(name))


def _unpacked(found: Sequence[str]) -> Sequence[str]:
    """The tars of a listing. Raises InputError for a compressed one that does not lie there unpacked too."""
    tars = {name for name in found if name.endswith(".tar")}
    for name in found:
        if (packed := compression_of(name)) is not None and _PACKED_OR_NOT.sub(".tar", name) not in tars:
            remedy = f"Unpack it first: {packed[1]}. Or leave it out: *.tar names the tars alone."
            raise _no_tar(name, f"a file compressed with {packed[0]}", remedy)
    return [name for name in found if name in tars]


def _local_tars(name: str) -> Sequence[str]:
    if not name:
        # Path("") would be the working directory.
        raise _no_tar(name, "no name")
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if not glob.has_magic(name):
            raise _no_tar(name, "no such file") from error
        return _unpacked(_matching_tars(name))
    return _unpacked(_tars_below(str(path))) if stat.S_ISDIR(mode) else (str(path),)


def _tars_below(folder: str) -> Sequence[str]:
    """Tars in a folder and in those below it, linked and compressed ones too."""
    tars: list[str] = []
    try:
        for entry in entries_below(folder, enter=lambda name: not is_left_out(name)):
            _refuse_dangling(entry.path)
            if _PACKED_OR_NOT.search(entry.name) and entry.is_file():
                tars.append(str(Path(entry.path)))
    except OSError as error:
        raise _no_tar(str(error.filename or folder), f"{error.strerror}") from error
    return tars


def _matching_tars(pattern: str) -> Sequence[str]:
    """Local tars, compressed ones too, that match a glob."""
    base = _base_of(pattern)
    parts = Path(pattern).parts
    if "**" in parts:
        # If links lead in a circle, glob finds each tar some forty times, or never ends.
        return [tar for tar in _tars_below(base or os.curdir) if _matches(Path(tar).parts, parts)]
    tars = []
    for match in glob.glob(pattern):  # noqa: PTH207 - takes absolute patterns
        if _PACKED_OR_NOT.search(match) and not is_left_out(match.removeprefix(base)):
            _refuse_dangling(match)
            if os.path.isfile(match):  # noqa: PTH113
                tars.append(str(Path(match)))
    return tars


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path matches a glob, both in parts; ** stands for any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _base_of(pattern: str) -> str:
    """The folder that a glob searches."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]


def _refuse_dangling(path: str) -> None:
    """Raise InputError for a link that leads nowhere: a tar, or a folder of them, would be missing in silence."""
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 - a million of them are looked at
        raise _no_tar(path, "a link that leads nowhere", "Fix or remove it.")


def _listed_tars(name: str) -> Sequence[str]:
    """Tars of an object store, compressed ones too, that match a glob or lie below a folder."""
    filesystem, path = filesystem_at(name.rstrip("/"))
    try:
        paths: list[str] = filesystem.glob(path) if glob.has_magic(path) else filesystem.find(path)
    except PROGRAM_FAULTS:
        raise
    except Exception as error:  # backends raise errors of their own, which share no other parent
        raise _no_tar(name, f"a location that cannot be listed ({type(error).__name__}: {error})") from error
    # Later sizes must not come from this listing.
    filesystem.invalidate_cache()
    # Scheme and host, which listed paths may lack, are put back: from the name if it ends in the path that was listed.
    prefix = name.rstrip("/").removesuffix(path) if name.rstrip("/").endswith(path) else None
    base = _base_of(path) if glob.has_magic(path) else path
    tars = [found for found in paths if _PACKED_OR_NOT.search(found) and not is_left_out(found.removeprefix(base))]
    return [filesystem.unstrip_protocol(found) if prefix is None else prefix + found for found in tars]


@functools.cache
def _check_scheme(scheme: str) -> None:
    if scheme == "file":
        raise _no_tar("file://", "a host in a file's URI", "Write file:///path, or the path alone.")
    try:
        get_filesystem_class(scheme)
    except ValueError as error:
        raise _no_tar(f"{scheme}://", "a scheme that fsspec does not know") from error
    except ImportError as error:
        raise MissingRequirementError(
            f"{scheme}://",
            found=f"no package that opens it ({error})",
            wanted="fsspec's backend",
            remedy="Install it: pip install '.[remote]' has those of s3, gs and http.",
        ) from error


def _tar_of_command(location: str) -> str | None:
    words = re.split(r"[\s'\"|;<>()]+", location.removeprefix(PIPE))
    paths = [label_path(re.sub(r"^-+[\w-]+=", "", word)) for word in words]
    return next((path for path in reversed(paths) if path.endswith(".tar")), None)


def _scheme_of(location: str) -> str | None:
    match = None if location.startswith(PIPE) else _SCHEME.match(location)
    return match[1].lower() if match else None


def _without_query(location: str) -> str:
    """A location without its query string; where "?" may stand in a name or glob, only that after .tar is one."""
    return re.split(r"[?#]" if _scheme_of(location) in WEB else r"(?<=\.tar)[?#]", location, maxsplit=1)[0]


def _no_tar(location: str, found: str, remedy: str = "Check this location, or leave it out.") -> InputError:
    return InputError(shown_tar(location), found=found, wanted="a WebDataset tar", remedy=remedy)
