"""Measures of segmentation: equal to counting pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.dense.segment_evaluation import highest
from trainer.dense.segment_scores import SegmentScores, count_pixels, joined
from trainer.dense.segmenter import to_pixels

CLASSES = 4


def slow(given_labels: np.ndarray, true_labels: np.ndarray) -> list[list[int]]:
    """Count pixels in a loop: right, true and given, by class."""
    counts = [[0] * CLASSES for _ in range(3)]
    for predicted, true in zip(given_labels.ravel().tolist(), true_labels.ravel().tolist(), strict=True):
        if true == -1:
            continue
        counts[0][true] += predicted == true
        counts[1][true] += 1
        counts[2][predicted] += 1
    return counts


@given(st.integers(0, 10_000))
def test_counts_are_those_of_a_loop_over_pixels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted = generator.integers(0, CLASSES, (5, 7))
    true = generator.integers(-1, CLASSES, (5, 7))
    counts = count_pixels(torch.from_numpy(predicted), torch.from_numpy(true), classes=CLASSES)
    assert counts.tolist() == slow(predicted, true)


def test_many_classes_need_no_table_of_all_pairs() -> None:
    predicted, true = torch.tensor([[30_000, 7, 7]]), torch.tensor([[30_000, 30_000, -1]])
    counts = count_pixels(predicted, true, classes=30_001)
    assert counts.shape == (3, 30_001)
    assert counts[:, [7, 30_000]].tolist() == [[0, 1], [0, 2], [1, 1]]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 5), (3, 4), (9, 7), (23, 40)])
def test_classes_by_bands_of_rows_are_those_of_all_pixels_at_once(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], align_corners: bool
) -> None:
    logits = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    wanted = to_pixels(logits[None], size, align_corners=align_corners)[0].argmax(0)
    monkeypatch.setattr("trainer.dense.segment_evaluation.LOGITS_AT_ONCE", 500)
    assert torch.equal(highest(logits, size, align_corners=align_corners), wanted)


def scores_of(*images: list[list[int]]) -> SegmentScores:
    return joined([np.array(counts, np.int64) for counts in images])


def test_the_measures_of_two_images_are_those_of_their_pixels_together() -> None:
    # Class 0: 6 right of 8 true, 7 given. Class 1: 2 of 2, 5 given. Class 2 occurs nowhere. Class 3: none of 2 given.
    scores = scores_of(
        [[4, 1, 0, 0], [6, 1, 0, 2], [5, 4, 0, 0]],
        [[2, 1, 0, 0], [2, 1, 0, 0], [2, 1, 0, 0]],
    )
    assert scores.iou.tolist()[:2] == [6 / 9, 2 / 5]
    assert math.isnan(scores.iou[2])
    assert scores.iou[3] == 0
    numbers = scores.numbers(np.array([10, 30, 20, 5]))
    assert numbers["miou"] == pytest.approx((6 / 9 + 2 / 5) / 3)
    assert numbers["pixel_accuracy"] == pytest.approx(8 / 12)
    assert numbers["mean_accuracy"] == pytest.approx((6 / 8 + 1 + 0) / 3)
    assert numbers["frequency_weighted_iou"] == pytest.approx((8 * 6 / 9 + 2 * 2 / 5) / 12)
    # By training pixels the classes are in the order 1, 2, 0, 3: thirds of two, two and none.
    assert numbers["miou_head"] == pytest.approx(2 / 5)
    assert numbers["miou_torso"] == pytest.approx((6 / 9) / 2)
    assert "miou_tail" not in numbers


def test_an_image_without_labelled_pixels_has_no_score_of_its_own() -> None:
    scores = scores_of([[1, 0], [1, 0], [1, 0]], [[0, 0], [0, 0], [0, 0]])
    assert scores.by_image[0] == 1
    assert math.isnan(scores.by_image[1])


def test_the_interval_of_equal_images_is_a_point() -> None:
    one = [[3, 1], [4, 1], [3, 2]]
    assert scores_of(*[one] * 5).interval() == pytest.approx((0.625, 0.625))


def test_the_interval_holds_the_mean_and_widens_with_the_spread_of_images() -> None:
    good, bad = [[4, 4], [4, 4], [4, 4]], [[0, 0], [4, 4], [4, 4]]
    low, high = scores_of(*[good, bad] * 10).interval()
    assert low < 0.5 < high or low < scores_of(*[good, bad] * 10).miou < high
