"""The Spark session, with the settings that this room needs, and one folder for its temporary files.

Java is checked first, because Spark's own message about it does not say what to do. The folder is named by host and
process, and is removed with the run. A run that was killed cannot remove its own; the next run does, once neither the
killed run nor a child of it is alive. Spark and Java write to spark.log in the folder, not to the terminal; if Spark
fails, the log stays, beside the folder, and the error names it.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from pipeline.failures import explained
from pipeline.rooms import ROOMS_ZIP, zip_rooms
from vocab.errors import MissingRequirementError
from vocab.pages.text import tell
from vocab.store.locks import has_ended, machine

JAVA_VERSION = 17
JAVA_END_SECONDS = 20.0
"""seconds for Java to end by itself"""
LOG = "spark.log"
LAST_LINES = 10
"""lines of the log that are shown if Java does not start"""


@contextmanager
def spark_session(master: str | None, *, name: str) -> Iterator[SparkSession]:
    """A session that ends with the block, together with its Java process.

    Under spark-submit, its options apply, and Spark logs where they say; otherwise `master`, or local[*]. Raises
    MissingRequirementError if Java is missing or older than 17, and what `failures.explained` raises for failures of
    Spark.
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
    remote = not submitted and not (chosen or "").startswith("local")
    session = None
    with scratch_folder() as folder, named_if_spark_fails(folder / LOG):
        try:
            # Inside `finally`: to know whether Java died first, its process must not have been ended here.
            with explained():
                if remote:
                    tell(f"spark   log in {folder / LOG}\n")
                with used_by_children(folder), own_signals():
                    session = started(chosen, name=name, log=folder / LOG)
                if submitted:
                    session.sparkContext.setLogLevel("ERROR")
                if remote:
                    # The executors have no checkout. Users of spark-submit give the same zip with --py-files.
                    session.sparkContext.addPyFile(str(zip_rooms(folder / ROOMS_ZIP)))
                yield session
        finally:
            end_spark(session)


def started(master: str | None, *, name: str, log: Path) -> SparkSession:
    """Start a session with the settings that this room needs, and Java, if it does not run yet, with a log."""
    conf = SparkConf(loadDefaults=False).setAppName(name)
    if master is not None:
        conf.setMaster(master)
    if master is not None and re.fullmatch(r"local(\[.*\])?", master):
        conf.set("spark.driver.bindAddress", "127.0.0.1").set("spark.driver.host", "127.0.0.1")
        # Not in conf, which spark-defaults.conf could not override.
        os.environ.setdefault("SPARK_DRIVER_MEMORY", "4g")
    # The job shows its own progress.
    conf.set("spark.ui.showConsoleProgress", "false")
    conf.set("spark.sql.session.timeZone", "UTC")
    # Batches small enough for several Python workers to hold, and large enough to encode each word only once.
    conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "32768")
    if "PYSPARK_GATEWAY_PORT" not in os.environ and SparkContext._gateway is None:
        launch_java(conf, log)
    return SparkSession.builder.config(conf=conf).getOrCreate()


def launch_java(conf: SparkConf, log: Path) -> None:
    """Start Spark's Java as pyspark does, with its output in the log; show the log's last lines if it ends at once."""
    # The log may leave its folder, which is closed to other users.
    log.touch(mode=0o600)
    with log.open("wb") as file:
        try:
            gateway = launch_gateway(conf, {"stdout": file, "stderr": file})  # type: ignore[no-untyped-call]
        except PySparkException:
            lines = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith("\tat ")]
            tell("".join(f"spark   {line}\n" for line in lines[-LAST_LINES:]))
            raise
    SparkContext._ensure_initialized(gateway=gateway)


@contextmanager
def named_if_spark_fails(log: Path) -> Iterator[None]:
    """If Spark fails in the block, keep its log beside the folder and name it in the error."""
    try:
        yield
    except (MissingRequirementError, PySparkException, Py4JError) as error:
        failure = error.__cause__ if isinstance(error, MissingRequirementError) else error
        # A missing package of a labeler is no failure of Spark.
        if not isinstance(failure, (PySparkException, Py4JError, ConnectionError, EOFError)) or not log.exists():
            raise
        kept = log.rename(log.parent.with_name(f"{log.parent.name}.log"))
        if not isinstance(error, MissingRequirementError):
            error.add_note(f"Spark's log: {kept}")
            raise
        remedy = f"{error.remedy} Spark's log: {kept}"
        raise MissingRequirementError(error.thing, found=error.found, wanted=error.wanted, remedy=remedy) from failure


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    return record.module != "java_gateway"


@contextmanager
def own_signals() -> Iterator[None]:
    """Restore the handler of Ctrl-C after the block, and call it there if a Ctrl-C in the block had no effect.

    pyspark's own handler outlives its session, and then fails.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        # Python ignores exceptions that are raised while it forks, as for Java.
        before(signal.SIGINT, None)


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
