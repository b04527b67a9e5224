"""Several processes, one model: every process has all of it (DDP), or a share of its tensors (FSDP2).

Gradients are exchanged with the last part of a step alone.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from trainer.distributed import Rank
from trainer.model.objective import Objective
from trainer.model.vit import blocks_of


def shard(objective: Objective, rank: Rank, *, bfloat16: bool) -> None:
    """Give every process its rows of every tensor; before optimiser and average are made of them.

    Each block is gathered when it is needed, in the precision it computes in; everything else, all of a model without
    blocks, with the whole. Gradients are summed in float32.
    """
    mesh = init_device_mesh(rank.device.type, (rank.world,))
    # Inputs stay as they are: under autocast the residual stream is float32, as with DDP.
    precision = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in blocks_of(objective.model):
        fully_shard(block, mesh=mesh, mp_policy=precision)
    fully_shard(objective, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    for method in ("score", "embed"):
        register_fsdp_forward_method(objective, method)


def replicate(objective: Objective, rank: Rank) -> nn.Module:
    """Wrap the objective as steps call it."""
    if rank.world == 1 or isinstance(objective, FSDPModule):
        return objective
    # No device_ids: batches lie on the device already, so DDP has nothing to move.
    return DistributedDataParallel(objective, gradient_as_bucket_view=True)


def exchange(module: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Surround the passes of one part of a step: gradients are exchanged with the last part alone."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    elif isinstance(module, DistributedDataParallel) and not last:
        unsynchronised: contextlib.AbstractContextManager[None] = module.no_sync()
        return unsynchronised
    return contextlib.nullcontext()
