"""Pools drawn from by weight, and teams with tars of their own."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.batches import STEPS, same, samples_of, stopped_after, take, together
from tests.corpus import Corpus, make_corpus
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution
from trainer.data.source import from_state, to_state
from trainer.data.tar_cache import TarCache
from trainer.inputs import weights_of
from vocab.errors import InputError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def test_weights_decide_how_often_a_pool_is_drawn_from(corpus: Corpus) -> None:
    source = corpus.source(pools=((0,), (1, 2, 3)), weights=weights_of((3.0, 1.0), 2))
    seen = samples_of(take(source, 100))
    shares = Counter(min(tar, 1) for tar, _ in seen)
    assert 270 < shares[0] < 330
    # Each pool runs through its own epochs: every 13 samples of the first one are all of its tar.
    first = [index for tar, index in seen if tar == 0]
    for epoch in range(20):
        assert sorted(first[13 * epoch : 13 * (epoch + 1)]) == list(range(13))


def test_weighted_pools_resume_where_they_were(corpus: Corpus) -> None:
    source = corpus.source(pools=((0,), (1, 2, 3)), weights=weights_of((3.0, 1.0), 2))
    whole = take(source, 12)
    assert all(map(same, whole[7:], take(source, 5, start=stopped_after(whole[6], source), workers=2)))


def test_teams_read_their_own_tars_and_miss_none(corpus: Corpus) -> None:
    source = corpus.source(shuffle_shards=1)
    ranks = [take(source, 13, rank=rank, world=4, teams=2) for rank in range(4)]
    tars = [{tar for tar, _ in samples_of(rank)} for rank in ranks]
    assert tars[0] == tars[1]
    assert tars[2] == tars[3]
    assert not tars[0] & tars[2]
    seen = [sample for rank in ranks for sample in samples_of(rank)]
    assert sorted(seen) == [(tar, index) for tar in range(4) for index in range(13)]
    assert [sum(b.account["samples"] for b in rank) for rank in ranks] == [13, 13, 13, 13]


def test_a_team_fetches_ahead_what_it_reads_next(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead: list[str] = []
    monkeypatch.setattr(TarCache, "fetch_ahead", lambda cache, places: ahead.extend(places))
    source = corpus.source(shuffle_shards=1)
    # Each batch of the team is one tar.
    seen = samples_of(take(source, 3, steps=FixedResolution(16, 26), rank=1, world=2, teams=2))
    read = [source.tars[seen[place][0]].location for place in (0, 13, 26)]
    assert ahead[:2] == read[1:]


def test_teams_go_on_under_another_number_of_processes(corpus: Corpus) -> None:
    source = corpus.source(shuffle_shards=1)
    whole = [take(source, 8, rank=rank, world=2, teams=2) for rank in range(2)]
    state = to_state([rank[3].position for rank in whole], source, teams=2)
    start = from_state(state, source, teams=2)
    alone = take(source, 4, teams=2, start=start, workers=2)
    four = [take(source, 4, rank=rank, world=4, teams=2, start=start) for rank in range(4)]
    for step in range(4):
        wanted = together([rank[4 + step] for rank in whole])
        assert together([alone[step]]) == wanted
        assert together([rank[step] for rank in four]) == wanted


def test_teams_must_fit_the_processes(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="found 2 teams for 3 processes"):
        Feed(corpus.source(), STEPS, world=3, teams=2)
