"""Processes and devices: the same command on one CPU, one GPU, or several processes under torchrun.

In: torchrun's environment, or none. Out: a `Rank` for this process, and the few exchanges that the trainer needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from trainer.deaths import Peers, Process, is_lost_peer, memory_error, no_group
from vocab.errors import CatlipError, MissingRequirementError

T = TypeVar("T")
STATUS_OF_ERRORS = 2
"""exit status of `vocab.errors.run_cli`"""
ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
"""variables with settings of torch's allocator: the current name, and the older one that torch reads too"""
STEP_LIMITS = {"cuda": timedelta(minutes=10), "cpu": timedelta(minutes=30)}
"""time after which a rank that waits for the others in a step gives up, by the kind of its device"""
HOST_LIMIT = timedelta(hours=24)
"""the same where ranks wait for a host: checksums of all labels, a report over all classes, a probe"""


@dataclass(frozen=True)
class Rank:
    """Number and device of this process among all processes of a run."""

    index: int
    world: int
    device: torch.device
    host: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)
    """gloo's group of all ranks, in which they wait for each other for `HOST_LIMIT`; unset: the default group"""

    @property
    def is_main(self) -> bool:
        """Tell whether this is the one process that writes."""
        return self.index == 0


def device_of(choice: str, *, local_rank: int = 0) -> torch.device:
    """Choose the device of a process. Raises MissingRequirementError for CUDA or MPS where there is none."""
    if choice == "mps":
        return _apple_gpu()
    if choice == "cuda" and not torch.cuda.is_available():
        raise MissingRequirementError(
            "--device cuda",
            found="no CUDA device that torch can use",
            wanted="a GPU and its driver",
            remedy="Use --device cpu, or check nvidia-smi and the torch build.",
        )
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise MissingRequirementError(
            f"GPU {local_rank}",
            found=f"{torch.cuda.device_count()} GPUs",
            wanted="one for each process of this machine",
            remedy="Lower torchrun --nproc-per-node.",
        )
    _grow_segments()
    return torch.device("cuda", local_rank)


def _grow_segments() -> None:
    """Have torch's allocator grow its segments, unless the user has settings of it; before CUDA starts.

    Steps of a changing resolution ask for blocks of slightly different sizes, which torch cannot use for each other:
    after 20 such steps it had reserved twice what it used.
    """
    if not any(os.environ.get(name) for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"


def _apple_gpu() -> torch.device:
    """Return MPS. Raises MissingRequirementError where torch does not have it, and for several processes."""
    if not torch.backends.mps.is_available():
        raise MissingRequirementError(
            "--device mps",
            found="no MPS device that torch can use",
            wanted="an Apple GPU, and a torch that was built for it",
            remedy="Use --device auto.",
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        raise MissingRequirementError(
            "--device mps",
            found=f"{world} processes",
            wanted="one, for an Apple computer has one GPU, and torch exchanges nothing between processes on it",
            remedy="Start the command without torchrun, or use --device cpu.",
        )
    return torch.device("mps")


def exact_device(device: torch.device) -> torch.device:
    """Return the device for sums in float64: the CPU in place of MPS, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def set_up_torch(threads: int | None, rank: Rank) -> None:
    """Set threads and precision of this process. `threads`: of the CPU; unset leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)
    if rank.device.type == "cuda":
        # Products that stay in float32 (gradients' sums are not products): TensorFloat-32 where the chip has it.
        torch.set_float32_matmul_precision("high")


@contextmanager
def join_processes(choice: str) -> Iterator[Rank]:
    """Yield this process's rank; under torchrun as a member of the process group, which is left at the end.

    Raises MissingRequirementError for memory that is refused inside, and on a rank that loses another one.
    """
    index, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = device_of(choice, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    rank = Rank(index, world, device)
    peers: Peers | None = None
    failed = False
    try:
        if world > 1:
            rank, peers = _meet(rank)
        yield rank
        # What the main rank writes at the end may take longer than NCCL waits for the others to leave with it.
        barrier(rank)
    except (Exception, KeyboardInterrupt) as error:
        failed = True
        if peers is not None and is_lost_peer(error):
            raise peers.explain(index) from error
        short = memory_error(error, where=f"rank {index}" if world > 1 else "this process")
        if peers is not None:
            peers.tell(index, short or error)
        if short is not None:
            raise short from error
        raise
    finally:
        if peers is not None:
            if not rank.is_main:
                peers.leave(index)
            dist.destroy_process_group()
            # Without torchrun the main rank hosts the store. The others look into it when their connections are closed.
            if failed and rank.is_main:
                peers.linger(index)


def _meet(rank: Rank) -> tuple[Rank, Peers]:
    """Enter the process group, which sends tensors of GPUs over NCCL, and the group of the hosts over gloo.

    Raises MissingRequirementError if they do not come together.
    """
    cuda = rank.device.type == "cuda"
    try:
        store, _, _ = next(rendezvous("env://"))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank.index,
            world_size=rank.world,
            timeout=STEP_LIMITS[rank.device.type],
            device_id=rank.device if cuda else None,
        )
        # A group of its own, for torch has one limit for all backends of a group.
        hosts = dist.new_group(backend="gloo", timeout=HOST_LIMIT)
        assert isinstance(hosts, dist.ProcessGroup), "every rank is a member"
        rank = replace(rank, host=hosts)
        return rank, Peers(store, gather(Process.own(), rank))
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise no_group(error, world=rank.world) from error


def gather(value: Any, rank: Rank) -> list[Any]:
    """Collect every rank's value, in the order of ranks, on every rank."""
    if rank.world == 1:
        return [value]
    values: list[Any] = [None] * rank.world
    dist.all_gather_object(values, value, group=rank.host)
    return values


def gather_on_main(value: Any, rank: Rank) -> list[Any]:
    """Collect every rank's value, in the order of ranks, on the main rank; nothing on the others."""
    if rank.world == 1:
        return [value]
    values: list[Any] | None = [None] * rank.world if rank.is_main else None
    dist.gather_object(value, values, group=rank.host)
    return values or []


def on_main(work: Callable[[], T], rank: Rank) -> T:
    """Do `work` on the main rank alone; every rank returns its result, or raises its CatlipError."""
    if rank.world == 1:
        return work()
    outcome: list[Any] = [None]
    if rank.is_main:
        try:
            outcome = [work()]
        except CatlipError as error:
            outcome = [error]
    dist.broadcast_object_list(outcome, group=rank.host)
    if isinstance(outcome[0], CatlipError):
        raise_alike(outcome[0], rank)
    return cast(T, outcome[0])


def on_every(work: Callable[[], T], rank: Rank) -> T:
    """Do the same `work` on every rank; an error that all ranks have is told once."""
    try:
        return work()
    except CatlipError as error:
        raise_alike(error, rank)


def raise_alike(error: CatlipError, rank: Rank) -> NoReturn:
    """End all ranks with an error that all of them have: the main rank raises it, the others exit with its status."""
    if rank.is_main:
        raise error
    raise SystemExit(STATUS_OF_ERRORS) from error


def barrier(rank: Rank) -> None:
    """Wait until all ranks are here, whatever their GPUs still compute."""
    # Not dist.barrier, which would exchange a tensor of the GPU.
    gather(None, rank)
