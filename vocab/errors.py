"""The errors of all three rooms: one root, few children.

    CatlipError                    catch this to catch everything raised on purpose
    ├── InputError                 a caption file, a tar, an image or an option that cannot be used
    ├── FormatError                a file of ours that is not what it claims: newer version, missing, truncated, altered
    ├── MismatchError              two sound things that do not belong together
    ├── OutputExistsError          an output location that already holds something
    └── MissingRequirementError    a program, a package or a device that is not there

Every one of them says four things: the thing, what was found, what was wanted, and the remedy. Logs are passed on, so
no message holds a secret (`vocab/store/secrets.py`) or a character that commands a terminal (`vocab/pages/text.py`).
"""

from __future__ import annotations

import errno
import gc
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vocab.pages.text import shown, tell
from vocab.store.secrets import without_secrets

LONGEST_PART = 4_000
"""most characters of each of the four parts of an error"""


class CatlipError(Exception):
    """Root of the tree; raised only as one of its children."""

    def __init__(self, thing: object, *, found: str, wanted: str, remedy: str) -> None:
        # The parts may hold keys, captions and names of files: a stranger's text.
        self.thing, self.found, self.wanted, self.remedy = (
            shown(without_secrets(str(part)), longest=LONGEST_PART) for part in (thing, found, wanted, remedy)
        )
        super().__init__(f"{self.thing}: found {self.found}; wanted {self.wanted}. {self.remedy}")

    def __reduce__(self) -> tuple[Callable[..., CatlipError], tuple[object, ...]]:
        # Exceptions cross process borders (Spark workers, data loaders); the default calls __init__ with the message.
        return _rebuild, (type(self), self.thing, self.found, self.wanted, self.remedy)


def _rebuild(kind: type[CatlipError], thing: str, found: str, wanted: str, remedy: str) -> CatlipError:
    return kind(thing, found=found, wanted=wanted, remedy=remedy)


class InputError(CatlipError):
    """A caption file, a tar, an image or an option that cannot be used."""


class FormatError(CatlipError):
    """A file of ours that is not what it claims to be: newer version, missing, truncated, altered."""


class MismatchError(CatlipError):
    """Two sound things that do not belong together, such as a vocabulary and another corpus's labels."""


class OutputExistsError(CatlipError):
    """An output location that already holds something."""


class MissingRequirementError(CatlipError):
    """A program, a package or a device that is not there."""


class Terminated(KeyboardInterrupt):
    """Request of a signal to end; libraries that clean up at Ctrl-C, such as py4j, clean up at this one too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# Remedies for refusals of the system, by error number.
_REMEDIES: tuple[tuple[tuple[int, ...], str], ...] = (
    ((errno.ENOSPC, errno.EDQUOT), "Make room, and start the same command again."),
    ((errno.EFBIG,), "Raise `ulimit -f`, or choose a file system that holds larger files."),
    ((errno.EMFILE, errno.ENFILE), "Raise `ulimit -n`, or let fewer files be open at once."),
    ((errno.ENOMEM,), "Raise the limit of memory (`ulimit -v`, the container's), or ask for less at once."),
    ((errno.EAGAIN,), "Raise `ulimit -u`, or the container's limit of processes, or start fewer processes."),
    ((errno.EROFS,), "The place is mounted read-only: choose another one, or mount it for writing."),
    ((errno.EBUSY, errno.ETXTBSY), "Another program holds it: end that, or choose another place."),
    (
        (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.ESHUTDOWN, errno.ENOTCONN),
        "The disk or its mount fails: check it (`dmesg`, `mount`), then start the same command again.",
    ),
    (
        (
            errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH,
            errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN,
        ),
        "Check the network and that the other side is running, then start the same command again.",
    ),
    ((errno.EADDRINUSE, errno.EADDRNOTAVAIL), "Another program has this port or address: end that, or choose another."),
    ((errno.EPIPE,), "Check why the process at the other end is gone, then start the same command again."),
)  # fmt: skip
_PATH_REMEDY = "Check the path, and who may read and write there."
# Messages of Arrow's object stores, whose errors have no number.
_STORE = re.compile(r"AWS Error|google::cloud|curlCode|Azure")
# Arrow's message for a folder in place of a file that is to be read.
_FOLDER = re.compile(r"path '.*' is a directory$")
NO_MEMORY = r"(?i:ca(?:n't|nnot) allocate memory|not enough memory|out of memory|malloc of size \d+ failed)"
"""pattern of what systems and the allocators of torch and Arrow say when memory runs out; pipeline adds the words of
Java"""
_NO_THREAD = "can't start new thread"
# Message of torch and safetensors when the system refuses a file: a RuntimeError without a number.
_TENSOR_FILE = re.compile(r"file <(.*?)>.*?: ([^:]*) \((\d+)\)$", re.DOTALL)
_ROOMS = ("vocab", "pipeline", "trainer")
_MEMORY_REMEDY = (
    "Raise the limit of memory (`ulimit -v`, the container's, the batch system's), or ask for less at once: smaller "
    "batches, fewer processes."
)


def run_cli(main: Callable[[], None]) -> None:
    """Run a command line and exit.

    Errors raised on purpose, errors of the operating system and memory that ran out end in one message and status 2;
    Ctrl-C ends with status 130, SIGTERM and SIGHUP with 128 + their number, and unfinished files are removed. If the
    reader of standard output is gone, as after `| head`, the program ends without a message, with the status for
    SIGPIPE.
    """
    end_as_told()
    try:
        _flushed(main)
    except CatlipError as error:
        _end(str(error))
    except (OSError, MemoryError, RuntimeError) as error:
        # Another pipe, to a process of ours, may break too.
        if isinstance(error, OSError) and error.errno == errno.EPIPE and _reader_is_gone():
            # Or the interpreter would try to write the rest when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        sentence = sentence_of(error)
        if sentence is None:
            raise
        _end(sentence)
    except KeyboardInterrupt as error:
        sys.stderr.write("stopped\n")
        sys.exit(128 + (error.number if isinstance(error, Terminated) else signal.SIGINT))
    finally:
        # The interpreter's last collection would go through the million objects of torch for more than a second.
        gc.freeze()


def end_as_told() -> None:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, its files removed; under nohup SIGHUP stays ignored."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(number, end)


def sentence_of(error: BaseException) -> str | None:
    """Describe an error of the operating system or of memory: what, where, remedy; None for any other error."""
    if isinstance(error, OSError):
        place = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        refused = without_secrets(f"{place}: {error.strerror}" if place else str(error)).rstrip(".")
        if error.errno is None and _FOLDER.search(refused):
            return f"{refused}. A file is wanted there: move the folder away."
        if error.errno is None:
            return f"{refused}. Check the place, its credentials and the network." if _STORE.search(refused) else None
        return f"{refused}. {remedy_of(error)}"
    if isinstance(error, RuntimeError) and (refused_file := _TENSOR_FILE.search(str(error))):
        return sentence_of(OSError(int(refused_file[3]), refused_file[2], refused_file[1]))
    if is_out_of_memory(error) or _NO_THREAD in str(error):
        said = without_secrets(str(error)).strip().split("\n")[0][:200].rstrip(".")
        return f"memory ran out{_in_function(error)}" + (f": {said}" if said else "") + f". {_MEMORY_REMEDY}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out. Torch's errors of its allocators are plain RuntimeErrors."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and re.search(NO_MEMORY, str(error)) is not None
    return said or isinstance(error, MemoryError)


def remedy_of(error: OSError) -> str:
    """Remedy for an error of the system, by its number; numbers of name servers' errors are negative."""
    number = error.errno or 0
    return next(
        (
            remedy
            for numbers, remedy in _REMEDIES
            if number in numbers or (number < 0 and errno.ECONNREFUSED in numbers)
        ),
        _PATH_REMEDY,
    )


def _in_function(error: BaseException) -> str:
    """Our innermost function that the error passed through: " in pipeline/report/story.py, report"."""
    root, found, trace = Path(__file__).parent.parent, "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        file = Path(code.co_filename)
        if file.is_relative_to(root) and file.relative_to(root).parts[0] in _ROOMS and file != Path(__file__):
            found = f" in {file.relative_to(root)}, {code.co_name}"
        trace = trace.tb_next
    return found


def _end(sentence: str) -> NoReturn:
    tell(f"error: {sentence}\n")
    sys.exit(2)


def _flushed(main: Callable[[], None]) -> None:
    """Run, and flush standard output, so that a failed write raises here; it is None if the shell closed it."""
    try:
        main()
    except SystemExit:  # --help ends so
        if sys.stdout is not None:
            sys.stdout.flush()
        raise
    if sys.stdout is not None:
        sys.stdout.flush()


def _reader_is_gone() -> bool:
    """Tell whether standard output is a pipe without a reader."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
