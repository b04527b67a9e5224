"""Multinomial logistic regression over features that many observations share."""

from __future__ import annotations

import numpy as np
import pytest

from vocab.fit.regression import NO_ROW, Group, first_observations, indicators, probabilities, regress

pytest.importorskip("scipy", reason="tables are fitted with SciPy, the extra `fit`")

# Four observations: what each looks up in a table of two rows, and in one of one row that two of them have not.
GROUPS = [
    Group(np.array([0, 0, 1, 1]), indicators([np.array([0, 1])], [2])),
    Group(np.array([NO_ROW, 0, NO_ROW, 0]), indicators([np.array([0])], [1])),
]
TARGETS = np.array([0, 0, 1, 1])


def fit(importance: list[float], targets: np.ndarray = TARGETS) -> list[np.ndarray]:
    return regress(GROUPS, targets, np.array(importance), answers=3, penalty=0.1, iterations=100)


def test_features_tell_the_answers_apart() -> None:
    found = probabilities(GROUPS, fit([1, 1, 1, 1]))
    assert found.argmax(axis=1).tolist() == [0, 0, 1, 1]
    assert found.sum(axis=1) == pytest.approx(np.ones(4))
    assert found[:, 2].max() < 0.1


def test_weights_are_parted_by_group_and_add_up_to_zero_for_each_feature() -> None:
    weights = fit([1, 1, 1, 1])
    assert [part.shape for part in weights] == [(2, 3), (1, 3)]
    assert np.concatenate(weights).sum(axis=1) == pytest.approx(np.zeros(3), abs=1e-9)


def test_an_observation_of_no_importance_teaches_nothing() -> None:
    contradicting = np.array([0, 2, 1, 1])
    without = regress(first_observations(GROUPS, 1), TARGETS[:1], np.ones(1), answers=3, penalty=0.1, iterations=100)
    ignored = fit([1, 0, 0, 0], contradicting)
    assert np.concatenate(ignored) == pytest.approx(np.concatenate(without), abs=1e-6)


def test_indicators_are_one_at_each_columns_value() -> None:
    table = indicators([np.array([1, NO_ROW]), np.array([0, 2])], [2, 3])
    assert table.toarray().tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]
