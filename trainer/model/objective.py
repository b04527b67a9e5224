"""The objective of a step: from the bytes of images and their classes to the loss, mean over the images.

One module, for DDP and FSDP2 to wrap. Images are mirrored, normalised, augmented or mixed, and encoded; the classifier
takes them a chunk at a time (`loss/classifier.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

from trainer.data.batch import Batch
from trainer.loss.classifier import chunked_loss
from trainer.loss.losses import Loss
from trainer.loss.targets import Targets
from trainer.model.backbone import classifier_of, features, logits
from trainer.model.per_image import seeds_of
from trainer.model.range_augment import RangeAugment, psnr_loss

# Mean and standard deviation of a channel: pixels to [-1, 1], as timm's augreg transformers have it.
MEAN, STD = 127.5, 127.5
# Function from pixels, targets and seeds of a batch to other pixels with several targets, whose losses are added.
Channels = tuple[float, float, float]
"""one number for red, green and blue each"""
Mix = Callable[[Tensor, Targets, Tensor], tuple[Tensor, Sequence[Targets]]]


class StepObjective(nn.Module):
    """Base of the modules that a step calls: a batch in, the loss out."""

    model: nn.Module
    """all that is trained, averaged and written to checkpoints, but for `augment`"""
    augment: RangeAugment | None
    """augmentation that is learnt with the model"""

    def __init__(self) -> None:
        super().__init__()
        # An attribute of the instance: torch would never find a module behind one of the class.
        self.augment = None

    def forward(self, batch: Batch, progress: float) -> Float[Tensor, ""]:
        """Loss of a batch; `progress`: share of training done, 0 to 1."""
        raise NotImplementedError


@contextmanager
def evaluating(objective: StepObjective) -> Iterator[None]:
    """Put a model into evaluation for the context, without gradients."""
    was_training = objective.training
    objective.eval()
    try:
        # Not inference_mode: FSDP2 keeps tensors of this pass for the next one, which may be training.
        with torch.no_grad():
            yield
    finally:
        objective.train(was_training)


class Objective(StepObjective):
    """An image model of timm with preprocessing, augmentation and loss."""

    def __init__(
        self,
        model: nn.Module,
        augment: RangeAugment | None,
        loss: Loss,
        *,
        chunk: int,
        mean: float | Channels = MEAN,
        std: float | Channels = STD,
        mix: Mix | None = None,
        keep_statistics: bool = False,
    ) -> None:
        """`chunk`: images whose logits exist at a time. `mean`, `std`: normalisation of pixels from 0 to 255,
        one number or one for each channel.

        `keep_statistics`: batch norms, if the model has any, keep the statistics that they have; then the output for an
        image depends neither on its batch nor on the number of processes.
        """
        super().__init__()
        self.model, self.augment, self.loss, self.chunk = model, augment, loss, chunk
        self.mix, self.keep_statistics = mix, keep_statistics
        self.mean, self.std = mean, std

    def train(self, mode: bool = True) -> Objective:
        """Set the mode; batch norms that keep their statistics stay in evaluation."""
        super().train(mode)
        if self.keep_statistics:
            for part in self.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        return self

    def forward(self, batch: Batch, progress: float) -> Float[Tensor, ""]:
        """Mean loss of a batch's images."""
        plain, augmented = self.pixels(batch.images, batch.flips, batch.draws, batch.seeds)
        targets: Sequence[Targets] = [Targets(batch.offsets, batch.classes, batch.weights, batch.ends)]
        if self.mix is not None:
            plain, targets = self.mix(plain, targets[0], batch.seeds)
        seeds_of(self.model).set(batch.seeds)
        seen = features(self.model, plain if augmented is None else augmented)
        # Here and not in a module of its own: FSDP2 has gathered the classifier while this method runs.
        head = classifier_of(self.model)
        loss: Tensor = chunked_loss(seen, head.weight, head.bias, targets[0], self.loss, chunk=self.chunk)
        for other in targets[1:]:
            loss = loss + chunked_loss(seen, head.weight, head.bias, other, self.loss, chunk=self.chunk)
        if augmented is None:
            return loss
        return loss + psnr_loss(plain, augmented, progress=progress)

    def pixels(
        self,
        images: UInt8[Tensor, "batch size size 3"],
        flips: Bool[Tensor, " batch"],
        draws: Float32[Tensor, "batch draws"],
        seeds: Int64[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch 3 size size"], Float[Tensor, "batch 3 size size"] | None]:
        """The normalised images, and the augmented ones, or None without augmentation."""
        plain = prepare(images, flips, mean=self.mean, std=self.std)
        return plain, self.augment(plain, draws=draws, seeds=seeds) if self.augment is not None else None

    def score(self, images: UInt8[Tensor, "batch size size 3"]) -> Float[Tensor, "batch classes"]:
        """Logits of images without augmentation, for evaluation."""
        return logits(self.model, prepare(images, None, mean=self.mean, std=self.std))

    def embed(self, images: UInt8[Tensor, "batch size size 3"]) -> Float[Tensor, "batch width"]:
        """Features that the classifier reads, of images without augmentation, for a probe."""
        return features(self.model, prepare(images, None, mean=self.mean, std=self.std))


def prepare(
    images: UInt8[Tensor, "batch size size 3"],
    flips: Bool[Tensor, " batch"] | None,
    *,
    mean: float | Channels = MEAN,
    std: float | Channels = STD,
) -> Float[Tensor, "batch 3 size size"]:
    """Make a batch the model's input: `(pixels - mean) / std`, float32, mirrored left to right where flips[i].

    `mean` and `std` are of pixels from 0 to 255; released weights want others than ours. Both tensors lie on the same
    device. No shape depends on `flips`, so nothing waits for the host and the function compiles to one kernel. Images
    are mirrored here, while bytes become floats, because in the loaders it would cost a pass of its own.

    The memory of the result is channels-last, the order of the bytes: nothing is transposed here, and the convolution
    that cuts an image into patches then leaves its tokens in the order that the blocks read.
    """
    if flips is not None:
        # On bytes: a quarter of the traffic that mirroring floats would cause.
        images = torch.where(flips[:, None, None, None], images.flip(2), images)
    # In place on the fresh copy that float() makes, so that one float batch is alive and not three.
    return normalise(images.permute(0, 3, 1, 2).float(), mean, std)


def normalise(
    pixels: Float[Tensor, "batch 3 size size"], mean: float | Channels, std: float | Channels
) -> Float[Tensor, "batch 3 size size"]:
    """Subtract the mean and divide by the standard deviation, in place, of all channels alike or of each its own."""
    if isinstance(mean, float) and isinstance(std, float):
        return pixels.sub_(mean).div_(std)
    for channel, (middle, width) in enumerate(zip(by_channel(mean), by_channel(std), strict=True)):
        pixels[:, channel].sub_(middle).div_(width)
    return pixels


def scaled(value: float | Channels, factor: float) -> float | Channels:
    """Multiply a number, or one number for each channel."""
    if isinstance(value, float):
        return value * factor
    red, green, blue = (each * factor for each in value)
    return red, green, blue


def by_channel(value: float | Channels) -> list[float]:
    """List the numbers of red, green and blue."""
    return list(value) if isinstance(value, tuple) else [value] * 3
