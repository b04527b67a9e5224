"""The errors of all three rooms: one root, few children.

    CatlipError                    catch this to catch everything raised on purpose
    ├── InputError                 a caption file, a tar, an image or an option that cannot be used
    ├── FormatError                a file of ours that is not what it claims: newer version, missing, truncated, altered
    ├── MismatchError              two sound things that do not belong together
    ├── OutputExistsError          an output place that already holds something
    └── MissingRequirementError    a program, a package or a device that is not there

Every one of them says four things: the thing, what was found, what was wanted, and the remedy. Logs are passed on, so
the user and password of an address (`https://user:word@host/...`) are in none of them; and signs that would command a
terminal are written out (`vocab/shown_text.py`).
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import sys
from collections.abc import Callable

from vocab.shown_text import shown, tell

LONGEST_PART = 4_000
"""characters of each of the four things that an error says"""
_USER = re.compile(r"(?<=://)[^/\s]*@")


def without_user(text: str) -> str:
    """A text without the users and passwords of the addresses in it."""
    return _USER.sub("", text)


class CatlipError(Exception):
    """Root of the tree; raised only as one of its children."""

    def __init__(self, thing: object, *, found: str, wanted: str, remedy: str) -> None:
        # Keys, captions and names of files are in them: a stranger's text.
        self.thing, self.found, self.wanted, self.remedy = (
            shown(without_user(str(part)), longest=LONGEST_PART) for part in (thing, found, wanted, remedy)
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
    """An output place that already holds something."""


class MissingRequirementError(CatlipError):
    """A program, a package or a device that is not there."""


def run_cli(main: Callable[[], None]) -> None:
    """Run a command line. It ends with a message alone, and status 2, for an error raised on purpose and for a place
    that the system refuses; with status 130 when it is interrupted. Where nobody reads what it prints any more, as
    after `| head`, it ends without a word, with the status of a program that SIGPIPE ends.
    """
    try:
        _flushed(main)
    except CatlipError as error:
        tell(f"error: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno is None:
            raise
        # A pipe of another kind, to a process of ours, may break too.
        if error.errno == errno.EPIPE and _reader_is_gone():
            # Or the interpreter would try to write the rest when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        refused = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = (
            "Make room, and start the same command again"
            if full
            else "Check the path, and who may read and write there"
        )
        tell(f"error: {refused}. {remedy}.\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)


def _flushed(main: Callable[[], None]) -> None:
    """Run, and write out what was printed, so that what is wrong with that is an error here."""
    try:
        main()
    except SystemExit:
        sys.stdout.flush()  # --help ends so
        raise
    sys.stdout.flush()


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
