"""Linear classifiers on the same features, trained at once: one for each learning rate and weight decay of a grid.

In: features of a task's images, the settings, the first classifier. Out: a `Head` for each setting, equal but for
rounding to the result of this, with batches whose order depends on the seed alone:

    head = nn.Linear(width, classes)                 # begins as `start`
    optimiser = torch.optim.AdamW(head.parameters(), lr, weight_decay=weight_decay)
    for batch in batches:
        loss = cross_entropy(head(features[batch]), targets[batch])        # or binary, summed over the classes
        loss.backward(); optimiser.step()

A batch's features are read once. The weights of all settings are one matrix, so that logits and gradients are one
product each; the gradient is in closed form, and AdamW is torch's own, fused. Adam's step is as long as
the learning rate says, whatever the gradient's length, so weights are kept in units of their setting's learning rate:
then one call takes the step of all settings that decay alike.

Once a classifier is right on all its images, gradients and their squares fall below 1e-38, and a CPU takes several
times as long for a step with such denormal numbers. Training therefore has a thread of its own that flushes them to 0;
no weight changes by it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim.adamw import adamw

from trainer.config import OptimConfig
from trainer.data.labelled_images import LabelledImages
from trainer.optim.optimiser import learning_rate
from trainer.probe.linear import Head, check_fit, check_numbers

BETAS = (0.9, 0.999)
EPSILON = 1e-8
# The bias is one more weight, of a feature that is always 1; rows then end where the processor likes them to.
ALIGNED = 16
# Weights that are trained at once: with gradients and moments 16 bytes each. More settings take several turns.
MOST_WEIGHTS = 1 << 27


@dataclass(frozen=True)
class Setting:
    """Options of the optimiser that a probe chooses."""

    learning_rate: float
    """learning rate of the first steps"""
    weight_decay: float
    """AdamW's: decoupled, on the bias too, as nn.Linear's parameters have it in one group"""


@dataclass(frozen=True)
class GridSchedule:
    """Schedule that all settings share. Defaults: the paper's."""

    epochs: int = 30
    batch_size: int = 256
    final_share: float = 1 / 30
    """learning rate of the last step over the setting's, by a cosine"""
    label_smoothing: float = 0.0


def train_grid(
    values: Float[Tensor, "images width"],
    images: LabelledImages,
    *,
    grid: Sequence[Setting],
    schedule: GridSchedule,
    start: Head,
    seed: int,
) -> list[Head]:
    """Train a classifier for each setting of the grid, on the features' device and in their precision.

    `images`: whose features they are, with their classes. Raises InputError for features that are not finite,
    MismatchError for a start that does not fit.
    """
    check_numbers(values, "the training images")
    check_fit(values, images, start)
    at_once = max(1, MOST_WEIGHTS // start.weight.numel())
    stop = threading.Event()

    def train(some: Sequence[Setting]) -> list[Head]:
        with torch.no_grad():
            stack = _Stack(start, some, schedule, values, multi_label=images.multi_label)
            _train(stack, values, images, schedule, seed, stop)
            return stack.heads()

    # The processor's mode is a thread's own; those that torch starts to share its work have it from there.
    with ThreadPoolExecutor(1, "probe", initializer=torch.set_flush_denormal, initargs=(True,)) as thread:
        parts = [thread.submit(train, grid[first : first + at_once]) for first in range(0, len(grid), at_once)]
        try:
            return [head for part in parts for head in part.result()]
        finally:
            stop.set()  # for Ctrl-C, which comes to this thread


def _train(
    stack: _Stack,
    values: Float[Tensor, "images width"],
    images: LabelledImages,
    schedule: GridSchedule,
    seed: int,
    stop: threading.Event,
) -> None:
    """Train for all epochs, or until `stop` is set."""
    generator = torch.Generator().manual_seed(seed)
    size = schedule.batch_size
    steps = schedule.epochs * -(-len(values) // size)
    decay = OptimConfig(steps=steps, warmup_steps=0, peak_lr=1.0, final_lr=schedule.final_share)
    step = 0
    for _ in range(schedule.epochs):
        order = torch.randperm(len(values), generator=generator)
        targets = _targets(images, order.numpy(), size, values.device)
        order = order.to(values.device)
        for number, first in enumerate(range(0, len(values), size)):
            if stop.is_set():
                return
            step += 1
            features = values.index_select(0, order[first : first + size])
            stack.step(features, *targets[number], share=learning_rate(step, decay))


def _targets(
    images: LabelledImages, order: Int64[np.ndarray, " images"], size: int, device: torch.device
) -> list[tuple[Int64[Tensor, " positives"], Int64[Tensor, " positives"]]]:
    """List for each batch of an epoch its positives: the image's index in the batch, and the class."""
    lengths = np.diff(images.offsets)[order]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    positions = np.arange(ends[-1]) - np.repeat(ends[:-1] - images.offsets[order], lengths)
    owners = torch.from_numpy(np.repeat(np.arange(len(order)) % size, lengths)).to(device)
    classes = torch.from_numpy(images.classes[positions]).to(device)
    cuts = [int(ends[min(first, len(order))]) for first in range(0, len(order) + size, size)]
    return [(owners[a:b], classes[a:b]) for a, b in pairwise(cuts)]


class _Stack:
    """The classifiers of all settings while they learn: matrices of [settings x classes, width, bias and padding], in
    units of the settings' learning rates.
    """

    def __init__(
        self, start: Head, grid: Sequence[Setting], schedule: GridSchedule, like: Tensor, *, multi_label: bool
    ) -> None:
        self._smoothing, self._multi_label = schedule.label_smoothing, multi_label
        self._classes, self._width = start.weight.shape
        # Settings that decay alike lie beside each other.
        self._order = sorted(range(len(grid)), key=lambda number: _decay(grid[number]))
        ordered = [grid[number] for number in self._order]
        self._rates = like.new_tensor([setting.learning_rate for setting in ordered])[:, None]
        padded = -(-(self._width + 1) // ALIGNED) * ALIGNED
        weights = like.new_zeros(len(grid), self._classes, padded)
        weights[..., : self._width] = start.weight.to(like)
        weights[..., self._width] = start.bias.to(like)
        weights /= self._rates[..., None]
        self._weights = weights.view(-1, padded)
        self._gradients = torch.zeros_like(self._weights)
        states = (self._weights, self._gradients, torch.zeros_like(self._weights), torch.zeros_like(self._weights))
        self._alike = [(decay, len(list(some)) * self._classes) for decay, some in groupby(map(_decay, ordered))]
        parts = (torch.split(state, [rows for _, rows in self._alike]) for state in states)
        # AdamW takes lists of tensors: here of one.
        self._parts = list(zip(*([[part] for part in some] for some in parts), strict=True))
        self._steps = [[torch.zeros((), device=like.device)] for _ in self._alike]
        self._rows = like.new_zeros(schedule.batch_size, padded)
        self._rows[:, self._width] = 1
        self._logits = like.new_empty(schedule.batch_size, len(self._weights))
        self._errors = torch.empty_like(self._logits)

    def step(
        self,
        features: Float[Tensor, "batch width"],
        owners: Int64[Tensor, " positives"],
        classes: Int64[Tensor, " positives"],
        *,
        share: float,
    ) -> None:
        """Take one step of each classifier, at this share of its learning rate."""
        count = len(features)
        rows, logits, errors = self._rows[:count], self._logits[:count], self._errors[:count]
        rows[:, : self._width] = features
        torch.mm(rows, self._weights.T, out=logits)
        logits.view(count, -1, self._classes).mul_(self._rates)
        # The gradient with respect to logits: what is said less what is true.
        if self._multi_label:
            torch.sigmoid(logits, out=errors)
        else:
            torch.softmax(logits.view(-1, self._classes), 1, out=errors.view(-1, self._classes))
        if self._smoothing:
            errors -= self._smoothing / self._classes
        errors.view(count, -1, self._classes)[owners, :, classes] -= 1 - self._smoothing
        torch.addmm(self._gradients, errors.T, rows, beta=0, alpha=1 / count, out=self._gradients)
        for (decay, _), (weights, gradients, means, squares), steps in zip(
            self._alike, self._parts, self._steps, strict=True
        ):
            adamw(
                weights,
                gradients,
                means,
                squares,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=share,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )

    def heads(self) -> list[Head]:
        """Copy the classifiers as they are."""
        split = (self._weights.view(len(self._order), self._classes, -1) * self._rates[..., None]).float()
        heads = [Head(one[:, : self._width].contiguous(), one[:, self._width].contiguous()) for one in split]
        return [heads[self._order.index(number)] for number in range(len(heads))]


def _decay(setting: Setting) -> float:
    """Share of a weight that a step at the full learning rate takes away."""
    return setting.learning_rate * setting.weight_decay
