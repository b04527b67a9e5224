"""Processes of the trainer, alone or as ranks, that start fast because they are forks of one that has imported torch.

In: a function and its arguments. Out: exit statuses and the text on stderr. Ranks get the variables that torchrun sets;
tests that run torchrun itself show that it starts and stops the trainer. As in a user's process, and unlike the tests'
own, types in the trainer are not checked. As on a training node, there is no Spark.

Run as a program, this file is the process that forks: it reads requests on stdin and answers on stdout.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent


class Forks:
    """Handle of the process that forks; that process ends with its stdin."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )

    def start(self, ranks: int, log: Path, function: Callable[..., object], *arguments: object) -> Ranks:
        """Start `ranks` processes that call the function, each the leader of a session; `log` takes what they print."""
        # Pickled twice: the function's module is for the forks to import.
        call = pickle.dumps((function, arguments))
        return Ranks(self, self.ask("start", ranks, str(log), call), log)

    def run(self, ranks: int, log: Path, function: Callable[..., object], *arguments: object) -> None:
        """Start processes, and assert that all of them end with status 0."""
        group = self.start(ranks, log, function, *arguments)
        assert group.wait() == [0] * ranks, group.said()

    def ask(self, *request: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)  # noqa: S301 - our own process

    def close(self) -> None:
        self._process.communicate()


@dataclass(frozen=True)
class Ranks:
    """Processes that were started together."""

    forks: Forks
    pids: list[int]
    log: Path

    def statuses(self) -> list[int | None]:
        """Return the exit statuses: negative for a signal, None for a process that still runs."""
        return cast("list[int | None]", self.forks.ask("statuses", self.pids))

    def wait(self) -> list[int | None]:
        """Wait until all have ended; return their exit statuses."""
        self.until(lambda: None not in self.statuses())
        return self.statuses()

    def wait_for(self, true: Callable[[], bool]) -> None:
        """Wait until a condition is true; all processes must run until then."""
        self.until(lambda: true() or any(status is not None for status in self.statuses()))
        assert true(), self.said()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until a condition is true; if that takes too long, kill all processes."""
        deadline = time.monotonic() + 240  # before pytest ends the test and leaves the processes
        while not true():
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"this took too long: {self.said()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill the processes that still run, with all that they started, and wait for their end."""
        for pid, status in zip(self.pids, self.statuses(), strict=True):
            if status is None:
                os.killpg(pid, signal.SIGKILL)
        self.wait()

    def said(self) -> str:
        return self.log.read_text()


def trainer(words: list[str]) -> None:
    """Run `python -m trainer` with these words."""
    from trainer.__main__ import main
    from vocab.errors import run_cli

    sys.argv[1:] = words
    run_cli(main)


def torchrun(words: list[str]) -> None:
    """Run `torchrun` with these words; its ranks are not forks."""
    from torch.distributed.run import main

    main(words)


def environments(ranks: int) -> Iterable[dict[str, str]]:
    """List the variables that torchrun sets for each rank of one machine."""
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [group | {"LOCAL_WORLD_SIZE": str(ranks), "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(ranks)]


def serve() -> tuple[Callable[..., object], tuple[object, ...]]:
    """Answer requests until stdin ends; only forks return, with the call that they are to make."""
    ended: dict[int, int] = {}
    while True:
        try:
            name, *request = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own process
        except EOFError:
            sys.exit()
        answer: list[int | None] = []
        if name == "statuses":
            for pid in request[0]:
                if pid not in ended and (done := os.waitpid(pid, os.WNOHANG))[0]:
                    ended[pid] = os.waitstatus_to_exitcode(done[1])
                answer.append(ended.get(pid))
        else:
            ranks, log, call = request
            for environment in environments(ranks):
                if not (pid := os.fork()):
                    become(environment, log)
                    function, arguments = pickle.loads(call)  # noqa: S301 - from our own process
                    return function, arguments
                answer.append(pid)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def become(environment: dict[str, str], log: str) -> None:
    """Make a fork a process of its own, with its session, streams and variables."""
    os.setsid()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    page = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor, stream in ((nothing, 0), (page, 1), (page, 2)):
        os.dup2(descriptor, stream)


def leave(status: int) -> None:
    """End this process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    # First, so that it runs last. Python would visit all objects of imports once more to end, each on a page that the
    # fork would have to copy.
    status = 1
    atexit.register(lambda: leave(status))
    # The collector would go through a million objects of imports, again and again and at the end of every fork, which
    # would get its own copy of their memory.
    gc.disable()
    for package in ("pyspark", "py4j"):
        sys.modules[package] = None
    # What the forks are to have.
    import hypothesis  # noqa: F401
    import pyarrow.dataset  # noqa: F401 - the first read of a Parquet file would import it, and pandas
    import pytest  # noqa: F401
    import timm  # noqa: F401
    import torch.distributed.fsdp
    import torch.distributed.run  # noqa: F401

    import trainer.__main__
    import trainer.pretrain

    # A first command line imports what reads it.
    trainer.__main__.read(["plan", "sample"])
    gc.freeze()
    try:
        function, arguments = serve()
        gc.enable()
        function(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


if __name__ == "__main__":
    main()
