"""torch.compile with static shapes, everything compiled before the first step.

In: the objective as steps call it and the shapes of the run. Out: the same objective, its blocks compiled: a block is
compiled once for every shape and serves them all, and DDP still exchanges a block's gradients while the blocks below
it work, which one graph of the whole model would not let it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from trainer.data.batch import Batch, Position
from trainer.distributed import Rank
from trainer.model.objective import Objective
from trainer.model.range_augment import DRAWS
from trainer.step.parallel import blocks_of, exchange

# Graphs of one function: at most shapes x (all patches or some) x blocks that differ, such as in their dropping rate.
MOST_GRAPHS = 1024


def compile_objective(objective: Objective) -> None:
    """Have the blocks, and what happens to the pixels, compiled at their first call with each shape."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    torch._dynamo.config.accumulated_recompile_limit = max(
        torch._dynamo.config.accumulated_recompile_limit, MOST_GRAPHS
    )
    for block in blocks_of(objective.model):
        block.compile(dynamic=False)
    objective.pixels = torch.compile(objective.pixels, dynamic=False)  # type: ignore[method-assign]


def warm_up(module: nn.Module, shapes: Iterable[tuple[int, int]], rank: Rank, *, bfloat16: bool) -> None:
    """One forward and backward pass of every (images, size); all ranks together. Leaves no gradient."""
    module.train()
    for images, size in shapes:
        with exchange(module, last=True), torch.autocast(rank.device.type, torch.bfloat16, enabled=bfloat16):
            loss = module(_nothing(images, size).to(rank.device), 0.0)
        loss.backward()
        module.zero_grad(set_to_none=True)


def _nothing(images: int, size: int) -> Batch:
    """Black images without a class."""
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
