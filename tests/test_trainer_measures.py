"""Measures of scores: what comes first, and average precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.labelled_images import images_of
from trainer.probe.measures import measure
from vocab.errors import InputError


def test_accuracy_counts_the_first_and_the_first_five() -> None:
    scores = torch.arange(7.0).flip(0).repeat(4, 1)
    found = measure([scores[:3], scores[3:]], images_of([[0], [4], [5], [0]], count=7))
    assert found.numbers() == {"top1": 0.5, "top5": 0.75}
    assert found.metric == ("top1", 0.5)
    assert found.correct is not None
    assert found.correct.tolist() == [True, False, False, True]
    assert found.by_class is not None
    assert np.array_equal(found.by_class, [1, *[np.nan] * 3, 0, 0, np.nan], equal_nan=True)


def test_of_five_classes_there_is_no_top_five() -> None:
    assert measure([torch.eye(5)], images_of([[n] for n in range(5)], count=5)).numbers() == {"top1": 1.0}


def test_several_classes_an_image_have_average_precisions() -> None:
    # Class 0: ranked right, wrong, right -> (1 + 2/3) / 2; class 1: 1/2, its only image is second; class 2: no image.
    scores = torch.tensor([[3.0, 0.5, 0.0], [2.0, 0.4, 0.0], [1.0, 0.3, 0.0]])
    found = measure([scores], images_of([[0], [1], [0]], count=3, multi_label=True))
    assert found.map_macro == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert found.metric == ("map_macro", found.map_macro)
    assert found.correct is None
    assert found.parts.tolist() == pytest.approx([5 / 6, 1 / 2])
    # One ranking of all pairs: 3 true, 2 false, 1 true, .5 false, .4 true.
    assert found.map_micro == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_what_is_no_number_comes_last() -> None:
    nan = float("nan")
    one = measure([torch.tensor([[nan, -9.0], [nan, nan]])], images_of([[1], [0]], count=2))
    assert one.correct is not None
    assert one.correct.tolist() == [True, False]
    several = measure([torch.tensor([[nan], [-9.0]])], images_of([[], [0]], count=1, multi_label=True))
    assert several.numbers() == {"map_macro": 1.0, "map_micro": 1.0}


def test_images_that_show_no_class_are_an_error_and_no_precision_of_nought() -> None:
    with pytest.raises(InputError, match="2 that can be decoded, none of which shows a class"):
        measure([torch.zeros(2, 3)], images_of([[], []], count=3, multi_label=True))
