"""Batches: every sample once an epoch, the same whoever reads and after any stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.batches import same, samples_of, stopped_after, take, together
from tests.corpus import Corpus, make_corpus
from trainer.data.batch import Batch
from trainer.data.resolution import FixedResolution, StepShape
from trainer.data.source import from_state, to_state
from vocab.errors import MismatchError

SAMPLES = 4 * 13


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


READERS: list[dict[str, Any]] = [
    {"workers": 0},
    {"workers": 1},
    {"workers": 3},
    {"workers": 2, "loaders": "threads"},
]


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus) -> list[Batch]:
    """Three epochs and a bit."""
    return take(corpus.source(), 42)


def test_a_batch_holds_pixels_and_sparse_classes(corpus: Corpus) -> None:
    batch = take(corpus.source(train=False))[0]
    assert batch.images.shape == (4, 16, 16, 3)
    assert batch.images[:3, 8, 8].tolist() == [[200, 30, 30], [30, 200, 30], [30, 30, 200]]
    # Dog, cat, car, dog; cats are the rarest, so class 2.
    assert batch.offsets.tolist() == [0, 1, 2, 3, 4]
    assert batch.classes.tolist() == [0, 2, 1, 0]
    assert batch.samples == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert batch.weights.tolist() == [1, 1, 1, 1]


def test_a_part_of_a_batch_keeps_its_own_classes(corpus: Corpus) -> None:
    batch = take(corpus.source(train=False), steps=FixedResolution(16, 6))[0]
    part = batch.part(1, 2)
    assert torch.equal(part.images, batch.images[3:])
    assert (part.offsets.tolist(), part.classes.tolist(), part.ends) == ([0, 1, 1, 2], [0, 1], [0, 1, 1, 2])


@pytest.mark.parametrize("readers", READERS)
def test_an_epoch_sees_each_sample_once(corpus: Corpus, readers: dict[str, Any]) -> None:
    seen = samples_of(take(corpus.source(), 2 * SAMPLES // 4, **readers))
    everything = [(tar, index) for tar in range(4) for index in range(13)]
    assert sorted(seen[:SAMPLES]) == everything
    assert sorted(seen[SAMPLES:]) == everything
    assert seen[:SAMPLES] != seen[SAMPLES:]


@pytest.mark.parametrize("readers", READERS[1:])
def test_batches_do_not_depend_on_who_loads_them(
    corpus: Corpus, undisturbed: list[Batch], readers: dict[str, Any]
) -> None:
    assert all(map(same, undisturbed[:20], take(corpus.source(), 20, **readers)))


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (4, 1)])
def test_ranks_share_the_batch_that_one_process_has(
    corpus: Corpus, undisturbed: list[Batch], world: int, workers: int
) -> None:
    ranks = [take(corpus.source(), 14, rank=rank, world=world, workers=workers) for rank in range(world)]
    for step in range(14):
        assert together([rank[step] for rank in ranks]) == together([undisturbed[step]])


@pytest.mark.parametrize("workers", [0, 2, 5])
@pytest.mark.parametrize(("size", "left"), [(10, 2), (17, 1), (13, 13)])
def test_an_evaluation_sees_each_sample_once_and_ends(corpus: Corpus, workers: int, size: int, left: int) -> None:
    batches = take(corpus.source(train=False), steps=FixedResolution(16, size), workers=workers)
    assert samples_of(batches) == [(tar, index) for tar in range(4) for index in range(13)]
    # The last batch has room for more.
    assert batches[-1].weights.tolist() == [1] * left + [0] * (size - left)
    assert len(batches) == -(-52 // size)


@pytest.mark.parametrize("stop", [1, 6, 7, 12, 13, 14, 25, 26, 39])
def test_a_resumed_feed_continues_with_the_next_batch(corpus: Corpus, undisturbed: list[Batch], stop: int) -> None:
    # Groups are of 2 x 13 samples, batches of 4: these stops lie inside and at the end of groups and epochs.
    source = corpus.source()
    second = take(source, 3, start=stopped_after(undisturbed[stop - 1], source))
    assert all(map(same, undisturbed[stop:], second))


@pytest.mark.parametrize("readers", READERS[1:])
def test_a_resumed_feed_may_have_other_loaders(
    corpus: Corpus, undisturbed: list[Batch], readers: dict[str, Any]
) -> None:
    source = corpus.source()
    second = take(source, 5, start=stopped_after(undisturbed[8], source), **readers)
    assert all(map(same, undisturbed[9:], second))


def test_two_ranks_then_three_see_every_sample_once(corpus: Corpus) -> None:
    source, steps = corpus.source(), FixedResolution(16, 12)
    first = [take(source, 2, steps=steps, rank=rank, world=2) for rank in range(2)]
    state = to_state([part[-1].position for part in first], source, teams=1)
    start = from_state(json.loads(json.dumps(state)), source, teams=1)
    second = [take(source, 2, steps=steps, rank=rank, world=3, start=start, workers=1) for rank in range(3)]
    steps_seen = [together([rank[step] for rank in first]) for step in range(2)]
    steps_seen += [together([rank[step] for rank in second]) for step in range(2)]
    assert steps_seen == [together([batch]) for batch in take(source, 4, steps=steps)]


def test_the_state_is_small_and_says_where_it_is(corpus: Corpus, undisturbed: list[Batch]) -> None:
    source = corpus.source()
    state = to_state([undisturbed[20].position], source, teams=1)
    assert state == {
        "step": 21,
        "images": 84,
        "teams": 1,
        # 84 samples are one epoch of 52, one group of 26, and 6.
        "cursors": [[[3, 6]]],
        "digest": source.digest,
    }


@pytest.mark.parametrize("changes", [{"seed": 1}, {"shuffle_shards": 3}, {"unlabelled": "drop"}])
def test_another_order_is_refused_on_resume(corpus: Corpus, undisturbed: list[Batch], changes: dict[str, Any]) -> None:
    state = to_state([undisturbed[0].position], corpus.source(), teams=1)
    with pytest.raises(MismatchError, match="found a run over other tars, labels, weights, or another seed"):
        from_state(state, corpus.source(**changes), teams=1)


def test_other_tars_on_resume_are_refused(corpus: Corpus, undisturbed: list[Batch], tmp_path: Path) -> None:
    state = to_state([undisturbed[0].position], corpus.source(), teams=1)
    with pytest.raises(MismatchError, match="wanted the 3 tars that --images names now"):
        from_state(state, make_corpus(tmp_path, tars=3).source(), teams=1)


def test_steps_may_have_other_shapes(corpus: Corpus) -> None:
    shapes = Changing()
    batches = take(corpus.source(), 8, steps=shapes, workers=2)
    assert [tuple(batch.images.shape) for batch in batches[:3]] == [(4, 24, 24, 3), (6, 16, 16, 3), (4, 24, 24, 3)]
    assert len(set(samples_of(batches))) == 40
    resumed = take(corpus.source(), 3, steps=shapes, start=batches[4].position)
    assert all(map(same, batches[5:], resumed))


class Changing:
    """24 pixels in every other step, 16 in those between."""

    def at(self, step: int) -> StepShape:
        return self.shapes()[step % 2]

    def shapes(self) -> tuple[StepShape, ...]:
        return StepShape(24, 4), StepShape(16, 6)
