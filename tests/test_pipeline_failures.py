"""Spark's deaths in a sentence, and nothing left of a run that ended in whatever way."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark", reason="the pipeline extra is not installed")

from py4j.clientserver import ClientServer, JavaParameters, PythonParameters
from py4j.protocol import Py4JNetworkError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.captured import CapturedException

from pipeline.failures import explain, explained
from pipeline.session import PREFIX, named_if_spark_fails, remove_abandoned, scratch_folder, used_by_children
from tests.processes import cli
from vocab.errors import InputError, MissingRequirementError
from vocab.store.locks import machine

ROOT = Path(__file__).resolve().parent.parent

READ_BY_SPARK = (
    "java.io.EOFException\n\tat org.apache.parquet.bytes.BytesUtils.read(B.java:1)\n"
    "\tat org.apache.spark.sql.execution.datasources.FileScanRDD.next(F.scala:1)\n"
    "\tat org.apache.spark.sql.execution.python.MapInBatchExec.doExecute(M.scala:90)"
)
DEATHS = {
    "Job aborted: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed).": "a Python worker",
    "Lost task 0.0: java.io.EOFException\n\tat java.base/java.io.DataInputStream.readInt(D.java:386)\n"
    "\tat org.apache.spark.security.SocketAuthHelper.readUtf8(SocketAuthHelper.scala:116)\n"
    "\tat org.apache.spark.api.python.PythonWorkerFactory.createWorker$1(P.scala:220)": "a Python worker",
    "java.net.SocketException: Broken pipe\n\tat java.base/sun.nio.ch.SocketDispatcher.write(S.java:62)\n"
    "\tat org.apache.spark.api.python.BasePythonRunner$ReaderInputStream.read(PythonRunner.scala:9)": "a Python worker",
    "java.io.IOException: Connection reset by peer\n\tat java.base/sun.nio.ch.IOUtil.read(IOUtil.java:1)\n"
    "\tat org.apache.spark.sql.execution.python.PythonArrowOutput.read(PythonArrowOutput.scala:1)": "a Python worker",
    "EOFException occurred while reading the port number from pyspark.daemon's stdout.": "a Python worker",
    "java.lang.IllegalStateException: Python daemon failed to launch worker.": "a Python worker",
    'Lost task 0.0: java.io.IOException: Cannot run program "/no/python3": error=2, No such file': "Python on a worker",
    "Error from python worker: \n  Traceback:\n  ImportError: No module named 'pyspark'\nPYTHONPATH was:\n  /a.zip\n"
    "EOFException occurred while reading the port number from pyspark.daemon's stdout.": "Python on a worker",
    "Caused by: java.lang.OutOfMemoryError: Java heap space": "Spark",
    "java.lang.OutOfMemoryError: GC overhead limit exceeded": "Spark",
    "org.apache.spark.memory.SparkOutOfMemoryError: [UNABLE_TO_ACQUIRE_MEMORY] Unable to acquire 65536 bytes": "Spark",
    "Total size of serialized results of 9 tasks is bigger than spark.driver.maxResultSize (1024.0 MiB)": "Spark",
    "java.io.IOException: No space left on device\n\tat java.base/sun.nio.ch": "Spark's scratch folder",
    "ExecutorLostFailure (executor 1 exited) Reason: Remote RPC client disassociated": "Spark",
    "Traceback:\n  File x\nnumpy._core._exceptions._ArrayMemoryError: Unable to allocate": "a Python worker",
    "Traceback:\n  File x\npyarrow.lib.ArrowMemoryError: malloc of size 99 failed": "a Python worker",
    "Traceback:\n  File x\nMemoryError": "a Python worker",
    "Application has been killed. Reason: All masters are unresponsive! Giving up.": "--master",
    "org.apache.spark.SparkException: Could not parse Master URL: 'nonsense'": "--master",
    "[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.": "Spark",
    "java.net.UnknownHostException: node7: Name or service not known": "Spark",
}  # fmt: skip


@pytest.mark.parametrize("message", DEATHS)
def test_a_death_of_spark_is_a_sentence(message: str) -> None:
    with pytest.raises(MissingRequirementError) as caught, explained():
        raise PySparkException(message)
    assert caught.value.thing == DEATHS[message]
    assert "\n" not in str(caught.value)


def test_an_error_of_ours_and_a_refused_place_come_first() -> None:
    page = "SparkException: Python worker exited\n{}\n\tat org.apache.spark"
    ours = explain(page.format("vocab.errors.InputError: a.tsv: found x; wanted y. Mend it."))
    assert isinstance(ours, InputError)
    assert str(ours) == "a.tsv: found x; wanted y. Mend it."
    for refused in ("OSError: [Errno 28] No space left on device", "FileNotFoundError: [Errno 2] No such file"):
        place = explain(page.format(f"{refused}: '/data/part-0'"))
        assert isinstance(place, InputError)
        assert place.thing == "/data/part-0"


def test_a_java_process_that_does_not_answer_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # The session of other tests, if there is one, lives.
    monkeypatch.setattr(SparkContext, "_gateway", None)
    with pytest.raises(MissingRequirementError, match=r"Spark: found a Java process that is gone"), explained():
        raise Py4JNetworkError("Answer from Java side is empty")


class DeadJava(PySparkException):
    """An exception whose text is asked of a Java process that is gone, as pyspark's own exceptions ask."""

    def __str__(self) -> str:
        refused_by_java()
        return ""


def refused_by_java() -> None:
    """Let py4j itself meet a port where nobody listens."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        java = JavaParameters(port=unheard.getsockname()[1])
        gateway = ClientServer(java_parameters=java, python_parameters=PythonParameters(port=0))
        try:
            gateway.jvm.System.nanoTime()
        finally:
            gateway.shutdown_callback_server()


def fail_to_connect() -> None:
    refused_by_java()


def fail_to_tell() -> None:
    raise DeadJava("")


@pytest.mark.parametrize("fail", [fail_to_connect, fail_to_tell])
def test_a_java_process_that_refuses_connections_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]
) -> None:
    monkeypatch.setattr(SparkContext, "_gateway", None)
    with pytest.raises(MissingRequirementError, match=r"Spark: found a Java process that is gone"), explained():
        fail()


@pytest.mark.parametrize(
    "error",
    [
        PySparkException("[UNRESOLVED_COLUMN] a"),
        PySparkException(READ_BY_SPARK),
        ConnectionResetError(104, "of a bucket"),
    ],
)
def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    # A Java that lives is not waited for: in the session of other tests it does not end.
    monkeypatch.setattr("pipeline.failures.JAVA_END_SECONDS", 0.1)
    with pytest.raises(type(error)), explained():
        raise error


def test_an_error_that_nobody_explained_keeps_its_text_when_java_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkContext, "_jvm", object())
    monkeypatch.setattr(CapturedException, "_log_exception", lambda error: None)
    with pytest.raises(CapturedException) as caught, explained():
        raise CapturedException("RuntimeError: boom at s3://key:secret@bucket", "")
    monkeypatch.setattr(SparkContext, "_jvm", None)
    assert "RuntimeError: boom at s3://bucket" in "".join(traceback.format_exception(caught.value))


def test_a_scratch_folder_goes_with_its_run_and_is_the_childrens_too() -> None:
    before = {name: os.environ.get(name) for name in ("TMPDIR", "SPARK_SUBMIT_OPTS")}
    with scratch_folder() as folder:
        with used_by_children(folder):
            shown = subprocess.run(
                [sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert f'-Djava.io.tmpdir="{folder}"' in os.environ["SPARK_SUBMIT_OPTS"]
        assert Path(shown.stdout.strip()).parent == folder
        assert {name: os.environ.get(name) for name in before} == before
    assert not folder.exists()


def test_folders_of_dead_runs_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    here = machine()
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        "dead": f"{PREFIX}.{here}.{dead.pid}.aaaa",
        "dead, with a child": f"{PREFIX}.{here}.{dead.pid}.bbbb",
        "alive": f"{PREFIX}.{here}.{os.getpid()}.cccc",
        "of another host": f"{PREFIX}.another.{dead.pid}.dddd",
        "of Spark alone": "spark-0a1b",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    environment = os.environ | {"TMPDIR": str(tmp_path / names["dead, with a child"])}
    child = subprocess.Popen(["sleep", "60"], env=environment)
    try:
        remove_abandoned(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == set(names.values()) - {names["dead"]}
    finally:
        child.kill()
        child.wait()
    remove_abandoned(tmp_path)
    assert names["dead, with a child"] not in {path.name for path in tmp_path.iterdir()}


def children_of(pid: int) -> dict[int, str]:
    """All processes below a process, with their command lines."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        parent = todo.pop()
        below = {int(child): args for child, of, args in rows if int(of) == parent}
        found |= below
        todo += below
    return found


def start(tmp_path: Path) -> subprocess.Popen[str]:
    """A label job with its temporary files in a folder of its own."""
    # A process that was started in the background ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (tmp_path / "in").mkdir()
    (tmp_path / "tmp").mkdir()
    for number in range(8):
        pq.write_table(
            pa.table({"caption": [f"a dog {i}" for i in range(40_000)]}), tmp_path / "in" / f"{number}.parquet"
        )
    command = [sys.executable, "-m", "pipeline", "label", "--captions", str(tmp_path / "in"), "--out"]
    command += [str(tmp_path / "out"), "--task-bytes", "1", "--master", "local[1]"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "SPARK_LOCAL_IP": "127.0.0.1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def wait_for(job: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    while not happened():
        assert job.poll() is None, "the job ended first"
        time.sleep(0.05)


def kill_java(job: subprocess.Popen[str], out: Path) -> None:
    wait_for(job, (out / "_job" / "plan.json").exists)
    os.kill(next(pid for pid, args in children_of(job.pid).items() if "java" in args.split()[0]), signal.SIGKILL)


def kill_workers(job: subprocess.Popen[str], out: Path) -> None:
    """Kill each Python worker that appears, as a kernel out of memory would, until the job ends."""
    wait_for(job, (out / "_job" / "plan.json").exists)
    while job.poll() is None:
        for pid in [pid for pid, args in children_of(job.pid).items() if "pyspark.daemon" in args][1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def told(number: int) -> Callable[[subprocess.Popen[str], Path], None]:
    def tell(job: subprocess.Popen[str], out: Path) -> None:
        wait_for(job, (out / "_job" / "plan.json").exists)
        job.send_signal(number)

    return tell


def interrupt_start(job: subprocess.Popen[str], out: Path) -> None:
    wait_for(job, lambda: any("java" in args.split()[0] for args in children_of(job.pid).values()))
    job.send_signal(signal.SIGINT)


FORK = """
import os, signal
from pipeline.session import own_signals
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    with own_signals():
        if os.fork() == 0:
            os._exit(0)
except KeyboardInterrupt:
    print("stopped")
"""


def test_an_interrupt_that_python_ignores_while_java_is_forked_is_not_lost() -> None:
    told_once = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, cwd=ROOT, check=False)
    assert told_once.stdout == "stopped\n", told_once.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kill", "status", "said"),
    [
        (kill_java, 2, r"error: Spark: found a Java process that is gone \(killed by signal 9\); .*"),
        (kill_workers, 2, r"error: a Python worker: found a process that was killed or crashed; .*"),
        (told(signal.SIGTERM), 143, "stopped"),
        (told(signal.SIGINT), 130, "stopped"),
        (interrupt_start, 130, "stopped"),
    ],
    ids=["java", "workers", "SIGTERM", "SIGINT", "SIGINT early"],
)
def test_however_a_job_ends_it_says_so_in_a_line_and_leaves_no_temporary_file(
    tmp_path: Path, kill: Callable[[subprocess.Popen[str], Path], None], status: int, said: str
) -> None:
    job = start(tmp_path)
    kill(job, tmp_path / "out")
    _, errors = job.communicate()
    assert job.returncode == status, errors
    last = errors.strip().splitlines()[-1]
    assert re.fullmatch(said, last), errors
    assert "Traceback" not in errors
    assert "\tat " not in errors
    # Only Spark's log may stay, and only where the error names it.
    named = re.findall(r"Spark's log: (\S+)", last)
    assert [str(path) for path in (tmp_path / "tmp").iterdir()] == named
    assert len(named) == (status == 2)


def test_a_java_that_cannot_start_shows_its_last_lines_and_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tsv").write_text("caption\ndog\n")
    # The error's remedy names this setting, so it must count on a local master too.
    (tmp_path / "in" / "spark-defaults.conf").write_text("spark.driver.memory 1x\n")
    result = cli(
        *("label", "--captions", tmp_path / "in" / "a.tsv", "--out", tmp_path / "out"),
        TMPDIR=str(tmp_path),
        SPARK_CONF_DIR=str(tmp_path / "in"),
    )
    assert result.returncode == 2
    *lines, last = [line for line in result.stderr.splitlines() if not line.startswith("labels  ")]
    assert "spark   Invalid maximum heap size: -Xmx1x" in lines
    assert all(line.startswith("spark   ") for line in lines)
    said = r"error: Spark: found a Java process that ended as it started; .* Spark's log: (\S+)"
    named = re.fullmatch(said, last)
    assert named is not None, result.stderr
    log = Path(named[1])
    assert "Invalid maximum heap size: -Xmx1x" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in", log.name}


def test_an_error_that_is_not_sparks_leaves_no_log_and_one_that_nobody_explained_names_it(tmp_path: Path) -> None:
    def log_of(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "spark.log").write_text("WARN")
        return folder / "spark.log"

    missing = MissingRequirementError("spaCy", found="none", wanted="one", remedy="Install it.")
    with pytest.raises(MissingRequirementError) as caught, named_if_spark_fails(log_of("a")):
        raise missing
    assert caught.value is missing
    with pytest.raises(PySparkException) as unexplained, named_if_spark_fails(log_of("b")):
        raise PySparkException("[UNRESOLVED_COLUMN] a")
    assert unexplained.value.__notes__ == [f"Spark's log: {tmp_path}/b.log"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "b.log"]
