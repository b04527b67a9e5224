"""`python -m trainer feed`: it says how fast, what limits, and what was left out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.corpus import Corpus, make_corpus
from trainer.config import DataConfig
from trainer.data.batch import Meter
from trainer.feeding import Speed, feed
from trainer.verb_config import FeedConfig
from vocab.errors import FormatError, InputError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), extra={"bad.png": b"no picture"})


def options(corpus: Corpus, **changes: object) -> FeedConfig:
    data = {
        "images": (str(corpus.images),),
        "labels": str(corpus.labels),
        "holdout_shards": 0,
        "batch_size": 8,
        "image_size": 16,
        "workers": 0,
        "cache": corpus.images.parent / "cache",
    }
    return FeedConfig(data=DataConfig(**(data | changes)), seconds=0.3)  # type: ignore[arg-type]


def test_the_last_line_is_json_and_the_others_are_for_people(corpus: Corpus) -> None:
    *lines, last = feed(options(corpus))
    numbers = json.loads(last)
    assert set(numbers) == set(
        "images_per_second limited_by cores_for_gpu_rate first_batch_seconds read_mb_per_second decode_ms_per_image "
        "data_wait_share shares account".split()
    )
    assert sum(numbers["shares"].values()) == pytest.approx(1, abs=0.01)
    assert numbers["account"]["unlabelled"] > 0
    text = "\n".join(lines)
    assert "limited by: " in text
    assert "4,500 images/s need about" in text
    assert "  bad: 00000/bad: not_an_image" in text


def test_too_many_bad_samples_are_named_where_no_run_writes_them_down(tmp_path: Path) -> None:
    bad = {f"bad{number}.png": b"no picture" for number in range(9)}
    corpus = make_corpus(tmp_path, extra=bad | {"bad9.txt": b"no image"})
    message = (
        r"found \d+ bad samples of \d+, for example (00000/bad\d: (not_an_image|no_image)(, |;)){3} wanted at most 0%"
    )
    with pytest.raises(InputError, match=message):
        feed(replace(options(corpus, max_bad_share=0.0), seconds=60.0))


def test_the_command_runs_with_loaders_and_without_a_vocabulary(corpus: Corpus) -> None:
    words = "--image-size 16 --batch-size 8 --workers 1 --holdout-shards 0 --seconds 0.3".split()
    places = [
        "--images",
        str(corpus.images),
        "--labels",
        str(corpus.labels),
        "--cache",
        str(corpus.images.parent / "c"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "feed", *places, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["images_per_second"] > 0
    assert "from 1 process\n" in done.stdout


def test_what_takes_most_of_the_time_is_the_limit() -> None:
    meter = Meter(
        images=100,
        decode_seconds=6.0,
        read_seconds=1.0,
        open_seconds=1.0,
        busy_seconds=9.0,
        idle_seconds=1.0,
        cpu_seconds=8.0,
    )
    speed = Speed(100, 10.0, 0.1, 0.0, meter, {}, [])
    assert speed.limit == "decoding"
    assert speed.shares == {
        "decoding": 0.6,
        "reading": 0.1,
        "opening tars": 0.1,
        "waiting for a free buffer": 0.1,
        "the rest": pytest.approx(0.1),
    }
    # 80 ms of a core for each image.
    assert speed.cores_for(4500.0) == pytest.approx(360)


@pytest.mark.parametrize("name", ["batch_size", "image_size", "shuffle_shards", "prefetch"])
def test_a_number_that_cannot_work_is_refused_as_in_a_run(corpus: Corpus, name: str) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: found 0; wanted more than 0"):
        feed(options(corpus, **{name: 0}))


def test_what_is_not_there_is_named(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--images: found nothing"):
        feed(FeedConfig())
    with pytest.raises(InputError, match=r"nowhere\.tar: found no such file"):
        feed(options(corpus, images=("nowhere.tar",)))
    with pytest.raises(FormatError, match="wanted a finished label directory"):
        feed(options(corpus, labels=str(tmp_path)))
