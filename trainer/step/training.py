"""State that changes from step to step, made at step 0: weights, their average, the optimiser, learnt augmentation.

Under DDP every process has all of it, under FSDP2 a share of each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from trainer.config import OptimConfig, PretrainConfig
from trainer.distributed import Rank, on_every
from trainer.loss.losses import loss_of
from trainer.model.backbone import blocks_of, build_model, checkpoint_activations
from trainer.model.objective import Objective, StepObjective
from trainer.model.range_augment import RangeAugment
from trainer.optim.average import Average
from trainer.optim.optimiser import Optimiser, optimiser_of
from trainer.step.metrics import Guard
from trainer.weights.first_weights import put_first_weights
from trainer.weights.sources import SourceWeights
from vocab.pages.text import tell
from vocab.vocabulary import Vocabulary

Learner = TypeVar("Learner", bound=StepObjective)


@dataclass
class Training(Generic[Learner]):
    """The state of a run beside its position in the data."""

    objective: Learner
    average: Average
    optimiser: Optimiser
    guard: Guard

    @property
    def model(self) -> nn.Module:
        return self.objective.model

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the live tensors by file and name: writing to them changes the run."""
        named = {
            "model": self.model.state_dict(),
            "ema": self.average.state_dict(),
            "optimizer": self.optimiser.state(),
        }
        if self.objective.augment is not None:
            named["augment"] = self.objective.augment.state_dict()
        return named


def build_training(
    config: PretrainConfig, vocabulary: Vocabulary, rank: Rank, *, first: SourceWeights | None = None
) -> Training[Objective]:
    """Build model, average and optimiser at step 0, on the rank's device; sharded under FSDP2.

    `first`: weights to begin with in place of random ones. Raises MismatchError if they are of another model.
    """
    torch.manual_seed(config.run.seed)
    data = config.data
    size, one_size = data.image_size, data.one_size
    model = build_model(config.model, vocabulary, image_size=size, one_size=one_size)
    if first is not None:
        put = partial(put_first_weights, model, first, config.model, vocabulary, image_size=size, one_size=one_size)
        lines = on_every(put, rank)
        if rank.is_main:
            tell("".join(f"{line}\n" for line in lines))
    if config.run.activation_checkpointing:
        checkpoint_activations(model)
    start = data.range_augment
    objective = Objective(
        model,
        RangeAugment(start=start) if start != "off" else None,
        loss_of(config.loss, vocabulary),
        chunk=config.loss.head_chunk,
    ).to(rank.device)
    if config.run.parallel == "fsdp" and rank.world > 1:
        shard(objective, rank, bfloat16=config.run.is_bfloat16(rank.device.type))
    return training_of(objective, config.optim, rank.device)


def training_of(
    objective: Learner,
    optim: OptimConfig,
    device: torch.device,
    *,
    lr_scales: Mapping[str, float] | None = None,
) -> Training[Learner]:
    """Begin with an objective at step 0, which must be on its device by now, and sharded if it will be.

    `lr_scales`: as in `groups_of`.
    """
    model = objective.model
    return Training(
        objective,
        Average(model, momentum=optim.ema_momentum, root=objective),
        optimiser_of(model, optim, augment=objective.augment, scales=lr_scales),
        Guard(device, factor=optim.spike_factor),
    )


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
