"""Loaders: the processes or threads that fill a rank's batches beside it.

    server     a small process that loaders are forked from (`trainer/data/loader_server.py`)
    link       a pipe to each loader: a message for every free buffer one way, parts and errors the other

A loader that is killed (out of memory, kill -9) is started again at the step that it had not finished: its work is a
function of the position alone, so the batches are the same. A loader that is killed at the same step again and again is
an error; so is a server that dies whenever it is to start a loader. Loaders and their server ignore SIGTERM and SIGINT,
which schedulers send to the whole group: they end when their link is closed, however their rank ended.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import pickle
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Literal

import torch

from trainer.data.batch import BatchPart, Position
from trainer.data.loader_server import ignore_stops, loader_context, shielding
from trainer.data.reader import BatchReader, LoaderShare
from trainer.data.resolution import StepShape
from trainer.data.ring import Ring
from trainer.data.source import Source
from trainer.deaths import memory_error
from vocab.errors import CatlipError, InputError, MissingRequirementError

Loaders = Literal["processes", "threads"]

# Deaths of a loader at one step, from which on it is not started again.
MAX_DEATHS = 3
# Seconds to wait before each try to start a loader: a server that has just died may still look alive.
SERVER_WAITS = (0.0, 0.1, 0.5, 2.0)
# Exit status that multiprocessing reports for a process whose server has died; its own is unknown.
SERVER_GONE = 255
GO = b"go"
# Time for all loaders together to finish their work when a feed is closed.
PATIENCE_SECONDS = 1.0


class LoaderPool:
    """The loaders of a rank, and the parts they have sent."""

    def __init__(
        self,
        source: Source,
        shape_at: Callable[[int], StepShape],
        shares: list[LoaderShare],
        ring: Ring,
        start: Position | None,
        *,
        processes: bool,
    ) -> None:
        self._make = (source, shape_at, ring)
        self._shares = shares
        self._processes = processes
        self._ring = ring
        self._parts: dict[int, dict[int, BatchPart]] = defaultdict(dict)
        self._after: list[Position | None] = [start] * len(shares)
        self._errors: dict[int, CatlipError] = {}
        self._deaths = Counter[tuple[int, int]]()
        self._granted = (start.step if start is not None else 0) + ring.slots
        """steps before this one have a buffer to be filled"""
        self._links: list[Connection] = []
        self._runners: list[ForkServerProcess | threading.Thread] = []
        for worker in range(len(shares)):
            link, runner = self._launch(worker)
            self._links.append(link)
            self._runners.append(runner)

    def _launch(self, worker: int) -> tuple[Connection, ForkServerProcess | threading.Thread]:
        if not self._processes:
            return self._launch_thread(worker)
        for wait_seconds in SERVER_WAITS:
            time.sleep(wait_seconds)
            try:
                return self._launch_process(worker)
            except (EOFError, ConnectionError):
                # The server has died; the next try starts another one.
                continue
        raise MissingRequirementError(
            "server of loader processes",
            found=f"a process that died {len(SERVER_WAITS)} times before it had started loader {worker}",
            wanted="a server that starts loaders",
            remedy="The system kills it when memory is short (see dmesg): lower --workers, or use --loaders threads.",
        )

    def _launch_process(self, worker: int) -> tuple[Connection, ForkServerProcess]:
        # A new link for every try: a loader that a dying server left behind ends with its old one.
        here, there = self._link(worker)
        with there:
            source, shape_at, ring = self._make
            arguments = (there, source, shape_at, ring, self._shares[worker], self._after[worker])
            process = loader_context().Process(
                target=_serve_process, args=arguments, daemon=True, name=f"loader {worker}"
            )
            try:
                with shielding():
                    process.start()
            except BaseException:
                here.close()
                raise
        return here, process

    def _launch_thread(self, worker: int) -> tuple[Connection, threading.Thread]:
        here, there = self._link(worker)
        source, shape_at, ring = self._make
        # Tables and labels of a source keep files open that threads must not share.
        source = pickle.loads(pickle.dumps(source))  # noqa: S301 - its own bytes
        arguments = (there, source, shape_at, ring, self._shares[worker], self._after[worker])
        thread = threading.Thread(target=_serve, args=arguments, daemon=True, name=f"loader {worker}")
        thread.start()
        return here, thread

    def _link(self, worker: int) -> tuple[Connection, Connection]:
        """A link to a loader that is about to start, with a message for each buffer that it may fill."""
        here, there = multiprocessing.Pipe()
        after = self._after[worker]
        for _ in range(self._granted - (after.step if after is not None else 0)):
            here.send_bytes(GO)
        return here, there

    def release(self) -> None:
        """Let the loaders fill one more buffer."""
        self._granted += 1
        for link in self._links:
            try:
                link.send_bytes(GO)
            except OSError:
                # The loader is dead; `parts` finds out, and starts a new one with all messages.
                continue

    def ready(self, step: int) -> int:
        """Number of batches that are complete, from `step` on."""
        while links := wait([link for n, link in enumerate(self._links) if n not in self._errors], timeout=0):
            alive = [self._receive(self._links.index(link)) for link in links]  # type: ignore[arg-type]
            if not any(alive):
                break
        return next(count for count in itertools.count() if len(self._parts.get(step + count, {})) < len(self._links))

    def parts(self, step: int) -> list[BatchPart]:
        """Wait for all parts of a step. Raises the error of a loader, and InputError for a loader that keeps dying.

        Loaders are ahead: an error is raised when its step comes, after all batches that are whole.
        """
        while missing := [worker for worker in range(len(self._links)) if worker not in self._parts[step]]:
            for worker in missing:
                if worker in self._errors:
                    raise self._errors[worker]
            for link in wait([self._links[worker] for worker in missing]):
                worker = self._links.index(link)  # type: ignore[arg-type]
                if not self._receive(worker):
                    self._replace(worker)
        found = self._parts.pop(step)
        return [found[worker] for worker in range(len(self._links))]

    def _receive(self, worker: int) -> bool:
        """Receive a message of a loader; False if the loader is dead."""
        try:
            sent = self._links[worker].recv()
        except (EOFError, OSError):
            # OSError too, for a loader that was killed while it sent.
            return False
        if isinstance(sent, CatlipError):
            self._errors[worker] = sent
            return True
        self._parts[sent.step][worker] = sent
        self._after[worker] = sent.position
        return True

    def _replace(self, worker: int) -> None:
        """Start a dead loader again at its step."""
        runner, after = self._runners[worker], self._after[worker]
        step = after.step if after is not None else 0
        runner.join()
        code = runner.exitcode if isinstance(runner, ForkServerProcess) else None
        self._deaths[worker, step] += 1
        ended_itself = code is None or (code >= 0 and code != SERVER_GONE)
        if ended_itself or self._deaths[worker, step] >= MAX_DEATHS:
            raise InputError(
                f"loader {worker}",
                found=_cause(code, self._deaths[worker, step], step),
                wanted="loader processes that do not crash",
                remedy="With signal 9 the machine ran out of memory: lower --workers, --prefetch or --batch-size.",
            )
        self._links[worker].close()
        self._links[worker], self._runners[worker] = self._launch(worker)

    def close(self) -> None:
        """End all loaders: without a link they stop at their next message."""
        for link in self._links:
            link.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for runner in self._runners:
            if isinstance(runner, ForkServerProcess):
                runner.join(timeout=max(0.0, deadline - time.monotonic()))
                if runner.is_alive():
                    # It may be downloading a tar that is no longer needed.
                    runner.kill()
            runner.join()
        self._ring.close()


def _serve_process(*arguments: object) -> None:
    # The trainer decides when to stop: a scheduler's signal to the whole group must not end its loaders.
    ignore_stops()
    # Not for a loader that is a thread: that would set the number for the trainer too.
    torch.set_num_threads(1)
    _serve(*arguments)  # type: ignore[arg-type]


def _serve(
    link: Connection,
    source: Source,
    shape_at: Callable[[int], StepShape],
    ring: Ring,
    share: LoaderShare,
    start: Position | None,
) -> None:
    """Run a loader: send a part of a batch for every free buffer, until the link is closed."""
    try:
        with contextlib.closing(BatchReader(source, shape_at, share, start=start)) as reader:
            _fill_until_closed(link, reader, ring)
    except CatlipError as error:
        # The trainer may have met the same error first, and have ended.
        with contextlib.suppress(OSError):
            link.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The trainer has closed its end, or has ended.
        return
    except (MemoryError, RuntimeError, OSError) as error:
        if (said := memory_error(error, where="a loader")) is None:
            raise
        with contextlib.suppress(OSError):
            link.send(said)


def _fill_until_closed(link: Connection, reader: BatchReader, ring: Ring) -> None:
    while True:
        began = time.perf_counter()
        link.recv_bytes()
        idle = time.perf_counter() - began
        shape = reader.shape_at(reader.step)
        slot = reader.step % ring.slots
        part = reader.fill(ring.images(slot, count=shape.batch // reader.share.world, size=shape.size))
        part.meter.idle_seconds = idle
        link.send(part)


def _cause(code: int | None, deaths: int, step: int) -> str:
    if code == SERVER_GONE:
        return f"it ended {deaths} times at step {step}, and the server that started it died too"
    if code is None or code >= 0:
        return f"it ended at step {step} with status {code}; its own message stands above"
    return f"it was ended by signal {-code} {deaths} times at step {step}"
