"""What errors say, and what they leave out."""

from __future__ import annotations

import pickle

import pytest

from vocab.errors import InputError

SECRET = "https://jane:s3cr3t@host/{00..99}.tar"
SHOWN = "https://host/{00..99}.tar"


def test_an_error_says_four_things() -> None:
    error = InputError("--images", found="a.txt", wanted="a tar", remedy="Name one.")
    assert str(error) == "--images: found a.txt; wanted a tar. Name one."


@pytest.mark.parametrize("part", ["thing", "found", "wanted", "remedy"])
def test_no_part_of_an_error_has_the_password_of_an_address(part: str) -> None:
    parts = {"thing": "a", "found": "b", "wanted": "c", "remedy": "d"} | {part: f"--images {SECRET} is"}
    error = InputError(parts["thing"], found=parts["found"], wanted=parts["wanted"], remedy=parts["remedy"])
    assert getattr(error, part) == f"--images {SHOWN} is"
    for shown in (str(error), str(pickle.loads(pickle.dumps(error)))):  # noqa: S301 - as it comes from other processes
        assert SHOWN in shown
        assert "s3cr3t" not in shown


@pytest.mark.parametrize("text", ["a@b", "https://host/a@b.tar", "who@host: //x", "memory://"])
def test_other_signs_stay(text: str) -> None:
    assert InputError("x", found=text, wanted="y", remedy="z").found == text
