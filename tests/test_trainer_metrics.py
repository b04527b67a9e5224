"""Average precision: scikit-learn's definition, ties included, against a version written as it is defined."""

from __future__ import annotations

import math
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer import metrics
from trainer.metrics import average_precision, mean_average_precision, micro_average_precision, top1_accuracy
from vocab.errors import InputError

pytestmark = pytest.mark.arithmetic


def naive(scores: list[float], truth: list[bool]) -> float:
    """Sum over thresholds, highest first, of the recall gained times the precision there."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [true for score, true in zip(scores, truth, strict=True) if score >= threshold]
        recall = sum(chosen) / sum(truth)
        total += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return total


def sparse(truth: list[list[bool]]) -> tuple[Tensor, Tensor]:
    labels = [[place for place, true in enumerate(row) if true] for row in truth]
    return torch.tensor([0, *map(len, labels)]).cumsum(0), torch.tensor(
        list(chain.from_iterable(labels)), dtype=torch.int64
    )


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[float]], list[list[bool]]]:
    images, classes = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    # Few distinct scores, so that most examples have ties.
    score = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])
    row, truth = (
        st.lists(score, min_size=classes, max_size=classes),
        st.lists(st.booleans(), min_size=classes, max_size=classes),
    )
    rows = st.lists(row, min_size=images, max_size=images)
    return draw(rows), draw(st.lists(truth, min_size=images, max_size=images))


@settings(deadline=None, max_examples=40)
@given(example=rankings())
def test_each_class_agrees_with_the_definition(example: tuple[list[list[float]], list[list[bool]]]) -> None:
    scores, truth = example
    found = average_precision(torch.tensor(scores), *sparse(truth)).tolist()
    for place, value in enumerate(found):
        column = [row[place] for row in truth]
        if any(column):
            assert value == pytest.approx(naive([row[place] for row in scores], column))
        else:
            assert math.isnan(value)


@settings(deadline=None, max_examples=40)
@given(example=rankings())
def test_all_pairs_agree_with_the_definition(example: tuple[list[list[float]], list[list[bool]]]) -> None:
    scores, truth = example
    expected = (
        naive(list(chain.from_iterable(scores)), list(chain.from_iterable(truth))) if any(map(any, truth)) else 0.0
    )
    assert micro_average_precision(torch.tensor(scores), *sparse(truth)) == pytest.approx(expected)


def test_blocks_of_classes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 11, generator=generator)
    truth = (torch.rand(40, 11, generator=generator) < 0.3).tolist()
    whole = average_precision(scores, *sparse(truth)), micro_average_precision(scores, *sparse(truth))
    monkeypatch.setattr(metrics, "CHUNK_ELEMENTS", 80)
    assert torch.equal(average_precision(scores, *sparse(truth)), whole[0])
    assert micro_average_precision(scores, *sparse(truth)) == whole[1]


def test_values_worked_out_by_hand() -> None:
    # Ranked 0.9 true, 0.8 false, 0.7 true: precision 1 and 2/3 at the two recalls.
    scores = torch.tensor([[0.9], [0.8], [0.7]])
    assert average_precision(scores, *sparse([[True], [False], [True]])).tolist() == pytest.approx([5 / 6])
    # All equal: one threshold, precision = share of positives.
    assert average_precision(torch.zeros(4, 1), *sparse([[True], [False], [False], [False]])).tolist() == [0.25]


def test_the_report_splits_the_vocabulary_into_thirds_and_has_the_frequency_baseline() -> None:
    truth = [
        [True, False, False, False, False, False],
        [True, True, True, False, False, False],
        [True, False, False, True, False, False],
        [False, False, False, False, False, False],
    ]
    perfect = torch.tensor(truth).float()
    found, classes = mean_average_precision(perfect, *sparse(truth), torch.tensor([30.0, 10.0, 9.0, 8.0, 2.0, 1.0]))
    assert (found.images, found.classes, found.macro, found.micro) == (4, 4, 1.0, 1.0)
    assert (found.head, found.torso, found.tail) == (1.0, 1.0, None)
    assert found.baseline_macro == pytest.approx((3 / 4 + 1 / 4 + 1 / 4 + 1 / 4) / 4)
    # Ranked by frequency: 4 pairs of class 0, then 4 each of 1, 2 and 3.
    assert found.baseline_micro == pytest.approx((3 * 3 / 4 + 4 / 8 + 5 / 12 + 6 / 16) / 6)
    assert classes.isnan().tolist() == [False, False, False, False, True, True]
    # The fourth image has no label.
    assert found.top1 == 3 / 4


def test_an_image_is_hit_if_its_most_probable_class_is_any_of_its_labels() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.8, 0.2, 0.7], [0.3, 0.2, 0.1], [0.0, 0.6, 0.9]])
    truth = [[True, True, False], [False, False, True], [False, False, False], [False, False, True]]
    assert top1_accuracy(scores, *sparse(truth)) == 2 / 4


@pytest.mark.parametrize(
    ("score", "positives", "message"),
    [
        (0.5, [], "2 images, none of them labelled with a class of the vocabulary"),
        (math.nan, [0], "1 of 2 held-out images with scores that are NaN or infinite"),
        (math.inf, [0], "1 of 2 held-out images with scores"),
    ],
)
def test_an_evaluation_that_would_say_nothing_is_an_error(score: float, positives: list[int], message: str) -> None:
    offsets = torch.tensor([0, len(positives), len(positives)])
    scores = torch.tensor([[0.5, score], [0.5, 0.5]])
    with pytest.raises(InputError, match=message):
        mean_average_precision(scores, offsets, torch.tensor(positives, dtype=torch.int64), torch.ones(2))
