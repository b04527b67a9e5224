"""The order: every tar and sample once an epoch, whoever walks, and from anywhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.draws import shard_hash
from trainer.data.order import Order, Walk, choose_pools
from vocab.errors import InputError


def order(count: int, *, seed: int = 0, size: int = 2, shuffled: bool = True) -> Order:
    return Order(tuple(shard_hash(f"{n:05d}") for n in range(count)), seed=seed, group_size=size, shuffled=shuffled)


@given(count=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99), epoch=st.integers(0, 99))
def test_an_epoch_visits_each_tar_once(count: int, size: int, seed: int, epoch: int) -> None:
    whole = order(count, seed=seed, size=size)
    groups = [whole.tars_of(epoch * whole.groups + number) for number in range(whole.groups)]
    assert sorted(tar for group in groups for tar in group) == list(range(count))
    assert all(len(group) == size for group in groups[:-1])
    assert {whole.epoch_of(epoch * whole.groups + number) for number in range(whole.groups)} == {epoch}


def test_the_order_is_pinned() -> None:
    # What a run has seen so far is told by a number; another order would make it lie.
    whole = order(6, seed=3)
    assert [whole.tars_of(group) for group in range(4)] == [[5, 3], [4, 0], [2, 1], [0, 3]]
    shards = np.repeat(np.array(whole.hashes[:2], np.uint64), 4)
    indices = np.tile(np.arange(4), 2)
    assert whole.shuffle(0, shards=shards, indices=indices).tolist() == [5, 2, 6, 7, 4, 3, 0, 1]


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(order(30, seed=seed, size=30).tars_of(epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_an_order_for_evaluation_is_as_it_lies() -> None:
    whole = order(3, size=1, shuffled=False)
    assert [whole.tars_of(group) for group in range(3)] == [[0], [1], [2]]
    assert whole.shuffle(0, shards=np.zeros(4, np.uint64), indices=np.arange(4)).tolist() == [0, 1, 2, 3]


class Samples(list[int]):
    """A group of as many samples as its number says."""

    closed = False

    def close(self) -> None:
        self.closed = True


def walk(
    sizes: list[int],
    *,
    team: int = 0,
    teams: int = 1,
    start: tuple[int, int] | None = None,
    opened: list[Samples] | None = None,
) -> Walk[Samples]:
    """A walk over groups of these sizes, one tar each, again and again."""
    whole = order(len(sizes), size=1)

    def load(number: int) -> Samples:
        samples = Samples([number * 1000 + place for place in range(sizes[number % len(sizes)])])
        if opened is not None:
            opened.append(samples)
        return samples

    return Walk(whole, load, team=team, teams=teams, start=start)


def taken(parts: list[tuple[Samples, int, int]]) -> list[int]:
    return [sample for group, since, until in parts for sample in group[since:until]]


sizes = st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any)


@given(sizes=sizes, steps=st.lists(st.integers(0, 7), max_size=12), teams=st.integers(1, 3))
def test_steps_of_any_length_take_every_sample_of_a_team_in_turn(
    sizes: list[int], steps: list[int], teams: int
) -> None:
    for team in range(teams):
        way = walk(sizes, team=team, teams=teams)
        try:
            found = [sample for count in steps for sample in taken(way.take(count))]
        except InputError:
            # Only the groups of other teams hold samples.
            assert teams > 1
            continue
        groups = list(range(team, 2000, teams))
        everything = [n * 1000 + place for n in groups for place in range(sizes[n % len(sizes)])]
        assert found == everything[: sum(steps)]


@given(sizes=sizes, before=st.lists(st.integers(0, 7), max_size=6), after=st.integers(1, 9))
def test_a_walk_goes_on_from_its_cursor(sizes: list[int], before: list[int], after: int) -> None:
    first = walk(sizes)
    for count in before:
        first.take(count)
    second = walk(sizes, start=first.cursor)
    assert taken(second.take(after)) == taken(first.take(after))
    assert second.cursor == first.cursor


@given(sizes=sizes, steps=st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_every_group_is_entered_once(sizes: list[int], steps: list[int]) -> None:
    entered: Counter[int] = Counter()
    way = walk(sizes)
    seen = set()
    for count in steps:
        seen |= {sample // 1000 for sample in taken(way.take(count))}
        entered.update(group[0] // 1000 for group in way.entered if group)
    assert entered == Counter(dict.fromkeys(seen, 1))


@given(sizes=sizes, steps=st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_a_walk_has_open_the_group_at_hand_and_those_whose_samples_it_gave_last(
    sizes: list[int], steps: list[int]
) -> None:
    opened: list[Samples] = []
    way = walk(sizes, opened=opened)
    for count in steps:
        given = [group for group, _, _ in way.take(count)]
        still = [group for group in opened if not group.closed]
        assert all(any(group is other for other in still) for group in given)
        assert len(still) <= len(given) + 1
    way.close()
    assert all(group.closed for group in opened)


def test_an_epoch_without_a_sample_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(InputError, match="no usable sample in a whole epoch"):
        walk([0, 0, 0]).take(1)


def test_a_walk_of_an_evaluation_ends() -> None:
    whole = order(3, size=1, shuffled=False)
    way = Walk(whole, lambda number: Samples(range(number)), team=0, teams=1)
    assert [taken(way.take(2)), way.ended] == [[0, 0], False]
    assert [taken(way.take(2)), way.ended] == [[1], True]
    assert way.take(2) == []


def test_pools_are_chosen_by_weight_and_by_the_sample_s_number_alone() -> None:
    chosen = choose_pools((0.7, 0.2, 0.1), seed=5, team=0, first=0, count=20_000)
    shares = np.bincount(chosen) / 20_000
    assert np.allclose(shares, [0.7, 0.2, 0.1], atol=0.01)
    assert choose_pools((0.7, 0.2, 0.1), seed=5, team=0, first=1_000, count=50).tolist() == chosen[1_000:1_050].tolist()
    assert choose_pools((1.0,), seed=5, team=0, first=0, count=3).tolist() == [0, 0, 0]
