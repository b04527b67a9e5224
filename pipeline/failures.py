"""Spark's failures as errors that say what to do."""

from __future__ import annotations

import re
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.captured import CapturedException

from pipeline.reading.rows import broken_file
from vocab.errors import NO_MEMORY, CatlipError, InputError, MissingRequirementError
from vocab.store.files import SCHEME_PATTERN
from vocab.store.secrets import without_secrets

# FAILED_READ_FILE's text, and Parquet's own when only the footer was read.
FILE_IN_MESSAGE = re.compile(
    r"(?:while reading file|read footer for file:?|file:? )\s*['\"]?(?P<path>[a-z0-9]+:/[^\s'\",]+)"
)
# An error of ours inside a Python worker arrives as the last line of its traceback.
OWN_ERROR = re.compile(
    r"vocab\.errors\.\w+: (?P<thing>.+?): found (?P<found>.+?); wanted (?P<wanted>.+?)\. (?P<remedy>.+)"
)
# An error of the file system: "OSError: [Errno 28] No space left on device: '/data/labels/part-00000...'".
SYSTEM_ERROR = re.compile(
    r"(?:OS|Permission|FileNotFound)Error: \[Errno \d+\] (?P<what>[^:\n]+)(?:: '(?P<path>[^']+)')?"
)
# A missing Python for the workers, or one that ends with a message before it works.
NO_PYTHON = re.compile(
    r"Cannot run program \"(?P<program>[^\"]+)\": error=\d+, (?P<why>[^\n]+)|"
    r"Error from python worker:\s*\n(?P<said>(?:[^\n]*\n)*?)PYTHONPATH was:"
)
# The innermost causes in Java that are worth repeating.
CAUSE = re.compile(
    r"(?:java\.io\.(?:EOF|IO)Exception|java\.util\.zip\.\w+|java\.lang\.RuntimeException): (?P<cause>.+)"
)


JAVA_END_SECONDS = 5.0
"""seconds for a Java process that does not answer to end"""
GOES_ON = "A label job goes on when the same command is given again."
# Failures of Spark that no input caused: patterns of its message, and the four parts of the error.
DEATHS = (
    (
        # The last one is Java's too, when it starts a process.
        r"OutOfMemoryError|GC overhead limit|UNABLE_TO_ACQUIRE_MEMORY|Cannot allocate memory",
        "Spark", "too little memory for its Java processes", "more memory",
        f"Raise spark.driver.memory (local masters) or spark.executor.memory in spark-defaults.conf. {GOES_ON}",
    ),
    (
        r"maxResultSize",
        "Spark", "a result too large for the driver (spark.driver.maxResultSize)", "a larger limit",
        f"Raise spark.driver.maxResultSize in spark-defaults.conf. {GOES_ON}",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "Spark's scratch folder", "a full disk", "room to sort and merge",
        f"Make room in TMPDIR, or name a larger folder with SPARK_LOCAL_DIRS. {GOES_ON}",
    ),
    (
        r"(?m)^\s*(?:[\w.]*\.)?(?:Arrow|_Array)?MemoryError\b|" + NO_MEMORY,
        "a Python worker", "too little memory", "more memory",
        "Run fewer workers at once: --master 'local[2]', or fewer spark.executor.cores; or raise "
        f"spark.executor.memoryOverhead. {GOES_ON}",
    ),
    (
        r"Python worker exited unexpectedly|Python worker (?:was )?killed|PYTHON_WORKER_EXITED|Python worker .*crashed|"
        r"EOFException occurred while reading the port number|Python daemon failed to launch worker|"
        # A worker that dies while Java shakes hands with it, sends it a task or reads its answer.
        r"(?:(?:EOF|Socket|AsynchronousClose|ClosedChannel)Exception\b[^\n]*|(?:Connection reset|Broken pipe)[^\n]*)"
        r"(?:\s+at (?:java|jdk|sun|scala|org\.apache\.spark\.security)[^\n]*)*"
        r"\s+at org\.apache\.spark\.(?:sql\.execution|api)\.python\.",
        "a Python worker", "a process that was killed or crashed", "a worker that runs until its task ends",
        "Most often memory ran out (see `dmesg`): run fewer workers at once, --master 'local[2]' or fewer "
        f"spark.executor.cores, or raise spark.executor.memoryOverhead. {GOES_ON}",
    ),
    (
        r"ExecutorLostFailure|Executor heartbeat timed out|Remote RPC client disassociated|FetchFailed",
        "Spark", "an executor lost more often than Spark retries", "executors that run until their tasks end",
        f"Most often memory ran out: raise spark.executor.memoryOverhead, and see the executor's log. {GOES_ON}",
    ),
    (
        r"masters are unresponsive|Could not parse Master URL|INVALID_MASTER|Failed to connect to master|"
        r"Failed to connect to /|SparkContext was shut down|Cannot call methods on a stopped SparkContext",
        "--master", "a master that does not answer, or ended the job", "a running master",
        f"Check the address and that its cluster runs. {GOES_ON}",
    ),
    (
        r"could not bind on a random free port|UnknownHostException|Service 'sparkDriver' failed|BindException",
        "Spark", "no address of this machine to listen at", "an address that Spark can bind to",
        "Set SPARK_LOCAL_IP=127.0.0.1 for a local master, or to this machine's address in the cluster's network.",
    ),
    (
        r"JAVA_GATEWAY_EXITED|Java gateway process exited",
        "Spark", "a Java process that ended as it started", "a Java process that runs",
        "Likely causes: a --master that Spark does not know, too little memory for "
        "spark.driver.memory, or options that this Java does not know.",
    ),
)  # fmt: skip


@contextmanager
def explained() -> Iterator[None]:
    """Raise an error of ours in place of a failure of Spark whose cause is known; let every other failure through."""
    try:
        yield
    except (PySparkException, Py4JError, ConnectionError, EOFError) as error:
        # A failed write reaches Python as py4j's own exception.
        try:
            explanation = explain(str(error)) or java_is_dead(error)
        except (Py4JError, ConnectionError) as silent:
            # The text of a Java exception comes from Java, which may be gone by now.
            explanation = java_is_dead(silent)
        if explanation is None:
            if isinstance(error, (Py4JJavaError, CapturedException)):
                # Java, which is asked for the text, has ended before the traceback is shown.
                error.add_note(without_secrets(str(error)))
            raise
        raise explanation from error


def java_is_dead(error: Exception) -> CatlipError | None:
    """The error for a Java process that is gone or does not answer; None if it works."""
    if isinstance(error, (PySparkException, Py4JJavaError)):
        # Java sent these, so it works.
        return None
    process = getattr(SparkContext._gateway, "proc", None)
    try:
        status = None if process is None else process.wait(timeout=JAVA_END_SECONDS)
    except subprocess.TimeoutExpired:
        status = None
    if status is None and not isinstance(error, Py4JNetworkError) and not _raised_by_py4j(error):
        return None
    return MissingRequirementError(
        "Spark",
        found="a Java process that is gone" + (f" (killed by signal {-status})" if status and status < 0 else ""),
        wanted="a Java process that runs until the job ends",
        remedy="Most often memory ran out (see `dmesg`): give --master 'local[2]' or lower spark.driver.memory, or "
        f"take a machine with more. {GOES_ON}",
    )


def _raised_by_py4j(error: Exception) -> bool:
    """Tell an error of the connection to Java from an error of a bucket or another server."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.partition(".")[0] == "py4j" for name in frames)


def explain(message: str) -> CatlipError | None:
    """The error behind Spark's message; None if the message has no error of ours, no file and no known failure."""
    if own := OWN_ERROR.search(message):
        return InputError(own["thing"], found=own["found"], wanted=own["wanted"], remedy=own["remedy"])
    if refused := SYSTEM_ERROR.search(message):
        return InputError(
            refused["path"] or "the output directory",
            found=refused["what"].strip(),
            wanted="a location that can be read and written",
            remedy="Make room, give access, or share the folder with every worker; then give the same command again: "
            "it goes on where it stopped.",
        )
    if unstarted := NO_PYTHON.search(message):
        said = (unstarted["said"] or "").strip().rpartition("\n")[2].strip()
        return MissingRequirementError(
            "Python on a worker",
            found=f"{unstarted['program']}: {unstarted['why']}" if unstarted["program"] else f"one that ends ({said})",
            wanted="a Python with pyspark, numpy and pyarrow on every worker",
            remedy=f"Name it with PYSPARK_PYTHON, or spark.pyspark.python in spark-defaults.conf. {GOES_ON}",
        )
    for pattern, thing, found, wanted, remedy in DEATHS:
        if re.search(pattern, message):
            return MissingRequirementError(thing, found=found, wanted=wanted, remedy=remedy)
    file = FILE_IN_MESSAGE.search(message)
    if file is None:
        return None
    causes = CAUSE.findall(message)
    why = causes[-1].strip() if causes else "truncated or damaged"
    return broken_file(re.sub(SCHEME_PATTERN, "", file["path"]).rstrip("."), why)
