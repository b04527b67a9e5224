"""The Spark session: made in `main`, with the settings this job needs and no others.

In: a master, or none. Out: a session. Checks for Java first: Spark's own message about it does not say what to do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from vocab.errors import MissingRequirementError

JAVA_VERSION = 17
ROOMS_ZIP = "rooms.zip"


@contextmanager
def spark_session(master: str | None, *, name: str) -> Iterator[SparkSession]:
    """A session that ends with the block. Raises MissingRequirementError where Java is missing or older than 17.

    Under spark-submit its options win; otherwise `master`, or local[*].
    """
    check_java()
    # Workers must run this interpreter, not whatever python3 comes first on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    # spark-submit has started the JVM already, with a master of its own.
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    chosen = master or (None if submitted else "local[*]")
    if chosen is not None:
        builder = builder.master(chosen)
    if chosen is not None and re.fullmatch(r"local(\[.*\])?", chosen):
        builder = builder.config("spark.driver.memory", "4g").config("spark.driver.bindAddress", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1")
    session = (
        # The job shows how far it is itself.
        builder.config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        # A batch must be small enough that a few Python workers hold theirs, and large enough to encode words once.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "32768")
        .config("spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            if not submitted and not (chosen or "").startswith("local"):
                # The executors have no checkout; spark-submit is given the same zip with --py-files.
                session.sparkContext.addPyFile(str(zip_rooms(Path(folder) / ROOMS_ZIP)))
            yield session
    finally:
        session.stop()


def zip_rooms(target: Path) -> Path:
    """Write what executors need of this checkout, vocab/ and pipeline/, to a zip: equal files give equal bytes."""
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
    """Raise MissingRequirementError unless `java` is there and new enough."""
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
