"""RangeAugment on the device: brightness, contrast and noise whose strength is learnt with the weights.

Images in [-1, 1] (`trainer/model/objective.py`) are altered by random numbers of their own; a loss keeps the
alteration near a similarity that falls from 40 to 20 dB over training.

Mehta et al., "RangeAugment: Efficient Online Augmentation with Range Learning", arXiv 2212.10553. What the abstract
leaves open comes from apple/corenet, which CatLIP was trained with: modeling/neural_augmentor/neural_aug.py and
utils/neural_aug_utils.py (operations, bounds, first values), loss_fn/neural_augmentation.py (target, distance, weight),
projects/catlip/pretraining/*.yaml (all three operations, 40 to 20 dB, cosine, loss weight 1). From there:

    brightness x * m; contrast m * x + (1 - m) * channel mean; noise x + s * N(0, 1), on x in [0, 1]; clipped at the end
    m, s uniform in a range with learnt ends, each kept inside bounds by a sigmoid
    every operation touches half of the images, in a random order

Four things differ from corenet. A coin for each image decides whether an operation touches it, where corenet takes
exactly half of the batch. The order is drawn for each image, there for each batch. Contrast turns about the mean of the
image without its noise (a difference of s / side). The ranges have no weight decay; in corenet they do, since its rule
spares only parameters of one dimension and these have none.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from trainer.model.hashes import keys, words

# The columns of `low` and `high`, and of the coins and magnitudes among an image's draws.
OPERATIONS = ("brightness", "contrast", "noise")
# Random numbers for an image: a coin and a magnitude for each operation, and one for their order.
DRAWS = 2 * len(OPERATIONS) + 1
PROBABILITY = 0.5
# Bounds of each end of a range, and its first value before the sigmoid (corenet): factors for the first
# two operations, the noise's deviation where white is 1 for the third.
LOW_BOUNDS, LOW_START = ((0.1, 0.9), (0.1, 0.9), (0.0, 0.00005)), (0.5, 0.5, 0.0)
HIGH_BOUNDS, HIGH_START = ((1.1, 10.0), (1.1, 10.0), (0.0001, 1.0)), (1.5, 1.5, 0.1)
# The ends of a mild start (ours).
NARROW = ((0.89, 0.89, 0.000025), (1.15, 1.15, 0.01))

# Similarity of plain and altered images, dB, at the start and the end of training (CatLIP).
START_PSNR, END_PSNR = 40.0, 20.0
WHITE = 255.0
# corenet's default, 100, over the largest possible squared error, because errors are of levels 0..255.
LOSS_WEIGHT = 100.0 / WHITE**2


class RangeAugment(nn.Module):
    """Augmentation with six parameters: the two ends of the ranges of brightness, contrast and noise.

    They train in the model's optimiser, at its learning rate (corenet's multiplier is 1) and without weight decay. Keep
    them out of the norm that clips the model's gradient: their loss is of another size, which Adam does not mind. Every
    step gives all of them a gradient, zero where no image was touched, so that DistributedDataParallel never waits for
    one.
    """

    LR_MULTIPLIER = 1.0
    WEIGHT_DECAY = 0.0

    least: Float[Tensor, "2 3"]
    span: Float[Tensor, "2 3"]
    neutral: Float[Tensor, " 3"]

    def __init__(self, *, start: Literal["corenet", "narrow"] = "corenet") -> None:
        """`start`: the first ranges.

        `corenet`: factors from 0.60 to 8.4 and deviations up to 0.53 (corenet's 0.5 and 1.5 after the sigmoid), about
        10 dB on photographs; at a rate of 1e-3 they take thousands of steps to close. `narrow`: factors from 0.89 to
        1.15 and deviations up to 0.01, about 30 dB, for runs too short for that.
        """
        super().__init__()
        least, most = torch.tensor([LOW_BOUNDS, HIGH_BOUNDS]).unbind(2)
        # Buffers, because the host waits for the copy of a constant made in forward; not in the state.
        self.register_buffer("least", least, persistent=False)
        self.register_buffer("span", most - least, persistent=False)
        self.register_buffer("neutral", torch.tensor([1.0, 1.0, 0.0]), persistent=False)
        match start:
            case "corenet":
                low, high = torch.tensor([LOW_START, HIGH_START])
            case "narrow":
                low, high = torch.logit((torch.tensor(NARROW) - self.least) / self.span)
        self.low, self.high = nn.Parameter(low.clone()), nn.Parameter(high.clone())

    def ranges(self) -> Float[Tensor, "2 3"]:
        """Current lower and upper ends of the ranges of brightness, contrast and noise."""
        return self.least + self.span * torch.sigmoid(torch.stack([self.low, self.high]))

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        *,
        draws: Float[Tensor, "batch 7"],
        seeds: Int64[Tensor, " batch"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Alter images in [-1, 1]; the result is a function of an image, its draws and its seed alone.

        `draws`: DRAWS uniform numbers in [0, 1) an image: three coins, three positions in the ranges, one for the
        order. Gradients reach the ranges.
        """
        low, high = self.ranges()
        coins, shares, order = draws[:, :3], draws[:, 3:6], draws[:, 6]
        magnitudes = torch.where(coins < PROBABILITY, low + shares * (high - low), self.neutral)
        brightness, contrast, deviation = magnitudes.unbind(1)
        # Brightness and contrast commute, so that of the six orders only the noise's place counts: what comes after it
        # scales it. First in two of six, between the two in one each, last in two.
        before_brightness = (order < 1 / 3) | ((order >= 1 / 2) & (order < 2 / 3))
        before_contrast = order < 1 / 2
        one = self.neutral[0]
        scale = torch.where(before_brightness, brightness, one) * torch.where(before_contrast, contrast, one)
        # All three in one pass, for images y = 2x - 1: gain * y + shift + noise.
        means = images.mean(dim=(2, 3))
        gain = (brightness * contrast)[:, None, None, None]
        shift = (brightness[:, None] * (1 + (1 - contrast[:, None]) * means) - 1)[:, :, None, None]
        noise = gaussian(seeds, images.shape[2], images.shape[3])
        return (gain * images + shift + (2 * deviation * scale)[:, None, None, None] * noise).clamp(-1, 1)


def target_error(progress: float) -> float:
    """Target of the mean squared error, in levels 0..255, at a share of training: a cosine, 6.5 to 650 (40 to 20 dB).

    The cosine is one of the error and not of dB, as in corenet: half-way through training the target is 23 dB. Bounds
    keep every range open: a batch of photographs reaches about 34 dB, so the first targets are out of reach.
    """
    start, end = (WHITE**2 * 10 ** (-psnr / 10) for psnr in (START_PSNR, END_PSNR))
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def errors(
    plain: Float[Tensor, "batch 3 height width"], augmented: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, " batch"]:
    """Mean squared error of each image, in levels 0..255, between images in [-1, 1]."""
    return ((augmented - plain) * (WHITE / 2)).square().mean(dim=(1, 2, 3))


def psnr_loss(
    plain: Float[Tensor, "batch 3 height width"],
    augmented: Float[Tensor, "batch 3 height width"],
    *,
    progress: float,
) -> Float[Tensor, ""]:
    """Smooth L1 distance of the images' errors from the target, mean of the images; add it to the model's loss.

    `progress`: share of training done, 0 to 1. The weight of 100 / 255^2 is in it; CatLIP adds it with weight 1. Smooth
    L1 with its bend at an error of 1 is nearly L1 here: it balances images above the target with images below.
    """
    found = errors(plain, augmented)
    return LOSS_WEIGHT * F.smooth_l1_loss(found, torch.full_like(found, target_error(progress)))


@torch.no_grad()
def gaussian(seeds: Int64[Tensor, " batch"], height: int, width: int) -> Float[Tensor, "batch 3 height width"]:
    """Standard normal numbers, each a function of its image's seed and position in the image; channels-last memory.

    Numbers are hashes of a counter: the same on every device except for the rounding of erfinv, alone or in any batch,
    with no state to keep. They are quantiles in 2^23 steps, so the largest is about 5.3.
    """
    positions = torch.arange(height * width * 3, device=seeds.device).view(height, width, 3).permute(2, 0, 1)
    noise = words(keys(seeds)[:, None, None, None], positions)
    # The centres of 2^23 equal parts of (-1, 1): odd multiples of 2^-23, which float32 holds exactly.
    return noise.bitwise_right_shift_(9).mul_(2).sub_((1 << 23) - 1).float().mul_(2.0**-23).erfinv_().mul_(math.sqrt(2))
