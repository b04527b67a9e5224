"""Paths, functions, folders, contracts and terms that ARCHITECTURE.md and CONTRIBUTING.md name: each exists."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = ("vocab", "pipeline", "trainer")
MADE = (".venv/", "out/", "dist/")
"""folders that make writes"""
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md")
DOCS = sorted((ROOT / "docs").glob("*.md"))
QUOTED = re.compile(r"`([^`\n]+)`")
FUNCTION = re.compile(r"([\w./-]+\.py):([\w.]+)")
PATH = re.compile(r"\.?[\w-]+/[\w./-]*|[\w-]+\.(?:py|md|cfg|toml)")
FOLDER = re.compile(r"- \*\*`([\w/]+/)`\*\*: ")
TERM = re.compile(r"- \*\*([^`*]+)\*\*: ")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Text below a heading of the second level."""
    return text_of(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def quoted(text: str) -> Iterator[tuple[str, str]]:
    """Everything in backticks, each with the folder that names without a slash belong to: that of its list item."""
    folder = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            found = FOLDER.match(line)
            folder = found[1] if found is not None else ""
        yield from ((name, folder) for name in QUOTED.findall(line))


@cache
def defined_in(file: Path) -> frozenset[str]:
    """Functions and classes of a file, methods as Class.method."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return frozenset(names)


def is_there(path: str, folder: str) -> bool:
    if path.startswith(MADE):
        return True
    place = ROOT / path if "/" in path else ROOT / folder / path
    return place.is_dir() if path.endswith("/") else place.is_file()


def missing_paths(text: str) -> list[str]:
    paths = [(FUNCTION.fullmatch(name), name, folder) for name, folder in quoted(text)]
    return [
        name
        for function, name, folder in paths
        if (function is not None or PATH.fullmatch(name)) and not is_there(function[1] if function else name, folder)
    ]


def undefined_functions(text: str) -> list[str]:
    functions = [(name, found) for name, _ in quoted(text) if (found := FUNCTION.fullmatch(name))]
    return [
        name
        for name, found in functions
        if not (ROOT / found[1]).is_file() or found[2] not in defined_in(ROOT / found[1])
    ]


@cache
def code() -> str:
    """Text of the rooms, and of the files that set up and build."""
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*")) if file.suffix in (".py", ".md")]
    return "\n".join(file.read_text(encoding="utf-8") for file in (*files, ROOT / "setup.cfg", ROOT / "Makefile"))


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_the_page_exists(page: str) -> None:
    assert missing_paths(text_of(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_function_of_the_page_is_defined_in_its_file(page: str) -> None:
    assert undefined_functions(text_of(page)) == []


def test_what_does_not_exist_is_noticed() -> None:
    assert missing_paths("`vocab/labeler.py` `vocab/nowhere/` `nothing.py`") == ["vocab/nowhere/", "nothing.py"]
    assert missing_paths("- **`vocab/`**: `labeler.py`\n  `run.py`\n- `plain.py`") == ["run.py", "plain.py"]
    wrong = ["vocab/labeler.py:Labeler.nothing", "vocab/labeler.py:_label_some", "vocab/gone.py:load"]
    right = ["vocab/labeler.py:Labeler", "vocab/labeler.py:Labeler.label", "vocab/labeler.py:load"]
    assert undefined_functions(" ".join(f"`{name}`" for name in (*wrong, *right))) == wrong


def test_every_other_name_of_the_map_occurs_in_the_code() -> None:
    names = [name for name, _ in quoted(text_of("ARCHITECTURE.md"))]
    others = [name for name in names if not FUNCTION.fullmatch(name) and not PATH.fullmatch(name)]
    assert [name for name in others if name not in code()] == []


def test_every_folder_of_the_rooms_has_its_paragraph() -> None:
    held = {file.parent.relative_to(ROOT).as_posix() for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    items = section("ARCHITECTURE.md", "Folders").splitlines()
    named = [found[1] for line in items if (found := FOLDER.match(line))]
    assert sorted(named) == sorted(f"{folder}/" for folder in held)


def test_every_wall_has_its_import_contract() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    contracts = [name for name in settings.sections() if name.startswith("importlinter:contract:")]
    lines = section("ARCHITECTURE.md", "Rooms and walls").splitlines()
    walls = lines[lines.index("| wall | reason | contract |") + 2 :]
    named = [QUOTED.findall(line)[-1] for line in walls if line.startswith("| ")]
    assert [f"importlinter:contract:{name}" for name in named] == contracts


def test_every_step_of_a_journey_is_a_function() -> None:
    rows = [line for line in section("ARCHITECTURE.md", "Six journeys").splitlines() if line.startswith("| ")]
    steps = [row for row in rows if row != "| function | what happens |"]
    assert len(rows) - len(steps) == 6
    assert [row for row in steps if not re.match(r"\| `[\w./-]+\.py:[\w.]+` \| ", row)] == []


def test_the_terms_of_the_glossary_are_in_order_and_in_use() -> None:
    terms = [found[1] for line in section("ARCHITECTURE.md", "Glossary").splitlines() if (found := TERM.match(line))]
    assert terms == sorted(terms, key=str.lower)
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS)
    # A term may be written as a class, an option or a field: LoaderPool, --source-weights, surplus_labels.
    words = re.sub(r"[\s_-]+", "", code() + pages).lower()
    assert [term for term in terms if re.sub(r"[\s_-]+", "", term).lower() not in words] == []


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_short_outside_of_tables(page: str) -> None:
    lines = text_of(page).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
