"""Help of every program, verb and recipe at 80 columns, and one line for a misspelt verb or option."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from typing import get_type_hints

import pytest

pytest.importorskip("torch", reason="the trainer extra is not installed")

import pipeline.__main__
import pipeline.config
import trainer.__main__
import vocab.__main__
from vocab.errors import InputError

MAINS = {"vocab": vocab.__main__.main, "pipeline": pipeline.__main__.main, "trainer": trainer.__main__.main}
VERBS = {
    "vocab": ["build", "fit-tagger", "fit-senses", "mark-depictable"],
    "pipeline": ["label", "prune", "report", "explain", "check", "align", "verify", "sample"],
    "trainer": [*trainer.__main__.VERBS],
}
WITH_RECIPE = ("pretrain", "plan")
PAGES = [
    *([room] for room in VERBS),
    *([room, verb] for room, verbs in VERBS.items() for verb in verbs),
    *(["trainer", verb, recipe] for verb in WITH_RECIPE for recipe in trainer.__main__.RECIPES),
]
UGLY = r"\(default: *\)|\bNone\b|\bSTR\b|\[\[|[│╭`]|\bunset\b|\(optional\)|: \("


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def call(monkeypatch: pytest.MonkeyPatch, room: str, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [room, *words])
    MAINS[room]()


def heads(page: str) -> Iterator[tuple[str, str]]:
    """Options of a page, each with the text under it."""
    for option in re.split(r"\n  (?=\S)", page)[1:]:
        head, text = re.split(r"\n {6}(?=\S)", option.partition("\n\n")[0], maxsplit=1)
        yield " ".join(head.split()), " ".join(text.split())


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_help_reads_well_at_80_columns(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, *page, "--help")
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m {' '.join(page)} ")
    assert max(map(len, said.splitlines())) <= 80
    assert [line for line in said.splitlines() if line != line.rstrip()] == []
    found = re.search(UGLY, said)
    assert found is None, found


@pytest.mark.parametrize("page", [page for page in PAGES if len(page) == 3 or page[-1] not in (*WITH_RECIPE, *VERBS)])
def test_options_have_a_text_and_required_ones_come_first_and_say_so(
    page: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, *page, "--help")
    said = capsys.readouterr().out
    usage = " ".join(said.partition("\n\n")[0].split())
    options = dict(heads(said))
    required = [head for head, text in options.items() if text.endswith("(required)") or "(required) " in text]
    assert required == [*options][: len(required)]
    assert " ".join([f"usage: python -m {' '.join(page)}", *required]) == usage.removesuffix(" [options]")
    texts = {
        head: re.sub(r" \((required|default: .*?)\)", "", text).removesuffix("...") for head, text in options.items()
    }
    assert [head for head, text in texts.items() if len(text) < 3] == []
    assert [head for head, text in texts.items() if text.endswith(".")] == []


@pytest.mark.parametrize(("room", "verb"), [(room, verb) for room, verbs in VERBS.items() for verb in verbs])
def test_a_misspelt_verb_or_option_is_one_line_with_the_name_that_may_be_meant(
    room: str, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = f"{verb[:-2]}{verb[-1]}{verb[-2]}"
    with pytest.raises(InputError) as error:
        call(monkeypatch, room, wrong)
    assert str(error.value) == (
        f"verb {wrong}: found none of that name; wanted {', '.join(VERBS[room])}. Did you mean {verb}?"
    )
    recipe = ["sample"] if verb in WITH_RECIPE else []
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, room, verb, *recipe, "--help")
    words = [head.partition(",")[0].partition(" ")[0] for head, _ in heads(capsys.readouterr().out)]
    names = [word for word in words if word.startswith("--")]
    # Some of them, evenly: tyro reads each of these command lines.
    for name in names[:: 1 + len(names) // 5]:
        with pytest.raises(InputError, match=rf"^{name}z: found no option of that name; .* Did you mean {name}\?$"):
            call(monkeypatch, room, verb, *recipe, f"{name}z")


def test_zeroshot_asks_for_test_images_before_it_opens_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^--task\.test: found nothing; wanted images"):
        call(monkeypatch, "trainer", "zeroshot", "model", "--out", "out")


def test_every_heading_of_a_section_has_fields() -> None:
    fields = {name for verb in trainer.__main__.VERBS.values() for name in names_of(verb.kind)}
    listed = {
        name for verb in trainer.__main__.VERBS.values() for names in verb.kind.SECTIONS.values() for name in names
    }
    assert listed - fields == set()
    for kind in (pipeline.config.Label, pipeline.config.Verify):
        assert {name for names in kind.SECTIONS.values() for name in names} - names_of(kind) == set()


def names_of(kind: type) -> set[str]:
    """Names of the fields of a dataclass and of its parts."""
    hints = get_type_hints(kind)
    own = [each.name for each in dataclasses.fields(kind)]
    return {*own, *(name for each in own if dataclasses.is_dataclass(hints[each]) for name in names_of(hints[each]))}
