"""Classes are scored by the rows of their synsets, by literal logits and by definition."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.labelled_images import classifier_of
from tests.synsets import AIRPLANE, ANIMAL, CABIN, CANINE, DOG, FISH, POODLE, vocabulary_of
from trainer.config import LossName
from trainer.transfer import synset_scores as scoring
from trainer.transfer.synset_scores import ClassRows, any_of, prior_of, rows_of_classes, synset_scores
from trainer.transfer.transfer_init import match_classes
from vocab.vocabulary import Vocabulary
from vocab.wordnet import wnid_of

WORDS = vocabulary_of(DOG, POODLE, FISH, AIRPLANE, CABIN)


def rows(
    names: list[str], vocabulary: Vocabulary = WORDS, *, alpha: float = 1.0, hyponyms: bool = False, one: bool = True
) -> list[tuple[tuple[int, ...], ...]]:
    matches = match_classes(names, vocabulary, alpha=alpha)
    found = rows_of_classes(matches, vocabulary, alpha=alpha, hyponyms=hyponyms, one_class=one)
    return [each.groups for each in found]


def test_a_class_has_the_rows_of_its_synsets_and_one_without_cannot_be_scored() -> None:
    names = ["poodle", "n02084071", "/a/airplane_cabin", "church", "zzyzx", "n99999999"]
    assert rows(names) == [((1,),), ((0,),), ((3,), (4,)), (), (), ()]
    assert [ClassRows(each).scorable for each in rows(names)] == [True, True, True, False, False, False]


def test_a_lower_alpha_takes_the_row_of_a_near_synset() -> None:
    assert rows(["dog"], vocabulary_of(FISH, CANINE), alpha=0.5) == [((1,),)]
    assert rows(["dog"], vocabulary_of(FISH, CANINE)) == [()]


def test_hyponyms_make_a_class_without_a_row_one_that_can_be_scored() -> None:
    assert rows([wnid_of(ANIMAL), "church"], hyponyms=True) == [((0, 1, 2),), ()]


def test_a_merged_synset_counts_for_its_class_as_a_hyponym_and_as_a_class() -> None:
    merged = Vocabulary(
        np.array([CABIN, FISH], np.int32), np.array([3, 2]), rows=9, min_count=1, merged=((POODLE, CABIN),)
    )
    assert rows(["dog", "poodle"], merged, hyponyms=True, one=False) == [((0,),), ((0,),)]
    assert rows(["dog", "poodle"], merged, hyponyms=True) == [(), ((0,),)]


def test_what_lies_below_a_more_specific_class_is_that_classs_alone() -> None:
    names = [wnid_of(ANIMAL), "dog", "poodle"]
    assert rows(names, hyponyms=True) == [((2,),), ((0,),), ((1,),)]
    assert rows(names[:2], hyponyms=True) == [((2,),), ((0, 1),)]
    # An image with several classes shows the animal as well.
    assert rows(names, hyponyms=True, one=False) == [((0, 1, 2),), ((0, 1),), ((1,),)]


def test_classes_of_one_synset_share_their_hyponyms() -> None:
    assert rows(["dog", "domestic dog"], hyponyms=True) == [((0, 1),), ((0, 1),)]


def test_a_more_specific_class_that_has_no_row_takes_none_away() -> None:
    # corgi lies between dog and nothing of the vocabulary.
    assert rows(["dog", "corgi"], hyponyms=True) == [((0, 1),), ()]


CLASSIFIER = classifier_of([[1, 0], [0, 1], [1, 1]], [0, -1, 2])
COUNTED = Vocabulary(np.array([DOG, POODLE, FISH], np.int32), np.array([50, 20, 10], np.int64), rows=100, min_count=10)
FEATURES = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
# Logits of the rows: 1, 2, 6 and 0, -1, 2. Frequencies 1/2, 1/5, 1/10: odds 1, 1/4, 1/9.
CLASSES = [ClassRows(((0,),)), ClassRows(((1, 2),)), ClassRows(((0,), (1,)))]


def scores(prior: scoring.Prior, combine: Literal["max", "any"], loss: LossName = "bce") -> list[list[float]]:
    found: list[list[float]] = synset_scores(
        FEATURES, CLASSIFIER, COUNTED, CLASSES, prior=prior, combine=combine, loss=loss
    ).tolist()
    return found


def test_a_score_is_the_best_row_of_a_synset_and_the_mean_over_synsets() -> None:
    assert scores("keep", "max") == [[1.0, 6.0, 1.5], [0.0, 2.0, -0.5]]


def test_frequencies_are_taken_off_before_the_best_row_is_sought() -> None:
    four, nine = math.log(4), math.log(9)
    assert scores("remove", "max") == [
        pytest.approx([1.0, 6 + nine, (1 + 2 + four) / 2]),
        pytest.approx([0.0, 2 + nine, (0 - 1 + four) / 2]),
    ]


def test_the_chance_of_any_row_counts_as_if_they_were_independent() -> None:
    def odds(*logits: float) -> float:
        return math.log(math.prod(1 + math.exp(logit) for logit in logits) - 1)

    assert scores("keep", "any") == [pytest.approx([1, odds(2, 6), 1.5]), pytest.approx([0, odds(-1, 2), -0.5])]
    before = math.log(5 / 4 * 10 / 9 - 1)
    assert [line[1] for line in scores("remove", "any")] == pytest.approx([odds(2, 6) - before, odds(-1, 2) - before])


def test_a_softmax_s_rows_are_shares_of_an_image_s_labels() -> None:
    # exp of the logits, 1, 2, 6 and 0, -1, 2, over their sums.
    sums = [math.log(sum(map(math.exp, logits))) for logits in ((1, 2, 6), (0, -1, 2))]
    assert scores("keep", "max", "softmax") == [
        pytest.approx([1 - sums[0], 6 - sums[0], 1.5 - sums[0]]),
        pytest.approx([0 - sums[1], 2 - sums[1], -0.5 - sums[1]]),
    ]
    together = [math.log(math.exp(2) + math.exp(6)) - sums[0], math.log(math.exp(-1) + math.exp(2)) - sums[1]]
    assert [line[1] for line in scores("keep", "any", "softmax")] == pytest.approx(together)
    # Of 80 labels 50, 20 and 10 are of the rows.
    before = math.log(30 / 80)
    assert [line[1] for line in scores("remove", "any", "softmax")] == pytest.approx(
        [each - before for each in together]
    )
    assert scores("remove", "max", "softmax")[0][1] == pytest.approx(6 - sums[0] - math.log(10 / 80))


def test_all_rows_of_a_softmax_together_are_certain_of_any_image() -> None:
    everything = [ClassRows(((0, 1, 2),))]
    found = synset_scores(FEATURES, CLASSIFIER, COUNTED, everything, prior="remove", combine="any", loss="softmax")
    assert found.flatten().tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_frequencies_count_as_the_loss_weights_labels() -> None:
    weights = [50 * math.log(100 / 51), 20 * math.log(100 / 21), 10 * math.log(100 / 11)]
    wanted = [math.log(weight / sum(weights)) for weight in weights]
    assert prior_of(COUNTED, "softmax-idf").tolist() == pytest.approx(wanted)
    assert prior_of(COUNTED, "asymmetric").tolist() == pytest.approx([0, -math.log(4), -math.log(9)])
    # One class in all captions is never a target of softmax-idf.
    always = Vocabulary(np.array([DOG, FISH], np.int32), np.array([100, 50], np.int64), rows=100, min_count=1)
    assert prior_of(always, "softmax-idf").isfinite().all()


def test_one_row_alone_scores_the_same_whichever_way() -> None:
    for prior in ("keep", "remove"):
        assert [line[0] for line in scores(prior, "any")] == pytest.approx([line[0] for line in scores(prior, "max")])


def test_images_scored_apart_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    together = scores("remove", "any")
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 1)
    assert scores("remove", "any") == together


@given(st.lists(st.lists(st.floats(-6, 6), min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_is_one_minus_the_product_of_what_is_not(groups: list[list[float]]) -> None:
    flat = torch.tensor([[logit] for group in groups for logit in group], dtype=torch.float64)
    found = any_of(flat, torch.tensor([len(group) for group in groups]))
    wanted = [1 - math.prod(1 - 1 / (1 + math.exp(-logit)) for logit in group) for group in groups]
    assert found.sigmoid()[:, 0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("logits", "wanted"), [([-300.0], -300.0), ([-600.0] * 2, -600 + math.log(2)), ([300.0], 300.0), ([40.0] * 2, 80.0)]
)
def test_any_loses_no_digits_near_certainty(logits: list[float], wanted: float) -> None:
    flat = torch.tensor([[logit] for logit in logits], dtype=torch.float64)
    assert float(any_of(flat, torch.tensor([len(logits)]))) == pytest.approx(wanted, rel=1e-12)


def test_any_of_what_is_all_but_impossible_is_a_number() -> None:
    assert float(any_of(torch.tensor([[-5000.0]], dtype=torch.float64), torch.tensor([1]))) < -700
