"""Places that hold files: a local folder, or a bucket named by a URI (s3://, gs://, hdfs://, abfs://).

In: a path or URI. Out: a pyarrow file system and the path inside it, and files that appear whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from vocab.errors import InputError

HASH_BLOCK = 1 << 22
DAMAGED = (pa.ArrowException, OSError, KeyError, UnicodeDecodeError)
"""raised by pyarrow for a damaged Parquet file, by way of its readers or of its values"""
BROKEN = (pa.ArrowInvalid, pa.ArrowIndexError, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError)
"""raised by pyarrow for a damaged file of a stranger; memory that ran out is no damage"""
# One slash is enough: pathlib makes s3:/bucket of s3://bucket.
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")


def local_path(place: str | Path, *, option: str = "--out") -> Path:
    """Path of a place that must be local; file:///x is /x. Raises InputError, naming the option, for any other URI."""
    text = str(place)
    if _URI.match(text) is None:
        return Path(text)
    if text.startswith("file:"):
        return Path(filesystem_of(text)[1])
    raise InputError(
        f"{option} {re.sub(':/+', '://', text, count=1)}",
        found="a URI",
        wanted="a path of this machine",
        remedy="Give a local or mounted path, and copy the result from there.",
    )


def filesystem_of(place: str | Path) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path inside it. Raises InputError for one that cannot be opened."""
    if re.search("[\ud800-\udfff]", str(place)):
        raise InputError(place, found="a name that is not UTF-8", wanted="a UTF-8 name", remedy="Rename it.")
    if _URI.match(str(place)) is None:
        # Hadoop drops ".." from the paths it reports; so must the paths they are compared with.
        return pafs.LocalFileSystem(), os.path.abspath(place)  # noqa: PTH100 - resolve() would follow links
    try:
        # Hadoop writes file:/tmp/x where the standard writes file:///tmp/x, and s3a: where Arrow reads s3:.
        uri = re.sub(r"^s3[an]:", "s3:", re.sub(r"^file:/+", "file:///", str(place)))
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            place,
            found=f"a place that cannot be opened ({error})",
            wanted="a local path, or a URI of s3, gs, hdfs or abfs",
            remedy="Check the scheme and the credentials of this environment.",
        ) from error
    return filesystem, path


# What a write may fail by, as against the reading and computing that go on around it.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)


def entries_below(folder: str, *, enter: Callable[[str], bool]) -> Iterator[os.DirEntry[str]]:
    """Files and folders below a local folder, where links lead too; alike on every Python.

    `enter`: whether to look at a name, and into the folder of that name. A link to a folder that it lies in is given
    and not entered; a link that leads nowhere is neither a file nor a folder. Raises OSError for an unreadable folder.
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
def named(place: str | Path) -> Iterator[None]:
    """Put the place into an error of a write in the block, since a system's error of a write names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _WRITE_ERRORS:
            error.filename = str(place)
        raise


@contextmanager
def write_whole(place: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that exists under its name only once it is complete.

    Local files are written beside the target, flushed to disk and renamed. Object stores show an object only when its
    upload is complete, so there the target itself is written. An exception leaves nothing under the name; an OSError
    of a write carries the name.
    """
    filesystem, path = filesystem_of(place)
    with named(place):
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
        # A place that refused the file may refuse to remove it too; the first refusal is the one to be told.
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _uploaded(filesystem: pafs.FileSystem, path: str) -> Iterator[BinaryIO]:
    stream = filesystem.open_output_stream(path)
    try:
        yield cast(BinaryIO, stream)
    except BaseException:
        stream.abort() if hasattr(stream, "abort") else filesystem.delete_file(path)
        raise
    stream.close()


def sha256_of(filesystem: pafs.FileSystem, path: str) -> str:
    """Checksum of a file, read in blocks."""
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as stream:
        while block := stream.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
