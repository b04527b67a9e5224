"""SemCor's sentences, one JSON object a line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vocab.errors import FormatError, InputError
from vocab.fit.semcor import SenseToken, Sentence, read_semcor

LINES = (
    '{"doc": "br-a01", "tokens": [{"w": "primary_election", "pos": "NN", "lemma": "primary_election", "wnsn": "1"},'
    ' {"w": "."}]}\n'
    '{"doc": "br-a02", "tokens": [{"w": "dogs", "pos": "NN", "lemma": "dog", "wnsn": "1;2"},'
    ' {"w": "cats", "pos": "NN", "lemma": "cat", "wnsn": "0"}, {"w": "it", "pos": "PRP", "lemma": "it", "wnsn": ""}]}\n'
)
SENTENCES = [
    Sentence(
        "br-a01", (SenseToken("primary_election", "NN", "primary_election", (1,)), SenseToken(".", None, None, ()))
    ),
    Sentence(
        "br-a02",
        (
            SenseToken("dogs", "NN", "dog", (1, 2)),
            SenseToken("cats", "NN", "cat", ()),
            SenseToken("it", "PRP", "it", ()),
        ),
    ),
]


def test_sentences_are_read_with_all_senses_that_were_tagged(tmp_path: Path) -> None:
    path = tmp_path / "semcor.jsonl"
    path.write_text(LINES)
    assert list(read_semcor(path)) == SENTENCES


def test_a_gzipped_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "semcor.jsonl.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    assert list(read_semcor(path)) == SENTENCES


@pytest.mark.parametrize(
    "bad",
    [
        "no json",
        "",
        "[]",
        "7",
        '{"doc": "a"}',
        '{"tokens": []}',
        '{"doc": "a", "tokens": [{"pos": "NN"}]}',
        '{"doc": "a", "tokens": [{"w": "dog", "wnsn": "one"}]}',
        '{"doc": "a", "tokens": [{"w": "dog", "wnsn": 1}]}',
    ],
)
def test_a_line_that_is_no_sentence_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "semcor.jsonl"
    path.write_text(LINES + bad + "\n")
    with pytest.raises(FormatError, match=r"semcor\.jsonl:3: found .*one JSON object per line"):
        list(read_semcor(path))


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: found no such file.*SemCor 3\.0"):
        list(read_semcor(tmp_path / "none.jsonl"))
