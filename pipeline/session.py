"""The Spark session: made in `main`, with the settings this job needs and no others.

In: a master, or none. Out: a session. Checks for Java first: Spark's own message about it does not say what to do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from vocab.errors import MissingRequirementError

JAVA_VERSION = 17


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
        builder.config("spark.ui.showConsoleProgress", "true")
        .config("spark.sql.session.timeZone", "UTC")
        # A batch must be small enough that a few Python workers hold theirs, and large enough to encode words once.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "32768")
        .config("spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


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
