"""The optimiser: AdamW, or Muon for the matrices of the blocks beside AdamW for everything else.

In: a model, learnt augmentation if there is any, an `OptimConfig`. Out: an `Optimiser`, whose state is there from the
start as named tensors that stay the same tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from trainer.config import OptimConfig
from trainer.model.range_augment import RangeAugment
from trainer.optim.groups import ParameterGroup, groups_of
from vocab.errors import InputError


def optimiser_of(model: nn.Module, config: OptimConfig, *, augment: RangeAugment | None = None) -> Optimiser:
    """The optimiser of a model that is on its device, and sharded if it is going to be.

    `augment`: augmentation that is learnt with the model. Raises InputError for Muon where steps shall be skipped or
    weights are sharded, and for Muon or a layer decay where the model has no blocks.
    """
    groups = groups_of(model, config, augment=augment)
    if config.optimiser == "muon":
        if config.on_spike == "skip":
            raise _cannot_skip()
        if any(group.sharded for group in groups):
            # It would have to gather each matrix. As it is (torch 2.14), Newton-Schulz runs on shards, with 13
            # collectives per matrix, and fails for shapes whose result comes out replicated.
            raise InputError(
                "--optimiser",
                found="muon for weights that are sharded (--parallel fsdp)",
                wanted="whole matrices on every process",
                remedy="Use --parallel ddp, or --optimiser adamw.",
            )
    return Optimiser(groups, config)


class Optimiser:
    """Torch's optimisers as one; nothing in it waits for the device.

    AdamW is torch's fused one. Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) is torch's, with the
    size of its updates matched to AdamW's, so that one learning rate and one weight decay serve both (Liu et al., "Muon
    is Scalable for LLM Training", arXiv 2502.16982, section 2.2). It takes query, key and value as the one matrix that
    timm makes of them.
    """

    def __init__(self, groups: Sequence[ParameterGroup], config: OptimConfig) -> None:
        self.groups = groups
        betas = (config.beta1, config.beta2)
        self._adamw = torch.optim.AdamW(_for_torch(groups, muon=False), lr=config.start_lr, betas=betas, fused=True)
        for parameter in _parameters(self._adamw):
            # As torch makes it in the first step, which would be too late to restore a checkpoint into.
            self._adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        self._parts: list[torch.optim.Optimizer] = [self._adamw]
        if matrices := _for_torch(groups, muon=True):
            muon = torch.optim.Muon(
                matrices, lr=config.start_lr, momentum=config.muon_momentum, adjust_lr_fn="match_rms_adamw"
            )
            for parameter in _parameters(muon):
                momentum = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                muon.state[parameter] = {"momentum_buffer": momentum}
            self._parts.append(muon)
        self.set_learning_rate(config.start_lr)

    def step(self, *, skip: Float32[Tensor, ""] | None = None) -> None:
        """Change the weights by their gradients, or nothing at all where `skip` is 1.

        `skip`: 1.0 or 0.0, a number on the device, so that the host need not know it: with 1.0 weights, moments and
        step counts stay as they are, whatever the gradients, NaN too. Raises InputError if Muon is asked to.
        """
        if skip is not None and len(self._parts) > 1:
            raise _cannot_skip()
        # How GradScaler tells the fused kernel about gradients that overflowed.
        self._adamw.found_inf, self._adamw.grad_scale = skip, None  # type: ignore[attr-defined]
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def set_learning_rate(self, rate: float) -> None:
        """Use `rate`, times each group's own scale, from the next step on."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["lr_scale"]

    def state(self) -> dict[str, Tensor]:
        """The live tensors of the state, such as "blocks.0.mlp.fc1.weight/exp_avg"; a checkpoint is copied into them.

        AdamW has step, exp_avg and exp_avg_sq for each parameter, Muon momentum_buffer. Moments of a DTensor are
        DTensors, laid out like it.
        """
        return {
            f"{name}/{kind}": tensor
            for group in self.groups
            for name, parameter in group.parameters.items()
            for part in self._parts
            for kind, tensor in part.state.get(parameter, {}).items()
        }


def _for_torch(groups: Sequence[ParameterGroup], *, muon: bool) -> list[dict[str, Any]]:
    return [
        {
            "params": list(group.parameters.values()),
            "weight_decay": group.weight_decay,
            "lr_scale": group.lr_scale,
        }
        for group in groups
        if group.muon == muon
    ]


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _cannot_skip() -> InputError:
    return InputError(
        "--on-spike",
        found="skip with --optimiser muon",
        wanted="an optimiser that leaves a step out without waiting for the device, as AdamW does",
        remedy="Use --on-spike stop or rollback, or --optimiser adamw.",
    )
