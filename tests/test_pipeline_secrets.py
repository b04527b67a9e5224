"""Keys of an object store in URIs: nothing written holds them, and a file is the same file with another key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark", reason="the pipeline extra is not installed")

import pipeline.run
from pipeline.align.story import run_align
from pipeline.check import run_check
from pipeline.config import Align, Check, Label, Verify
from pipeline.run import label_captions, look_before
from pipeline.verify import run_verify
from tests.pictures import write_tar
from tests.servers import s3_server
from vocab.errors import MismatchError
from vocab.labelers import load_labeler
from vocab.store.label_shards import LabelShards
from vocab.store.manifest import InputFile

FILES = ("corpus/a.parquet", "corpus/b.parquet")
PLAIN = [f"s3://keys/{name}" for name in FILES]


class StoppedError(BaseException):
    """Error that ends a run between its tasks and its manifest."""


@pytest.fixture(scope="module")
def server(spark: Any) -> Iterator[None]:
    """An S3 server for all tests here: for another one, Spark would start other workers."""
    with pytest.MonkeyPatch.context() as patch, s3_server(patch):
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            # Spark's workers get the environment of its Java process, which is older than the server.
            patch.setitem(spark.sparkContext.environment, name, os.environ[name])
        yield


@pytest.fixture
def store(server: None) -> Iterator[Any]:
    import boto3

    client = boto3.client("s3")
    # A bucket of these tests' own: the server's objects live as long as the process.
    client.create_bucket(Bucket="keys")
    for name in FILES:
        put(client, name, f"a dog of {name}")
    yield client
    for found in client.list_objects_v2(Bucket="keys").get("Contents", []):
        client.delete_object(Bucket="keys", Key=found["Key"])
    client.delete_bucket(Bucket="keys")
    client.close()


def put(client: Any, name: str, caption: str) -> None:
    sink = pa.BufferOutputStream()
    table = {"uid": [f"{name}{i}" for i in range(3)], "caption": [caption, "a cat", "of the"], "s": ["all"] * 3}
    pq.write_table(pa.table(table), sink)
    client.put_object(Bucket="keys", Key=name, Body=sink.getvalue().to_pybytes())


def options(word: str, out: Path, **others: Any) -> Label:
    captions = (f"s3://KEY:{word}@keys/corpus",)
    return Label(captions, str(out), key_column="uid", shard_column="s", same_key="union", task_bytes=1, **others)


def held(folder: Path) -> str:
    """Everything in the files of a folder as one text; Parquet uncompressed."""
    found = ""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found += str(pq.read_table(path).to_pydict() if path.suffix == ".parquet" else path.read_text())
    return found


def test_a_job_that_was_stopped_goes_on_with_another_key_and_writes_none(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: Any
) -> None:
    out = tmp_path / "labels"

    def stop(*_: object, **__: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.run, "put_in_order", stop)
        with pytest.raises(StoppedError):
            label_captions(spark, options("FIRST", out))
    # The task of the second file is done again, with a key that the plan does not hold.
    (out / "_job" / "task-00001.json").unlink()
    assert "FIRST" not in held(out)
    assert PLAIN[1] in held(out)
    manifest = label_captions(spark, options("SECOND", out))
    assert [(file.public_path, file.rows, file.labelled) for file in manifest.inputs] == [
        (path, 3, 2) for path in PLAIN
    ]
    labels = LabelShards.open(out)
    assert [file.path for file in labels.manifest.inputs] == PLAIN
    assert len(labels.read_all()) == 6
    assert not re.search("FIRST|SECOND|KEY", held(out))


def test_the_same_files_with_another_key_extend_nothing_and_new_ones_do(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], spark: Any
) -> None:
    out = tmp_path / "labels"
    label_captions(spark, options("FIRST", out))
    before = (out / "manifest.json").read_bytes()
    assert look_before(options("SECOND", out, extend=True)) is not None
    assert (out / "manifest.json").read_bytes() == before
    assert "nothing new: the directory holds every input file given (2)" in capsys.readouterr().err
    put(store, "corpus/c.parquet", "a dog and a car")
    manifest = label_captions(spark, options("THIRD", out, extend=True))
    assert [file.public_path for file in manifest.inputs] == [*PLAIN, "s3://keys/corpus/c.parquet"]
    put(store, "corpus/a.parquet", "another number of dogs and of words")
    with pytest.raises(MismatchError, match=r"^s3://keys/corpus/a\.parquet: found [0-9,]+ bytes") as changed:
        label_captions(spark, options("FOURTH", out, extend=True))
    assert "FOURTH" not in str(changed.value)
    assert not re.search("FIRST|SECOND|THIRD|KEY", held(out))


def test_reports_of_other_verbs_hold_no_key(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: Any
) -> None:
    for module in ("check", "align.story"):
        monkeypatch.setattr(f"pipeline.{module}.spark_session", lambda *_, **__: nullcontext(spark))
    labels = tmp_path / "labels"
    label_captions(spark, options("FIRST", labels))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"uid": ["corpus/a.parquet0"], "key": ["000"], "status": ["success"]}), sink)
    store.put_object(Bucket="keys", Key="shards/00000.parquet", Body=sink.getvalue().to_pybytes())
    write_tar(tmp_path / "00000.tar", {"000.jpg": b"x"})
    store.upload_file(str(tmp_path / "00000.tar"), "keys", "shards/00000.tar")
    images = ("s3://KEY:WORD@keys/shards",)
    aligned = tmp_path / "aligned"
    run_align(Align(str(labels), images, "uid", str(aligned)))
    assert [file.path for file in LabelShards.open(aligned).manifest.inputs] == ["s3://keys/shards/00000.parquet"]
    run_check(Check(str(aligned), ("s3://KEY:WORD@keys/shards/*.tar",), out=tmp_path / "check.json"))
    report = json.loads((tmp_path / "check.json").read_text())
    assert report["config"]["images"] == ["s3://keys/shards/*.tar"]
    assert [tar["tar"] for tar in report["tars"]] == ["s3://keys/shards/00000.tar"]
    captions = ("s3://KEY:WORD@keys/corpus",)
    monkeypatch.setattr("pipeline.verify.load_labeler", lambda *_, **__: load_labeler("catlip"))
    run_verify(Verify(captions, out=tmp_path / "verify.json", sample=2))
    assert "s3://keys/corpus" in json.loads((tmp_path / "verify.json").read_text())["config"]["captions"]
    (tmp_path / "00000.tar").unlink()
    assert not re.search("WORD|FIRST", held(tmp_path))


def test_a_file_is_known_by_its_path_without_the_key() -> None:
    assert InputFile("s3://KEY:WORD@b/a.tsv", 1, "now").public_path == "s3://b/a.tsv"
