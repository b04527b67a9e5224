"""Nearest neighbours: votes by cosine similarity, as the definition has them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labelled_images import drawn_features, images_of
from trainer.probe import knn
from trainer.probe.knn import votes


def test_votes_are_weighed_by_similarity() -> None:
    memory = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    images = images_of([[0], [1], [1]], count=3)
    (found,) = votes(memory, images, torch.tensor([[5.0, 0.0]]), neighbours=2, temperature=0.5)
    # Cosines 1 and sqrt(1/2); the third neighbour, at 0, has no vote.
    far = math.exp((math.sqrt(0.5) - 1) / 0.5)
    assert found.tolist() == [pytest.approx([1 / (1 + far), far / (1 + far), 0.0])]


def test_fewer_images_than_neighbours_all_vote() -> None:
    memory, images = torch.eye(2), images_of([[0], [1]], count=2)
    (found,) = votes(memory, images, torch.tensor([[1.0, 1.0]]), neighbours=20, temperature=0.07)
    assert found.tolist() == [pytest.approx([0.5, 0.5])]


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(1, 30),
    queries=st.integers(1, 9),
    count=st.integers(1, 12),
    temperature=st.sampled_from([0.001, 0.07, 1.0]),
    multi_label=st.booleans(),
    at_once=st.integers(1, 4),
)
def test_some_at_a_time_are_what_all_at_once_are(
    images: int, queries: int, count: int, temperature: float, multi_label: bool, at_once: int
) -> None:
    memory, shown = drawn_features(images, 5, 4, multi_label=multi_label)
    asked, _ = drawn_features(queries, 5, 4, multi_label=False, seed=1)
    dense = torch.zeros(images, 4, dtype=torch.float64)
    owners = torch.arange(images).repeat_interleave(torch.from_numpy(shown.offsets).diff())
    dense[owners, torch.from_numpy(shown.classes)] = 1
    similarity = torch.nn.functional.cosine_similarity(asked.double()[:, None], memory.double()[None], dim=2)
    best, nearest = similarity.topk(min(count, images))
    wanted = ((best / temperature).softmax(1)[:, :, None] * dense[nearest]).sum(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "QUERIES", at_once)
        patch.setattr(knn, "CHUNK_ELEMENTS", 3 * at_once)
        found = torch.cat(list(votes(memory, shown, asked, neighbours=count, temperature=temperature)))
    torch.testing.assert_close(found.double(), wanted, atol=2e-3, rtol=1e-3)
