"""Batches: every sample once an epoch, the same whoever reads and after any stop, and nothing bad passes unseen."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_trainer_corpus import Corpus, label, make_corpus, picture, write_tar
from trainer.data.batch import Batch, Position, Skipped
from trainer.data.feed import Feed
from trainer.data.resolution import FixedResolution, Resolution, Shape
from trainer.data.source import Source
from trainer.data.state import from_state, to_state
from trainer.data.tar_cache import TarCache
from trainer.inputs import weights_of
from vocab.errors import InputError, MismatchError

SAMPLES = 4 * 13
STEPS = FixedResolution(16, 4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def copied(batch: Batch) -> Batch:
    """A batch that stays as it is when the feed goes on."""
    return replace(batch, images=batch.images.clone())


def take(source: Source, count: int | None = None, *, steps: Resolution = STEPS, **options: Any) -> list[Batch]:
    with Feed(source, steps, **options) as feed:
        return [copied(batch) for batch in itertools.islice(feed, count)]


def samples_of(batches: list[Batch]) -> list[tuple[int, int]]:
    return [sample for batch in batches for sample in batch.samples if sample[0] >= 0]


def same(one: Batch, other: Batch) -> bool:
    names = ("images", "offsets", "classes", "weights", "flips", "draws", "seeds", "tars", "indices")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def together(parts: list[Batch]) -> list[Any]:
    """What all ranks have of one step, image by image."""
    return [
        (
            sample,
            part.images[n].sum().item(),
            bool(part.flips[n]),
            part.classes[part.ends[n] : part.ends[n + 1]].tolist(),
        )
        for part in parts
        for n, sample in enumerate(part.samples)
    ]


def stopped_after(batch: Batch, source: Source) -> Position:
    """The position after a batch as a resumed run finds it."""
    return from_state(json.loads(json.dumps(to_state([batch.position], source, teams=1))), source, teams=1)


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


def loaders_of(feed: Feed) -> list[Any]:
    assert feed._crew is not None
    return feed._crew._runners


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_killed_loader_is_replaced_and_nothing_changes(corpus: Corpus, undisturbed: list[Batch], deaths: int) -> None:
    found = []
    with Feed(corpus.source(), STEPS, workers=2) as feed:
        for batch in itertools.islice(feed, 30):
            found.append(copied(batch))
            if len(found) in (3, 12, 20)[:deaths]:
                os.kill(loaders_of(feed)[len(found) % 2].pid, signal.SIGKILL)
    assert all(map(same, undisturbed[:30], found))
    assert len(found) == 30


class Deadly(FixedResolution):
    """Has a step that no loader survives."""

    def at(self, step: int) -> Shape:
        if step == 2 and "loader" in multiprocessing.current_process().name:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().at(step)


def test_a_loader_that_dies_again_and_again_is_an_error(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="ended by signal 9 3 times at step 2; wanted loaders that live"):
        take(corpus.source(), 9, steps=Deadly(16, 4), workers=1)


def test_a_loader_killed_while_it_sends_is_a_dead_one(corpus: Corpus) -> None:
    with Feed(corpus.source(), STEPS, workers=1, loaders="threads") as feed:
        batches = iter(feed)
        next(batches)
        crew = feed._crew
        assert crew is not None
        here, there = multiprocessing.Pipe()
        link, crew._links[0] = crew._links[0], here
        # The length of a message and its first bytes.
        os.write(there.fileno(), (1000).to_bytes(4, "big") + b"part")
        there.close()
        assert not crew._receive(0)
        here.close()
        crew._links[0] = link


@pytest.mark.parametrize("workers", [0, 2])
def test_a_tar_that_is_gone_is_named(tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = make_corpus(tmp_path)
    source = corpus.source(shuffle_shards=1)
    for tar in corpus.images.iterdir():
        tar.unlink()
    with pytest.raises(InputError, match="found No such file or directory; wanted a tar that can be opened"):
        take(source, 1, workers=workers)
    assert "Traceback" not in capfd.readouterr().err


def test_loaders_that_are_threads_leave_torch_its_own(corpus: Corpus) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        take(corpus.source(), 1, workers=1, loaders="threads")
        # Of what all threads are given; one that has computed before keeps its own number.
        with ThreadPoolExecutor() as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_loaders_meet_ahead_is_raised_in_its_turn(tmp_path: Path, workers: int) -> None:
    source = make_corpus(tmp_path, tars=2).source(shuffle_shards=1)
    second = source.tars[source.orders[0].tars_of(1)[0]]
    Path(second.place).unlink()
    found: list[Any] = []
    with Feed(source, STEPS, workers=workers) as feed, pytest.raises(InputError, match=second.place):
        found.extend(batch.samples for batch in feed)
    # The first tar's 13 samples fill three batches; the fourth needs the tar that is gone.
    assert len(found) == 3


def test_loaders_end_with_the_feed(corpus: Corpus) -> None:
    with Feed(corpus.source(), STEPS, workers=2) as feed:
        batches = iter(feed)
        next(batches)
        runners = list(loaders_of(feed))
        assert all(runner.is_alive() for runner in runners)
    assert not any(runner.is_alive() for runner in runners)


def test_a_signal_to_the_group_leaves_the_loaders_at_work(corpus: Corpus, undisturbed: list[Batch]) -> None:
    with Feed(corpus.source(), STEPS, workers=1) as feed:
        batches = iter(feed)
        found = [copied(next(batches))]
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(loaders_of(feed)[0].pid, number)
        found += [copied(next(batches)) for _ in range(8)]
        assert loaders_of(feed)[0].is_alive()
    assert all(map(same, undisturbed, found))


def test_steps_may_have_other_shapes(corpus: Corpus) -> None:
    shapes = Changing()
    batches = take(corpus.source(), 8, steps=shapes, workers=2)
    assert [tuple(batch.images.shape) for batch in batches[:3]] == [(4, 24, 24, 3), (6, 16, 16, 3), (4, 24, 24, 3)]
    assert len(set(samples_of(batches))) == 40
    resumed = take(corpus.source(), 3, steps=shapes, start=batches[4].position)
    assert all(map(same, batches[5:], resumed))


class Changing:
    """24 pixels in every other step, 16 in those between."""

    def at(self, step: int) -> Shape:
        return self.shapes()[step % 2]

    def shapes(self) -> tuple[Shape, ...]:
        return Shape(24, 4), Shape(16, 6)


BAD = {
    "x0.txt": b"no picture",
    "x1.png": b"",
    "x2.png": b"not a picture",
    "x3.png": picture(size=(200, 200)),
}


def with_bad_samples(root: Path) -> Source:
    """A corpus whose first tar ends with a sample of each fault and is cut inside the last one."""
    corpus = make_corpus(root, tars=2, samples=40, extra=BAD | {"x4.png": bytes(5000)})
    tar = corpus.images / "00000.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[: content.rindex(b"x4.png") + 600])
    return corpus.source(max_pixels=30_000)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_weigh_nothing_and_are_counted_and_named_once(tmp_path: Path, workers: int) -> None:
    batches = take(with_bad_samples(tmp_path), 50, workers=workers)
    skipped = [bad for batch in batches for bad in batch.skipped]
    assert sorted(skipped, key=lambda bad: bad.key) == [
        Skipped("00000", "x0", "no_image"),
        Skipped("00000", "x1", "empty_image"),
        Skipped("00000", "x2", "not_an_image"),
        Skipped("00000", "x3", "decompression_bomb"),
        Skipped("00000", "x4", "truncated_tar"),
    ]
    # 80 good samples and 2 that only decoding shows to be bad in an epoch; 200 are two epochs and 36 more, with
    # so much of the 3 that headers show to be bad.
    assert sum(batch.account["bad"] for batch in batches) in (11, 12, 13)
    black = [int(n) for batch in batches for n in torch.nonzero(batch.weights == 0)[:, 0]]
    assert len(black) in (4, 5, 6)
    assert all(batch.images[n].sum() == 0 for batch in batches for n in torch.nonzero(batch.weights == 0)[:, 0])


def test_the_ledger_is_the_same_after_a_stop(tmp_path: Path) -> None:
    source = with_bad_samples(tmp_path)
    whole = take(source, 20)
    for stop in (1, 5, 11):
        rest = take(source, 20 - stop, start=whole[stop - 1].position)
        assert [batch.skipped for batch in whole[stop:]] == [batch.skipped for batch in rest]
        assert [batch.account for batch in whole[stop:]] == [batch.account for batch in rest]


@pytest.mark.parametrize("rank", [0, 1])
def test_bad_headers_are_weighed_against_all_samples_of_their_tars(tmp_path: Path, rank: int) -> None:
    # 40 of 840 are bad, more than a rank has in its first batch.
    extra = {f"x{number}.png": b"" for number in range(40)}
    source = make_corpus(tmp_path, tars=2, samples=400, extra=extra).source(max_bad_share=0.06)
    batches = take(source, 25, steps=FixedResolution(8, 64), rank=rank, world=2)
    bad = list(itertools.accumulate(batch.account["bad"] for batch in batches))
    # Two epochs, of which half falls to each rank.
    assert bad[0] in (1, 2)
    assert bad[-1] == 40


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_samples_stop_the_run(tmp_path: Path, workers: int) -> None:
    corpus = make_corpus(tmp_path, tars=2, samples=40, extra={f"x{n}.png": b"x" for n in range(30)})
    with pytest.raises(InputError, match=r"bad samples of 1\d\d"):
        take(corpus.source(), 100, workers=workers)


def test_a_corpus_of_bad_samples_only_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    write_tar(tmp_path / "images" / "00000.tar", {f"{n}.png": b"" for n in range(5)})
    corpus = label(tmp_path, [("00000", str(n), [2084071]) for n in range(5)])
    with pytest.raises(InputError, match="found no usable sample in a whole epoch"):
        take(corpus.source(), 1)


def test_tars_without_a_usable_sample_are_not_kept_open(tmp_path: Path) -> None:
    for number in range(60):
        write_tar(tmp_path / "images" / f"{number:05d}.tar", {"a.txt": b"no picture"})
    source = label(tmp_path, [(f"{number:05d}", "a", [2084071]) for number in range(60)]).source()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 30, hard))
    try:
        with pytest.raises(InputError, match="found no usable sample in a whole epoch"):
            take(source, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_captions_without_a_noun_are_negatives_or_left_out_or_of_less_weight(corpus: Corpus) -> None:
    kept = take(corpus.source(train=False))
    dropped = take(corpus.source(train=False, unlabelled="drop"))
    assert len(samples_of(kept)) == 52
    assert len(samples_of(dropped)) == 44
    for batches in (kept, dropped):
        assert sum(batch.account["unlabelled"] for batch in batches) == 8
        assert sum(batch.account["samples"] for batch in batches) == 52
    weighed = take(corpus.source(unlabelled="weigh", unlabelled_weight=0.25), 13)
    assert Counter(weight for batch in weighed for weight in batch.weights.tolist()) == {1.0: 44, 0.25: 8}


def test_a_narrower_vocabulary_leaves_more_samples_without_a_class(corpus: Corpus) -> None:
    whole = corpus.source()
    full = whole.vocabulary
    dogs = replace(full, synsets=full.synsets[:1], captions=full.captions[:1])
    batches = take(replace(whole, vocabulary=dogs, train=False))
    assert sum(batch.account["unlabelled"] for batch in batches) == 52 - sum(len(b.classes) for b in batches)
    assert {label for batch in batches for label in batch.classes.tolist()} == {0}


def test_samples_without_a_row_are_left_out_and_counted(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tars=1, samples=4, extra={"stranger.png": picture()}, extra_labelled=False)
    (batch,) = take(corpus.source(train=False))
    assert batch.samples == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert batch.account == {"samples": 5, "unmatched": 1, "surplus_labels": 0, "bad": 0, "unlabelled": 0}


def test_rows_whose_sample_the_tar_lacks_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "images" / "00000.tar", {"a.png": picture()})
    source = label(tmp_path, [("00000", "a", [2084071]), ("00000", "gone", [2084071])]).source(train=False)
    (batch,) = take(source)
    assert batch.account["surplus_labels"] == 1


def test_weights_decide_how_often_a_pool_is_drawn_from(corpus: Corpus) -> None:
    source = corpus.source(pools=((0,), (1, 2, 3)), weights=weights_of((3.0, 1.0), 2))
    seen = samples_of(take(source, 100))
    shares = Counter(min(tar, 1) for tar, _ in seen)
    assert 270 < shares[0] < 330
    # Each pool runs through its own epochs: every 13 samples of the first one are all of its tar.
    first = [index for tar, index in seen if tar == 0]
    for epoch in range(20):
        assert sorted(first[13 * epoch : 13 * (epoch + 1)]) == list(range(13))


@pytest.mark.parametrize("share", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_a_number_above_0(share: float) -> None:
    with pytest.raises(InputError, match="wanted one number above 0 for each"):
        weights_of((1.0, share), 2)


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
    read = [source.tars[seen[place][0]].place for place in (0, 13, 26)]
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
