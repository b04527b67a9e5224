"""Secrets: passwords, signatures and commands are left out wherever a location stands, and nothing else is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.errors import InputError, sentence_of
from vocab.pages.text import tell
from vocab.store.secrets import public, without_secrets

SHOWN = {
    # users and passwords
    "https://me:word@host/0.tar": "https://host/0.tar",
    "https://me:word@[::1]:80/0.tar?sig=1": "https://[::1]:80/0.tar?...",
    "s3://KEY:SECRET@bucket/{00..99}.tar": "s3://bucket/{00..99}.tar",
    "s3://KEY:SEC/RET+x=@bucket/0.tar": "s3://bucket/0.tar",
    "S3A://KEY:SECRET@bucket": "S3A://bucket",
    "hdfs://me@namenode:8020/a": "hdfs://namenode:8020/a",
    "s3:/KEY:SECRET@bucket/0.tar": "s3:/bucket/0.tar",
    "filecache::s3://KEY:SECRET@bucket/0.tar": "filecache::s3://bucket/0.tar",
    "abfs://container@account.dfs.core.windows.net/a": "abfs://container@account.dfs.core.windows.net/a",
    "abfss://container:WORD@account.dfs.core.windows.net/a": "abfss://container@account.dfs.core.windows.net/a",
    "abfs://:WORD@account.blob.core.windows.net/a": "abfs://account.blob.core.windows.net/a",
    # signatures
    "https://host/0.tar?X-Amz-Credential=K&X-Amz-Signature=abc": "https://host/0.tar?...",
    "http://host/0.tar?Signature=a&AWSAccessKeyId=b": "http://host/0.tar?...",
    "https://account.blob.core.windows.net/c/0.tar?sv=2022&sig=abc%3D": "https://account.blob.core.windows.net/c/0.tar?...",
    "https://host/0.tar#token=abc": "https://host/0.tar?...",
    "hdfs://host/0.tar?version=3&token=abc": "hdfs://host/0.tar?version=3&token=...",
    "s3://bucket/in?region=eu-west-1&secret_key=abc": "s3://bucket/in?region=eu-west-1&secret_key=...",
    "gs://bucket/0.tar?sig=abc&generation=4": "gs://bucket/0.tar?sig=...&generation=4",
    # commands, and several in one word
    "pipe:curl -H 'Token: abc' https://h/0.tar": "pipe:...",
    "pipe: aws s3 cp s3://b/0.tar -\n| cat": "pipe:...",
    "--images=pipe:aws s3 cp s3://b/0.tar -": "--images=pipe:...",
    "https://me:word@h/l?sig=1::pipe:cat x": "https://h/l?...::pipe:...",
    "--images=https://h/0.tar?sig=1": "--images=https://h/0.tar?...",
    "https://h/0.tar?sig=1::https://me:word@h/labels": "https://h/0.tar?...::https://h/labels",
    # sentences
    "no tar (https://me:word@h/0.tar?sig=1), twice": "no tar (https://h/0.tar?...), twice",
    "shard '0' of s3://K:S@b/0.tar, which s3://K:S@b/1.tar has": "shard '0' of s3://b/0.tar, which s3://b/1.tar has",
    "tars ['pipe:curl -u me:word h', 'x']\nand 2 more": "tars ['pipe:...\nand 2 more",
}
KEPT = [
    "s3://bucket/a@b/0.tar",
    "s3://bucket/0.tar?versionId=4",
    "https://host:8080/a@b/0.tar",
    "hdfs://namenode:8020/a@b",
    "/data/pipe:line/0.tar",
    "a broken pipe: the reader is gone",
    "images::labels",
    "--peak-lr",
    "me@example.org",
    "file:/a@b/0.tar",
    "found:/a@b",
    "https://host/0.tar?...",
    "pipe:...",
    "s3://{00..99}/x",
]


@pytest.mark.parametrize(("text", "shown"), [*SHOWN.items(), *((text, text) for text in KEPT)])
def test_secrets_are_left_out_wherever_they_stand_and_nothing_else_is(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@given(st.text(alphabet="a:/@?#=&.[]'() \npipeshtp3", max_size=40), st.sampled_from(["", "s3://", "https://", "pipe:"]))
def test_leaving_secrets_out_twice_changes_nothing(text: str, scheme: str) -> None:
    once = without_secrets(scheme + text)
    assert without_secrets(once) == once


@pytest.mark.parametrize("text", ["a" * 300_000 + "://", "s3" * 150_000 + ":/", "s3://" + "[" * 300_000])
def test_long_text_of_strangers_costs_no_time(text: str) -> None:
    before = time.process_time()
    assert without_secrets(text) == text
    assert time.process_time() - before < 5


def test_a_configuration_is_hidden_at_any_depth() -> None:
    given = {"data": {"images": ("https://u:p@h/0.tar",), "seed": 3, "flip": True}, "out": Path("runs/a"), "none": None}
    assert public(given) == {
        "data": {"images": ["https://h/0.tar"], "seed": 3, "flip": True},
        "out": "runs/a",
        "none": None,
    }


@pytest.mark.parametrize("text", [text for text in SHOWN if "\n" not in text])
def test_no_message_shows_a_secret(text: str) -> None:
    error = InputError(text, found=text, wanted=text, remedy=text)
    assert error.thing == error.found == error.wanted == error.remedy == SHOWN[text]
    said = sentence_of(FileNotFoundError(2, "No such file", text))
    assert said is not None
    assert not any(secret in said for secret in ("word", "SECRET", "SEC/RET", "abc"))


def test_lines_for_a_terminal_hold_no_secret_and_captions_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "s3://KEY:SECRET@bucket/labels: 3 rows\npipe:curl -u me:word h\nas before\n"
    tell(text)
    assert capsys.readouterr().err == "s3://bucket/labels: 3 rows\npipe:...\nas before\n"
    tell("see https://host/a?dog=1\n", has_captions=True)
    assert capsys.readouterr().err == "see https://host/a?dog=1\n"
