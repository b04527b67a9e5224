"""The bytes of a remote tar, read once from the first to the last.

A tar that cannot be read raises a DownloadError, which says whether another try may succeed.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, InvalidURL
from typing import Any
from urllib.error import HTTPError

from trainer.data.tar_locations import PIPE, PROGRAM_FAULTS, WEB, filesystem_at, refuse_pipe
from vocab.errors import CatlipError, MissingRequirementError
from vocab.store.locations import open_web

# An object store is asked for one block at a time, and answers in some tens of milliseconds: blocks must be large.
STORE_BLOCK = 16 << 20
BLOCK = 1 << 20
STDERR_TAIL = 500

LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, InvalidURL)
LASTING_ERRNOS = (errno.EINVAL, errno.EPERM)  # how s3fs reports a request that S3 calls invalid
PASSING_STATUSES = (408, 425, 429)


class DownloadError(Exception):
    """A failed try to read a tar."""

    def __init__(self, cause: str, *, passing: bool) -> None:
        super().__init__(cause)
        self.passing = passing
        """another try may succeed; False where the tar is missing or refused"""


@dataclass(frozen=True)
class TarStream:
    """A tar that is being read."""

    size: int | None
    """bytes; None if unknown before the end"""
    blocks: Iterator[bytes]


@contextmanager
def open_stream(location: str, *, allow_pipe: bool, timeout_s: float, prefix: str = "--") -> Iterator[TarStream]:
    """Open a remote tar, to be read in blocks.

    `timeout_s`: seconds that a web server or a command may send nothing; object stores keep their own limits. A server
    that neither states the length nor sends in chunks can break off unseen here: only the tar itself then shows the
    break. `prefix`: as in `TarCache`.

    Raises DownloadError, while opening and from the blocks; InputError for a pipe that is not allowed.
    """
    with ExitStack() as stack:
        if location.startswith(PIPE):
            if not allow_pipe:
                raise refuse_pipe(location, prefix=prefix)
            size, read = None, stack.enter_context(_command(location.removeprefix(PIPE), timeout_s))
        else:
            is_web = location.partition("://")[0].lower() in WEB
            with _failures():
                if is_web:
                    file = open_web(location, timeout_s)
                    size = file.length
                else:
                    file, size = _open_stored(location)
            stack.enter_context(file)
            read = file.read
        yield TarStream(size, _blocks(read, STORE_BLOCK if size and size > STORE_BLOCK else BLOCK))


def _blocks(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    while True:
        with _failures():
            block = read(length)
        if not block:
            return
        yield block


def _open_stored(location: str) -> tuple[Any, int | None]:
    filesystem, path = filesystem_at(location)
    # Without a cache each block is asked for when it is read, and none is kept.
    file = filesystem.open(path, "rb", block_size=STORE_BLOCK, cache_type="none")
    size = getattr(file, "size", None)
    return file, size if isinstance(size, int) else filesystem.info(path).get("size")


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (CatlipError, DownloadError, *PROGRAM_FAULTS):
        raise  # explained already, or a fault of this program
    except HTTPError as error:
        error.close()
        passing = error.code >= 500 or error.code in PASSING_STATUSES
        raise DownloadError(f"status {error.code} {error.reason}", passing=passing) from error
    except (OSError, HTTPException) as error:
        passing = not isinstance(error, LASTING) and getattr(error, "errno", None) not in LASTING_ERRNOS
        raise DownloadError(f"{type(error).__name__}: {error}", passing=passing) from error
    except Exception as error:
        # Backends raise errors of their own (botocore's, aiohttp's, google.auth's), which share no other parent.
        status = getattr(error, "status", None) or getattr(error, "code", None)
        refused = isinstance(status, int) and 400 <= status < 500 and status not in PASSING_STATUSES
        raise DownloadError(f"{type(error).__name__}: {error}", passing=not refused) from error


@contextmanager
def _command(command: str, timeout_s: float) -> Iterator[Callable[[int], bytes]]:
    """Run a command in bash, and give a function that reads its output.

    At its end a status other than 0 raises a DownloadError with the end of its stderr. Leaving early kills the command
    and its child processes.
    """
    with tempfile.TemporaryFile() as stderr, ExitStack() as stack:
        arguments = ["bash", "-o", "pipefail", "-c", command]
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
            )
        except FileNotFoundError as error:
            raise MissingRequirementError(
                "pipe:", found="no bash", wanted="a bash that runs the command", remedy="Install it."
            ) from error
        stack.enter_context(process)
        stack.callback(_kill, process)
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)

        def read(length: int) -> bytes:
            if not ready.poll(1000 * timeout_s):
                raise DownloadError(f"no byte from the command for {timeout_s:g} s", passing=True)
            block = os.read(descriptor, length)
            if not block:
                try:
                    status = process.wait(timeout_s)
                except subprocess.TimeoutExpired as error:
                    raise DownloadError(
                        f"a command that still runs {timeout_s:g} s after the end of its output", passing=True
                    ) from error
                if status != 0:
                    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - STDERR_TAIL))
                    words = stderr.read().decode(errors="replace").strip()
                    raise DownloadError(f"exit status {status} of the command: {words}", passing=True)
            return block

        yield read


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
