"""What is left out of a group, and what is bad in it: skipped, counted and named once."""

from __future__ import annotations

import itertools
import resource
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.batches import samples_of, take
from tests.corpus import Corpus, label, make_corpus
from tests.pictures import picture, write_tar
from trainer.data.batch import Skipped
from trainer.data.resolution import FixedResolution
from trainer.data.source import Source
from vocab.errors import InputError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


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
    dropped = take(corpus.source(unlabelled="drop"), 11)
    assert len(samples_of(kept)) == 52
    assert len(set(samples_of(dropped))) == 44
    for batches in (kept, dropped):
        assert sum(batch.account["unlabelled"] for batch in batches) == 8
        assert sum(batch.account["samples"] for batch in batches) == 52
    evaluated = take(corpus.source(train=False, unlabelled="drop"))
    assert samples_of(evaluated) == samples_of(kept)
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
