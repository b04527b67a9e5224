"""A linear probe: multinomial logistic regression on frozen features.

In: features with their classes, to train and to measure on. Out: weights of a linear classifier, and `Accuracy`.

The objective is convex: the mean cross entropy plus decay / 2 times the squared weights, the bias aside, on features
standardised by the training set's mean and deviation. L-BFGS on all rows at once therefore finds what it is, from zero
and without a learning rate. The decay is chosen from a grid on a tenth of the training rows, then all are trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

# From strong to weak: each fit begins where the one before it ended.
DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
ITERATIONS = 60
# An iteration that lowers the loss by less, in nats, is the last one; so is a gradient of no larger entry.
TOLERANCE = 1e-6
HELD_OUT = 0.1
TOP = 5
# Logits that exist at a time.
CHUNK_ELEMENTS = 1 << 26


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear classifier on raw features."""

    weight: Float32[Tensor, "width classes"]
    bias: Float32[Tensor, " classes"]
    mean: Float32[Tensor, " width"]
    deviation: Float32[Tensor, " width"]

    def logits(self, features: Float32[Tensor, "images width"]) -> Float32[Tensor, "images classes"]:
        """One logit for each class."""
        return (features - self.mean) / self.deviation @ self.weight + self.bias


@dataclass(frozen=True)
class Accuracy:
    """Shares of the images whose class is the first, or among the first five."""

    top1: float
    top5: float | None
    """None with five classes or fewer, of which five are all"""


def train(
    features: Float32[Tensor, "images width"],
    classes: Int64[Tensor, " images"],
    *,
    count: int,
    seed: int,
    decays: Sequence[float] = DECAYS,
) -> tuple[Linear, float]:
    """The classifier of `count` classes, and the decay that was chosen; of equally good ones the strongest.

    `seed` decides which rows the decay is chosen on. With one decay, or fewer than 20 rows, nothing is held out; the
    latter take the strongest decay.
    """
    if len(decays) == 1 or len(features) < 2 / HELD_OUT:
        return fit(features, classes, count=count, decays=decays[:1])[0], decays[0]
    held_out = split(len(features), seed=seed).to(features.device)
    models = fit(features[~held_out], classes[~held_out], count=count, decays=decays)
    scores = [accuracy(model, features[held_out], classes[held_out]).top1 for model in models]
    best = scores.index(max(scores))
    return fit(features, classes, count=count, decays=decays[best : best + 1], start=models[best])[0], decays[best]


def split(images: int, *, seed: int) -> Bool[Tensor, " images"]:
    """Which rows are held out to choose the decay: a tenth, at random."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    held_out = torch.zeros(images, dtype=torch.bool)
    held_out[order[: round(HELD_OUT * images)]] = True
    return held_out


def fit(
    features: Float32[Tensor, "images width"],
    classes: Int64[Tensor, " images"],
    *,
    count: int,
    decays: Sequence[float],
    start: Linear | None = None,
) -> list[Linear]:
    """The classifier for each decay, strongest first. float32 on the features' device.

    `start`: a classifier of nearly the same rows, to begin with in place of zero; it saves iterations. Features that
    are no numbers give weights that are none.
    """
    mean = features.mean(0)
    deviation = features.std(0, correction=0)
    # A feature that is always the same says nothing; divided by its rounding error it would.
    deviation = torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, torch.inf)
    rows = (features - mean) / deviation
    parameters = torch.zeros(features.shape[1] + 1, count, device=features.device)
    if start is not None:
        parameters = torch.cat([start.weight, start.bias[None]])
    parameters.requires_grad_()
    fitted = []
    sound = bool(rows.isfinite().all())
    for decay in decays:
        if sound:
            _minimise(parameters, rows, classes, decay)
        else:
            parameters.detach().fill_(torch.nan)
        weight, bias = parameters.detach()[:-1].clone(), parameters.detach()[-1].clone()
        fitted.append(Linear(weight, bias, mean, deviation))
    return fitted


def _minimise(
    parameters: Float32[Tensor, "width_plus_1 classes"],
    rows: Float32[Tensor, "images width"],
    classes: Int64[Tensor, " images"],
    decay: float,
) -> None:
    optimiser = torch.optim.LBFGS(
        [parameters],
        max_iter=ITERATIONS,
        history_size=10,
        tolerance_grad=TOLERANCE,
        tolerance_change=TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        loss, gradient = objective(parameters.detach(), rows, classes, decay=decay)
        parameters.grad = gradient
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def objective(
    parameters: Float32[Tensor, "width_plus_1 classes"],
    rows: Float32[Tensor, "images width"],
    classes: Int64[Tensor, " images"],
    *,
    decay: float,
) -> tuple[Float32[Tensor, ""], Float32[Tensor, "width_plus_1 classes"]]:
    """Mean cross entropy and decay, and their gradient in closed form, some rows at a time; last row: the bias."""
    weight, bias = parameters[:-1], parameters[-1]
    gradient = torch.zeros_like(parameters)
    loss = parameters.new_zeros(())
    chunk = max(1, CHUNK_ELEMENTS // parameters.shape[1])
    for start in range(0, len(rows), chunk):
        part, own = rows[start : start + chunk], classes[start : start + chunk, None]
        logs = (part @ weight + bias).log_softmax(1)
        loss -= logs.gather(1, own).sum()
        error = logs.exp_().scatter_add_(1, own, logs.new_full((), -1.0).expand(own.shape))
        gradient[:-1] += part.T @ error
        gradient[-1] += error.sum(0)
    gradient /= len(rows)
    gradient[:-1] += decay * weight
    return loss / len(rows) + decay / 2 * weight.square().sum(), gradient


def accuracy(model: Linear, features: Float32[Tensor, "images width"], classes: Int64[Tensor, " images"]) -> Accuracy:
    """How often the model is right; a class below 0 is one that nobody can name. nan if logits are no numbers."""
    count = len(model.bias)
    first = min(TOP, count)
    hits = torch.zeros(first, dtype=torch.int64, device=features.device)
    finite = torch.ones((), dtype=torch.bool, device=features.device)
    chunk = max(1, CHUNK_ELEMENTS // count)
    for start in range(0, len(features), chunk):
        logits = model.logits(features[start : start + chunk])
        hits += (logits.topk(first).indices == classes[start : start + chunk, None]).sum(0)
        finite &= logits.isfinite().all()
    shares = torch.where(finite, hits.cumsum(0) / max(1, len(features)), torch.nan).tolist()
    return Accuracy(top1=shares[0], top5=shares[-1] if count > TOP else None)
