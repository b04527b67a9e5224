"""A run over tars in an object store: a real S3 server on the loopback, the cache, loaders as processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus import Corpus, command, losses, make_corpus
from tests.forks import Forks, trainer
from trainer.pretrain import pretrain
from trainer.records.record import read_results

pytest.importorskip("moto", reason="moto is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def store(corpus: Corpus) -> Iterator[dict[str, str]]:
    """The environment in which s3://images/train/*.tar are the corpus's tars."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    access = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=access["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="images")
    for tar in sorted(corpus.images.glob("*.tar")):
        client.upload_file(str(tar), "images", f"train/{tar.name}")
    client.close()
    yield access
    server.stop()


def trainer_with(environment: dict[str, str], words: list[str]) -> None:
    os.environ.update(environment)
    trainer(words)


@pytest.mark.slow
def test_a_run_over_an_object_store_is_the_run_over_local_files(
    forks: Forks, corpus: Corpus, store: dict[str, str], tmp_path: Path
) -> None:
    pretrain(corpus.config(tmp_path / "local"))
    # The cache holds three of the four small tars at most.
    limit = 3 * (corpus.images / "00000.tar").stat().st_size / 1e9
    remote = corpus.config(
        tmp_path / "remote", images=("s3://images/train/*.tar",), workers=2, cache=tmp_path / "cache", cache_gb=limit
    )
    forks.run(1, tmp_path / "log", trainer_with, store, command(remote))
    assert losses(tmp_path / "remote") == pytest.approx(losses(tmp_path / "local"), rel=1e-4)
    assert read_results(tmp_path / "remote").details["training_account"]["samples"] == 48
    held = sum(path.stat().st_size for path in (tmp_path / "cache" / "tars").rglob("*.tar*"))
    assert 0 < held <= limit * 1e9

    # The local run goes on over the object store, and the other one over local files.
    for out, places in (("local", ("s3://images/train/*.tar",)), ("remote", (str(corpus.images),))):
        config = corpus.config(tmp_path / out, images=places, steps=8, cache=tmp_path / "cache")
        forks.run(1, tmp_path / "log", trainer_with, store, command(config))
    assert losses(tmp_path / "remote")[6:] == pytest.approx(losses(tmp_path / "local")[6:], rel=1e-4)
    assert len(losses(tmp_path / "local")) == 8


def test_a_bucket_without_the_tar_is_named(forks: Forks, corpus: Corpus, store: dict[str, str], tmp_path: Path) -> None:
    config = corpus.config(tmp_path / "run", images=("s3://images/gone/{00000..00003}.tar",), cache=tmp_path / "cache")
    process = forks.start(1, tmp_path / "log", trainer_with, store, command(config))
    assert process.wait() == [2]
    assert process.said().startswith("error: s3://images/gone/0000")
    assert process.said().count("\n") == 1
