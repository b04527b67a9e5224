"""Every sparse loss equals the dense one in plain PyTorch, in value and in gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import BinaryCrossEntropy as TimmBinaryCrossEntropy
from torch import Tensor

from trainer.config import LossConfig
from trainer.loss import losses
from trainer.loss.losses import (
    Loss,
    inverse_document_frequency,
    loss_of,
    probabilities,
)
from trainer.loss.targets import Targets
from vocab.errors import InputError, MismatchError
from vocab.vocabulary import Vocabulary

pytestmark = pytest.mark.arithmetic

LN2 = 0.6931471805599453


def targets_of(labels: list[list[int]], weights: list[float] | None = None) -> Targets:
    """Targets of written-out labels."""
    offsets = torch.tensor([0, *map(len, labels)]).cumsum(0)
    classes = torch.tensor([label for found in labels for label in found], dtype=torch.int64)
    return Targets(offsets, classes, None if weights is None else torch.tensor(weights), offsets.tolist())


def vocabulary_of(captions: list[int], rows: int) -> Vocabulary:
    """Classes with so many captions each."""
    return Vocabulary(np.arange(len(captions), dtype=np.int32), np.array(captions, np.int64), rows=rows, min_count=1)


def dense_of(labels: list[list[int]], classes: int) -> Tensor:
    """[images, classes] of 0 and 1."""
    dense = torch.zeros(len(labels), classes, dtype=torch.float64)
    for image, found in enumerate(labels):
        dense[image, found] = 1
    return dense


def dense_bce(z: Tensor, y: Tensor, config: LossConfig, captions: Tensor, rows: int) -> Tensor:
    off = config.label_smoothing / y.shape[1]
    y = (1 - config.label_smoothing) * y + off
    return F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)


def dense_softmax(z: Tensor, y: Tensor, config: LossConfig, captions: Tensor, rows: int) -> Tensor:
    if config.loss == "softmax-idf":
        y = y * (rows / (1 + captions.double())).log().clamp(min=0)
    sums = y.sum(1, keepdim=True)
    t = torch.where(sums > 0, y / sums, 0)
    return torch.where(
        sums[:, 0] > 0, F.cross_entropy(z, t, label_smoothing=config.label_smoothing, reduction="none"), 0
    )


def dense_asymmetric(z: Tensor, y: Tensor, config: LossConfig, captions: Tensor, rows: int) -> Tensor:
    (positive, negative), margin = config.asymmetric_focus, config.asymmetric_margin
    found = -(torch.sigmoid(-z) ** positive) * F.logsigmoid(z)
    u = (torch.sigmoid(z) - margin).clamp(min=0)
    missing = -(u**negative) * (torch.log1p(-u) if margin > 0 else F.logsigmoid(-z))
    return torch.where(y > 0, found, missing).sum(1)


DENSE: dict[str, Callable[[Tensor, Tensor, LossConfig, Tensor, int], Tensor]] = {
    "bce": dense_bce,
    "softmax": dense_softmax,
    "softmax-idf": dense_softmax,
    "asymmetric": dense_asymmetric,
}
CONFIGS = st.one_of(
    st.builds(
        LossConfig,
        loss=st.sampled_from(["bce", "softmax", "softmax-idf"]),
        label_smoothing=st.sampled_from([0.0, 0.1, 0.7]),
    ),
    st.builds(
        LossConfig,
        loss=st.just("asymmetric"),
        asymmetric_focus=st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        asymmetric_margin=st.sampled_from([0.0, 0.05, 0.5]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    config=CONFIGS,
    images=st.integers(1, 6),
    classes=st.integers(1, 8),
    scale=st.sampled_from([0.1, 1.0, 80.0]),
    slab=st.sampled_from([1, 12, 1 << 22]),
)
def test_each_loss_equals_the_dense_one(
    data: st.DataObject, config: LossConfig, images: int, classes: int, scale: float, slab: int
) -> None:
    labels = [sorted(data.draw(st.sets(st.integers(0, classes - 1)))) for _ in range(images)]
    counts = data.draw(st.lists(st.integers(1, 20), min_size=classes, max_size=classes))
    counts[-1] = 1
    weights = data.draw(st.none() | st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=images, max_size=images))
    seed = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    # Between -scale and scale, and often the ends themselves.
    z = scale * (2.5 * torch.rand(images, classes, dtype=torch.float64, generator=seed) - 1.25).clamp(-1, 1)
    theirs = z.clone().requires_grad_()
    each = DENSE[config.loss](theirs, dense_of(labels, classes), config, torch.tensor(counts), 20)
    expected = (each * (1 if weights is None else torch.tensor(weights))).sum()
    expected.backward()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "SLAB", slab)
        loss = loss_of(config, vocabulary_of(counts, rows=20))
        value, gradient = loss(z, targets_of(labels, weights))

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, theirs.grad, rtol=1e-7, atol=1e-8)


def test_the_gradient_takes_the_place_of_the_logits() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    _, gradient = loss_of(LossConfig(), vocabulary_of([1] * 4, 9))(logits, targets_of([[1], []]))
    assert gradient is logits
    assert gradient.tolist() == [[0.5, -0.5, 0.5, 0.5], [0.5] * 4]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LossConfig(), 24 * LN2),
        (LossConfig(loss="softmax"), 2 * 2.0794415416798357),  # ln 8, of the two images that have classes
        (LossConfig(loss="softmax-idf"), 2 * 2.0794415416798357),
        (LossConfig(loss="asymmetric", asymmetric_focus=(0.0, 0.0), asymmetric_margin=0.0), 24 * LN2),
        (LossConfig(loss="asymmetric", asymmetric_focus=(1.0, 2.0), asymmetric_margin=0.0), 3 * LN2 / 2 + 21 * LN2 / 4),
        (LossConfig(loss="asymmetric", asymmetric_focus=(0.0, 4.0), asymmetric_margin=0.5), 3 * LN2),
    ],
)
def test_logits_of_zero_cost_what_can_be_written_down(config: LossConfig, expected: float) -> None:
    loss = loss_of(config, vocabulary_of([5] * 8, rows=100))
    value, _ = loss(torch.zeros(3, 8, dtype=torch.float64), targets_of([[0], [], [3, 5]]))
    assert float(value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["softmax", "softmax-idf"])
def test_an_image_without_a_class_has_no_softmax_loss_and_no_gradient(name: str) -> None:
    config = LossConfig(loss=name, label_smoothing=0.1)  # type: ignore[arg-type]
    loss = loss_of(config, vocabulary_of([3, 2, 1], rows=9))
    value, gradient = loss(torch.tensor([[80.0, -80.0, 3.0]]), targets_of([[]]))
    assert float(value) == 0
    assert gradient.tolist() == [[0, 0, 0]]


def test_smoothing_of_bce_is_that_of_timm() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    theirs = logits.clone().requires_grad_()
    expected = TimmBinaryCrossEntropy(smoothing=0.2, sum_classes=True)(theirs, torch.tensor([6, 0, 3, 3, 1]))
    expected.backward()
    loss = loss_of(LossConfig(label_smoothing=0.2), vocabulary_of([1] * 7, 9))
    value, gradient = loss(logits, targets_of([[6], [0], [3], [3], [1]]))
    torch.testing.assert_close(value / 5, expected.detach())
    torch.testing.assert_close(gradient / 5, theirs.grad)


def test_document_frequency_is_the_logarithm_of_rows_over_captions_and_one() -> None:
    weights = inverse_document_frequency(vocabulary_of([99, 9, 1], rows=1000))
    assert weights.tolist() == pytest.approx([np.log(10), np.log(100), np.log(500)], rel=1e-15)


def test_a_class_of_all_captions_is_no_target_but_still_competes() -> None:
    vocabulary = vocabulary_of([10, 9, 1], rows=10)
    assert inverse_document_frequency(vocabulary).tolist() == [0, 0, pytest.approx(np.log(5))]
    loss = loss_of(LossConfig(loss="softmax-idf"), vocabulary)
    value, gradient = loss(torch.zeros(2, 3, dtype=torch.float64), targets_of([[0, 1], [0, 2]]))
    assert float(value) == pytest.approx(np.log(3))  # of the second image; the first is told nothing
    assert gradient.tolist() == [[0, 0, 0], [pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(-2 / 3)]]


@pytest.mark.parametrize(("captions", "rows"), [([10, 9], 10), ([1], 0)])
def test_a_vocabulary_whose_classes_all_weigh_nothing_is_refused(captions: list[int], rows: int) -> None:
    with pytest.raises(InputError, match="softmax-idf"):
        loss_of(LossConfig(loss="softmax-idf"), vocabulary_of(captions, rows))


def test_frequencies_stay_out_of_the_state() -> None:
    loss = loss_of(LossConfig(loss="softmax-idf"), vocabulary_of([3, 2], rows=9))
    assert loss.state_dict() == {}
    assert [name for name, _ in loss.named_buffers()] == ["class_weights"]
    assert list(loss.parameters()) == []


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"label_smoothing": -0.1}, "--label-smoothing"),
        ({"label_smoothing": float("nan")}, "--label-smoothing"),
        ({"loss": "asymmetric", "label_smoothing": 0.1}, "--label-smoothing"),
        ({"loss": "asymmetric", "asymmetric_focus": (0.0, -1.0)}, "--asymmetric-focus"),
        ({"loss": "asymmetric", "asymmetric_focus": (float("inf"), 1.0)}, "--asymmetric-focus"),
        ({"loss": "asymmetric", "asymmetric_margin": 1.0}, "--asymmetric-margin"),
        ({"head_chunk": 0}, "--head-chunk"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options: dict[str, Any], option: str) -> None:
    with pytest.raises(InputError) as error:
        LossConfig(**options)
    assert error.value.thing == option


def test_a_confident_mistake_about_a_positive_keeps_its_gradient_in_float32() -> None:
    config = LossConfig(loss="asymmetric", asymmetric_focus=(0.0, 4.0), asymmetric_margin=0.0)
    loss = loss_of(config, vocabulary_of([1, 1], 9))
    value, gradient = loss(torch.tensor([[-80.0, 80.0]]), targets_of([[0]]))
    assert float(value) == 160
    assert gradient.tolist() == [[-1, 1]]


def test_a_logit_that_is_no_number_makes_the_loss_none() -> None:
    for name in DENSE:
        loss = loss_of(LossConfig(loss=name), vocabulary_of([3, 2], rows=9))  # type: ignore[arg-type]
        value, _ = loss(torch.tensor([[float("nan"), 0.0]]), targets_of([[1]]))
        assert value.isnan()


@pytest.mark.parametrize("name", DENSE)
def test_probabilities_are_those_that_the_loss_means(name: str) -> None:
    config = LossConfig(loss=name)  # type: ignore[arg-type]
    found = probabilities(torch.tensor([[0.0, 0.0]], dtype=torch.bfloat16), config)
    assert found.tolist() == [[0.5, 0.5]]
    assert found.dtype == torch.float32
    found = probabilities(torch.zeros(4, dtype=torch.float64), config)
    assert found.tolist() == [0.25 if name.startswith("softmax") else 0.5] * 4


def test_targets_are_cut_by_image() -> None:
    whole = targets_of([[4, 7], [], [1], [2, 3, 5]], [1.0, 0.0, 0.5, 0.1])
    part = whole.cut(1, 4)
    assert part.ends == part.offsets.tolist() == [0, 0, 1, 4]
    assert part.classes.tolist() == [1, 2, 3, 5]
    assert part.weights is not None
    torch.testing.assert_close(part.weights, torch.tensor([0.0, 0.5, 0.1]))
    assert part.rows.tolist() == [1, 2, 2, 2]
    assert part.sum_by_image(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [0, 1, 9]
    assert len(whole.cut(2, 2)) == 0
    assert whole.cut(1, 2).sum_by_image(torch.zeros(0)).tolist() == [0]


@pytest.mark.parametrize(
    "change",
    [
        {"ends": [0, 1]},
        {"ends": [0, 1, 2]},
        {"offsets": torch.tensor([0, 1])},
        {"classes": torch.tensor([1, 2])},
        {"weights": torch.ones(3)},
    ],
)
def test_targets_of_different_batches_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(MismatchError):
        replace(targets_of([[4], [1, 3]], [1.0, 1.0]), **change)


def test_a_loss_is_one_of_four() -> None:
    kinds = {name: loss_of(LossConfig(loss=name), vocabulary_of([1], 9)) for name in DENSE}  # type: ignore[arg-type]
    assert all(isinstance(loss, Loss) for loss in kinds.values())
