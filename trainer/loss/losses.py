"""The loss: binary cross entropy of every class, summed over classes, averaged over images (CatLIP, section 3).

In: logits and sparse targets. Out: one number. No dense target is ever built:

    sum over classes of BCE(z, y) = sum of softplus(z) - sum of z at the positives
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def binary_cross_entropy(
    logits: Float[Tensor, "batch classes"],
    offsets: Int64[Tensor, " batch_plus_1"],
    positives: Int64[Tensor, " positives"],
    weights: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """Loss of a batch in nats per image, in at least float32; image i has positives[offsets[i] : offsets[i + 1]].

    Equals `binary_cross_entropy_with_logits(logits, dense, reduction="sum") / batch`, as corenet's
    binary_cross_entropy with reduction "mean" over images has it. `weights` scales each image's loss; the sum is still
    divided by the number of images, so that ranks with other weights add up to the whole batch.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    images = torch.arange(len(logits), device=logits.device)
    # The output's size is known, and saying so spares the device a synchronisation.
    rows = images.repeat_interleave(offsets.diff(), output_size=len(positives))
    if weights is None:
        return (F.softplus(logits).sum() - logits[rows, positives].sum()) / len(logits)
    negative = F.softplus(logits).sum(1) @ weights.to(logits.dtype)
    return (negative - logits[rows, positives] @ weights[rows].to(logits.dtype)) / len(logits)
