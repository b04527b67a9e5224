"""Size and drift of the code: files, lines, and how often a reader meets what the style forbids.

    python benchmarks/house.py [--root .]

In: a checkout. Out: a table of counts over vocab/, pipeline/ and trainer/, and of imports between test files; last,
one JSON object.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOMS = ("vocab", "pipeline", "trainer")
BAD_BEGINNING = re.compile(r"\s*(?:Of|As|That|Those|It|What|Whether)\b", re.IGNORECASE)
"""first words that make a noun or an imperative wait"""
CONFIG = "PretrainConfig"


@dataclass(frozen=True)
class House:
    """Count what drifts."""

    root: Path = Path(__file__).resolve().parent.parent
    """checkout to count in"""


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module and of its classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            text := ast.get_docstring(node, clean=False)
        ):
            yield text


def field_docs(tree: ast.Module) -> Iterator[str]:
    """Yield the texts that stand under the fields of classes and under constants."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef)):
            for field, below in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, (ast.AnnAssign, ast.Assign))
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                    and isinstance(below.value.value, str)
                ):
                    yield below.value.value


def takes_config(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell a function that has a parameter annotated with the whole configuration of a run."""
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return any(argument.annotation is not None and ast.unparse(argument.annotation) == CONFIG for argument in every)


def imports_of_tests(tree: ast.Module) -> bool:
    """Tell a test file that imports from another test file."""
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return any(name.rpartition(".")[2].startswith("test_") for name in names)


def count(root: Path) -> dict[str, int]:
    """Count files, lines and drift below a root."""
    files = sorted(file for room in ROOMS for file in (root / room).rglob("*.py"))
    texts = {file: file.read_text() for file in files}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    classes = Counter(
        name
        for tree in trees.values()
        for name in {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    )
    tests = [ast.parse(file.read_text()) for file in sorted((root / "tests").glob("*.py"))]
    return {
        "files": len(files),
        "lines": sum(len(text.splitlines()) for text in texts.values()),
        "transfer_files": sum("transfer" in file.relative_to(root).parts for file in files),
        "docstrings_beginning_badly": sum(
            BAD_BEGINNING.match(text) is not None for tree in trees.values() for text in docstrings(tree)
        ),
        "field_docs_beginning_badly": sum(
            BAD_BEGINNING.match(text) is not None for tree in trees.values() for text in field_docs(tree)
        ),
        "config_parameters": sum(takes_config(function) for function in functions),
        "class_names_in_two_files": sum(files > 1 for files in classes.values()),
        "test_imports_of_tests": sum(imports_of_tests(tree) for tree in tests),
    }


def main() -> None:
    """Print the counts, then the same as JSON."""
    counts = count(tyro.cli(House).root)
    for name, value in counts.items():
        print(f"{name:30} {value:8,}")
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
