"""Help is shown in whole paragraphs, whatever the line breaks of the source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from tests.processes import cli
from vocab.command_line import joined, plain_help


@dataclass(frozen=True)
class Inner:
    """Options of a part."""

    size: int = 3
    """pixels of a side,
    which are squares"""


@dataclass(frozen=True)
class Options:
    """Options of a verb."""

    source: str
    """file to read, in a line that is
    broken in the source

    and a second paragraph"""
    column: str | None = None
    """column of the key"""
    names: tuple[str, ...] = ()
    """names of the columns"""
    folder: Path | None = None
    """folder to keep"""
    steps: Annotated[int, "more than 0"] | None = None
    """number of steps"""
    images: Annotated[tuple[str, ...], "required"] = ()
    """tars with images"""
    rate: float = 0.5
    """share"""
    inner: Inner = field(default_factory=Inner)


def help_of(kind: type[object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "200")
    with plain_help(), pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"])
    return [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]


def test_an_options_help_is_one_paragraph(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "\n".join(" ".join(line.split()) for line in help_of(Options, capsys, monkeypatch))
    assert "file to read, in a line that is broken in the source\n" in shown
    assert "pixels of a side, which are squares (default: 3)" in shown


def test_an_option_that_may_be_left_out_is_called_optional(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "\n".join(" ".join(line.split()) for line in help_of(Options, capsys, monkeypatch))
    assert "--column STR column of the key (optional)" in shown
    assert "--names [STR [STR ...]] names of the columns (optional)" in shown
    assert "--folder PATH folder to keep (optional)" in shown
    assert "--rate FLOAT share (default: 0.5)" in shown
    assert "None" not in shown


def test_an_option_that_must_be_given_is_called_required_though_its_field_has_a_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "\n".join(" ".join(line.split()) for line in help_of(Options, capsys, monkeypatch))
    assert "--images [STR [STR ...]] tars with images (required)" in shown
    assert "--steps INT number of steps (optional)" in shown


def test_options_are_read_as_without_plain_help() -> None:
    for words in (
        ["--source", "a"],
        ["--source", "a", "--column", "None", "--names", "b", "c", "--folder", "None", "--inner.size", "4"],
        ["--source", "", "--column", "b", "--folder", "d", "--rate", "1"],
    ):
        with plain_help():
            options = tyro.cli(Options, args=words)
        assert options == tyro.cli(Options, args=words)


def test_paragraphs_of_a_text_are_kept_apart() -> None:
    assert joined("a\n    b c\n\n    d\n    e") == "a b c\n\n    d e"
    assert joined(None) is None


@pytest.mark.parametrize("room", ["vocab", "pipeline"])
def test_a_rooms_help_lists_each_verb_once(room: str) -> None:
    shown = cli("--help", room=room).stdout
    assert "python -m" not in shown.partition("\n")[2]
    assert shown.count("•") >= 3
