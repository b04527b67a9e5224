"""Options that name a file or folder: which of them take URIs, and checks of a location before any work.

str | Path    type of an option that takes a local path or a URI; a local one becomes a Path when it is read
Path          type of an option that must be local: a URI is refused
"""

from __future__ import annotations

import base64
import errno
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

import pyarrow.fs as pafs

from vocab.errors import CatlipError, InputError, OutputExistsError, remedy_of
from vocab.store.files import HASH_BLOCK, filesystem_of, is_uri, is_web, local_path
from vocab.store.locks import ABANDONED_SECONDS

Location = str | Path
"""a local path or a URI"""
Config = TypeVar("Config")
"""a dataclass"""
WEB_TIMEOUT_S = 60.0


def with_locations(config: Config, *, prefix: str = "--", nested: bool = True) -> Config:
    """Spell the locations of a configuration, and of its parts, as `location_of` does.

    `prefix` stands before the names of options. `nested`: options of a part have its name in theirs, as --task.cache.
    Raises InputError, naming the option, for a URI in an option that takes none.
    """
    return cast(Config, replace(cast(Any, config), **locations_in(config, prefix=prefix, nested=nested)))


def locations_in(config: object, *, prefix: str = "--", nested: bool = True) -> dict[str, Any]:
    """The fields of `with_locations` that hold locations or parts, by name."""
    hints = get_type_hints(type(config), include_extras=True)
    found: dict[str, Any] = {}
    for each in fields(cast(Any, config)):
        value, name, hint = getattr(config, each.name), each.name.replace("_", "-"), hints[each.name]
        positional = get_origin(hint) is Annotated
        # A positional argument has the name that --help gives it.
        option = name.upper() if positional else f"{prefix}{name}"
        kinds = get_args(get_args(hint)[0] if positional else hint) or (hint,)
        if isinstance(value, str | Path) and Path in kinds:
            found[each.name] = location_of(value, option=option) if str in kinds else local_path(value, option=option)
        elif is_dataclass(value) and not isinstance(value, type):
            found[each.name] = with_locations(value, prefix=f"{prefix}{name}." if nested else prefix, nested=nested)
    return found


def location_of(location: Location, *, option: str = "--out") -> Location:
    """A Path for a local location, file:///x among them; otherwise the URI as text, without a slash at its end."""
    text = str(location)
    if is_uri(text) and not text.lower().startswith("file:"):
        # pathlib makes one slash of two.
        return re.sub(r":/(?!/)", "://", text, count=1).rstrip("/")
    return local_path(text, option=option)


def name_of(location: Location) -> str:
    """The last part of a location: "NAME.json" of https://host/a/NAME.json?signature."""
    text = str(location)
    return PurePosixPath(urlsplit(text).path if is_web(text) else text).name


def suffix_of(location: Location) -> str:
    """The ending of a location's name, in small letters: ".json"."""
    return PurePosixPath(name_of(location)).suffix.lower()


def read_whole(location: Location, *, most: int | None = None) -> bytes:
    """Read a file, local, of an object store or of a web server; at most `most` bytes.

    Raises OSError with the location and a number, ENOENT if nothing is there, and InputError if the location cannot be
    opened.
    """
    location = location_of(location, option="")
    if isinstance(location, Path):
        with location.open("rb") as file:
            return file.read(most)
    try:
        if is_web(location):
            opened = open_web(location, WEB_TIMEOUT_S)
        else:
            filesystem, path = filesystem_of(location)
            opened = filesystem.open_input_stream(path, buffer_size=HASH_BLOCK)
        with opened as stream:
            return cast(bytes, stream.read(most))
    except (OSError, HTTPException) as error:
        # Neither Arrow nor urllib numbers all its errors.
        code, said = None, why(error)
        if isinstance(error, HTTPError):
            code = error.code
            error.close()
        if isinstance(error, FileNotFoundError) or code in (404, 410):
            number = errno.ENOENT
        elif code in (401, 403) or "ACCESS_DENIED" in said:
            number = errno.EACCES
        else:
            number = getattr(error, "errno", None) or errno.ECONNABORTED
        raise OSError(number, said, location) from error


def why(error: Exception) -> str:
    """Text of a reading error without the path, which the message has already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def refuse_taken(location: Location, *, wanted: str = "a new name") -> None:
    """Check before any work that a file or folder can be made at a location, as far as that can be known.

    Removes unfinished files of that name which a killed process left a day ago or earlier. Raises OutputExistsError if
    the name is taken, InputError if its folder, or one above, is a file or cannot be written, or its bucket is missing.
    """
    location = location_of(location)
    if isinstance(location, Path):
        found = _found_locally(location)
    else:
        kind = _type_of(location, filesystem_of(location)[1])
        found = {pafs.FileType.NotFound: None, pafs.FileType.Directory: "a folder"}.get(kind, "a file")
    if found is not None:
        raise OutputExistsError(
            location, found=found, wanted=wanted, remedy="Choose another --out, or remove this one first."
        )
    refuse_unwritable(location)
    if isinstance(location, Path):
        _remove_unfinished(location.absolute())


def _remove_unfinished(location: Path) -> None:
    unfinished = re.compile(re.escape(f".{location.name}.") + r"[0-9a-f]{8}\.tmp")
    # Another process may remove it first, another user's folder may forbid it, and some folders cannot be listed.
    with suppress(OSError):
        for path in location.parent.iterdir():
            if unfinished.fullmatch(path.name) is None or path.is_symlink():
                continue
            if time.time() - path.stat().st_mtime < ABANDONED_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def refuse_unwritable(location: Location) -> None:
    """Raise InputError if nothing can be written at a location, as far as that can be known."""
    location = location_of(location)
    if isinstance(location, Path):
        _refuse_unwritable_folder(location)
        return
    bucket = filesystem_of(location)[1].partition("/")[0]
    if bucket and _type_of(location, bucket) == pafs.FileType.NotFound:
        raise InputError(
            location, found=f"no bucket {bucket}", wanted="an existing bucket", remedy="Create it, or check its name."
        )


def make_folder_of(location: Location) -> None:
    """Make the folder that a file is to be written in; object stores have none."""
    filesystem, path = filesystem_of(location)
    if isinstance(filesystem, pafs.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _type_of(location: str, path: str) -> pafs.FileType:
    """Type of what is at a path inside the location's file system."""
    try:
        return filesystem_of(location)[0].get_file_info(path).type
    except OSError as error:
        raise InputError(
            location,
            found=f"a store that does not answer ({error})",
            wanted="a store that can be written to",
            remedy="Check the location, its credentials and the network.",
        ) from error


def _found_locally(location: Path) -> str | None:
    try:
        if location.is_symlink() or location.exists():
            return "a file" if location.is_file() else "a folder" if location.is_dir() else "something"
    except OSError as error:
        # A name that is too long, a folder that may not be looked into.
        raise _unwritable(location, why(error), error) from error
    return None


def _refuse_unwritable_folder(location: Path) -> None:
    try:
        lineage = [location.absolute(), *location.absolute().parents]
        above = next(path for path in lineage if path.is_symlink() or path.exists())
        if above == lineage[0] and not above.is_dir() and above.exists():
            # A file that exists is written anew, in its folder; a device or a pipe, /dev/stderr, cannot be tested.
            if not above.is_file():
                return
            above = above.parent
    except OSError as error:
        # A name that is too long, a folder that may not be looked into.
        raise _unwritable(location, why(error), error) from error
    if not above.is_dir():
        kind = "a file" if above.is_file() else "no folder"
        raise InputError(above, found=kind, wanted=f"a folder for {location}", remedy="Choose another location.")
    try:
        # Permissions alone do not tell: not in /proc, on a read-only mount, or for root.
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise _unwritable(location, f"{above} takes no file: {why(error)}", error) from error


def _unwritable(location: Path, found: str, error: OSError) -> CatlipError:
    return InputError(location, found=found, wanted="a location that can be written to", remedy=remedy_of(error))


def open_web(address: str, timeout_s: float) -> Any:
    """Open a web address, with the user and password in it; `length` of the response is None if unknown.

    `timeout_s`: longest silence of the server. Raises OSError, HTTPError included, and HTTPException.
    """
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    # Names with spaces or accents, as people paste them; what is encoded already stays.
    path, query = quote(parts.path, safe="/%:@!$&'()*+,;="), quote(parts.query, safe="/%:@!$&'()*+,;=?")
    plain = parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
    request = Request(plain, headers={"Accept-Encoding": "identity"})
    if at:
        # Unredirected: the password is for this host alone.
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return urlopen(request, timeout=timeout_s)
