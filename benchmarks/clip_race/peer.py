"""CLIP as open_clip trains it: its model, its loss, its optimiser's settings, its way to take a batch in parts.

In: float images and tokens. Out: weights one step on.

Everything is called as `open_clip_train` calls it (main.py, train.py of 3.3): AdamW with betas 0.9 and 0.98, eps 1e-6
and weight decay 0.2, none on what is one-dimensional or named bn, ln, bias or logit_scale; amp_bf16 on GPUs; no
clipping of the gradient; the temperature held within [0, ln 100]; with several GPUs, DDP, local loss and gathering with
gradients. A batch in parts (--accum-freq) passes the model twice: first without gradients, to know all features, then
part by part with gradients, among the features of the others.

One thing is better than there: AdamW is fused. Images come as floats, and making them costs CLIP nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.distributed import Rank

Images = Float32[Tensor, "batch 3 size size"]
Tokens = Int64[Tensor, "batch tokens"]

BETAS, EPS, WEIGHT_DECAY = (0.9, 0.98), 1e-6, 0.2
NOT_DECAYED = ("bn", "ln", "bias", "logit_scale")


class Clip:
    """CLIP's training."""

    def __init__(self, model: nn.Module, rank: Rank, *, compile: bool, rate: float = 5e-4) -> None:
        from open_clip.loss import ClipLoss

        self.model, self.rank = model.to(rank.device), rank
        several = rank.world > 1
        self.loss = ClipLoss(
            local_loss=several, gather_with_grad=several, cache_labels=True, rank=rank.index, world_size=rank.world
        )
        self.module: nn.Module = DistributedDataParallel(self.model) if several else self.model
        if compile:
            self.module = torch.compile(self.module)  # type: ignore[assignment]
        self.optimizer = adamw(self.model, rate=rate)

    @property
    def trunk(self) -> nn.Module:
        """The image tower, without the projection."""
        return self.model.get_submodule("visual.trunk")

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the steps that follow."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def take(self, images: Images, tokens: Tokens) -> Float[Tensor, ""]:
        """One optimisation step; the loss, not waited for."""
        return self.take_parts([(images, tokens)])

    def take_parts(self, parts: Sequence[tuple[Images, Tokens]]) -> Float[Tensor, ""]:
        """One optimisation step on the batch that the parts make up; the loss, not waited for."""
        self.module.train()
        self.optimizer.zero_grad()
        loss = self.backward(parts)
        self.optimizer.step()
        with torch.no_grad():
            self.model.get_parameter("logit_scale").clamp_(0, math.log(100))
        return loss

    def backward(self, parts: Sequence[tuple[Images, Tokens]]) -> Float[Tensor, ""]:
        """Add the gradients of the batch that the parts make up."""
        if len(parts) == 1:
            with self._autocast():
                whole: Tensor = self.loss(**self.module(*parts[0]))
            whole.backward()  # type: ignore[no-untyped-call]
            return whole.detach()
        with torch.no_grad(), self._autocast():
            known = [self.module(*part) for part in parts]
        for number, part in enumerate(parts):
            with self._autocast():
                found = self.module(*part)
                among = [*known[:number], found, *known[number + 1 :]]
                features = {
                    name: torch.cat([one[name] for one in among]) for name in ("image_features", "text_features")
                }
                loss: Tensor = self.loss(**features, logit_scale=found["logit_scale"])
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def embed(self, images: Images) -> Float[Tensor, "batch width"]:
        """Compute the features that the projection reads, for a probe."""
        found: Float[Tensor, "batch width"] = self.trunk(images)
        return found

    def _autocast(self) -> torch.autocast:
        cuda = self.rank.device.type == "cuda"
        return torch.autocast(self.rank.device.type, torch.bfloat16, enabled=cuda)


def adamw(model: nn.Module, *, rate: float) -> torch.optim.AdamW:
    """AdamW over open_clip's two groups."""
    free: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        alone = parameter.ndim < 2 or any(part in name for part in NOT_DECAYED)
        (free if alone else decayed).append(parameter)
    groups = [{"params": free, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, eps=EPS, fused=True)
