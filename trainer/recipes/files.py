"""Recipes of your own: Python files whose CONFIG is a `PretrainConfig`, like those in this folder."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import runpy
import traceback
from pathlib import Path

from trainer.config import DataConfig, LossConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from vocab.errors import InputError

PARTS = (PretrainConfig, DataConfig, ModelConfig, LossConfig, OptimConfig, RunConfig)
FIELDS = {part.__name__: [option.name for option in dataclasses.fields(part)] for part in PARTS}
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
"""errors that a mistake in a recipe raises when it runs"""
SEE = "See trainer/recipes/vit_b16_cc3m.py for one; --help lists every field."


def read_recipe(path: Path) -> tuple[str, PretrainConfig]:
    """Run a recipe, which must be trusted, and return its first docstring line and its CONFIG.

    Raises InputError for a file that holds no recipe, an unknown field, or a value that its option cannot have.
    """
    try:
        recipe = ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise _no_recipe(path, f"a file that cannot be read ({error.strerror})") from error
    except SyntaxError as error:
        raise _no_recipe(f"{path}, line {error.lineno}", error.msg) from error
    except ValueError as error:
        raise _no_recipe(path, str(error)) from error
    _refuse_unknown_fields(path, recipe)
    try:
        names = runpy.run_path(str(path))
    except InputError as error:
        where = _line_of(path, error)
        raise InputError(
            f"{where}: {error.thing}", found=error.found, wanted=error.wanted, remedy=error.remedy
        ) from error
    except FAULTS as error:
        raise _no_recipe(_line_of(path, error), f"{type(error).__name__}: {error}") from error
    config = names.get("CONFIG")
    if not isinstance(config, PretrainConfig):
        raise _no_recipe(path, f"CONFIG of type {type(config).__name__}" if "CONFIG" in names else "no CONFIG")
    return str(names.get("__doc__") or path.name).partition("\n")[0], config


def _refuse_unknown_fields(path: Path, recipe: ast.Module) -> None:
    """Raise InputError for OptimConfig(stepz=7) before the recipe runs, for Python's own message varies."""
    for call in ast.walk(recipe):
        part = getattr(call.func, "id", getattr(call.func, "attr", "")) if isinstance(call, ast.Call) else ""
        for keyword in call.keywords if isinstance(call, ast.Call) and part in FIELDS else ():
            if keyword.arg is not None and keyword.arg not in FIELDS[part]:
                raise _no_recipe(
                    f"{path}, line {keyword.value.lineno}",
                    f"{part}({keyword.arg}=...), a field that {part} does not have",
                    remedy=_remedy(part, keyword.arg),
                )


def _remedy(part: str, field: str) -> str:
    """Sentence on the field that was probably meant, or on the part of the configuration that has it."""
    for other, names in FIELDS.items():
        if field in names:
            return f"{field} is a field of {other}."
    near = difflib.get_close_matches(field, FIELDS[part])
    return f"{part} has {' and '.join(near)}; --help lists every field." if near else SEE


def _line_of(path: Path, error: Exception) -> str:
    """Name of the file, with the line that ran last."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _no_recipe(location: object, found: str, *, remedy: str = SEE) -> InputError:
    return InputError(
        location, found=found, wanted="CONFIG = PretrainConfig(...), with fields of trainer/config.py", remedy=remedy
    )
