"""Open files: how many this process may have, and what to say where they are too few.

In: nothing. Out: a higher limit, or an error. A loader has all tars of a group open; where loaders are threads, one
process has those of all of them.
"""

from __future__ import annotations

import errno
import resource

from vocab.errors import InputError

# Descriptors of a process beside its tars: libraries, tables, links, memory that is shared.
OTHER_FILES = 24
# More than any run needs; some systems allow a billion, and some programs walk over all of them.
MOST_FILES = 1 << 16
REMEDY = "Raise `ulimit -n`, or lower --shuffle-shards in pre-training: a loader has the tars of a group open."


def raise_limit() -> None:
    """Allow this process, and all that it starts, as many open files as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_limit(tars: int) -> None:
    """Raise InputError if a process may not have so many tars open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and tars + OTHER_FILES > limit:
        raise InputError(
            "--shuffle-shards",
            found=f"{tars} tars to be open at once, and a limit of {limit} open files",
            wanted=f"a limit of {tars + OTHER_FILES} or more",
            remedy=REMEDY,
        )


def remedy_of(error: Exception, otherwise: str) -> str:
    """Remedy for a file that could not be opened: that for too many open files, or the other one."""
    return REMEDY if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE) else otherwise
