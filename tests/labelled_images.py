"""Images with classes that exist in memory only, and features and classifiers that fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tests.pictures import picture
from trainer.data.images import BadImage
from trainer.data.labelled_images import LabelledImages, Read
from trainer.distributed import Rank

HERE = Rank(0, 1, torch.device("cpu"))


class Nowhere:
    """A store that nobody reads."""

    def open(self) -> AbstractContextManager[Read]:
        return nullcontext(lambda image: bytes([image]))


@dataclass(frozen=True)
class Shelf:
    """A store of pictures by number; those without content are missing."""

    pictures: dict[int, bytes]
    asked: list[int] = field(default_factory=list)
    """numbers that were read"""

    @contextmanager
    def open(self) -> Iterator[Read]:
        def read(image: int) -> bytes:
            self.asked.append(image)
            if not self.pictures[image]:
                raise BadImage("missing")
            return self.pictures[image]

        yield read


def shelf(count: int) -> Shelf:
    """Make a store of squares in different greys."""
    return Shelf({number: picture((7 * number, 7 * number, 90)) for number in range(count)})


def images_on(store: Shelf) -> LabelledImages:
    """Give the pictures of a store the classes red, green and blue in turn."""
    count = len(store.pictures)
    return LabelledImages(
        store=store,
        rows=np.arange(count),
        names=tuple(f"{number}.png" for number in range(count)),
        offsets=np.arange(count + 1),
        classes=np.arange(count) % 3,
        labels=("red", "green", "blue"),
        multi_label=False,
        fingerprint="these",
    )


def images_of(classes: Sequence[int | Sequence[int]], count: int, *, multi_label: bool = False) -> LabelledImages:
    """Make images that nobody can read, each of one class or of several out of `count`."""
    shown = [[own] if isinstance(own, int) else own for own in classes]
    return LabelledImages(
        store=Nowhere(),
        rows=np.arange(len(shown)),
        names=tuple(f"image {number}" for number in range(len(shown))),
        offsets=np.cumsum([0, *map(len, shown)]),
        classes=np.array([label for own in shown for label in own], np.int64),
        labels=tuple(map(str, range(count))),
        multi_label=multi_label,
        fingerprint="",
    )


def drawn_features(
    images: int, width: int, count: int, *, multi_label: bool, seed: int = 0
) -> tuple[Tensor, LabelledImages]:
    """Draw features (images, width) and images of one or several of `count` classes."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(images, width, generator=generator) * torch.linspace(0.1, 3, width)
    if multi_label:
        shown = [
            torch.nonzero(row).flatten().tolist()
            for row in torch.rand(images, count, generator=generator) < 1.5 / count
        ]
    else:
        shown = torch.randint(count, (images, 1), generator=generator).tolist()
    return values, images_of(shown, count, multi_label=multi_label)


def classifier_of(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    """Make a linear layer of this weight and bias."""
    linear = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))
    return linear
