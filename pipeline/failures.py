"""Spark's failures in words that say what to do.

In: an exception of Spark's, with a page of Java and Python frames. Out: an InputError that names the file, if it tells
one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from pipeline.inputs import SCHEME_PATTERN
from vocab.errors import CatlipError, InputError

# FAILED_READ_FILE's text, and Parquet's own when only the footer was read.
FILE_IN_MESSAGE = re.compile(
    r"(?:while reading file|read footer for file:?|file:? )\s*['\"]?(?P<path>[a-z0-9]+:/[^\s'\",]+)"
)
# An error of ours inside a Python worker arrives as the last line of its traceback.
OWN_ERROR = re.compile(
    r"vocab\.errors\.\w+: (?P<thing>.+?): found (?P<found>.+?); wanted (?P<wanted>.+?)\. (?P<remedy>.+)"
)
# A file system that refuses: "OSError: [Errno 28] No space left on device: '/data/labels/part-00000...'".
SYSTEM_ERROR = re.compile(r"(?:OSError|PermissionError): \[Errno \d+\] (?P<what>[^:\n]+)(?:: '(?P<path>[^']+)')?")
# The innermost Java causes worth repeating.
CAUSE = re.compile(
    r"(?:java\.io\.(?:EOF|IO)Exception|java\.util\.zip\.\w+|java\.lang\.RuntimeException): (?P<cause>.+)"
)


@contextmanager
def explained() -> Iterator[None]:
    """Raise InputError in place of a Spark failure that is an unreadable input file; let every other one through."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        # A failed write reaches Python unconverted, as py4j's own exception.
        explanation = explain(str(error))
        if explanation is None:
            raise
        raise explanation from error


def explain(message: str) -> CatlipError | None:
    """The error behind Spark's message, None if the message tells neither a file nor one of our own errors."""
    if own := OWN_ERROR.search(message):
        return InputError(own["thing"], found=own["found"], wanted=own["wanted"], remedy=own["remedy"])
    if refused := SYSTEM_ERROR.search(message):
        return InputError(
            refused["path"] or "the output directory",
            found=refused["what"].strip(),
            wanted="a place that can be read and written",
            remedy="Make room or give access, then give the same command: what is done is not done again.",
        )
    file = FILE_IN_MESSAGE.search(message)
    if file is None:
        return None
    causes = CAUSE.findall(message)
    return InputError(
        re.sub(SCHEME_PATTERN, "", file["path"]).rstrip("."),
        found=f"a file that cannot be read ({causes[-1].strip() if causes else 'truncated or damaged'})",
        wanted="a whole file of the format that its name tells",
        remedy="Download it again, or leave it out of --captions.",
    )
