"""Multi-label losses in closed form: from logits and sparse targets to the loss and its gradient.

No dense target is ever built: the part that depends on all classes is computed as if an image had no class, and
corrected at the positives.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from trainer.config import LossConfig, LossName
from trainer.loss.targets import Targets
from vocab.errors import InputError
from vocab.pages.text import counted
from vocab.vocabulary import Vocabulary

# Logits processed at a time: 16 MB of float32, which stay in a GPU's cache from one pass to the next, and whose
# intermediate values are small beside all logits.
SLAB = 1 << 22


def loss_of(config: LossConfig, vocabulary: Vocabulary) -> Loss:
    """Make the loss that the options ask for."""
    match config.loss:
        case "bce":
            return BinaryCrossEntropy(smoothing=config.label_smoothing)
        case "softmax":
            return SoftmaxCrossEntropy(smoothing=config.label_smoothing)
        case "softmax-idf":
            frequency = inverse_document_frequency(vocabulary)
            return SoftmaxCrossEntropy(smoothing=config.label_smoothing, class_weights=frequency)
        case "asymmetric":
            return AsymmetricLoss(focus=config.asymmetric_focus, margin=config.asymmetric_margin)


def probabilities(logits: Float[Tensor, "*images classes"], config: LossConfig) -> Float[Tensor, "*images classes"]:
    """Probabilities from logits under a loss, in at least float32: of each class alone, or shares that sum to 1."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.softmax(-1) if is_softmax(config.loss) else logits.sigmoid()


def is_softmax(loss: LossName) -> bool:
    """True if logits give shares of an image's labels; False if they give the probability of each class alone."""
    return loss in ("softmax", "softmax-idf")


def inverse_document_frequency(vocabulary: Vocabulary) -> Float64[Tensor, " classes"]:
    """Weight of each class, log(rows / (1 + captions)) (SuperClass, arXiv 2411.03313, section 3), and at least 0.

    The logarithm is 0 or less for a class that at most one caption lacks. Such a class distinguishes no images and gets
    weight 0: it is never a target, only a competitor. Raises InputError if all classes are such.
    """
    weights = np.log(vocabulary.rows / (1.0 + vocabulary.captions)) if vocabulary.rows > 0 else np.zeros(1)
    if weights.max(initial=0) <= 0:
        raise InputError(
            "--loss softmax-idf",
            found=f"{counted(len(vocabulary), 'class', 'classes')}, each in all or all but one of "
            f"{counted(vocabulary.rows, 'caption')}",
            wanted="a class that some captions hold and others do not",
            remedy="Choose --loss softmax, or count the vocabulary from more captions.",
        )
    return torch.from_numpy(np.maximum(weights, 0))


class Loss(nn.Module):
    """A loss without parameters, and its gradient."""

    @torch.no_grad()
    def forward(
        self, logits: Float[Tensor, "images classes"], targets: Targets
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "images classes"]]:
        """The sum over images of weight times loss, in nats, and its gradient with respect to the logits.

        The gradient overwrites the logits: the second tensor is the given one. float32 or float64.
        """
        total = logits.new_zeros(())
        height = max(1, SLAB // logits.shape[1])
        for first in range(0, len(logits), height):
            last = min(first + height, len(logits))
            slab, part = logits[first:last], targets.cut(first, last)
            losses, gradient = self.by_image(slab, part)
            if part.weights is None:
                total += losses.sum()
                slab.copy_(gradient)
            else:
                weights = part.weights.to(slab.dtype)
                total += (losses * weights).sum()
                torch.mul(gradient, weights[:, None], out=slab)
        return total, logits

    def by_image(
        self, logits: Float[Tensor, "images classes"], targets: Targets
    ) -> tuple[Float[Tensor, " images"], Float[Tensor, "images classes"]]:
        """Each image's loss without its weight, and the gradient; the logits may be overwritten."""
        raise NotImplementedError


@final
class BinaryCrossEntropy(Loss):
    """Binary cross entropy of every class, summed over classes (CatLIP, section 3):

        sum of softplus(z) - sum of t z,    t = 1 at the positives and 0 elsewhere

    Smoothed as in timm's BinaryCrossEntropy: t = 1 - s + s / classes at the positives, s / classes elsewhere.
    """

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def by_image(
        self, logits: Float[Tensor, "images classes"], targets: Targets
    ) -> tuple[Float[Tensor, " images"], Float[Tensor, "images classes"]]:
        at_positives = targets.sum_by_image(logits[targets.rows, targets.classes])
        losses = F.softplus(logits).sum(1) - (1 - self.smoothing) * at_positives
        if self.smoothing > 0:
            losses -= self.smoothing * logits.mean(1)
        gradient = logits.sigmoid_()
        if self.smoothing > 0:
            gradient -= self.smoothing / logits.shape[1]
        return losses, _subtract(gradient, targets, 1 - self.smoothing)


@final
class SoftmaxCrossEntropy(Loss):
    """Cross entropy of the softmax with an image's classes, of which each has its share (SuperClass, arXiv 2411.03313):

        - sum of t log softmax(z),    t = w y / sum of w y

    The weight w is the same for all classes, or `class_weights`. An image without a class, or with classes of weight 0
    alone, has loss 0 and gradient 0. Smoothed as in torch's CrossEntropyLoss: (1 - s) t + s / classes.
    """

    class_weights: Float64[Tensor, " classes"] | None

    def __init__(self, *, smoothing: float = 0.0, class_weights: Float64[Tensor, " classes"] | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def by_image(
        self, logits: Float[Tensor, "images classes"], targets: Targets
    ) -> tuple[Float[Tensor, " images"], Float[Tensor, "images classes"]]:
        weights = torch.ones_like(targets.classes, dtype=logits.dtype)
        if self.class_weights is not None:
            weights = self.class_weights[targets.classes].to(logits.dtype)
        sums = targets.sum_by_image(weights)
        counts = sums > 0
        shares = (1 - self.smoothing) * weights / torch.where(counts, sums, 1)[targets.rows]
        log_softmax = F.log_softmax(logits, 1)
        losses = -targets.sum_by_image(shares * log_softmax[targets.rows, targets.classes])
        if self.smoothing > 0:
            losses -= self.smoothing * log_softmax.mean(1)
        gradient = log_softmax.exp_()
        if self.smoothing > 0:
            gradient -= self.smoothing / logits.shape[1]
        return losses * counts, _subtract(gradient, targets, shares).mul_(counts[:, None])


@final
class AsymmetricLoss(Loss):
    """Asymmetric loss (Ridnik et al., arXiv 2009.14119, equations 1, 5 and 7), summed over classes, p = sigmoid(z):

        - (1 - p)^f log p           at the positives
        - u^g log(1 - u)            elsewhere, u = max(p - margin, 0)

    The paper's code bounds the arguments of logarithms by 1e-8; here log p is -softplus(-z), so that a positive with a
    very low logit keeps its gradient. Exponents 0 and margin 0 give the binary cross entropy.
    """

    def __init__(self, *, focus: tuple[float, float], margin: float) -> None:
        super().__init__()
        self.positive_focus, self.negative_focus = focus
        self.margin = margin

    def by_image(
        self, logits: Float[Tensor, "images classes"], targets: Targets
    ) -> tuple[Float[Tensor, " images"], Float[Tensor, "images classes"]]:
        positives = (targets.rows, targets.classes)
        found, found_gradient = self._positive(logits[positives])
        elements, gradient = self._negative(logits)
        elements.index_put_(positives, torch.zeros_like(found))
        gradient.index_put_(positives, found_gradient)
        return elements.sum(1) + targets.sum_by_image(found), gradient

    def _positive(
        self, logits: Float[Tensor, " positives"]
    ) -> tuple[Float[Tensor, " positives"], Float[Tensor, " positives"]]:
        """Loss and slope of positives."""
        log_p, missing, focus = F.logsigmoid(logits), torch.sigmoid(-logits), self.positive_focus
        focused = missing**focus
        return -focused * log_p, focused * (focus * torch.sigmoid(logits) * log_p - missing)

    def _negative(
        self, logits: Float[Tensor, "images classes"]
    ) -> tuple[Float[Tensor, "images classes"], Float[Tensor, "images classes"]]:
        """Loss and slope of negatives."""
        p, missing, focus = logits.sigmoid(), logits.neg().sigmoid_(), self.negative_focus
        if self.margin == 0:
            cost = F.softplus(logits)  # -log(1 - p), also where 1 - p is 0 in floating point
            focused = p**focus
            return focused * cost, missing.mul_(cost).mul_(focus).add_(p).mul_(focused)
        slope_of_u = missing.mul_(p)
        u = p.sub_(self.margin).clamp_(min=0)
        focused, cost = u**focus, u.neg().log1p_().neg_()
        slope = (focus * cost).div_(u).add_((1 - u).reciprocal_()).mul_(focused).mul_(slope_of_u)
        # Below the margin the slope is 0; u^(g - 1) may be NaN there.
        return focused.mul_(cost), slope.masked_fill_(u == 0, 0)


def _subtract(
    gradient: Float[Tensor, "images classes"], targets: Targets, values: Float[Tensor, " positives"] | float
) -> Float[Tensor, "images classes"]:
    """Subtract at the positives, in place. No class occurs twice, so that read and write need no accumulation."""
    positives = (targets.rows, targets.classes)
    return gradient.index_put_(positives, gradient[positives] - values)
