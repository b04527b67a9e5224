"""The start of fine-tuning: the pre-trained model with a new classifier, its average, its optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from trainer.config import OptimConfig
from trainer.data.decoding import EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank, on_main
from trainer.loss.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from trainer.model.mixing import Mixing
from trainer.model.objective import Objective
from trainer.model.per_image import set_drop_path
from trainer.model.vit import checkpoint_activations
from trainer.optim.average import Average
from trainer.optim.optimiser import optimiser_of
from trainer.probe.linear import Head, random_head
from trainer.probe.measures import outputs
from trainer.step.metrics import Guard
from trainer.step.training import Training
from trainer.transfer.config import FinetuneConfig
from trainer.transfer.transfer_init import ClassMatch, match_classes, scale_head, transfer_head
from trainer.weights.pretrained import WHITE, Pretrained

LOGITS_CHUNK = 1024
"""images whose logits exist at a time"""
MOST_SCALED = 20_000
"""images whose features say where a transferred classifier's logits lie: a mean and a scale need no more"""


@dataclass(frozen=True, eq=False)
class Start:
    """A classifier and its origin."""

    head: Head
    matches: list[ClassMatch] = field(default_factory=list)
    """matches of each class, for Transfer Init"""


def start_of(
    config: FinetuneConfig,
    pretrained: Pretrained,
    images: LabelledImages,
    class_names: tuple[str, ...],
    rank: Rank,
    *,
    transform: EvalTransform,
    resumed: bool,
) -> Start:
    """Make the first classifier, the same on all ranks, which all must call. The model goes to the rank's device.

    For a `resumed` run any will do, for its weights are those of the checkpoint. Raises InputError if none of the
    images that the classifier is scaled by can be decoded.
    """
    count, width = len(class_names), pretrained.classifier.in_features
    matches = match_classes(class_names, pretrained.vocabulary, alpha=config.alpha) if config.init == "transfer" else []
    if resumed or config.init == "random":
        return Start(random_head(count, width, seed=config.seed), matches)
    some = images.select(_some(len(images), seed=config.seed))
    pretrained.model.to(rank.device)
    found = outputs(lambda pixels, _: pretrained.embed(pixels).float(), some, rank, transform=transform)

    def scaled() -> Start:
        assert found is not None
        head = transfer_head(pretrained.classifier, pretrained.vocabulary, matches, seed=config.seed)
        head, _ = scale_head(head, found.values, some.select(found.decoded))
        return Start(head, matches)

    return on_main(scaled, rank)


def build_finetuning(
    config: FinetuneConfig, optim: OptimConfig, pretrained: Pretrained, start: Start, rank: Rank, *, several: bool
) -> Training:
    """Build model, average and optimiser at step 0, on the rank's device; the pre-trained model itself learns.

    `several`: an image may have several classes. Raises InputError for options that the model cannot have.
    """
    assert config.label_smoothing is not None
    model = pretrained.model
    replace_classifier(model, start.head)
    if config.drop_path > 0:
        set_drop_path(model, config.drop_path)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    mixed = config.mixup > 0 or config.cutmix > 0
    seen = pretrained.preprocessing
    objective = Objective(
        model,
        None,
        loss_of_task(smoothing=config.label_smoothing, several=several),
        chunk=LOGITS_CHUNK,
        mean=seen.mean * WHITE,
        std=seen.std * WHITE,
        mix=Mixing(mixup=config.mixup, cutmix=config.cutmix) if mixed else None,
        keep_statistics=True,
    ).to(rank.device)
    return Training(
        objective,
        Average(model, momentum=optim.ema_momentum),
        optimiser_of(model, optim),
        Guard(rank.device, factor=optim.spike_factor),
    )


def loss_of_task(*, smoothing: float, several: bool) -> Loss:
    """Make softmax cross entropy for one class an image; for several, binary cross entropy, summed over classes."""
    return BinaryCrossEntropy(smoothing=smoothing) if several else SoftmaxCrossEntropy(smoothing=smoothing)


def replace_classifier(model: nn.Module, head: Head) -> None:
    """Put a classifier in the place of the model's."""
    classes, width = head.weight.shape
    linear = nn.Linear(width, classes)
    with torch.no_grad():
        linear.weight.copy_(head.weight)
        linear.bias.copy_(head.bias)
    model.set_submodule("head", linear, strict=True)
    # timm's own count.
    model.num_classes = classes  # type: ignore[assignment]


def _some(images: int, *, seed: int) -> np.ndarray:
    """Choose the images that a classifier is scaled by: at most MOST_SCALED, at random, in their order."""
    if images <= MOST_SCALED:
        return np.arange(images)
    return np.sort(np.random.default_rng(seed).choice(images, MOST_SCALED, replace=False))
