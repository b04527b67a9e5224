"""Mixup and cutmix on the device: neighbours in a batch exchange parts of their pixels, and of their classes.

Images 2 i and 2 i + 1 are a pair, so that any even share of a batch has whole pairs: the number of processes and of
accumulated parts changes neither pairs nor numbers.

    mixup    image = lam * own + (1 - lam) * partner                     Zhang et al., arXiv 1710.09412
    cutmix   a box of the partner, 1 - lam of the area, in the image     Yun et al., arXiv 1905.04899
    loss     = lam * loss(own classes) + (1 - lam) * loss(partner's)

The sum is the loss of the mixed targets, since both cross entropies, softmax and binary, are linear in the target.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor, nn

from trainer.loss.targets import Targets
from trainer.model.hashes import MIX_STREAM, keys, words

# Words of a pair: which of the two, lam, and the middle of the box.
CHOICE, SHARE, ACROSS, DOWN = range(4)
NUMBERS = 4
_WORDS = 2.0**32
QUANTILES = 4096


class Mixing(nn.Module):
    """Mixes the images of a batch in pairs. Without parameters and without state."""

    roots_mixup: Float64[Tensor, " quantiles"]
    roots_cutmix: Float64[Tensor, " quantiles"]

    def __init__(self, *, mixup: float, cutmix: float) -> None:
        """`mixup`, `cutmix`: parameters of the Beta distributions that lam is drawn from; 0 turns one off.

        With both, each applies to half of the pairs.
        """
        super().__init__()
        assert mixup > 0 or cutmix > 0, "nothing to mix"
        self.mixup, self.cutmix = mixup, cutmix
        self.cut_share = 0.0 if cutmix == 0 else 1.0 if mixup == 0 else 0.5
        for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            roots = beta_roots(alpha) if alpha > 0 else np.zeros(QUANTILES + 1)
            self.register_buffer(f"roots_{name}", torch.from_numpy(roots), persistent=False)

    @torch.no_grad()
    def forward(
        self, pixels: Float[Tensor, "batch 3 size size"], targets: Targets, seeds: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 size size"], list[Targets]]:
        """Mixed pixels, each image's own targets with weight lam, and its partner's with 1 - lam.

        An image of weight 0, which could not be decoded, is not mixed into its partner.
        """
        weights = targets.weights if targets.weights is not None else pixels.new_ones(len(pixels))
        positions = torch.arange(NUMBERS, device=seeds.device)
        numbers = words(keys(seeds[::2], MIX_STREAM)[:, None], positions).double() / _WORDS
        cuts = numbers[:, CHOICE] < self.cut_share
        lam = torch.where(
            cuts,
            beta_quantile(self.roots_cutmix, numbers[:, SHARE], self.cutmix),
            beta_quantile(self.roots_mixup, numbers[:, SHARE], self.mixup),
        )
        whole = (weights.view(-1, 2) > 0).all(1)
        lam = torch.where(whole, lam, torch.ones_like(lam))
        boxes = box_masks(lam, numbers[:, ACROSS], numbers[:, DOWN], size=pixels.shape[-1])
        # The image's edge may cut a box, whose area is then smaller than drawn.
        lam = torch.where(cuts, 1 - boxes.double().mean((1, 2)), lam).repeat_interleave(2).to(pixels.dtype)
        cuts, boxes = cuts.repeat_interleave(2), boxes.repeat_interleave(2, 0)
        others = pixels[torch.arange(len(pixels), device=pixels.device) ^ 1]
        own_share = torch.where(cuts[:, None, None, None], (~boxes)[:, None].to(pixels.dtype), lam[:, None, None, None])
        # lerp gives the image itself, to the bit, where its share is 1.
        mixed = torch.lerp(pixels, others, 1 - own_share)
        return mixed, [
            Targets(targets.offsets, targets.classes, weights * lam, targets.ends),
            partners(targets, weights * (1 - lam)),
        ]


def partners(targets: Targets, weights: Float32[Tensor, " images"]) -> Targets:
    """Give image 2 i the classes of image 2 i + 1, and the reverse, without waiting for the device."""
    ends = np.asarray(targets.ends)
    lengths = np.diff(ends).reshape(-1, 2)[:, ::-1].reshape(-1)
    swapped = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    device = targets.offsets.device
    other = torch.arange(len(targets), device=device) ^ 1
    counts = targets.offsets.diff()[other]
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    moves = (targets.offsets[:-1][other] - offsets[:-1]).repeat_interleave(counts, output_size=len(targets.classes))
    positions = torch.arange(len(targets.classes), device=device) + moves
    return Targets(offsets, targets.classes[positions], weights, swapped.tolist())


def box_masks(
    lam: Float64[Tensor, " pairs"], across: Float64[Tensor, " pairs"], down: Float64[Tensor, " pairs"], *, size: int
) -> Bool[Tensor, "pairs size size"]:
    """Mark the pixels that come from the partner: a square of 1 - lam of the area, cut at the image's edges.

    `across`, `down`: position of its middle, 0 to 1.
    """
    side = ((1 - lam).sqrt() * size).floor()
    positions = torch.arange(size, device=lam.device)

    def inside(middle: Tensor) -> Tensor:
        first = (middle * size).floor() - (side / 2).floor()
        return (positions >= first[:, None]) & (positions < (first + side)[:, None])

    return inside(down)[:, :, None] & inside(across)[:, None, :]


def beta_roots(alpha: float) -> Float64[np.ndarray, " quantiles"]:
    """A table for `beta_quantile`: t = x ** alpha of the quantiles x from 0 to the median of Beta(alpha, alpha).

    The density has a pole at 0 if alpha is below 1; in t it has none, for x ** (alpha - 1) dx = dt / alpha.
    """
    t = np.linspace(0, 0.5**alpha, 1 << 16)
    density = (1 - t ** (1 / alpha)) ** (alpha - 1)
    mass = np.concatenate([np.zeros(1), np.cumsum((density[1:] + density[:-1]) / 2)])
    # Half of the distribution lies below the median, which is 1/2.
    return np.interp(np.linspace(0, 1, QUANTILES + 1), mass / mass[-1], t)


def beta_quantile(
    roots: Float64[Tensor, " quantiles"], uniform: Float64[Tensor, " n"], alpha: float
) -> Float64[Tensor, " n"]:
    """Turn uniform numbers in [0, 1) into numbers of Beta(alpha, alpha): its quantiles, interpolated in a table."""
    if alpha == 0:
        return torch.ones_like(uniform)
    # Twice the distance from the nearer end, because the distribution is symmetric.
    position = 2 * torch.minimum(uniform, 1 - uniform) * QUANTILES
    below = position.floor().long().clamp(max=QUANTILES - 1)
    root = torch.lerp(roots[below], roots[below + 1], position - below)
    quantile = root ** (1 / alpha)
    return torch.where(uniform < 0.5, quantile, 1 - quantile)
