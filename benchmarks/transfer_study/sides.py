"""The two sides of the transfer benchmark's race: CatLIP, and CLIP with everything alike but its loss and text tower.

In: a recipe. Out: a `Side`, which takes steps and can be probed.

CLIP's model and loss are open_clip's. Order, crops, flips, optimiser, schedule, weight decay, clipping of the gradient
and moving average are the recipe's, for both: what differs is what is learnt, and what that costs. With Muon the
matrices of the text tower's blocks are Muon's as well. open_clip's own settings are in `clip_race/peer.py`, which
benchmarks/clip.py measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from benchmarks.clip_race.ours import Catlip
from benchmarks.clip_race.peer import Clip
from benchmarks.clip_race.towers import Architecture, Text, build_clip
from benchmarks.measuring.clock import Spent
from trainer.config import OptimConfig, PretrainConfig
from trainer.data.batch import Batch
from trainer.distributed import Rank
from trainer.model.objective import prepare
from trainer.optim.average import Average
from trainer.optim.optimiser import Optimiser, ParameterGroup, is_decayed, learning_rate
from trainer.optim.optimiser import clip as clip_gradient
from vocab.vocabulary import Vocabulary

# As much of the arithmetic as ViT-B-16's text tower has beside its image tower.
TEXT = Text(tokens=24, width=90, depth=4, heads=2, embedding=64)
# The blocks of open_clip's image and text tower.
BLOCKS = ("visual.trunk.blocks.", "transformer.resblocks.")


@dataclass(frozen=True)
class Point:
    """A probe on the way."""

    images: int
    epoch: float
    spent: Spent
    accuracy: float


@dataclass
class Side:
    """One tower in training."""

    steps: int
    take: Callable[[Batch, Tensor, int], object]
    """a step: pictures with their labels, captions' tokens, the number of the step from 1 on"""
    embed: Callable[[UInt8[Tensor, "batch size size 3"]], Float[Tensor, "batch width"]]
    model: nn.Module
    """in whose `trunk` the tower is"""
    trunk: nn.Module
    averaged: Callable[[], AbstractContextManager[None]]
    """context in which the model has the averaged weights"""
    taken: int = 0
    spent: Spent = field(default_factory=Spent)
    curve: list[Point] = field(default_factory=list)

    def due(self, turn: int, turns: int) -> bool:
        """Tell whether the side takes a step in this turn, counted from 1: its steps are spread over all turns."""
        return turn * self.steps // turns > (turn - 1) * self.steps // turns


def build_catlip(recipe: PretrainConfig, vocabulary: Vocabulary, rank: Rank, *, steps: int, seed: int) -> Side:
    """CatLIP's side, its schedule that of the recipe in so many steps."""
    optim = planned(recipe.optim, steps)
    catlip = Catlip(architecture_of(recipe), vocabulary, rank, compile=False, optim=optim, seed=seed)
    model = catlip.model
    return Side(steps, lambda batch, _, __: catlip.take(batch), catlip.embed, model, model, catlip.averaged)


def build_clip_side(
    recipe: PretrainConfig, rank: Rank, *, known: int, steps: int, rate: float | None, seed: int
) -> Side:
    """CLIP's side. `known`: tokens that captions have; `rate`: peak learning rate, the recipe's without it."""
    optim = planned(recipe.optim, steps)
    if rate is not None:
        optim = replace(optim, peak_lr=rate, final_lr=rate * recipe.optim.final_lr / recipe.optim.peak_lr)
    torch.manual_seed(seed)
    clip = Clip(build_clip(architecture_of(recipe), vocabulary=known), rank, compile=False)
    optimiser = Optimiser(clip_groups(clip.model, optim), optim)
    average = Average(clip.model, momentum=optim.ema_momentum)

    def take(batch: Batch, tokens: Tensor, number: int) -> object:
        clip.module.train()
        optimiser.set_learning_rate(learning_rate(number, optim))
        loss = clip.backward([(prepare(batch.images, batch.flips), tokens)])
        clip_gradient(clip.model, optim.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            clip.model.get_parameter("logit_scale").clamp_(0, math.log(100))
        average.update()
        return loss

    def embed(images: UInt8[Tensor, "batch size size 3"]) -> Float[Tensor, "batch width"]:
        return clip.embed(prepare(images, None))

    return Side(steps, take, embed, clip.model, clip.trunk, average.swapped)


def clip_groups(model: nn.Module, optim: OptimConfig) -> list[ParameterGroup]:
    """open_clip's parameters in groups as `trainer.optim.optimiser.groups_of` makes them of a tower alone."""
    groups: dict[ParameterGroup, ParameterGroup] = {}
    for name, parameter in model.named_parameters():
        decayed = is_decayed(name, parameter)
        matrix = parameter.ndim == 2 and name.startswith(BLOCKS)
        kind = ParameterGroup(
            weight_decay=optim.weight_decay if decayed else 0.0,
            lr_scale=1.0,
            muon=optim.optimiser == "muon" and matrix,
        )
        groups.setdefault(kind, kind).parameters[name] = parameter
    return list(groups.values())


def architecture_of(recipe: PretrainConfig) -> Architecture:
    """The recipe's tower, beside the text tower."""
    model = recipe.model
    return Architecture(
        model.model, recipe.data.image_size, model.patch_size, model.embed_dim, model.depth, model.num_heads, TEXT
    )


def planned(optim: OptimConfig, steps: int) -> OptimConfig:
    """The recipe's optimiser for another number of steps: the warm-up is the same share.

    So is the memory of the moving average, which in a shorter run would hold what the run began with.
    """
    scale = optim.steps / steps
    return replace(
        optim,
        steps=steps,
        warmup_steps=max(1, round(optim.warmup_steps / scale)),
        ema_momentum=min(1.0, optim.ema_momentum * scale),
    )
