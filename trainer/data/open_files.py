"""The limit of open files of a process: raised at the start, checked before a run, named in errors.

A loader has all tars of a group open; if loaders are threads, one process has those of all loaders.
"""

from __future__ import annotations

import errno
import resource

from vocab.errors import InputError

# Descriptors of a process besides its tars: libraries, tables, links, shared memory.
OTHER_FILES = 24
# More than any run needs. Some systems allow a billion, and some programs walk over all of them.
MOST_FILES = 1 << 16
REMEDY = "Raise `ulimit -n`, or lower --shuffle-shards in pre-training: a loader has the tars of a group open."


def raise_limit() -> None:
    """Allow this process and its children as many open files as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_limit(tars: int) -> None:
    """Raise InputError if a process may not have this many tars open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and tars + OTHER_FILES > limit:
        raise InputError(
            "--shuffle-shards",
            found=f"{tars} tars to be open at once, and a limit of {limit} open files",
            wanted=f"a limit of {tars + OTHER_FILES} or more",
            remedy=REMEDY,
        )


def remedy_of(error: Exception, otherwise: str) -> str:
    """Remedy for a file that could not be opened: that for too many open files, or else `otherwise`."""
    return REMEDY if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE) else otherwise
