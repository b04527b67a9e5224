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
from trainer.data.loader_server import shielding
from trainer.data.resolution import Resolution
from trainer.distributed import Rank
from trainer.model.per_image import patch_share, set_patch_share
from trainer.optim.optimiser import clip
from trainer.optim.schedule import learning_rate
from trainer.step.compiling import compile_objective, warm_up
from trainer.step.parallel import exchange, replicate
from trainer.step.training import Training, in_bfloat16


class Step:
    """How steps are taken."""

    def __init__(self, config: PretrainConfig, training: Training, rank: Rank) -> None:
        self.config, self.training, self.rank = config, training, rank
        self.bfloat16 = in_bfloat16(config, rank)
        if config.run.compile:
            compile_objective(training.objective)
        self.module = replicate(training.objective, rank)

    def warm_up(self, resolution: Resolution) -> None:
        """Have everything compiled that the steps of a resolution will call, if anything is; all ranks together."""
        config, model = self.config, self.training.model
        if not config.run.compile:
            return
        parts = self.rank.world * config.optim.accumulate
        shapes = [(shape.batch // parts, shape.size) for shape in resolution.shapes()]
        with shielding():  # or a stop would end the compilers, and the run in their errors
            for share in {config.model.patch_keep, 1.0}:
                set_patch_share(model, share)
                warm_up(self.module, shapes, self.rank, bfloat16=self.bfloat16)

    def take(self, batch: Batch, *, number: int, stop: bool = False) -> Float32[Tensor, " 4"]:
        """Take step `number`, counted from 1. Loss, gradient norm, whether it is bad, whether a rank is to `stop`.

        Parts are of one size, and so are ranks' shares: the mean of their means is the mean of the batch, and
        accumulation equals the large batch to rounding.
        """
        config, training = self.config.optim, self.training
        training.optimiser.set_learning_rate(learning_rate(number, config))
        set_patch_share(training.model, patch_share(number - 1, self.config.model, steps=config.steps))
        self.module.train()
        losses = []
        for part in range(config.accumulate):
            with exchange(self.module, last=part == config.accumulate - 1):
                loss = self._loss(batch.part(part, config.accumulate), number) / config.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        norm = clip(training.model, config.clip_norm)
        # A fill on the device, where a tensor made of a host's number would be a copy to wait for.
        asked = torch.full((), float(stop), device=self.rank.device)
        shared = torch.stack([torch.stack(losses).sum().float(), asked])
        if self.rank.world > 1:
            dist.all_reduce(shared)
        loss, asked = shared[0] / self.rank.world, shared[1]
        bad = training.guard.judge(loss, norm)
        training.optimiser.step(skip=bad if config.on_spike == "skip" else None)
        training.optimiser.zero_grad()
        training.average.update()
        return torch.stack([loss, norm, bad, asked])

    def _loss(self, batch: Batch, number: int) -> Tensor:
        with torch.autocast(self.rank.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss: Tensor = self.module(batch, number / self.config.optim.steps)
        return loss
