"""Braces: what they expand to, and that a slip of the keyboard does not eat the memory."""

from __future__ import annotations

import subprocess

import pytest

from vocab.errors import InputError
from vocab.store.file_names import expand_braces


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{9..11}.tar", ["9.tar", "10.tar", "11.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..10..4}", ["0", "4", "8"]),
        ("{a,b{0..1}}.tar", ["a.tar", "b0.tar", "a.tar", "b1.tar"]),
        ("a%20b%d{0..1}%s.tar", ["a%20b%d0%s.tar", "a%20b%d1%s.tar"]),
        ("{a}{}{.tar", ["{a}{}{.tar"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern: str, expanded: list[str]) -> None:
    assert list(expand_braces(pattern)) == expanded


def test_bash_gives_the_same_names() -> None:
    patterns = [
        "{00000..00012}.tar",
        "{0..010}",
        "{8..11..2}",
        "{5..1..3}",
        "x{a,,b}y",
        "{1..2}{03..1}",
        "{{a,b},{0..2}}",
    ]
    for pattern in patterns:
        echoed = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True).stdout
        assert set(expand_braces(pattern)) == set(echoed.split()), pattern


def test_lists_stay_where_only_ranges_expand() -> None:
    pattern = "cat {0..1}.tar | awk '{print $1, $2}'"
    assert list(expand_braces(pattern, only_ranges=True)) == [
        "cat 0.tar | awk '{print $1, $2}'",
        "cat 1.tar | awk '{print $1, $2}'",
    ]


@pytest.mark.parametrize(
    "pattern", ["{0..999999999}.tar", "{0..99999999999999999}", "{0..9999}/{0..9999}.tar", "{a,b}" * 64]
)
def test_too_many_names_are_refused_before_they_are_made(pattern: str) -> None:
    with pytest.raises(InputError, match="more than 10,000,000 names"):
        next(expand_braces(pattern))


def test_nested_braces_are_counted_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocab.store.file_names.MAX_NAMES", 10)
    with pytest.raises(InputError, match="more than 10 names"):
        list(expand_braces("{a,b,c{0..5}}"))
