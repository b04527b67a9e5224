"""Shares of a data set: as many of each class as asked for, the smaller inside of the larger."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.labelled_images import LabelledImages, Read
from trainer.transfer.config import FinetuneConfig, TaskConfig
from trainer.transfer.tasks.opening import subset
from vocab.errors import InputError


class Nowhere:
    """A store that nobody reads."""

    def open(self) -> AbstractContextManager[Read]:
        return nullcontext(lambda image: bytes([image]))


def labelled(classes: list[list[int]], *, multi_label: bool) -> LabelledImages:
    return LabelledImages(
        store=Nowhere(),
        rows=np.arange(len(classes)),
        names=tuple(f"image {number}" for number in range(len(classes))),
        offsets=np.cumsum([0, *map(len, classes)]),
        classes=np.array([label for own in classes for label in own], np.int64),
        labels=tuple("abcdefgh"),
        multi_label=multi_label,
        fingerprint="",
    )


def of_classes(*counts: int) -> LabelledImages:
    """So many images of each class, the classes taking turns."""
    turns = [[label] for turn in range(max(counts)) for label, count in enumerate(counts) if turn < count]
    return labelled(turns, multi_label=False)


def test_each_class_gives_its_share_and_at_least_one() -> None:
    images = of_classes(200, 100, 20, 0, 1)
    shares = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)
    counts = {percent: subset(images, percent=percent, seed=0).images_by_class.tolist()[:5] for percent in shares}
    assert counts == {
        1: [2, 1, 1, 0, 1],
        5: [10, 5, 1, 0, 1],
        10: [20, 10, 2, 0, 1],
        25: [50, 25, 5, 0, 1],
        50: [100, 50, 10, 0, 1],
        100: [200, 100, 20, 0, 1],
    }
    assert subset(images, percent=100.0, seed=0) is images


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    st.lists(st.floats(0.01, 100), min_size=2, max_size=2).map(sorted),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_the_smaller_share_lies_inside_of_the_larger(
    counts: list[int], percents: list[float], seed: int, multi_label: bool
) -> None:
    images = of_classes(*counts)
    if multi_label:
        images = labelled([[label] if label else [] for label in images.classes.tolist()], multi_label=True)
    small, large = (subset(images, percent=percent, seed=seed) for percent in percents)
    assert set(small.rows.tolist()) <= set(large.rows.tolist())
    assert small.rows.tolist() == sorted(small.rows.tolist())
    assert len(small) >= 1


def test_the_seed_decides_which() -> None:
    images = of_classes(100, 100)
    first, again, other = (subset(images, percent=10.0, seed=seed).rows.tolist() for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert len(first) == len(other) == 20


def test_leaving_out_an_image_moves_no_other() -> None:
    images = of_classes(200)
    chosen = subset(images, percent=50.0, seed=1).rows.tolist()
    without = images.select(np.setdiff1d(np.arange(200), chosen[:2]))
    assert set(chosen[2:]) <= set(subset(without, percent=50.0, seed=1).rows.tolist())


def test_where_images_have_any_number_of_classes_the_share_is_of_all_images() -> None:
    images = labelled([[0, 1], [], [2]] * 100, multi_label=True)
    assert [len(subset(images, percent=percent, seed=0)) for percent in (0.1, 1.0, 50.0)] == [1, 3, 150]


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.5, float("nan")])
def test_a_share_outside_of_a_hundred_is_an_error(percent: float) -> None:
    with pytest.raises(InputError, match="--percent: found"):
        FinetuneConfig("model", TaskConfig("train", "test"), Path("out"), percent=percent)


def test_nothing_stays_nothing() -> None:
    assert len(subset(of_classes(1).select(np.array([], np.int64)), percent=1.0, seed=0)) == 0
