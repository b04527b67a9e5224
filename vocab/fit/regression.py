"""Multinomial logistic regression over features that many observations share.

In: for each observation its right answer, and for each group of features the row of a table that it looks up. Out:
weights for each group. An L2 penalty and L-BFGS from zero: no chance is involved, the same data give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocab.errors import MissingRequirementError

NO_ROW = -1


@dataclass(frozen=True, eq=False)
class Group:
    """Features of whatever stands in one position."""

    rows: NDArray[np.int64]
    """[observations] row of `table`, NO_ROW for none"""
    table: Any
    """[rows, features] scipy.sparse.csr_matrix of float32"""


def require_scipy() -> None:
    """Raise MissingRequirementError without SciPy."""
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingRequirementError(
            "scipy", found="not installed", wanted="SciPy, to fit tables", remedy="pip install 'open-catlip[fit]'"
        ) from error


def indicators(columns: Sequence[NDArray[np.int64]], sizes: Sequence[int]) -> Any:
    """[rows, sum of sizes] csr_matrix: for each column 1 at the value, of `size` many, that a row has unless NO_ROW."""
    from scipy import sparse

    parts = []
    for column, size in zip(columns, sizes, strict=True):
        has = np.flatnonzero(column != NO_ROW)
        ones = np.ones(len(has), dtype=np.float32)
        parts.append(sparse.csr_matrix((ones, (has, column[has])), shape=(len(column), size)))
    return sparse.hstack(parts, format="csr")


def regress(
    groups: Sequence[Group],
    targets: NDArray[np.int64],
    importance: NDArray[np.float64],
    *,
    answers: int,
    penalty: float,
    iterations: int,
) -> list[NDArray[np.float64]]:
    """[features, answers] weights of each group, those of a feature adding up to zero.

    Each observation counts as often as its `importance` says.
    """
    from scipy import sparse
    from scipy.optimize import minimize

    # Summing the features of a row once for all who look it up takes a third of the time.
    lookups = sparse.hstack([_lookup(group) for group in groups], format="csr")
    features = sparse.block_diag([group.table for group in groups], format="csr")
    lookups_back, features_back = lookups.T.tocsr(), features.T.tocsr()
    wanted = np.zeros((len(targets), answers), dtype=np.float32)
    wanted[np.arange(len(targets)), targets] = 1
    counted = importance.astype(np.float32)[:, np.newaxis]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = lookups @ (features @ flat.reshape(-1, answers).astype(np.float32))
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(axis=1, keepdims=True)
        right = (logits * wanted).sum(axis=1, keepdims=True) - np.log(total)
        value = -float((counted * right).sum(dtype=np.float64))
        slope = features_back @ (lookups_back @ (counted * (likely / total - wanted)))
        return value + penalty / 2 * float(flat @ flat), slope.ravel().astype(np.float64) + penalty * flat

    start = np.zeros(features.shape[1] * answers)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 6}).x
    weights = best.reshape(-1, answers)
    # Only differences between answers matter; centred rows stay small.
    weights -= weights.mean(axis=1, keepdims=True)
    ends = np.cumsum([group.table.shape[1] for group in groups])
    return np.split(weights, ends[:-1])


def probabilities(groups: Sequence[Group], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """[observations, answers] what the weights say of each observation."""
    logits = np.zeros((len(groups[0].rows), weights[0].shape[1]))
    for group, own in zip(groups, weights, strict=True):
        has = np.flatnonzero(group.rows != NO_ROW)
        logits[has] += (group.table @ own)[group.rows[has]]
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = likely / likely.sum(axis=1, keepdims=True)
    return found


def first_observations(groups: Sequence[Group], count: int) -> list[Group]:
    """The same features, of the first `count` observations alone."""
    return [Group(group.rows[:count], group.table) for group in groups]


def _lookup(group: Group) -> Any:
    """[observations, rows] csr_matrix: 1 at the row that each observation looks up."""
    from scipy import sparse

    has = np.flatnonzero(group.rows != NO_ROW)
    shape = (len(group.rows), group.table.shape[0])
    return sparse.csr_matrix((np.ones(len(has), dtype=np.float32), (has, group.rows[has])), shape=shape)
