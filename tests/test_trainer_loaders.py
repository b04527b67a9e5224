"""Loaders: replaced when they die, deaf to signals, gone with their feed; and what they meet is told in its turn."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.batches import STEPS, copied, same, take
from tests.corpus import Corpus, make_corpus
from trainer.data import loaders, open_files
from trainer.data.batch import Batch
from trainer.data.feed import Feed
from trainer.data.loader_server import start_loader_server
from trainer.data.loaders import Loaders
from trainer.data.resolution import FixedResolution, StepShape
from vocab.errors import InputError, MissingRequirementError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus) -> list[Batch]:
    return take(corpus.source(), 30)


def loaders_of(feed: Feed) -> list[Any]:
    assert feed._pool is not None
    return feed._pool._runners


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_killed_loader_is_replaced_and_nothing_changes(corpus: Corpus, undisturbed: list[Batch], deaths: int) -> None:
    found = []
    with Feed(corpus.source(), STEPS, workers=2) as feed:
        for batch in itertools.islice(feed, 30):
            found.append(copied(batch))
            if len(found) in (3, 12, 20)[:deaths]:
                os.kill(loaders_of(feed)[len(found) % 2].pid, signal.SIGKILL)
    assert all(map(same, undisturbed[:30], found))
    assert len(found) == 30


class Deadly(FixedResolution):
    """Has a step that no loader survives."""

    def at(self, step: int) -> StepShape:
        if step == 2 and "loader" in multiprocessing.current_process().name:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().at(step)


def test_a_loader_that_dies_again_and_again_is_an_error(corpus: Corpus) -> None:
    with pytest.raises(
        InputError, match="ended by signal 9 3 times at step 2; wanted loader processes that do not crash"
    ):
        take(corpus.source(), 9, steps=Deadly(16, 4), workers=1)


def test_a_loader_killed_while_it_sends_is_a_dead_one(corpus: Corpus) -> None:
    with Feed(corpus.source(), STEPS, workers=1, loaders="threads") as feed:
        batches = iter(feed)
        next(batches)
        pool = feed._pool
        assert pool is not None
        here, there = multiprocessing.Pipe()
        link, pool._links[0] = pool._links[0], here
        # The length of a message and its first bytes.
        os.write(there.fileno(), (1000).to_bytes(4, "big") + b"part")
        there.close()
        assert not pool._receive(0)
        here.close()
        pool._links[0] = link


@pytest.mark.parametrize("workers", [0, 2])
def test_a_tar_that_is_gone_is_named(tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = make_corpus(tmp_path)
    source = corpus.source(shuffle_shards=1)
    for tar in corpus.images.iterdir():
        tar.unlink()
    with pytest.raises(InputError, match="found No such file or directory; wanted a tar that can be opened"):
        take(source, 1, workers=workers)
    assert "Traceback" not in capfd.readouterr().err


def test_loaders_that_are_threads_leave_torch_its_own(corpus: Corpus) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        take(corpus.source(), 1, workers=1, loaders="threads")
        # Of what all threads are given; one that has computed before keeps its own number.
        with ThreadPoolExecutor() as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_loaders_meet_ahead_is_raised_in_its_turn(tmp_path: Path, workers: int) -> None:
    source = make_corpus(tmp_path, tars=2).source(shuffle_shards=1)
    second = source.tars[source.orders[0].tars_of(1)[0]]
    Path(second.location).unlink()
    found: list[Any] = []
    with Feed(source, STEPS, workers=workers) as feed, pytest.raises(InputError, match=second.location):
        found.extend(batch.samples for batch in feed)
    # The first tar's 13 samples fill three batches; the fourth needs the tar that is gone.
    assert len(found) == 3


def test_loaders_end_with_the_feed(corpus: Corpus) -> None:
    with Feed(corpus.source(), STEPS, workers=2) as feed:
        batches = iter(feed)
        next(batches)
        runners = list(loaders_of(feed))
        assert all(runner.is_alive() for runner in runners)
    assert not any(runner.is_alive() for runner in runners)


def test_a_signal_to_the_group_leaves_the_loaders_at_work(corpus: Corpus, undisturbed: list[Batch]) -> None:
    with Feed(corpus.source(), STEPS, workers=1) as feed:
        batches = iter(feed)
        found = [copied(next(batches))]
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(loaders_of(feed)[0].pid, number)
        found += [copied(next(batches)) for _ in range(8)]
        assert loaders_of(feed)[0].is_alive()
    assert all(map(same, undisturbed, found))


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGTERM, "it starts"),
        (signal.SIGINT, "it starts"),
        (signal.SIGTERM, "it has started"),
        (signal.SIGKILL, "it has started"),
    ],
)
def test_loaders_are_launched_whatever_their_server_gets(
    corpus: Corpus, undisturbed: list[Batch], number: signal.Signals, when: str
) -> None:
    server = forkserver._forkserver  # type: ignore[attr-defined]
    if when == "it starts":
        server._stop()
    start_loader_server()
    os.kill(server._forkserver_pid, number)
    os.kill(resource_tracker._resource_tracker._pid, signal.SIGTERM)  # type: ignore[attr-defined]
    before = server._forkserver_pid
    assert all(map(same, undisturbed, take(corpus.source(), 4, workers=2)))
    assert (server._forkserver_pid == before) == (number != signal.SIGKILL)


def test_a_server_that_dies_whenever_it_is_needed_is_an_error(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    server = forkserver._forkserver  # type: ignore[attr-defined]
    connect = server.connect_to_new_process

    def dead(descriptors: list[int]) -> tuple[int, int]:
        server.ensure_running()
        os.kill(server._forkserver_pid, signal.SIGKILL)
        # Until it is gone; whose child it is may still ask for its status.
        os.waitid(os.P_PID, server._forkserver_pid, os.WEXITED | os.WNOWAIT)
        with monkeypatch.context() as until_seen:
            # Or it would be seen to be dead, and another one started.
            until_seen.setattr(server, "ensure_running", lambda: None)
            pair: tuple[int, int] = connect(descriptors)
        return pair

    monkeypatch.setattr(forkserver, "connect_to_new_process", dead)
    monkeypatch.setattr(loaders, "SERVER_WAITS", (0.0, 0.1))
    with pytest.raises(MissingRequirementError, match="a process that died 2 times before it had started loader 0"):
        take(corpus.source(), 1, workers=1)


def test_a_loader_whose_server_died_is_replaced_too(corpus: Corpus, undisturbed: list[Batch]) -> None:
    found = []
    with Feed(corpus.source(), STEPS, workers=2) as feed:
        for batch in itertools.islice(feed, 12):
            found.append(copied(batch))
            if len(found) == 3:
                os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
                os.kill(loaders_of(feed)[0].pid, signal.SIGKILL)
    assert all(map(same, undisturbed[:12], found))


class Greedy(FixedResolution):
    """Asks, in a loader, for memory that no system has."""

    def __init__(self, kind: str) -> None:
        super().__init__(16, 4)
        self.kind = kind

    def at(self, step: int) -> StepShape:
        if step == 2 and "loader" in multiprocessing.current_process().name + threading.current_thread().name:
            {"numpy": np.empty, "torch": torch.empty, "Python": bytearray}[self.kind](1 << 50)
        return super().at(step)


@pytest.mark.parametrize("kind", ["numpy", "torch", "Python"])
@pytest.mark.parametrize("runners", ["processes", "threads"])
def test_memory_that_a_loader_is_refused_is_an_error_in_words(
    corpus: Corpus, kind: str, runners: Loaders, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingRequirementError, match=r"memory of a loader: .*Lower --batch-size.*--workers"):
        take(corpus.source(), 9, steps=Greedy(kind), workers=1, loaders=runners)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("runners", ["processes", "threads"])
def test_too_few_open_files_are_said_before_the_first_step(
    corpus: Corpus, runners: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests left files of their own in this process.
    here = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(open_files, "OTHER_FILES", open_files.OTHER_FILES + here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files.OTHER_FILES + 1, hard))
    try:
        with pytest.raises(InputError, match=r"--shuffle-shards: found 2 tars .*Raise `ulimit -n`, or lower"):
            Feed(corpus.source(), STEPS, workers=1, loaders=runners)
        open_files.raise_limit()
        Feed(corpus.source(), STEPS, workers=1, loaders=runners)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
