"""Mixup and cutmix: the loss of the mixed targets, in pairs that nobody can take apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.loss.classifier import chunked_loss
from trainer.loss.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from trainer.loss.targets import Targets
from trainer.model.mixing import Mixing, beta_quantile, beta_roots, box_masks, partners
from trainer.transfer.config import FinetuneConfig, TaskConfig
from vocab.errors import InputError

pytestmark = pytest.mark.arithmetic

SIZE = 12


def targets_of(classes: list[list[int]], weights: Tensor | None = None) -> Targets:
    ends = np.cumsum([0, *map(len, classes)]).tolist()
    flat = torch.tensor([label for own in classes for label in own], dtype=torch.int64)
    return Targets(torch.tensor(ends), flat, weights, ends)


def dense(targets: Targets, classes: int) -> Tensor:
    matrix = torch.zeros(len(targets), classes)
    matrix[targets.rows, targets.classes] = 1
    return matrix


def images(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def seeds(count: int, *, first: int = 0) -> Tensor:
    return torch.arange(first, first + count) * 7919 + (1 << 40)


@pytest.mark.parametrize("alphas", [(0.8, 0.0), (0.0, 1.0), (0.2, 1.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("several", [False, True])
def test_the_loss_is_that_of_the_mixed_dense_targets(
    alphas: tuple[float, float], smoothing: float, several: bool
) -> None:
    classes = [[0], [3], [1], [1], [4], [2]] if not several else [[0, 2], [], [1, 3, 4], [2], [], [0]]
    mixing = Mixing(mixup=alphas[0], cutmix=alphas[1])
    _, (own, others) = mixing(images(6), targets_of(classes, torch.ones(6)), seeds(6))
    assert own.weights is not None
    assert others.weights is not None
    soft = own.weights[:, None] * dense(own, 5) + others.weights[:, None] * dense(others, 5)
    torch.testing.assert_close(own.weights + others.weights, torch.ones(6))
    head = torch.nn.Linear(8, 5)
    features = torch.randn(6, 8)
    loss: Loss = BinaryCrossEntropy(smoothing=smoothing) if several else SoftmaxCrossEntropy(smoothing=smoothing)
    ours = sum(chunked_loss(features, head.weight, head.bias, each, loss, chunk=4) for each in (own, others))
    if several:
        smooth = soft * (1 - smoothing) + smoothing / 5
        naive = F.binary_cross_entropy_with_logits(head(features), smooth, reduction="sum") / 6
    else:
        naive = F.cross_entropy(head(features), soft, label_smoothing=smoothing)
    torch.testing.assert_close(ours, naive)
    wanted = torch.autograd.grad(naive, head.weight)
    assert isinstance(ours, Tensor)
    torch.testing.assert_close(torch.autograd.grad(ours, head.weight), wanted)


def test_mixup_blends_neighbours_by_one_number_a_pair() -> None:
    plain = images(4)
    mixed, (own, _) = Mixing(mixup=1.0, cutmix=0.0)(plain, targets_of([[0], [1], [2], [3]]), seeds(4))
    assert own.weights is not None
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        lam = own.weights[one]
        torch.testing.assert_close(mixed[one], lam * plain[one] + (1 - lam) * plain[other])
    assert own.weights[0] == own.weights[1] != own.weights[2]


def test_cutmix_puts_a_box_of_the_partner_in_its_place_and_counts_its_pixels() -> None:
    plain = images(20)
    mixed, (own, _) = Mixing(mixup=0.0, cutmix=1.0)(plain, targets_of([[0]] * 20), seeds(20))
    assert own.weights is not None
    for image, lam in enumerate(own.weights.tolist()):
        kept = (mixed[image] == plain[image]).all(0)
        taken = (mixed[image] == plain[image ^ 1]).all(0)
        assert bool((kept ^ taken).all())
        assert kept.float().mean().item() == pytest.approx(lam, abs=1e-6)
    assert 0 < own.weights.min() < own.weights.max()


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_shares_of_a_batch_are_mixed_as_the_whole(alphas: tuple[float, float]) -> None:
    mixing = Mixing(mixup=alphas[0], cutmix=alphas[1])
    classes = [[0, 1], [], [2], [1], [3], [0, 3], [2], [1, 2, 3]]
    whole, (own, others) = mixing(images(8), targets_of(classes), seeds(8))
    for first in (0, 4):
        part, (part_own, part_others) = mixing(
            images(8)[first : first + 4], targets_of(classes[first : first + 4]), seeds(4, first=first)
        )
        assert torch.equal(part, whole[first : first + 4])
        for ours, theirs in ((part_own, own), (part_others, others)):
            cut = theirs.cut(first, first + 4)
            assert torch.equal(ours.classes, cut.classes)
            assert ours.ends == cut.ends
            assert ours.weights is not None
            assert cut.weights is not None
            assert torch.equal(ours.weights, cut.weights)


def test_an_image_that_was_not_decoded_is_not_mixed_into_its_partner() -> None:
    plain = images(4)
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0])
    mixed, (own, others) = Mixing(mixup=1.0, cutmix=0.0)(plain, targets_of([[0], [1], [2], [3]], weights), seeds(4))
    assert torch.equal(mixed[0], plain[0])
    assert own.weights is not None
    assert others.weights is not None
    assert own.weights[:2].tolist() == [1, 0]
    assert others.weights[:2].tolist() == [0, 0]
    assert not torch.equal(mixed[2], plain[2])


@given(st.lists(st.sets(st.integers(0, 9)).map(sorted), min_size=1, max_size=6).map(lambda some: some * 2))
@settings(max_examples=30, deadline=None)
def test_partners_change_places_with_all_their_classes(classes: list[list[int]]) -> None:
    swapped = partners(targets_of(classes), torch.ones(len(classes)))
    assert swapped.offsets.tolist() == swapped.ends
    found = [swapped.classes[a:b].tolist() for a, b in zip(swapped.ends[:-1], swapped.ends[1:], strict=True)]
    assert found == [classes[image ^ 1] for image in range(len(classes))]


@pytest.mark.parametrize(
    ("alpha", "quantile", "within"),
    [
        (1.0, lambda u: u, 1e-6),
        (0.5, lambda u: math.sin(math.pi * u / 2) ** 2, 1e-5),  # the arcsine distribution
    ],
)
def test_lam_follows_the_beta_distribution(alpha: float, quantile: object, within: float) -> None:
    assert callable(quantile)
    uniform = torch.arange(1, 1000, dtype=torch.float64) / 1000
    found = beta_quantile(torch.from_numpy(beta_roots(alpha)), uniform, alpha)
    assert found.tolist() == pytest.approx([quantile(u) for u in uniform.tolist()], abs=within)


def test_lam_of_beta_2_is_where_its_polynomial_says() -> None:
    # 3 x^2 - 2 x^3 at 1/4 and 3/4.
    found = beta_quantile(torch.from_numpy(beta_roots(2.0)), torch.tensor([5 / 32, 27 / 32], dtype=torch.float64), 2.0)
    assert found.tolist() == pytest.approx([0.25, 0.75], abs=1e-6)


def test_a_box_is_cut_at_the_edges_of_the_image() -> None:
    # A quarter of the area is a square of half the side: whole in the middle, a quarter of it in the corner.
    lam, middle, corner = torch.tensor([0.75, 0.75]), torch.tensor([0.5, 0.0]), torch.tensor([0.5, 0.0])
    masks = box_masks(lam.double(), middle.double(), corner.double(), size=8)
    assert masks.sum((1, 2)).tolist() == [16, 4]
    assert masks[0, 2:6, 2:6].all()


@pytest.mark.parametrize("alphas", [(-0.1, 0.0), (0.0, math.nan), (1000.0, 0.0)])
def test_parameters_that_no_distribution_has_are_refused(alphas: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"--(mixup|cutmix): found .*; wanted 0 or more, and at most 100"):
        FinetuneConfig("model", TaskConfig("train", "test"), Path("out"), mixup=alphas[0], cutmix=alphas[1])
