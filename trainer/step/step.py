"""One optimisation step on this rank's share of a batch. Nothing in it waits for the device.

In: a batch. Out: weights, average and optimiser one step on, and four numbers for the pulse.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float32
from torch import Tensor

from trainer.config import PretrainConfig
from trainer.data.batch import Batch
from trainer.distributed import Place
from trainer.optim.clip import clip
from trainer.optim.schedule import learning_rate
from trainer.step.compiling import compile_objective
from trainer.step.parallel import exchange, replicate
from trainer.step.training import Training, in_bfloat16


class Step:
    """How steps are taken."""

    def __init__(self, config: PretrainConfig, training: Training, place: Place) -> None:
        self.config, self.training, self.place = config, training, place
        self.bfloat16 = in_bfloat16(config, place)
        if config.run.compile:
            compile_objective(training.objective)
        self.module = replicate(training.objective, place)

    def take(self, batch: Batch, *, number: int, stop: bool = False) -> Float32[Tensor, " 4"]:
        """Take step `number`, counted from 1. Loss, gradient norm, whether it is bad, whether a rank is to `stop`.

        Parts are of one size, and so are ranks' shares: the mean of their means is the mean of the batch, and
        accumulation equals the large batch to rounding.
        """
        config, training = self.config.optim, self.training
        training.optimiser.set_learning_rate(learning_rate(number, config))
        self._keep_patches(number)
        self.module.train()
        losses = []
        for part in range(config.accumulate):
            with exchange(self.module, last=part == config.accumulate - 1):
                loss = self._loss(batch.part(part, config.accumulate), number) / config.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        norm = clip(training.model, config.clip_norm)
        # A fill on the device, where a tensor made of a host's number would be a copy to wait for.
        asked = torch.full((), float(stop), device=self.place.device)
        shared = torch.stack([torch.stack(losses).sum().float(), asked])
        if self.place.world > 1:
            dist.all_reduce(shared)
        loss, asked = shared[0] / self.place.world, shared[1]
        bad = training.guard.judge(loss, norm)
        training.optimiser.step(skip=bad if config.on_spike == "skip" else None)
        training.optimiser.zero_grad()
        training.average.update()
        return torch.stack([loss, norm, bad, asked])

    def _loss(self, batch: Batch, number: int) -> Tensor:
        with torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss: Tensor = self.module(batch, number / self.config.optim.steps)
        return loss

    def _keep_patches(self, number: int) -> None:
        self.training.objective.randomness.share = patch_share(self.config, number)


def patch_share(config: PretrainConfig, number: int) -> float:
    """Share of the patches that step `number`, counted from 1, sees: all of them in the last share of training."""
    full_from = (1 - config.model.full_patches_share) * config.optim.steps
    return config.model.patch_keep if number <= full_from else 1.0
