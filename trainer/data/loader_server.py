"""The server that loader processes are forked from, small and without CUDA, Arrow's threads or held locks.

This module imports no torch, so that the server can import torch (which takes a second or two) while the process that
started it does the same.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext

# Signals that schedulers and terminals send to all processes of a group. The trainer alone reacts to them.
STOPS = (signal.SIGTERM, signal.SIGINT)


def loader_context() -> ForkServerContext:
    """The context that makes loader processes: forks of a process that has imported what loaders need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.data.reader"])
    return context


def start_loader_server() -> None:
    """Start the server if it is not running; returns at once. Call this before other work."""
    loader_context()
    with shielding():
        forkserver.ensure_running()


@contextmanager
def shielding() -> Iterator[None]:
    """Block `STOPS` in the processes that this thread starts in the context, from their first instruction on.

    A process inherits the blocked signals of the thread that starts it. In this process they wait until the end of the
    context, unless another thread takes them.
    """
    resource_tracker.ensure_running()  # blocks signals itself, and would unblock them if it were started inside
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def ignore_stops() -> None:
    """Ignore `STOPS` in a helper process from now on, blocked ones included."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
