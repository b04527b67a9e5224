"""Files in locations, local or named by a URI (s3://, gs://, hdfs://, abfs://); they appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from vocab.errors import InputError

HASH_BLOCK = 1 << 22
HELD_BYTES = 16 << 20
"""most bytes of an upload held in memory; a larger one waits in the folder for temporary files"""
DAMAGED = (pa.ArrowException, OSError, KeyError, UnicodeDecodeError)
"""errors of pyarrow for a damaged Parquet file, raised by its readers or as its values are decoded"""
BROKEN = (pa.ArrowInvalid, pa.ArrowIndexError, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError)
"""errors of pyarrow for a damaged file of a stranger; running out of memory is not among them"""
# "file:/a", "file:///a", "s3a://bucket/a" -> "/a", "/a", "/a"
SCHEME_PATTERN = r"^[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?"
# One slash is enough: pathlib turns s3://bucket into s3:/bucket.
_URI = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*):(?P<slashes>/+)(?P<rest>.*)", re.DOTALL)
# Options of Arrow's stores, ?region=eu-west-1&..., also with the name of a file appended. Any other question mark
# belongs to a name.
_OPTIONS = re.compile(r"\?(?P<options>\w+=[^/?&]*(&\w+=[^/?&]*)*)(?=/|$)")
_WEB = ("http", "https")
_NO_LOCATION = re.compile(r"$|(s3[an]?|gs|gcs|hdfs|abfss?|https?):(/*$|(?!/))", re.IGNORECASE)
# Remedies for a URI in an option that must be local, by the option's last word.
_REMEDIES = {"out": "copy the result from there", "log": "copy it from there", "cache": "", "features": ""}


def is_uri(location: str | Path) -> bool:
    """Tell whether a location is written as a URI, file:/x among them."""
    return _URI.match(str(location)) is not None


def is_web(location: str | Path) -> bool:
    """Tell whether a location is an address of a web server, which serves whole files and lists nothing."""
    found = _URI.match(str(location))
    return found is not None and found["scheme"].lower() in _WEB


def expanded(location: str) -> str:
    """Replace ~ or ~/ at the beginning of a local location by the home folder: shells leave it in --option=~/x."""
    return os.path.expanduser(location) if location == "~" or location.startswith("~/") else location  # noqa: PTH111 - ~x stays


def local_path(location: str | Path, *, option: str = "--out") -> Path:
    """Path of a location that must be local; file:///x is /x. Raises InputError, naming the option, for another URI."""
    text = str(location)
    _refuse_no_location(text, named=f"{option} {text}")
    found = _URI.match(text)
    if found is None:
        return Path(expanded(text))
    if found["scheme"].lower() == "file":
        return Path(_path_of_file_uri(text))
    todo = _REMEDIES.get(re.split(r"[.-]+|: ", option)[-1], "copy what it names there first")
    raise InputError(
        f"{option} {re.sub(':/+', '://', text, count=1)}",
        found="a URI",
        wanted="a path of this machine",
        remedy="Give a local or mounted path" + (f", and {todo}." if todo else "."),
    )


def _path_of_file_uri(text: str) -> str:
    """The path that a URI of a file means: file:///a%20b, Hadoop's file:/a b, file://localhost/a%20b."""
    found = re.match(r"file:(//(?P<host>[^/]*))?", text, re.IGNORECASE)
    assert found is not None
    if (found["host"] or "localhost").lower() != "localhost":
        raise InputError(
            text, found=f"the host {found['host']}", wanted="file:///PATH", remedy="Write three slashes, or the path."
        )
    return "/" + unquote(text[found.end() :]).lstrip("/")


def _refuse_no_location(text: str, *, named: str) -> None:
    """Raise InputError for an empty location and for a URI without its slashes or its bucket."""
    if _NO_LOCATION.match(text):
        raise InputError(
            named,
            found="a URI without //, or without a bucket" if text else "no name",
            wanted="a path, or a URI such as s3://bucket/folder",
            remedy="Write it out; ./x: is a local name that looks like a URI.",
        )


def filesystem_of(location: str | Path) -> tuple[pafs.FileSystem, str]:
    """File system of a path or URI, and the path inside it. Raises InputError if it cannot be opened.

    URIs of files are decoded (%20 is a space); names in an object store are not.
    """
    text = str(location)
    if re.search("[\ud800-\udfff]", text):
        raise InputError(location, found="a name that is not UTF-8", wanted="a UTF-8 name", remedy="Rename it.")
    _refuse_no_location(text, named=text)
    found = _URI.match(text)
    if found is None:
        # Hadoop drops ".." from the paths it reports; so must the paths they are compared with.
        return pafs.LocalFileSystem(), os.path.abspath(expanded(text))  # noqa: PTH100 - resolve() would follow links
    if found["scheme"].lower() == "file":
        return pafs.LocalFileSystem(), os.path.normpath(_path_of_file_uri(text))
    if is_web(text):
        raise InputError(
            location,
            found="an address of a web server",
            wanted="a local path, or a URI of s3, gs, hdfs or abfs",
            remedy="A web server lists nothing and takes nothing: download what is read there, write elsewhere.",
        )
    base, inside, options = _split(text)
    try:
        # s3a: and s3n: where Arrow reads s3:; what a URI may not hold is encoded, for Arrow to decode it.
        address = re.sub(r"^s3[an]:", "s3:", base) + "/" + quote(inside) + options
        filesystem, path = pafs.FileSystem.from_uri(address)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(
            location,
            found=f"a location that cannot be opened ({error})",
            wanted="a local path, or a URI of s3, gs, hdfs or abfs",
            remedy="Check the scheme and the credentials of this environment.",
        ) from error
    return filesystem, path


def absolute(location: str) -> str:
    """Spell a location for processes that run in another folder. URIs stay as they are."""
    return location if is_uri(location) else filesystem_of(location)[1]


def open_file(location: str | Path) -> pa.NativeFile:
    """Open a file to read at any offset. Raises OSError, and what `filesystem_of` raises."""
    filesystem, path = filesystem_of(location)
    return filesystem.open_input_file(path)


def open_stream(location: str | Path, *, compression: str | None = "detect") -> pa.NativeFile:
    """Open a file to read from its beginning, decompressed if its name ends in .gz. Raises as `open_file`."""
    filesystem, path = filesystem_of(location)
    return filesystem.open_input_stream(path, compression=compression)


def _split(text: str) -> tuple[str, str, str]:
    """Split a URI into its base, its path and the options of a store: s3://bucket, a/b, ?region=eu-west-1."""
    found = _URI.match(text)
    assert found is not None
    options = _OPTIONS.search(found["rest"])
    rest = found["rest"] if options is None else found["rest"].replace(options[0], "", 1)
    # hdfs:///a is of the cluster that the environment names.
    host, _, inside = ("", "", rest) if len(found["slashes"]) > 2 else rest.partition("/")
    named = re.sub(r"/+", "/", inside).strip("/")
    return f"{found['scheme'].lower()}://{host}", named, "" if options is None else options[0]


# Errors of a write, as against those of the reading and computing around it.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)


def entries_below(folder: str, *, enter: Callable[[str], bool]) -> Iterator[os.DirEntry[str]]:
    """Files and folders below a local folder, links followed; the same on every Python.

    `enter(name)` decides whether an entry is yielded and, if it is a folder, entered. A link to a folder above it is
    yielded and not entered; a dangling link is neither a file nor a folder. Raises OSError for a folder that cannot be
    read.
    """
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        path, above = waiting.pop()
        found = os.stat(path)  # noqa: PTH116 - beside os.scandir
        own = (found.st_dev, found.st_ino)
        if own in above:
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if enter(entry.name):
                    yield entry
                    if leads_to_folder(entry):
                        waiting.append((entry.path, (*above, own)))


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one; False for a link to itself, where is_dir() raises."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112 - beside os.scandir


@contextmanager
def named(location: str | Path) -> Iterator[None]:
    """Add the location to an error of a write in the block, because the system's own error names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _WRITE_ERRORS:
            error.filename = str(location)
        raise


@contextmanager
def write_whole(location: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only once it is complete.

    Local files are written beside the target, flushed to disk and renamed. An object store shows an object
    only when its upload is complete, so the target itself is written there. After an exception nothing has the name; an
    OSError of a write carries it.
    """
    filesystem, path = filesystem_of(location)
    with named(location):
        if isinstance(filesystem, pafs.LocalFileSystem):
            with _renamed(Path(path)) as file:
                yield file
        else:
            with _uploaded(filesystem, path) as file:
                yield file


@contextmanager
def _renamed(target: Path) -> Iterator[BinaryIO]:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(target)
        # A location that refused the file may refuse to remove it too; the first refusal is the one to report.
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _uploaded(filesystem: pafs.FileSystem, path: str) -> Iterator[BinaryIO]:
    """A file that is uploaded once it is complete: an Arrow stream cannot be abandoned, only closed as it is."""
    with named(tempfile.gettempdir()), tempfile.SpooledTemporaryFile(max_size=HELD_BYTES) as held:
        yield cast(BinaryIO, held)
        held.seek(0)
        # HDFS shows a file while it is written, and can rename it; an object store does neither.
        folder, _, name = path.rpartition("/")
        target = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp" if filesystem.type_name == "hdfs" else path
        with filesystem.open_output_stream(target) as stream:
            shutil.copyfileobj(held, stream, HASH_BLOCK)
        if target != path:
            if filesystem.get_file_info(path).type != pafs.FileType.NotFound:
                filesystem.delete_file(path)
            filesystem.move(target, path)


def sha256_of(filesystem: pafs.FileSystem, path: str) -> str:
    """Checksum of a file, read in blocks."""
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as stream:
        while block := stream.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Written(NamedTuple):
    """Size and checksum of a written file."""

    size: int
    """bytes"""
    sha256: str


def write_file(path: Path, blocks: Iterable[bytes | memoryview]) -> Written:
    """Write a file and flush it to the disk. Raises OSError, with the file's name, if the disk refuses it."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb", buffering=0) as file:
            for block in blocks:
                left = memoryview(block)
                digest.update(left)
                size += len(left)
                # A disk that is nearly full takes a part of a block before it refuses the next.
                while left:
                    left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    return Written(size, digest.hexdigest())


def flush(path: Path) -> None:
    """Flush a file's bytes, or a folder's names: what was made or renamed in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
