"""Batches: every sample once an epoch, the same after a stop as without one, and nothing bad passes unseen."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.test_trainer_corpus import Corpus, label, make_corpus, picture, write_tar
from trainer.batches import Batch, Feed, Skipped, Source, Stream
from vocab.errors import InputError, MismatchError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


SAMPLES = 4 * 13


def take(feed: Feed, count: int) -> list[Batch]:
    return list(itertools.islice(feed, count))


def pictures_of(batches: list[Batch]) -> list[tuple[int, int]]:
    return [sample for batch in batches for sample in batch.samples]


def same(one: Batch, other: Batch) -> bool:
    tensors = ("images", "offsets", "classes")
    return one.samples == other.samples and all(torch.equal(getattr(one, t), getattr(other, t)) for t in tensors)


def test_a_batch_holds_pixels_and_sparse_classes(corpus: Corpus) -> None:
    (batch,) = take(Feed(corpus.source(train=False), rank=0, world=1, workers=0), 1)
    assert batch.images.shape == (4, 16, 16, 3)
    assert batch.images[:3, 8, 8].tolist() == [[200, 30, 30], [30, 200, 30], [30, 30, 200]]
    # Dog, cat, car, dog; cats are the rarest, so class 2.
    assert batch.offsets.tolist() == [0, 1, 2, 3, 4]
    assert batch.classes.tolist() == [0, 2, 1, 0]
    assert batch.samples == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_a_part_of_a_batch_keeps_its_own_classes(corpus: Corpus) -> None:
    (batch,) = take(Feed(corpus.source(train=False, batch_size=6), rank=0, world=1, workers=0), 1)
    images, offsets, classes = batch.part(1, 2)
    assert torch.equal(images, batch.images[3:])
    assert (offsets.tolist(), classes.tolist()) == ([0, 1, 1, 2], [0, 1])


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (3, 0), (1, 2)])
def test_an_epoch_sees_each_sample_once_whoever_reads(corpus: Corpus, world: int, workers: int) -> None:
    source = corpus.source(batch_size=1)
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(world):
        for batch in Feed(source, rank=rank, world=world, workers=workers):
            if batch.position[0] == 1:
                if workers == 0 or len(seen) == SAMPLES:
                    break
                continue  # the other worker is still in the first epoch
            seen.update(batch.samples)
    assert seen == Counter({(tar, index): 1 for tar in range(4) for index in range(13)})


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_sees_each_sample_once_and_ends(corpus: Corpus, workers: int) -> None:
    seen = pictures_of(list(Feed(corpus.source(train=False), rank=0, world=1, workers=workers)))
    assert sorted(seen) == [(tar, index) for tar in range(4) for index in range(13)]


def test_epochs_differ_in_order_and_in_crops(corpus: Corpus) -> None:
    seen = pictures_of(take(Feed(corpus.source(), rank=0, world=1, workers=0), 2 * SAMPLES // 4))
    first, second = seen[:SAMPLES], seen[SAMPLES:]
    assert sorted(first) == sorted(second)
    assert first != second


def test_one_process_and_two_fill_the_same_steps(corpus: Corpus) -> None:
    alone = take(Feed(corpus.source(batch_size=4), rank=0, world=1, workers=0), 3)
    pair = [take(Feed(corpus.source(batch_size=2), rank=rank, world=2, workers=0), 3) for rank in range(2)]
    for step in range(3):
        assert sorted(alone[step].samples) == sorted(pictures_of([pair[0][step], pair[1][step]]))


@pytest.fixture(scope="module")
def undisturbed(corpus: Corpus) -> list[Batch]:
    """Three epochs and a bit."""
    return take(Feed(corpus.source(), rank=0, world=1, workers=0), 42)


@pytest.mark.parametrize("stop", [0, 1, 6, 7, 12, 13, 14, 25, 26, 39])
def test_a_resumed_feed_continues_with_the_next_batch(corpus: Corpus, undisturbed: list[Batch], stop: int) -> None:
    # Groups are of 2 x 13 samples, batches of 4: these stops lie inside and at the end of groups and epochs.
    first = Feed(corpus.source(), rank=0, world=1, workers=0)
    take(first, stop)
    state = first.state([first.positions])
    second = take(Feed(corpus.source(), rank=0, world=1, workers=0, state=state), 3)
    assert all(map(same, undisturbed[stop:], second))


@pytest.mark.parametrize("stop", [3, 14])
def test_a_resumed_feed_of_two_workers_keeps_their_turn(corpus: Corpus, stop: int) -> None:
    undisturbed = take(Feed(corpus.source(), rank=0, world=1, workers=2), stop + 4)
    first = Feed(corpus.source(), rank=0, world=1, workers=2)
    take(first, stop)
    second = take(Feed(corpus.source(), rank=0, world=1, workers=2, state=first.state([first.positions])), 4)
    assert all(map(same, undisturbed[stop:], second))


@pytest.mark.parametrize(
    ("world", "workers", "message"),
    [(2, 0, "found 1 ranks; wanted the 2 ranks"), (1, 2, "found 0 workers; wanted the 2 workers")],
)
def test_another_number_of_readers_is_refused(corpus: Corpus, world: int, workers: int, message: str) -> None:
    feed = Feed(corpus.source(), rank=0, world=1, workers=0)
    with pytest.raises(MismatchError, match=message):
        Feed(corpus.source(), rank=0, world=world, workers=workers, state=feed.state([feed.positions]))


def test_other_tars_on_resume_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    feed = Feed(corpus.source(), rank=0, world=1, workers=0)
    fewer = make_corpus(tmp_path, tars=3).source()
    with pytest.raises(MismatchError, match="found a run over 4 training tars; wanted the 3 tars"):
        Feed(fewer, rank=0, world=1, workers=0, state=feed.state([feed.positions]))


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
def test_bad_samples_are_skipped_counted_and_named_once(tmp_path: Path, workers: int) -> None:
    batches = take(Feed(with_bad_samples(tmp_path), rank=0, world=1, workers=workers), 50)
    skipped = [bad for batch in batches for bad in batch.skipped]
    assert sorted(skipped, key=lambda bad: bad.key) == [
        Skipped("00000", "x0", "no_image"),
        Skipped("00000", "x1", "empty_image"),
        Skipped("00000", "x2", "not_an_image"),
        Skipped("00000", "x3", "decompression_bomb"),
        Skipped("00000", "x4", "truncated_tar"),
    ]
    bad = sum(batch.account.get("bad", 0) for batch in batches)
    assert bad >= 2 * len(skipped)  # counted in the second epoch too


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_samples_stop_the_run(tmp_path: Path, workers: int) -> None:
    corpus = make_corpus(tmp_path, tars=2, samples=40, extra={f"x{n}.png": b"" for n in range(30)})
    with pytest.raises(InputError, match=r"bad samples of 1\d\d \(the last one 00000/x\d+: empty_image\)"):
        take(Feed(corpus.source(), rank=0, world=1, workers=workers), 100)


def test_a_corpus_of_bad_samples_only_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    write_tar(tmp_path / "images" / "00000.tar", {f"{n}.png": b"" for n in range(5)})
    corpus = label(tmp_path, [("00000", str(n), [2084071]) for n in range(5)])
    with pytest.raises(InputError, match="found no usable sample for reader 0 of 1 in a whole epoch"):
        take(Feed(corpus.source(), rank=0, world=1, workers=0), 1)


def test_captions_without_a_noun_are_negatives_or_left_out(corpus: Corpus) -> None:
    kept = list(Feed(corpus.source(train=False), rank=0, world=1, workers=0))
    dropped = list(Feed(corpus.source(train=False, unlabelled="drop"), rank=0, world=1, workers=0))
    assert len(pictures_of(kept)) == 52
    assert len(pictures_of(dropped)) == 44
    for batches in (kept, dropped):
        assert sum(batch.account.get("unlabelled", 0) for batch in batches) == 8


def test_samples_without_a_row_are_left_out_and_counted(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tars=1, samples=4, extra={"stranger.png": picture()}, extra_labelled=False)
    source = corpus.source(train=False)
    stream = Stream(source, stream=0, streams=1)
    keys = [sample.key for _, sample, _, _ in stream.samples()]
    assert keys == ["000000000", "000000001", "000000002", "000000003"]
    assert stream.account == {"samples": 5, "unmatched": 1, "surplus_labels": 0}


def test_rows_whose_sample_the_tar_lacks_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "images" / "00000.tar", {"a.png": picture()})
    source = label(tmp_path, [("00000", "a", [2084071]), ("00000", "gone", [2084071])]).source(train=False)
    (batch,) = Feed(source, rank=0, world=1, workers=0)
    assert batch.account["surplus_labels"] == 1
