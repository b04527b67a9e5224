"""Processes of a run: over which backends they exchange what, and how long they wait for each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import trainer.distributed
from tests.forks import Forks
from trainer.distributed import Rank, barrier, device_of, gather, gather_on_main, join_processes, on_main
from trainer.model.objective import StepObjective
from trainer.records import journal
from trainer.records.journal import Window
from trainer.run import Run
from trainer.speed.peak import Peaks
from trainer.step.step import replicate


def test_gpus_step_over_nccl_for_ten_minutes_and_hosts_wait_over_gloo_for_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[Any, Any]] = []
    store = dist.HashStore()
    hosts = dist.ProcessGroup(store, 1, 2)

    def met(address: str) -> Iterator[tuple[dist.Store, int, int]]:
        yield store, 1, 2

    def host_group(**given: Any) -> dist.ProcessGroup:
        made.append(("hosts", given))
        return hosts

    def collect(values: list[Any], value: object, *, group: object) -> None:
        assert group is hosts
        values[:] = [value, value]

    monkeypatch.setattr(trainer.distributed, "rendezvous", met)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **given: made.append((backend, given)))
    monkeypatch.setattr(dist, "new_group", host_group)
    monkeypatch.setattr(dist, "all_gather_object", collect)
    gpu = torch.device("cuda", 1)
    rank, _ = trainer.distributed._meet(Rank(1, 2, gpu))
    limits = {"timeout": timedelta(minutes=10), "device_id": gpu}
    assert made == [
        ("cpu:gloo,cuda:nccl", {"store": store, "rank": 1, "world_size": 2, **limits}),
        ("hosts", {"backend": "gloo", "timeout": timedelta(hours=24)}),
    ]
    assert rank.host is hosts


def run_of(rank: Rank, evaluate: Callable[[int], None], *, compiled: bool = False) -> Run:
    """Make the parts of a run that an evaluation needs."""
    run: Any = Run.__new__(Run)
    run.rank, run.step, run.progress = rank, SimpleNamespace(compiled=compiled), SimpleNamespace(step=1)
    run.training = SimpleNamespace(average=SimpleNamespace(swapped=nullcontext))
    run.job, run.journal = SimpleNamespace(evaluate=evaluate), SimpleNamespace(restart_clock=lambda: None)
    made: Run = run
    return made


def wait_for_main(place: Path) -> None:
    """Let the main rank work on its host for longer than a rank may wait in a step, in every way that it can."""

    def work() -> int:
        time.sleep(1)
        return 7

    def evaluate(step: int) -> None:
        if rank.is_main:
            work()
            (place / "page").touch()

    with join_processes("cpu") as rank:
        # Now and not before, for the group must come together on a busy machine too.
        dist.set_timeout(timedelta(seconds=0.5))
        assert on_main(work, rank) == 7
        assert gather(work() if rank.is_main else 8, rank) == [7, 8]
        assert gather_on_main(8 if rank.is_main else work(), rank) == ([8, 7] if rank.is_main else [])
        if rank.is_main:
            work()
        barrier(rank)
        run_of(rank, evaluate).evaluate()
        assert (place / "page").exists()
        if rank.is_main:
            work()
            (place / "results").touch()
    assert (place / "results").exists()


def test_ranks_wait_for_the_work_of_the_main_rank_longer_than_in_a_step_and_leave_together(
    forks: Forks, tmp_path: Path
) -> None:
    forks.run(2, tmp_path / "log", wait_for_main, tmp_path)


class Constant(StepObjective):
    """A step that learns one number, with a constant as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)
        self.register_buffer("one", torch.ones(1))

    def forward(self, batch: Any, progress: float) -> Tensor:
        return self.model(self.one).sum()


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# torch 2.14 has another name for it, which 2.11 does not know.
@pytest.mark.filterwarnings("ignore:.broadcast_buffers. is deprecated:FutureWarning")
@pytest.mark.usefixtures("alone")
def test_ddp_sends_no_buffers_and_times_the_first_ten_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = replicate(Constant(), Rank(0, 2, torch.device("cpu")))
    monkeypatch.setattr(dist, "_broadcast_coalesced", lambda *_: pytest.fail("a buffer was sent"))
    for _ in range(101):
        module(None, 0.0).backward()
    assert module._get_ddp_logging_data()["iteration"] == 10


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, {"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}),
    ],
)
def test_segments_grow_on_a_gpu_unless_the_user_has_settings_of_the_allocator(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], wanted: dict[str, str]
) -> None:
    environment = dict(given)
    monkeypatch.setattr(os, "environ", environment)
    device_of("cpu")
    assert environment == given
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of("auto") == torch.device("cuda", 0)
    assert environment == wanted


def test_the_log_has_what_the_allocator_reserved_and_null_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    window, peaks = Window(images=8, steps=1), Peaks(stated=1e12, measured=1e12)
    names = ("memory_gb", "memory_reserved_gb", "alloc_retries")
    on_cpu = journal._speeds([window], 1.0, peaks, torch.device("cpu"))
    assert [on_cpu[name] for name in names[1:]] == [None, None]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 71_000_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 136_000_000_000)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"num_alloc_retries": 4})
    on_gpu = journal._speeds([window], 1.0, peaks, torch.device("cuda", 0))
    assert [on_gpu[name] for name in names] == [71.0, 136.0, 4]


def evaluate_compiled() -> None:
    """Evaluate with a compiled function between two of its training steps, on batches of two sizes."""
    from torch._dynamo.testing import CompileCounterWithBackend

    graphs = CompileCounterWithBackend("eager")
    block = torch.compile(lambda tokens: tokens.sin(), dynamic=False, backend=graphs)

    def evaluate(step: int) -> None:
        with torch.no_grad():
            assert [len(block(torch.zeros(size))) for size in (4, 3)] == [4, 3]

    run = run_of(Rank(0, 1, torch.device("cpu")), evaluate, compiled=True)
    counted = []
    for work in (lambda: block(torch.ones(4, requires_grad=True)), run.evaluate) * 2:
        work()
        counted.append(graphs.frame_count)
    assert counted == [1, 1, 1, 1]


def test_an_evaluation_compiles_nothing(forks: Forks, tmp_path: Path) -> None:
    forks.run(1, tmp_path / "log", evaluate_compiled)
