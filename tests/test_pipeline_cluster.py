"""The job on a cluster of Spark's own: a master and two workers, one of which is killed, and then the driver."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Label
from tests.conftest import ROOT
from vocab.store.label_shards import LabelShards

FILES, ROWS = 24, 15_000
pyspark = pytest.importorskip("pyspark", reason="the pipeline extra is not installed")
SPARK_HOME = Path(pyspark.__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """A process in a group of its own, so that it can be killed with its children; what it says goes to a file."""
    environment = os.environ | {
        "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        # Masters and workers read no spark-defaults.conf for it.
        "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }  # fmt: skip
    with (folder / f"{len(list(folder.iterdir()))}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(what: str, happened: Callable[[], bool], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of the master, and the processes of the two workers."""
    logs = tmp_path / "logs"
    logs.mkdir()
    spark_class, port = str(SPARK_HOME / "bin" / "spark-class"), free_port()
    place = ["--host", "127.0.0.1", "--webui-port", "0"]
    running = [start(logs, spark_class, "org.apache.spark.deploy.master.Master", *place, "--port", str(port))]
    wait_until("the master", lambda: answers(port))
    worker = ["org.apache.spark.deploy.worker.Worker", *place, "--cores", "1", "--memory", "1g"]
    for number in range(2):
        folder = str(tmp_path / f"worker-{number}")
        running.append(start(logs, spark_class, *worker, "--work-dir", folder, f"spark://127.0.0.1:{port}"))
    try:
        yield f"spark://127.0.0.1:{port}", running[1:]
    finally:
        for process in running:
            kill(process)


def write_corpus(folder: Path) -> Path:
    folder.mkdir()
    words = "dog cat sofa mouse horse bicycle tree house boat apple".split()
    for number in range(FILES):
        captions = [f"a {words[i % 10]} beside a {words[(i * 7 + number) % 10]} {i}" for i in range(ROWS)]
        pq.write_table(pa.table({"caption": captions}), folder / f"{number:05d}.parquet")
    return folder


def markers(out: Path) -> int:
    return len(list((out / "_job").glob("task-*.json")))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_survives_a_dead_worker_and_a_dead_driver(
    spark: Any, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    from pipeline.run import label_captions

    master, workers = cluster
    corpus, out, whole = write_corpus(tmp_path / "in"), tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", "pipeline", "label", "--captions", str(corpus), "--out", str(out)]
    command += ["--master", master, "--task-bytes", "1"]
    label_captions(spark, Label((str(corpus),), str(whole), task_bytes=1))

    logs = tmp_path / "driver-logs"
    logs.mkdir()
    driver = start(logs, *command)
    wait_until("the first tasks", lambda: markers(out) >= 3)
    kill(workers[0])
    done = markers(out)
    wait_until("tasks on the other worker", lambda: markers(out) >= min(done + 3, FILES - 2))
    kill(driver)
    assert not (out / "manifest.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "_job").glob("task-*.json")}
    assert 6 <= len(kept) < FILES

    finished = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"}, check=False
    )
    assert finished.returncode == 0, finished.stderr
    first, *others = finished.stderr.splitlines()
    assert re.fullmatch(r"spark   log in /\S+/spark\.log", first), finished.stderr
    assert all(line.startswith("labels  ") for line in re.split(r"[\r\n]+", "\n".join(others))), finished.stderr
    assert f"{FILES * ROWS:,} rows" in finished.stdout
    ours, undisturbed = LabelShards.open(out), LabelShards.open(whole)
    assert ours.read_all() == undisturbed.read_all()
    assert (out / "counts.parquet").read_bytes() == (whole / "counts.parquet").read_bytes()
    assert ours.manifest.rows == FILES * ROWS


CONNECT = """
from pyspark.sql import SparkSession
from pipeline.labeling import with_synsets
spark = SparkSession.builder.remote("sc://127.0.0.1:{port}").getOrCreate()
frame = spark.createDataFrame([(1, "a couch"), (2, None)], "id int, caption string")
print([row.synsets for row in with_synsets(frame, captions=("caption",)).orderBy("id").collect()])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_library_call_works_through_spark_connect(tmp_path: Path) -> None:
    for package in ("grpc", "grpc_status", "pandas"):
        pytest.importorskip(package, reason="Spark Connect's client is not installed: pip install 'pyspark[connect]'")
    port = free_port()
    logs = tmp_path / "logs"
    logs.mkdir()
    conf = ["--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.ui.enabled=false"]
    name = "org.apache.spark.sql.connect.service.SparkConnectServer"
    submit = [str(SPARK_HOME / "bin" / "spark-submit"), "--class", name, "--master", "local[1]"]
    server = start(logs, *submit, *conf, "spark-internal")
    try:
        wait_until("the Connect server", lambda: answers(port))
        script = CONNECT.format(port=port)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK")}
        said = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
        )
        assert said.stdout.strip() == "[[4256520], None]", said.stderr
    finally:
        kill(server)
