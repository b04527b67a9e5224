"""A class starts from the rows of what it is called, and the head that comes of it is one to begin with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.labelled_images import classifier_of, images_of
from tests.synsets import AIRPLANE, CABIN, CANINE, CHURCH, DOG, DOMESTIC_ANIMAL, FISH, HOT_DOG, TENCH, vocabulary_of
from trainer.probe.linear import Head
from trainer.transfer.config import TransferInit
from trainer.transfer.transfer_init import (
    ClassMatch,
    fit_sigmoid,
    fit_softmax,
    match_classes,
    scale_head,
    transfer_head,
)
from vocab import wordnet
from vocab.errors import InputError, MismatchError
from vocab.vocabulary import Vocabulary

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize(
    ("name", "synset"),
    [
        ("n01440764", TENCH), ("tench", TENCH), ("tench, Tinca tinca", TENCH), (" n02084071\n", DOG),
        ("hot_dog", HOT_DOG), ("hot dog", HOT_DOG), ("/c/church/indoor", CHURCH), ("dogs", DOG),
    ],
)  # fmt: skip
def test_a_class_takes_its_own_synsets_row_however_it_is_written(name: str, synset: int) -> None:
    (match,) = match_classes([name], vocabulary_of(CABIN, TENCH, DOG, HOT_DOG, CHURCH), alpha=1.0)
    wnid = wordnet.wnid_of(synset)
    assert match == ClassMatch(name, (wnid,), ((wnid, 1.0),), None, (), ((wnid, 1.0),), ())


def test_a_class_whose_synset_is_no_row_takes_the_nearest() -> None:
    (match,) = match_classes(["dog"], vocabulary_of(FISH, CANINE), alpha=0.5)
    assert (match.synsets, match.matches) == (("n02084071",), (("n02083346", 0.5),))


@pytest.mark.parametrize(("alpha", "matched"), [(0.5, True), (0.51, False), (0.01, True), (1.0, False)])
def test_similarity_at_alpha_is_enough(alpha: float, matched: bool) -> None:
    (match,) = match_classes(["dog"], vocabulary_of(CANINE), alpha=alpha)
    assert (bool(match.matches), match.reason) == (matched, None if matched else "below alpha")
    assert match.nearest == (("n02083346", 0.5),)


def test_alpha_a_third_takes_what_is_two_steps_away() -> None:
    (match,) = match_classes(["poodle"], vocabulary_of(CANINE), alpha=1 / 3)
    assert match.matches == (("n02083346", pytest.approx(1 / 3)),)


def test_of_equally_near_classes_the_most_frequent_is_taken() -> None:
    # dog lies one step below both.
    for vocabulary in (vocabulary_of(CANINE, DOMESTIC_ANIMAL), vocabulary_of(DOMESTIC_ANIMAL, CANINE)):
        (match,) = match_classes(["dog"], vocabulary, alpha=0.5)
        assert match.matches == ((vocabulary.wnids[0], 0.5),)


def test_a_merged_synset_has_the_row_of_its_class() -> None:
    vocabulary = Vocabulary(
        np.array([FISH, DOG], np.int32), np.array([3, 2]), rows=9, min_count=1, merged=((AIRPLANE, DOG),)
    )
    (match,) = match_classes(["airplane"], vocabulary, alpha=1.0)
    assert match.matches == (("n02084071", 1.0),)


@pytest.mark.parametrize("name", ["zzyzx", "", "n99999999", "n00000000", "///", "你好"])
def test_a_name_without_a_synset_starts_at_random(name: str) -> None:
    (match,) = match_classes([name], vocabulary_of(DOG), alpha=0.1)
    assert (match.synsets, match.matches, match.reason) == ((), (), "no synset")


def test_synsets_of_a_name_below_alpha_are_left_out() -> None:
    (both,) = match_classes(["/a/airplane_cabin"], vocabulary_of(AIRPLANE, CABIN), alpha=1.0)
    assert {found for found, _ in both.matches} == {wordnet.wnid_of(AIRPLANE), wordnet.wnid_of(CABIN)}
    (one,) = match_classes(["/a/airplane_cabin"], vocabulary_of(AIRPLANE, DOG), alpha=1.0)
    assert one.matches == ((wordnet.wnid_of(AIRPLANE), 1.0),)
    assert (len(one.synsets), len(one.nearest), one.reason) == (2, 2, None)


def test_classes_of_one_synset_name_each_other() -> None:
    dog, hound, cat = match_classes(["dog", "domestic dog", "church"], vocabulary_of(DOG, CHURCH), alpha=1.0)
    assert (dog.shared_with, dog.starts_like) == (("domestic dog",), ("domestic dog",))
    assert (hound.shared_with, cat.shared_with) == (("dog",), ())


def test_classes_of_one_row_name_each_other_though_their_synsets_differ() -> None:
    tench, goldfish, nothing, nobody = match_classes(
        ["tench", "goldfish", "zzyzx", "xyzzx"], vocabulary_of(FISH, CHURCH), alpha=0.1
    )
    assert (tench.shared_with, tench.starts_like) == ((), ("goldfish",))
    assert goldfish.starts_like == ("tench",)
    assert nothing.shared_with == nothing.starts_like == nobody.starts_like == ()


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1.1, math.nan, math.inf])
def test_an_alpha_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match=r"--alpha.*at most 1"):
        TransferInit(alpha=alpha)


def test_rows_and_biases_are_averaged_as_they_are() -> None:
    vocabulary = vocabulary_of(DOG, AIRPLANE, CABIN)
    classifier = classifier_of([[1, 2], [4, 0], [0, 8]], [-1, -2, -4])
    matches = match_classes(["/a/airplane_cabin", "dog"], vocabulary, alpha=1.0)
    head = transfer_head(classifier, vocabulary, matches, seed=0)
    assert (head.weight.tolist(), head.bias.tolist()) == ([[2.0, 4.0], [1.0, 2.0]], [-3.0, -1.0])


def test_a_class_without_a_row_gets_what_all_rows_share_and_a_small_random_part() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(500, 64, generator=generator) + 3
    vocabulary = vocabulary_of(*wordnet.load().synsets[1000:1500].tolist())
    classifier = classifier_of(rows.tolist(), [-2.0] * 499 + [498.0])
    matches = match_classes(["zzyzx", vocabulary.wnids[3], "xyzzx"], vocabulary, alpha=1.0)
    head = transfer_head(classifier, vocabulary, matches, seed=0)
    own = head.weight - rows.mean(0)
    spread = float((rows - rows.mean(0)).norm(dim=1).square().mean().sqrt())
    torch.testing.assert_close(head.weight[1], rows[3])
    assert own[[0, 2]].norm(dim=1).div(spread).tolist() == pytest.approx([0.1, 0.1], rel=0.3)
    assert not torch.equal(head.weight[0], head.weight[2])
    assert head.bias.tolist() == pytest.approx([-1.0, -2.0, -1.0])
    again, other = (transfer_head(classifier, vocabulary, matches, seed=seed) for seed in (0, 1))
    assert torch.equal(head.weight, again.weight)
    assert torch.equal(head.weight[1], other.weight[1])
    assert not torch.equal(head.weight[0], other.weight[0])


def test_a_classifier_or_matches_of_another_vocabulary_are_refused() -> None:
    matches = match_classes(["dog"], vocabulary_of(DOG), alpha=1.0)
    with pytest.raises(MismatchError, match="1 rows"):
        transfer_head(classifier_of([[1, 2]], [0]), vocabulary_of(DOG, FISH), matches, seed=0)
    with pytest.raises(MismatchError, match="'dog' with a synset that the vocabulary lacks"):
        transfer_head(classifier_of([[1, 2]], [0]), vocabulary_of(FISH), matches, seed=0)


def clusters(images: int, *, seed: int, classes: int = 5, width: int = 16) -> tuple[Head, torch.Tensor, torch.Tensor]:
    """Features around a mean for each class, log-odds of the classes in unlike frequencies, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(images) % classes
    features = means[labels] + 3 * torch.randn(images, width, generator=generator) + 2
    bias = -(means * (means + 4)).sum(1) / 2 / 9 - torch.tensor([1.0, 4, 7, 10, 13])
    return Head(means / 9, bias), features, labels


def loss_of(head: Head, features: torch.Tensor, classes: torch.Tensor) -> float:
    return float(nn.functional.cross_entropy(head.logits(features), classes))


def test_a_scaled_head_has_a_mean_logit_of_zero_over_classes_that_count_alike() -> None:
    head, features, labels = clusters(100, seed=0)
    skewed = torch.cat([torch.arange(100), torch.arange(0, 100, 5).repeat(9)])  # class 0 ten times
    for chosen in (torch.arange(100), skewed):
        scaled, _ = scale_head(head, features[chosen], images_of(labels[chosen].tolist(), 5))
        by_class = [scaled.logits(features[labels == label]).mean(0) for label in range(5)]
        torch.testing.assert_close(torch.stack(by_class).mean(0), torch.zeros(5), atol=1e-4, rtol=0)


@pytest.mark.parametrize("images", [5, 25, 500])
def test_a_scaled_head_tells_new_images_better_than_the_rows_as_they_are(images: int) -> None:
    head, features, labels = clusters(images, seed=0)
    _, others, classes = clusters(1000, seed=1)
    scaled, scale = scale_head(head, features, images_of(labels.tolist(), 5))
    assert loss_of(scaled, others, classes) < min(loss_of(head, others, classes), math.log(5)) - 0.3
    assert 0.3 < scale < 3


def test_what_is_common_to_all_rows_and_how_long_they_are_change_nothing() -> None:
    head, features, labels = clusters(50, seed=0)
    images = images_of(labels.tolist(), 5)
    scaled, scale = scale_head(head, features, images)
    other, third = scale_head(Head(3 * (head.weight + torch.arange(16)), head.bias - 50), features, images)
    assert third == pytest.approx(scale / 3, rel=1e-4)
    torch.testing.assert_close(other.logits(features).softmax(1), scaled.logits(features).softmax(1), atol=1e-4, rtol=0)


def test_rows_that_know_nothing_of_the_images_start_at_nothing() -> None:
    head, features, labels = clusters(50, seed=0)
    scaled, scale = scale_head(Head(-head.weight, head.bias), features, images_of(labels.tolist(), 5))
    assert scale == 0
    assert loss_of(scaled, features, labels) == pytest.approx(math.log(5))


def test_one_image_and_classes_without_images_are_enough() -> None:
    head = Head(torch.eye(3), torch.zeros(3))
    scaled, scale = scale_head(head, torch.tensor([[1.0, 0, 0]]), images_of([0], 3))
    assert scale == 0  # centred on itself, the image says nothing
    scaled, scale = scale_head(head, torch.tensor([[2.0, 0, 0], [0, 2, 0]]), images_of([0, 1], 3))
    assert 0 < scale < 10
    assert scaled.logits(torch.tensor([[2.0, 0, 0]])).argmax(1).tolist() == [0]


def test_the_scale_is_where_the_likelihood_is_highest() -> None:
    # Two classes, logits (z, -z) with z = 1 for three images that are right and one that is wrong, a class each way:
    # e = 1/10, so the chance of class 0 at z = 1 is to be 3/4 * 0.9 + 0.05 = 0.725 = sigmoid(2 s).
    right, wrong = [[1.0, -1.0]] * 3, [[1.0, -1.0]]
    logits = torch.tensor(right + wrong + [[-1.0, 1.0]] * 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    assert fit_softmax(logits, labels) == pytest.approx(math.log(0.725 / 0.275) / 2, abs=1e-9)


@pytest.mark.parametrize("images", [1, 2, 1000])
def test_images_that_are_all_told_apart_give_a_finite_scale(images: int) -> None:
    # The target of the right one of two classes is 1 - e / 2 with e = 1 / (images + 2).
    short = 1 / (images + 2)
    wanted = math.log((1 - short / 2) / (short / 2)) / 2
    labels = torch.zeros(images, dtype=torch.int64)
    assert fit_softmax(torch.tensor([[1.0, -1.0]] * images), labels) == pytest.approx(wanted, abs=1e-9)


def test_a_scale_ends_at_a_hundred() -> None:
    assert fit_softmax(torch.tensor([[1e-4, -1e-4]] * 9), torch.zeros(9, dtype=torch.int64)) == 100


def test_the_sigmoid_is_where_the_likelihood_is_highest() -> None:
    # Logits 0 or 1 of one class, ten images each; true are 2 of those at 0 and 8 of those at 1. P = N = 10, so that
    # targets are 11/12 and 1/12: means 0.25 at 0 and 0.75 at 1.
    logits = torch.tensor([[0.0]] * 10 + [[1.0]] * 10)
    shown = [1] * 2 + [0] * 8 + [1] * 8 + [0] * 2
    offsets = torch.tensor(np.cumsum([0, *shown]))
    scale, offset = fit_sigmoid(logits, offsets, torch.zeros(10, dtype=torch.int64))
    assert (scale, offset) == (pytest.approx(2 * math.log(3), abs=1e-6), pytest.approx(-math.log(3), abs=1e-6))


def test_a_sigmoid_that_would_turn_round_is_flat() -> None:
    logits = torch.tensor([[0.0]] * 10 + [[1.0]] * 10)
    offsets = torch.tensor([*range(11), *[10] * 10])
    scale, offset = fit_sigmoid(logits, offsets, torch.zeros(10, dtype=torch.int64))
    assert (scale, offset) == (0, pytest.approx(0, abs=1e-9))


def test_several_classes_an_image_keep_their_rows_and_biases_but_for_scale_and_offset() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 6, generator=generator)
    true = Head(torch.randn(4, 6, generator=generator), torch.tensor([-1.0, 0, -2, -1]))
    shown = torch.rand(400, 4, generator=generator) < true.logits(features).sigmoid()
    images = images_of([row.nonzero()[:, 0].tolist() for row in shown], 4, multi_label=True)
    # Pre-training thought all classes rarer by e^3, and was half as sure.
    given = Head(true.weight / 2, true.bias / 2 - 3)
    scaled, scale = scale_head(given, features, images)
    assert scale == pytest.approx(2, rel=0.2)
    torch.testing.assert_close(scaled.weight, scale * given.weight)
    added = scaled.bias - scale * given.bias
    assert added.tolist() == pytest.approx([6.0] * 4, rel=0.2)
    torch.testing.assert_close(added, added[:1].expand(4))


def test_images_that_show_nothing_are_images() -> None:
    scaled, scale = scale_head(
        Head(torch.eye(2), torch.zeros(2)), torch.eye(2), images_of([[], []], 2, multi_label=True)
    )
    assert scale == 0
    assert scaled.bias.tolist() == pytest.approx([math.log(1 / 5)] * 2)  # 1 of 6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_no_numbers_are_counted(bad: float) -> None:
    features = torch.zeros(3, 2)
    features[1, 0] = bad
    with pytest.raises(InputError, match="1 of 3 images"):
        scale_head(Head(torch.eye(2), torch.zeros(2)), features, images_of([0, 1, 0], 2))


@pytest.mark.parametrize(("images", "classes", "width"), [(2, 2, 2), (3, 4, 2), (3, 2, 5)])
def test_features_of_something_else_are_refused(images: int, classes: int, width: int) -> None:
    with pytest.raises(MismatchError, match="the features"):
        scale_head(Head(torch.eye(2), torch.zeros(2)), torch.zeros(images, width), images_of([0, 1, 0], classes))


def test_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="at least one image"):
        scale_head(Head(torch.eye(2), torch.zeros(2)), torch.zeros(0, 2), images_of([], 2))
