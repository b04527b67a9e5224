"""Captions that were tagged by hand: a letter for each word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vocab.errors import FormatError, InputError
from vocab.fit.captions import read_captions, sentence


def tagged(caption: str, tags: str) -> str:
    return " ".join(f"{token.form}/{token.upos}" for token in sentence(caption, tags))


def test_each_letter_is_a_part_of_speech() -> None:
    assert tagged("Watch Max the black dog", "VP.AN") == "Watch/VERB Max/PROPN the/_ black/ADJ dog/NOUN"
    assert tagged("the dog", "ON") == "the/X dog/NOUN"


def test_signs_are_pieces_without_a_tag_and_take_no_letter() -> None:
    assert tagged("a dog's ball, 2 cats!", "ONONON") == "a/X dog/NOUN '/_ s/X ball/NOUN ,/_ 2/X cats/NOUN !/_"


def test_letters_count_the_words_of_the_cleaned_caption() -> None:
    assert tagged("<b>caf\u00e9</b>&amp;bar", "NN") == "cafe/NOUN &/_ bar/NOUN"
    assert tagged("a dog http://dogs.com/dog.jpg", "ON") == "a/X dog/NOUN"
    assert tagged("", "") == ""


def test_what_is_followed_by_a_space_is_known() -> None:
    assert [token.space_after for token in sentence("a dog, cat", "ONN")] == [True, False, True, False]


@pytest.mark.parametrize(
    ("tags", "said"), [("O", "1 letters for 2 words"), ("ONN", "3 letters for 2 words"), ("", "0 letters for 2 words")]
)
def test_more_or_fewer_letters_than_words_are_an_error(tags: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sentence("a dog", tags)


def test_a_letter_that_is_no_tag_is_an_error() -> None:
    with pytest.raises(KeyError):
        sentence("a dog", "OX")


def write(file: Path, *records: object) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


def test_a_file_has_one_caption_a_line(tmp_path: Path) -> None:
    file = write(tmp_path / "tagged.jsonl", {"caption": "a dog", "tags": "ON"}, {"caption": "Paris", "tags": "P"})
    assert [[token.upos for token in words] for words in read_captions(file).tagged] == [["X", "NOUN"], ["PROPN"]]


def test_a_caption_without_letters_is_plain_text(tmp_path: Path) -> None:
    file = write(tmp_path / "tagged.jsonl", {"caption": "a dog", "tags": "ON"}, {"caption": "a cat"})
    found = read_captions(file)
    assert (len(found.tagged), found.texts) == (1, ["a cat"])


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"caption": "a dog", "tags": "N"}, "ValueError: 1 letters for 2 words"),
        ({"caption": "a dog", "tags": "ZN"}, "KeyError: 'Z'"),
        ({"tags": "ON"}, "KeyError: 'caption'"),
        (["a dog", "ON"], "TypeError"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(tmp_path: Path, record: object, said: str) -> None:
    file = write(tmp_path / "tagged.jsonl", {"caption": "a dog", "tags": "ON"}, record)
    with pytest.raises(FormatError) as error:
        read_captions(file)
    assert error.value.thing == f"{file}:2"
    assert error.value.found.startswith(said)


def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no such file.*python -m benchmarks\.labelling\.tagged_captions"):
        read_captions(tmp_path / "tagged.jsonl")
