"""Strangers' text: nothing that people are shown holds a sign that hides, turns directions or commands a terminal."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.__main__ import main as pipeline_main
from tests.run_page import html
from trainer.__main__ import main as trainer_main
from vocab.errors import InputError, run_cli
from vocab.pages.page import brief, environment, render, stranger
from vocab.pages.tables import in_markdown, terminal_table
from vocab.pages.text import counted, duration, listed, shown, tell

ROOT = Path(__file__).parent.parent
EVIL = "\x1b]0;PWNED\x07\x00\x9b2J\x7f\r\u202egnp\u2066\u200f\u200b\u2028\ufeff\U000e0041\ud800\udcff"
KINDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
SEEN = "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""joiners of emoji, and signs of the format category that are drawn: the number signs of Arabic, Syriac and Kaithi"""


def hidden_in(text: str) -> set[str]:
    """Signs of Unicode's control, format and surrogate categories in a text, but for those that are seen."""
    return {sign for sign in text if unicodedata.category(sign) in KINDS} - set(SEEN)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\x1b[2Jb\t\n\r\x85", r"a\x1b[2Jb\t\n\r\x85"),
        ("gnp\u202eexe \u2066\u2069\u200e\u200f\u061c", r"gnp\u202eexe \u2066\u2069\u200e\u200f\u061c"),
        ("a\u200bb\ufeff\u2060\xad\u2028\u2029", r"a\u200bb\ufeff\u2060\xad\u2028\u2029"),
        ("\U000e0041\U000e007f\u3164", r"\U000e0041\U000e007f\u3164"),
        (f"\ud800 {os.fsdecode(bytes([255]))}", r"\ud800 \xff"),
        ("k\u200dey \u200c", r"k\u200dey \u200c"),
        *((text, text) for text in ("caf\xe9", "\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e", "C:\\x1b")),
    ],
)  # fmt: skip
def test_what_would_be_hidden_is_written_out(text: str, wanted: str) -> None:
    assert shown(text) == wanted
    assert shown(wanted) == wanted


def test_every_hidden_sign_of_unicode_is_written_out() -> None:
    assert not hidden_in(shown("".join(map(chr, range(sys.maxunicode + 1)))))


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_no_text_keeps_a_hidden_sign_and_every_text_can_be_written(text: str) -> None:
    assert not hidden_in(shown(text))
    assert hidden_in(shown(text, lines=True)) <= {"\t", "\n"}
    brief(text).encode()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    tell(text, to=stream)


def test_long_text_is_cut() -> None:
    assert shown("x" * 5, longest=5) == "xxxxx"
    assert shown("x" * 6, longest=5) == "xxxx…"
    assert len(str(InputError("a" * 1_000_000, found="b", wanted="c", remedy="d"))) < 5_000


def test_one_thing_is_not_called_several() -> None:
    uncounted = re.compile(r"(?<!of )\{[^{}]*:,\} (classes|processes)\b")
    sources = [path for room in ("vocab", "pipeline", "trainer") for path in (ROOT / room).rglob("*.py")]
    lines = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if uncounted.search(line) and "> 1]" not in line] == []
    assert [counted(number, "image") for number in (0, 1, 1000)] == ["0 images", "1 image", "1,000 images"]
    assert [counted(number, "class has none", "classes have none") for number in (1, 2)] == [
        "1 class has none",
        "2 classes have none",
    ]


def test_a_list_of_many_names_ends_with_how_many_more() -> None:
    assert listed(list("abcde")) == "a, b, c, d, e"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_durations_read_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (5.0, 245.0, 4320.0, 183_600.0)] == [
        "0 min 5 s",
        "4 min 5 s",
        "1 h 12 min",
        "2 d 3 h",
    ]


@pytest.mark.parametrize(
    "text",
    [
        str(InputError(EVIL, found=EVIL, wanted=EVIL, remedy=EVIL)),
        listed([EVIL]),
        "".join(terminal_table([("n", "name"), (1, EVIL)])),
        in_markdown(EVIL),
        brief(EVIL),
        stranger(EVIL),
        environment().from_string('<p title="{{ text }}">{{ text }}').render(text=EVIL),
    ],
)
def test_no_part_of_a_message_a_table_or_a_page_hides_anything(text: str) -> None:
    assert not hidden_in(text)


@pytest.mark.parametrize(
    "page",
    [
        html(EVIL, EVIL),
        render("vocab/pages/base.html", title=EVIL),
    ],
    ids=["a run's page", "an empty page"],
)
def test_no_page_hides_anything(page: str) -> None:
    assert hidden_in(page) <= {"\n"}
    assert page.encode()


# What a command line cannot hold is left out.
ESC = EVIL.replace("\x00", "").replace("\ud800", "")
COMMANDS = {
    "explain": ["pipeline", "explain", f"{ESC} a dog"],
    "label": ["pipeline", "label", "--captions", f"nowhere{ESC}", "--out", "l"],
    "prune": ["pipeline", "prune", "--labels", f"nowhere{ESC}", "--out", "v"],
    "report": ["pipeline", "report", "--labels", f"nowhere{ESC}", "--out", "r"],
    "check": ["pipeline", "check", "--labels", f"nowhere{ESC}", "--images", f"nowhere{ESC}"],
    "feed": ["trainer", "feed", "--images", f"nowhere{ESC}.tar", "--labels", "l", "--vocabulary", f"v{ESC}"],
    "export": ["trainer", "export", f"nowhere{ESC}", "--out", "e"],
    "import": ["trainer", "import", f"nowhere{ESC}", "--vocabulary", "v", "--out", "e"],
    "probe": ["trainer", "probe", f"nowhere{ESC}", "--task.train", "a", "--task.test", "b", "--out", "o"],
    "zeroshot": ["trainer", "zeroshot", f"nowhere{ESC}", "--task.test", "b", "--out", "o"],
    "finetune": ["trainer", "finetune", f"nowhere{ESC}", "--task.train", "a", "--task.test", "b", "--out", "o"],
    "transfer": ["trainer", "transfer", "m", "--tasks", f"nowhere{ESC}", "--out", "o"],
    "a recipe": ["trainer", "pretrain", f"nowhere{ESC}.py"],
    "a name of a recipe": ["trainer", "plan", f"nowhere{ESC}"],
    "a verb": ["trainer", ESC],
}  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_no_verb_prints_what_a_stranger_hid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    with contextlib.suppress(SystemExit):
        run_cli(pipeline_main if words[0] == "pipeline" else trainer_main)
    said = "".join(capsys.readouterr())
    assert "\\x1b" in said
    assert hidden_in(said) <= {"\n", "\t"}


def test_what_the_system_refuses_is_written_out_too(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied", EVIL)

    with pytest.raises(SystemExit):
        run_cli(refused)
    assert hidden_in(capsys.readouterr().err) == {"\n"}


# Lines of our own words and numbers alone: usage, bars that go back to the line's start.
RAW = re.compile(r"sys\.std(out|err)\.write\((?!USAGE)|print\(")
OWN_LINES = {"progress.py", "errors.py", "text.py", "rooms.py"}


def test_programs_write_to_terminals_and_pages_through_one_place() -> None:
    strays = []
    for room in ("vocab", "pipeline", "trainer"):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                # The whole call is spelt only where its function writes.
                writes = (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
                    and RAW.match(ast.unparse(node))
                )
                if writes and path.name not in OWN_LINES:
                    strays.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
                if isinstance(node, ast.ImportFrom) and node.module == "html":
                    strays.append(f"{path.relative_to(ROOT)}:{node.lineno}: html.{node.names[0].name}")
    assert strays == []
