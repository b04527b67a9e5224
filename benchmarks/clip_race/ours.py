"""CatLIP's side of the CLIP benchmark: all that it knows of the trainer's step.

In: bytes of images and sparse classes. Out: weights one step on, and their average.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from benchmarks.clip_race.towers import Architecture
from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.data.batch import Batch, Position
from trainer.distributed import Rank
from trainer.model.range_augment import DRAWS
from trainer.step.step import Step
from trainer.step.training import build_training
from vocab.vocabulary import Vocabulary

Bytes = UInt8[Tensor, "batch size size 3"]


class Catlip:
    """CatLIP's training, as `python -m trainer pretrain` has it between two batches."""

    def __init__(
        self,
        architecture: Architecture,
        vocabulary: Vocabulary,
        rank: Rank,
        *,
        compile: bool,
        optim: OptimConfig | None = None,
        seed: int = 0,
    ) -> None:
        """`optim`: CatLIP's ViT-B/16 without it."""
        self._config = PretrainConfig(
            data=DataConfig(image_size=architecture.image_size),
            model=ModelConfig(model=architecture.model, full_patches_share=0.0, **architecture.sizes),
            optim=optim if optim is not None else OptimConfig(),
            run=RunConfig(seed=seed, compile=compile),
        )
        self._training = build_training(self._config, vocabulary, rank)
        self._step = Step(
            self._training,
            rank,
            self._config.optim,
            model=self._config.model,
            compiled=compile,
            bfloat16=self._config.run.is_bfloat16(rank.device.type),
        )
        self._taken = 0

    @property
    def model(self) -> nn.Module:
        """The timm transformer, its classifier included."""
        return self._training.model

    def take(self, batch: Batch, *, parts: int = 1, patch_keep: float = 1.0) -> Float[Tensor, " 4"]:
        """One optimisation step; its four numbers, not waited for. `parts` divides the number of images."""
        self._taken += 1
        self._step.model = replace(self._config.model, patch_keep=patch_keep)
        self._step.optim = replace(self._config.optim, accumulate=parts)
        return self._step.take(batch, number=self._taken)

    def embed(self, images: Bytes) -> Float[Tensor, "batch width"]:
        """Compute the features that the classifier reads, for a probe."""
        return self._training.objective.embed(images)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model holds the averaged weights, which are what a run releases."""
        with self._training.average.swapped():
            yield


def batch_of(
    images: Bytes,
    flips: Bool[Tensor, " batch"],
    offsets: Int64[Tensor, " batch_plus_1"],
    classes: Int64[Tensor, " positives"],
    *,
    seeds: Int64[Tensor, " batch"],
) -> Batch:
    """A batch as the feed would give it, of pictures that are in memory."""
    count = len(images)
    return Batch(
        images=images,
        offsets=offsets,
        classes=classes,
        weights=torch.ones(count),
        flips=flips,
        draws=torch.zeros(count, DRAWS),
        seeds=seeds,
        tars=torch.zeros(count, dtype=torch.int32),
        indices=torch.arange(count, dtype=torch.int32),
        position=Position(0, 0, {}),
        ends=offsets.tolist(),
    )
