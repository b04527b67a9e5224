"""The server that loader processes are made from: small, without CUDA, Arrow's threads or locks, which survive no fork.

In: nothing. Out: a `multiprocessing` context. This module imports no torch, so that the server can import it (which
takes a second or two) while the process that started it does the same.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def loader_context() -> ForkServerContext:
    """How loader processes are made; each is a fork of a process that has imported what loaders need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.data.reader"])
    return context


def start_loader_server() -> None:
    """Start the server if it is not there; returns at once. Call this before other work."""
    loader_context()
    forkserver.ensure_running()
