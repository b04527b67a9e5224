"""The server that loader processes are made from: small, without CUDA, Arrow's threads or locks, which survive no fork.

In: nothing. Out: a `multiprocessing` context. This module imports no torch, so that the server can import it (which
takes a second or two) while the process that started it does the same.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext

# What schedulers and terminals send to all processes of a group. The trainer alone decides what follows.
STOPS = (signal.SIGTERM, signal.SIGINT)


def loader_context() -> ForkServerContext:
    """How loader processes are made; each is a fork of a process that has imported what loaders need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.data.reader"])
    return context


def start_loader_server() -> None:
    """Start the server if it is not there; returns at once. Call this before other work."""
    loader_context()
    with shielding():
        forkserver.ensure_running()


@contextmanager
def shielding() -> Iterator[None]:
    """Have processes that this thread starts inside hold back `STOPS` from their first instruction on.

    A process inherits the signals that are blocked where it is started. Here they wait until the end of the context,
    unless another thread takes them.
    """
    resource_tracker.ensure_running()  # shields itself, and would end the blocking if it were started inside
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def ignore_stops() -> None:
    """Have a helper process ignore `STOPS` from now on, those that were held back included."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
