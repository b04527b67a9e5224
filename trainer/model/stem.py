"""The model as a step calls it: bytes of a batch in, logits out; mirrored, normalised and augmented on the way.

In: uint8 images with what was drawn for each. Out: logits, and the images before and after augmentation.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

from trainer.data.device_images import prepare
from trainer.model.range_augment import RangeAugment


class Stem(nn.Module):
    """A model behind everything that happens to its images on the device; one module, for DDP and torch.compile."""

    def __init__(self, model: nn.Module, augment: RangeAugment | None) -> None:
        super().__init__()
        self.model, self.augment = model, augment

    def forward(
        self,
        images: UInt8[Tensor, "batch size size 3"],
        flips: Bool[Tensor, " batch"],
        draws: Float32[Tensor, "batch draws"],
        seeds: Int64[Tensor, " batch"],
    ) -> tuple[
        Float[Tensor, "batch classes"], Float[Tensor, "batch 3 size size"], Float[Tensor, "batch 3 size size"] | None
    ]:
        """Logits, the plain images in [-1, 1], and what augmentation made of them, None without it."""
        plain = prepare(images, flips)
        if self.augment is None:
            return self.model(plain), plain, None
        augmented = self.augment(plain, draws=draws, seeds=seeds)
        return self.model(augmented), plain, augmented
