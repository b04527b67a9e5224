"""Images of a task with the classes that they show, wherever their bytes lie.

In: what a reader of data sets found (`trainer/transfer/tasks/`). Out: `LabelledImages`, of which some can be
selected, and whose bytes any thread may ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from trainer.data.batch import Skipped

Read = Callable[[int], bytes]
"""Number of an image in its store to its bytes; for any thread. Raises BadImage for an image that is no longer there,
InputError for a store that was changed."""


@runtime_checkable
class ImageStore(Protocol):
    """Where images lie. Holds no handles: it can go to any process."""

    def open(self) -> AbstractContextManager[Read]:
        """Handles, for as long as the context lasts."""
        ...


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Image i shows classes[offsets[i] : offsets[i + 1]], each once, ascending; exactly one unless `multi_label`."""

    store: ImageStore
    rows: Int64[np.ndarray, " images"]
    """number of each image in the store"""
    names: tuple[str, ...]
    """of the images, as messages show them and as no two are alike"""
    offsets: Int64[np.ndarray, " images_plus_1"]
    classes: Int64[np.ndarray, " positives"]
    labels: tuple[str, ...]
    """what the data set calls each class, by its number"""
    multi_label: bool
    fingerprint: str
    """of the whole data set, whatever is selected of it: another one where bytes may be others"""
    skipped: tuple[Skipped, ...] = ()
    """samples that are of no use, found without decoding"""
    class_names: tuple[str, ...] = ()
    """names of the classes where the data set has others than `labels`, as LVIS has synsets"""
    notes: tuple[str, ...] = ()
    """what whoever reads results should know of how the data set was read"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def one_class(self) -> Int64[np.ndarray, " images"]:
        """The class of each image, of a data set that has one each."""
        assert not self.multi_label
        return self.classes

    @property
    def images_by_class(self) -> Int64[np.ndarray, " labels"]:
        """How many images show each class."""
        return np.bincount(self.classes, minlength=len(self.labels)).astype(np.int64)

    def select(self, images: Int64[np.ndarray, " some"]) -> LabelledImages:
        """Some of the images, in the order that is given; the classes keep their numbers."""
        lengths = np.diff(self.offsets)[images]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[images], lengths)
        return replace(
            self,
            rows=self.rows[images],
            names=tuple(self.names[image] for image in images.tolist()),
            offsets=offsets,
            classes=self.classes[places],
        )
