"""README and docs: what they name exists, the programs take the commands that they show, and their code runs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import pipeline.__main__
import trainer.__main__
from tests.conftest import ROOT
from tests.corpus import make_corpus
from tests.markdown import FENCE, blocks
from tests.pictures import picture
from tests.processes import make
from trainer.pretrain import pretrain
from trainer.verb_config import ExportConfig
from trainer.weights.export import export
from vocab.errors import CatlipError

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = ("ARCHITECTURE.md", "BENCHMARKS.md", "CONTRIBUTING.md")
ALL_PAGES = [*PAGES, *(ROOT / name for name in OTHERS), *sorted(ROOT.glob("vocab/*.md"))]
SHELLS = ("", "bash", "console", "sh")
"""languages of blocks that hold commands; those that begin with a space are drawings"""
ROOM_PATH = re.compile(r"(?<![\w/.-])(?:vocab|pipeline|trainer|benchmarks|notebooks|docs|tests)/[\w/.-]*\w")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def code(page: Path) -> Iterator[str]:
    """Lines of its commands, with those that a backslash continues, and its code spans."""
    shells = (block for kind, block in FENCE.findall(page.read_text()) if kind in SHELLS and block[0] != " ")
    for block in (*shells, *re.findall(r"^ {4}(\w.*)$", prose(page), re.MULTILINE)):
        yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page)):
        yield " ".join(span.split())


def commands(page: Path, *programs: str) -> Iterator[list[str]]:
    """Arguments of each command that begins with one of these words, or runs it through Python, torchrun or Spark."""
    begins = re.compile(rf"(?:^|\s)(?:{'|'.join(programs)})(?=\s|$)")
    for line in code(page):
        if found := begins.search(line):
            with contextlib.suppress(ValueError):  # a quotation mark of prose
                yield [word for word in shlex.split(line[found.end() :], comments=True) if word != "&"]


def refusal(program: Sequence[str]) -> str:
    """Parse a command line; return the message that refuses it, or nothing."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if program[0] == "trainer":
                trainer.__main__.read(list(program[1:]))
            else:
                pipeline.__main__.main()
        except SystemExit as exit:
            return said.getvalue() if exit.code else ""
        except CatlipError as error:
            return str(error)
    return ""


def test_readme_is_read_in_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 140
    assert [line for line in README.read_text().splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings], link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_of_this_repository_exist(page: Path) -> None:
    paths = set(ROOM_PATH.findall(page.read_text()))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_programs_take_the_commands_of_a_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.__main__, "run_verb", lambda options: None)
    refused = []
    for program in ("trainer", "pipeline"):
        for words in commands(page, f"-m {program}", rf"\S*{program}/__main__\.py"):
            # A recipe of one's own, or that of a run.
            words = ["sample" if re.fullmatch(r"\w+\.py|\S+/config\.json", word) else word for word in words]
            if words[-1:] == ["..."] and not words[-2].startswith("-"):
                words = [*words[:-1], "--help"]
            elif not any(word.startswith("-") for word in words):
                words = [*words, "--help"]
            monkeypatch.setattr(sys, "argv", [program, *words])
            if said := refusal([program, *words]):
                refused.append((words, said))
    assert refused == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_has_the_targets_and_variables_of_a_page(page: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    makefile = (ROOT / "Makefile").read_text()
    for words in commands(page, "make"):
        planned = make("--dry-run", *words)
        assert planned.returncode == 0, (words, planned.stderr)
        variables = [word.partition("=")[0] for word in words if "=" in word]
        assert [each for each in variables if f"$({each})" not in makefile] == [], words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_benchmarks_have_the_options_that_a_page_gives_them(page: Path) -> None:
    for words in commands(page, "python"):
        module = words[1] if words[:1] == ["-m"] and len(words) > 1 else ""
        target = f"{module.replace('.', '/')}.py" if module else "".join(words[:1])
        if not target.startswith("benchmarks/"):
            continue
        options = [word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")]
        assert [option for option in options if f"    {option}: " not in (ROOT / target).read_text()] == [], words


def test_result_rows_are_figures_of_benchmarks_md_with_the_command_that_measured_them() -> None:
    rows = re.search(r"^## Results\n.*?^\|---.*?$\n(.*?)\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    benchmarks = (ROOT / "BENCHMARKS.md").read_text()
    assert rows is not None
    for row in rows[1].splitlines():
        _, measured, command = (cell.strip() for cell in row.strip("|").split("|"))
        assert command in benchmarks, row
        for figure in re.findall(r"\d[\d,.]*\d|\d", measured):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", benchmarks), (row, figure)


def test_the_snippet_is_that_of_an_exported_card_and_prints_the_synsets_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(make_corpus(tmp_path / "corpus").config(tmp_path / "run")) == 0
    monkeypatch.chdir(tmp_path)
    export(ExportConfig(Path("run"), Path("exports/b16")))
    [snippet] = blocks(README.read_text(), "python")
    # The card of a model of three classes prints three.
    card = (tmp_path / "exports" / "b16" / "README.md").read_text()
    assert snippet.replace("exports/b16", "FOLDER").replace("topk(5)", "topk(3)") in card
    snippet = snippet.replace("topk(5)", "topk(3)")
    (tmp_path / "picture.jpg").write_bytes(picture())
    capsys.readouterr()
    exec(compile(snippet, name(README), "exec"), {})
    assert "dog.n.01" in capsys.readouterr().out
