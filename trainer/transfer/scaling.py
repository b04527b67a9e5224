"""How sure of itself a classifier should be that was trained for something else: one number, by maximum likelihood.

In: its logits on images, and their classes. Out: what the logits are to be multiplied by, and for several classes an
image what is to be added to them then.

Both likelihoods are convex, so that Newton's method finds what they are. A few images may all be told apart, and then
no finite number is the best; as in Platt's paper (1999) targets therefore stop short of 1 and 0, by less the more
images there are. Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

BOUNDS = (0.0, 100.0)
"""smallest and largest scale; a scale below 0 would invert what was learnt"""
STEPS = 100
TOLERANCE = 1e-9
# Logits in float64 at a time.
CHUNK_ELEMENTS = 1 << 21
# Far below any curvature that matters; it stands for one where a scale makes no difference at all.
RIDGE = 1e-12


def fit_softmax(logits: Float32[Tensor, "images classes"], classes: Int64[Tensor, " images"]) -> float:
    """The scale s, within BOUNDS, at which softmax(s logits) gives the images' classes the highest likelihood.

    The targets are 1 - e for an image's class and e / classes for each, e = 1 / (images + 2): what is minimised,

        f(s) = mean of  log sum_k exp(s z_k) - s t.z      f' = mean of  p.z - t.z      f'' = mean of the variance of z

    with p = softmax(s z) and t the target. By Newton's method, kept between two scales on whose sides f' differs.
    """
    low, high = BOUNDS
    if _slope(logits, classes, low)[0] >= 0:
        return low
    if _slope(logits, classes, high)[0] <= 0:
        return high
    scale = 1.0
    for _ in range(STEPS):
        slope, curvature = _slope(logits, classes, scale)
        low, high = (low, scale) if slope > 0 else (scale, high)
        # Where Newton leaves the bracket, halve it.
        step = scale - slope / curvature if curvature > 0 else math.inf
        before, scale = scale, step if low < step < high else (low + high) / 2
        if abs(scale - before) <= TOLERANCE * scale:
            break
    return scale


def fit_sigmoid(
    logits: Float32[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " pos"],
) -> tuple[float, float]:
    """The scale a >= 0 and the offset c at which sigmoid(a logits + c) has the highest likelihood.

    Over all pairs of an image and a class, of which those of `positives` are true: image i shows
    positives[offsets[i] : offsets[i + 1]]. Targets are (P + 1) / (P + 2) for the P true pairs and 1 / (N + 2) for the N
    others. By Newton's method with halved steps (Lin, Lin and Weng 2007). Where a would be below 0 it is 0, and c the
    log-odds of the mean target.
    """
    true = len(positives)
    false = logits.numel() - true
    targets = (true + 1) / (true + 2), 1 / (false + 2)
    share = (true * targets[0] + false * targets[1]) / logits.numel()
    flat = math.log(share / (1 - share))
    scale, offset = 0.0, flat
    loss, gradient, hessian = _platt(logits, offsets, positives, targets, scale, offset)
    for _ in range(STEPS):
        if float(gradient.abs().max()) <= TOLERANCE:
            break
        step = torch.linalg.solve(hessian, gradient).tolist()
        stride = 1.0
        while stride > TOLERANCE:
            trial = scale - stride * step[0], offset - stride * step[1]
            reached = _platt(logits, offsets, positives, targets, *trial)
            if reached[0] < loss:
                break
            stride /= 2
        else:
            break
        (scale, offset), (loss, gradient, hessian) = trial, reached
    return (scale, offset) if scale > 0 else (0.0, flat)


def _slope(
    logits: Float32[Tensor, "images classes"], classes: Int64[Tensor, " images"], scale: float
) -> tuple[float, float]:
    """f' and f'' of `fit_softmax`."""
    images = len(logits)
    short = 1 / (images + 2)
    slope = curvature = 0.0
    for start, part in _parts(logits):
        own = part.gather(1, classes[start : start + len(part), None])[:, 0]
        chances = (scale * part).softmax(1)
        mean = (chances * part).sum(1)
        slope += float((mean - (1 - short) * own - short * part.mean(1)).sum())
        curvature += float((chances * (part - mean[:, None]).square()).sum())
    return slope / images, curvature / images


def _platt(
    logits: Float32[Tensor, "images classes"],
    offsets: Int64[Tensor, " images_plus_1"],
    positives: Int64[Tensor, " pos"],
    targets: tuple[float, float],
    scale: float,
    offset: float,
) -> tuple[float, Float64[Tensor, "2"], Float64[Tensor, "2 2"]]:
    """Mean loss over all pairs, its gradient and its Hessian, by scale and offset; on the CPU."""
    loss = 0.0
    gradient, hessian = torch.zeros(2, dtype=torch.float64), RIDGE * torch.eye(2, dtype=torch.float64)
    for start, part in _parts(logits):
        ends = offsets[start : start + len(part) + 1]
        rows = torch.arange(len(part), device=part.device).repeat_interleave(ends.diff())
        target = torch.full_like(part, targets[1])
        target[rows, positives[int(ends[0]) : int(ends[-1])]] = targets[0]
        moved = scale * part + offset
        loss += float((torch.nn.functional.softplus(moved) - target * moved).sum())
        chance = moved.sigmoid()
        error, weight = chance - target, chance * (1 - chance)
        gradient += torch.stack([(error * part).sum(), error.sum()]).cpu() / logits.numel()
        mixed = (weight * part).sum()
        entries = [(weight * part.square()).sum(), mixed, mixed, weight.sum()]
        hessian += torch.stack(entries).view(2, 2).cpu() / logits.numel()
    return loss / logits.numel(), gradient, hessian


def _parts(logits: Float32[Tensor, "images classes"]) -> Iterator[tuple[int, Float64[Tensor, "some classes"]]]:
    """Some rows at a time in float64, with the number of the first."""
    chunk = max(1, CHUNK_ELEMENTS // logits.shape[1])
    for start in range(0, len(logits), chunk):
        yield start, logits[start : start + chunk].double()
