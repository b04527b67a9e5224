"""State that changes from step to step, made at step 0: weights, their average, the optimiser, learnt augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.config import OptimConfig, PretrainConfig
from trainer.distributed import Rank
from trainer.loss.losses import loss_of
from trainer.model.objective import Objective
from trainer.model.range_augment import RangeAugment
from trainer.model.vit import build_model, checkpoint_activations
from trainer.optim.average import Average
from trainer.optim.optimiser import Optimiser, optimiser_of
from trainer.step.metrics import Guard
from trainer.step.parallel import shard
from vocab.vocabulary import Vocabulary


@dataclass
class Training:
    """The state of a run beside its position in the data."""

    objective: Objective
    average: Average
    optimiser: Optimiser
    guard: Guard

    @property
    def model(self) -> nn.Module:
        """The timm transformer."""
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


def build_training(config: PretrainConfig, vocabulary: Vocabulary, rank: Rank) -> Training:
    """Build model, average and optimiser at step 0, on the rank's device; sharded under FSDP2."""
    torch.manual_seed(config.run.seed)
    data = config.data
    model = build_model(config.model, vocabulary, image_size=data.image_size, one_size=data.one_size)
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


def training_of(objective: Objective, optim: OptimConfig, device: torch.device) -> Training:
    """Begin with an objective at step 0, which must be on its device by now, and sharded if it will be."""
    model = objective.model
    return Training(
        objective,
        Average(model, momentum=optim.ema_momentum, root=objective),
        optimiser_of(model, optim, augment=objective.augment),
        Guard(device, factor=optim.spike_factor),
    )
