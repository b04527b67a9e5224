"""The Spark session, with the settings that this room needs, and one folder for its temporary files.

Java is checked first, because Spark's own message about it does not say what to do. The folder is named by host and
process, and is removed with the run. A run that was killed cannot remove its own; the next run does, once neither the
killed run nor a child of it is alive.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from pipeline.failures import explained
from vocab.errors import MissingRequirementError
from vocab.store.locks import has_ended, machine

JAVA_VERSION = 17
JAVA_END_SECONDS = 20.0
"""seconds for Java to end by itself"""
ROOMS_ZIP = "rooms.zip"


@contextmanager
def spark_session(master: str | None, *, name: str) -> Iterator[SparkSession]:
    """A session that ends with the block, together with its Java process.

    Under spark-submit, its options apply; otherwise `master`, or local[*]. Raises MissingRequirementError if Java is
    missing or older than 17, and what `failures.explained` raises for failures of Spark.
    """
    check_java()
    # Workers must run this interpreter, not the first python3 on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # The error at the end reports a connection that breaks off; py4j's tracebacks before it, some of them from the root
    # logger, do not help.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_not_of_py4j)
    # spark-submit has started the JVM already, with a master of its own.
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    chosen = master or (None if submitted else "local[*]")
    is_local = (chosen or "").startswith("local")
    session = None
    with scratch_folder() as folder:
        try:
            # Inside `finally`: to know whether Java died first, its process must not have been ended here.
            with explained():
                with used_by_children(folder), own_signals():
                    session = started(chosen, name=name)
                # On a local master, a failed task ends the job with an error that says why; Java's log would repeat it.
                session.sparkContext.setLogLevel("OFF" if is_local else "ERROR")
                if not submitted and not is_local:
                    # The executors have no checkout. Users of spark-submit give the same zip with --py-files.
                    session.sparkContext.addPyFile(str(zip_rooms(folder / ROOMS_ZIP)))
                yield session
        finally:
            end_spark(session)


def started(master: str | None, *, name: str) -> SparkSession:
    """Start a session with the settings that this room needs."""
    builder = SparkSession.builder.appName(name)
    if master is not None:
        builder = builder.master(master)
    if master is not None and re.fullmatch(r"local(\[.*\])?", master):
        builder = builder.config("spark.driver.memory", "4g").config("spark.driver.bindAddress", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1")
    return (
        # The job shows its own progress.
        builder.config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        # Batches small enough for several Python workers to hold, and large enough to encode each word only once.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "32768")
        .getOrCreate()
    )


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    return record.module != "java_gateway"


@contextmanager
def own_signals() -> Iterator[None]:
    """Restore the handler of Ctrl-C after the block: pyspark's handler outlives its session, and then fails."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_spark(session: SparkSession | None) -> None:
    """Stop the session, if there is one, and end the Java process that this one started, which removes its files."""
    if session is not None:
        # A session whose Java is gone cannot be stopped.
        with suppress(Py4JError, OSError):
            session.stop()
    process = getattr(SparkContext._gateway, "proc", None)
    if process is None:
        return
    # Java ends when its standard input is closed.
    process.stdin.close()
    try:
        process.wait(timeout=JAVA_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # The next session of this process starts another Java.
    SparkContext._gateway = SparkContext._jvm = None


def zip_rooms(target: Path) -> Path:
    """Write vocab/ and pipeline/, which executors need, to a zip: equal files give equal bytes."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(
        path
        for room in ("vocab", "pipeline")
        for path in (root / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            name = zipfile.ZipInfo(path.relative_to(root).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            name.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(name, path.read_bytes())
    return target


def check_java() -> None:
    """Raise MissingRequirementError unless `java` is installed and new enough."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    found = "none"
    if java is not None and Path(java).exists():
        banner = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
        version = re.search(r'version "(\d+)', banner)
        if version and int(version.group(1)) >= JAVA_VERSION:
            return
        found = banner.splitlines()[0] if banner else "one that does not run"
    raise MissingRequirementError(
        "Java",
        found=found,
        wanted=f"version {JAVA_VERSION} or newer",
        remedy="Spark needs it. On Debian or Ubuntu: apt-get install openjdk-17-jre-headless; or set JAVA_HOME.",
    )


PREFIX = "catlip-spark"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this process, removed at the end of the block."""
    parent = Path(tempfile.gettempdir())
    remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}.{machine()}.{os.getpid()}.", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def used_by_children(folder: Path) -> Iterator[None]:
    """Let processes that start in the block write below the folder: Java, and the Python workers that it starts."""
    changed = {
        "TMPDIR": str(folder),
        # Java ignores TMPDIR. Options from the configuration come after these, and override them.
        "SPARK_SUBMIT_OPTS": f'{os.environ.get("SPARK_SUBMIT_OPTS", "")} -Djava.io.tmpdir="{folder}"'.strip(),
    }
    before = {name: os.environ.get(name) for name in changed}
    own, tempfile.tempdir = tempfile.tempdir, str(folder)
    os.environ.update(changed)
    try:
        yield
    finally:
        tempfile.tempdir = own
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of this machine's runs whose process and children are gone."""
    name = re.compile(rf"{PREFIX}\.{re.escape(machine())}\.(?P<pid>\d+)\.\w+")
    for folder in parent.iterdir():
        match = name.fullmatch(folder.name)
        if match is not None and has_ended(int(match["pid"])) and not _has_children(folder):
            # Another user's folder cannot be removed.
            shutil.rmtree(folder, ignore_errors=True)


def _has_children(folder: Path) -> bool:
    """Tell, from /proc, whether a process is alive that was started with the folder as its TMPDIR."""
    wanted = f"TMPDIR={folder}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes().split(b"\0"):
                return True
        except OSError:
            # Another user's process, or one that has just ended.
            continue
    return False
