"""One optimisation step on this rank's share of a batch. Nothing in it waits for the device.

In: a batch. Out: weights, average and optimiser one step on, and the four numbers of `StepMetrics`.

With torch.compile everything is compiled before the first step, for static shapes. A block is compiled once for every
shape, and one compiled block serves them all. DDP still exchanges a block's gradients while the blocks below it work,
which one graph of the whole model would not allow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float32
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from trainer.config import ModelConfig, OptimConfig
from trainer.data.batch import Batch, Position
from trainer.data.loader_server import shielding
from trainer.data.resolution import Resolution
from trainer.distributed import Rank
from trainer.model.backbone import blocks_of
from trainer.model.objective import Objective, StepObjective
from trainer.model.per_image import patch_share, set_patch_share
from trainer.model.range_augment import DRAWS
from trainer.optim.optimiser import clip, learning_rate
from trainer.step.statistics import BatchStatistics
from trainer.step.training import Training
from vocab.errors import InputError

MOST_GRAPHS = 1024
"""compiled graphs of one function: shapes x (all patches or some) x blocks that differ, as in having drop path"""

NEVER = 2**31 - 1
"""steps between two samples of DDP's times"""


class Step:
    """The way a run takes its steps."""

    def __init__(
        self,
        training: Training[Any],
        rank: Rank,
        optim: OptimConfig,
        *,
        model: ModelConfig | None = None,
        compiled: bool = False,
        bfloat16: bool = False,
    ) -> None:
        """`model`: which share of the patches is seen at which step; unset: all. `bfloat16`: compute under autocast."""
        self.training, self.rank, self.optim, self.model = training, rank, optim, model or ModelConfig()
        self.compiled, self.bfloat16 = compiled, bfloat16
        if compiled:
            assert isinstance(training.objective, Objective)
            compile_objective(training.objective)
        self.module = replicate(training.objective, rank)
        self.statistics = BatchStatistics(training.model)

    def check(self, resolution: Resolution) -> None:
        """Raise InputError for shapes of steps that leave batch norms fewer than two images at a time."""
        if not self.training.objective.keep_statistics:
            fewest = min(shape.batch for shape in resolution.shapes())
            self.statistics.check(fewest // (self.rank.world * self.optim.accumulate))

    def warm_up(self, resolution: Resolution) -> None:
        """Compile all that the steps of a resolution will call, if compiling was asked for; all ranks together."""
        if not self.compiled:
            return
        parts = self.rank.world * self.optim.accumulate
        shapes = [(shape.batch // parts, shape.size) for shape in resolution.shapes()]
        seen = self.statistics.copies()
        with shielding():  # a stop signal would end the compilers, and the run in their errors
            for share in {self.model.patch_keep, 1.0}:
                set_patch_share(self.training.model, share)
                warm_up(self.module, shapes, self.rank, bfloat16=self.bfloat16)
        self.statistics.put_back(seen)

    def patch_share(self, number: int) -> float:
        """Share of the patches that step `number`, counted from 1, sees."""
        return patch_share(number - 1, self.model, steps=self.optim.steps)

    def take(self, batch: Batch, *, number: int, stop: bool = False) -> Float32[Tensor, " 4"]:
        """Take step `number`, counted from 1. Return loss, gradient norm, bad, and whether some rank is to `stop`.

        Parts are of one size, and so are ranks' shares: the mean of their means is the mean of the batch, and
        accumulation equals the large batch up to rounding.
        """
        optim, training = self.optim, self.training
        training.optimiser.set_learning_rate(learning_rate(number, optim))
        set_patch_share(training.model, self.patch_share(number))
        self.module.train()
        seen = self.statistics.copies() if optim.on_spike == "skip" else []
        losses = []
        for part in range(optim.accumulate):
            with exchange(self.module, last=part == optim.accumulate - 1):
                loss = self._loss(batch.part(part, optim.accumulate), number) / optim.accumulate
                with self.statistics.kept():
                    loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        norm = clip(training.model, optim.clip_norm)
        # A fill on the device, where a tensor made of a host's number would be a copy to wait for.
        asked = torch.full((), float(stop), device=self.rank.device)
        shared = torch.stack([torch.stack(losses).sum().float(), asked])
        if self.rank.world > 1:
            dist.all_reduce(shared)
        loss, asked = shared[0] / self.rank.world, shared[1]
        bad = training.guard.judge(loss, norm)
        self.statistics.average(self.rank.world)
        if optim.on_spike == "skip":
            self.statistics.put_back(seen, where=bad)
        training.optimiser.step(skip=bad if optim.on_spike == "skip" else None)
        training.optimiser.zero_grad()
        training.average.update()
        return torch.stack([loss, norm, bad, asked])

    def _loss(self, batch: Batch, number: int) -> Tensor:
        with torch.autocast(self.rank.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss: Tensor = self.module(batch, number / self.optim.steps)
        return loss


def replicate(objective: StepObjective, rank: Rank) -> nn.Module:
    """Wrap the objective as steps call it."""
    if rank.world == 1 or isinstance(objective, FSDPModule):
        return objective
    # No device_ids: batches lie on the device already, so DDP has nothing to move. Broadcasts would have all ranks meet
    # before each step: `take` averages the statistics of batch norms, and all other buffers are constants.
    replicated = DistributedDataParallel(objective, gradient_as_bucket_view=True, broadcast_buffers=False)
    # Where DDP samples its own times, the host waits for the device; that leaves the first ten steps.
    replicated._set_ddp_runtime_logging_sample_rate(NEVER)  # type: ignore[no-untyped-call]
    return replicated


def exchange(module: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Surround the passes of one part of a step: gradients are exchanged with the last part alone."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    elif isinstance(module, DistributedDataParallel) and not last:
        unsynchronised: contextlib.AbstractContextManager[None] = module.no_sync()
        return unsynchronised
    return contextlib.nullcontext()


def compile_objective(objective: Objective) -> None:
    """Have the blocks, and what happens to the pixels, compiled at their first call with each shape.

    Raises InputError for a model without blocks.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    torch._dynamo.config.accumulated_recompile_limit = max(
        torch._dynamo.config.accumulated_recompile_limit, MOST_GRAPHS
    )
    blocks = blocks_of(objective.model)
    if not blocks:
        raise InputError(
            "--compile",
            found=f"{type(objective.model).__name__}, which has no blocks that timm tells apart",
            wanted="a model whose blocks can be compiled one by one",
            remedy="Leave it out, or choose another --model.",
        )
    for block in blocks:
        block.compile(dynamic=False)
    objective.pixels = torch.compile(objective.pixels, dynamic=False)  # type: ignore[method-assign]


def warm_up(module: nn.Module, shapes: Iterable[tuple[int, int]], rank: Rank, *, bfloat16: bool) -> None:
    """Run one forward and backward pass of every (images, size); all ranks together. Leaves no gradient."""
    module.train()
    for images, size in shapes:
        with exchange(module, last=True), torch.autocast(rank.device.type, torch.bfloat16, enabled=bfloat16):
            loss = module(black_batch(images, size).to(rank.device), 0.0)
        loss.backward()
        module.zero_grad(set_to_none=True)


def black_batch(images: int, size: int) -> Batch:
    """Make a batch of black images without classes, for passes of which only the cost matters."""
    return Batch(
        images=torch.zeros(images, size, size, 3, dtype=torch.uint8),
        offsets=torch.zeros(images + 1, dtype=torch.int64),
        classes=torch.zeros(0, dtype=torch.int64),
        weights=torch.ones(images),
        flips=torch.zeros(images, dtype=torch.bool),
        draws=torch.zeros(images, DRAWS),
        seeds=torch.arange(images),
        tars=torch.full((images,), -1, dtype=torch.int32),
        indices=torch.zeros(images, dtype=torch.int32),
        position=Position(0, 0, {}),
        ends=[0] * (images + 1),
    )
