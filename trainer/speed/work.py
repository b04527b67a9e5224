"""The floating-point work of a run's steps, by their shape.

In: a `PretrainConfig` and the number of classes. Out: operations of one training image at a size, counted once each.
"""

from __future__ import annotations

from functools import cached_property

from torch import nn

from trainer.config import PretrainConfig
from trainer.model.vit import on_meta
from trainer.speed.flops import training_flops


class Work:
    """Counts when first asked, for some seconds of a large model and many resolutions would be waited for by all."""

    def __init__(self, config: PretrainConfig, *, classes: int) -> None:
        self.config, self.classes = config, classes
        self._counted: dict[tuple[int, float], int] = {}

    def of(self, *, size: int, share: float) -> int:
        """Forward and backward operations of one image of `size` pixels of which a share of the patches is seen."""
        if (size, share) not in self._counted:
            self._counted[size, share] = training_flops(self._model, size=size, share=share)
        return self._counted[size, share]

    @cached_property
    def _model(self) -> nn.Module:
        data = self.config.data
        return on_meta(
            self.config.model,
            classes=self.classes,
            image_size=data.image_size,
            one_size=data.resolution == "fixed",
        )
