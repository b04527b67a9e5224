"""Recipes of your own: a Python file whose CONFIG is a `PretrainConfig`, like those in this folder.

In: the path of a file that you trust, for it is run. Out: its first docstring line and its CONFIG.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import runpy
import traceback
from pathlib import Path
from typing import Any, get_type_hints

from trainer.config import DataConfig, LossConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.field_types import is_of, name_of
from vocab.errors import InputError

PARTS = (PretrainConfig, DataConfig, ModelConfig, LossConfig, OptimConfig, RunConfig)
SEE = "See trainer/recipes/vit_b16_cc3m.py for one; --help lists every field."
_UNKNOWN = re.compile(r"(?P<part>\w+)\.__init__\(\) got an unexpected keyword argument '(?P<field>\w+)'")


def read_recipe(path: Path) -> tuple[str, PretrainConfig]:
    """What it is and what it says.

    Raises InputError for a file that holds no recipe, a field that there is not, a value that its field cannot have.
    """
    try:
        names = runpy.run_path(str(path))
    except OSError as error:
        raise _no_recipe(path, f"no such file ({error.strerror})") from error
    except (TypeError, SyntaxError, NameError, ImportError, AttributeError) as error:
        # A field that a dataclass lacks is a TypeError, which names it.
        raise _no_recipe(_line_of(path, error), str(error), remedy=_remedy(str(error))) from error
    config = names.get("CONFIG")
    if not isinstance(config, PretrainConfig):
        raise _no_recipe(path, f"CONFIG of type {type(config).__name__}" if "CONFIG" in names else "no CONFIG")
    _check_types(path, config)
    return str(names.get("__doc__") or path.name).partition("\n")[0], config


def _check_types(path: Path, part: Any) -> None:
    """Python takes any value for any field; the command line does not, and nor does a run."""
    for name, hint in get_type_hints(type(part)).items():
        value = getattr(part, name)
        if dataclasses.is_dataclass(hint) and isinstance(value, hint):  # type: ignore[arg-type]
            _check_types(path, value)
        elif dataclasses.is_dataclass(hint) or not is_of(value, hint):
            raise _no_recipe(path, f"{name}={value!r}, which is no {name_of(hint)}")


def _line_of(path: Path, error: Exception) -> str:
    """The file, and the line of it that was run last; a SyntaxError says its own."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _remedy(message: str) -> str:
    """What to write instead of a field that a part of the configuration has not."""
    unknown = _UNKNOWN.search(message)
    fields = {part.__name__: [option.name for option in dataclasses.fields(part)] for part in PARTS}
    if unknown is None or unknown["part"] not in fields:
        return SEE
    field = unknown["field"]
    for part, names in fields.items():
        if field in names:
            return f"{field} is a field of {part}."
    near = difflib.get_close_matches(field, fields[unknown["part"]])
    return f"{unknown['part']} has {' and '.join(near)}; --help lists every field." if near else SEE


def _no_recipe(place: object, found: str, *, remedy: str = SEE) -> InputError:
    return InputError(
        place, found=found, wanted="CONFIG = PretrainConfig(...), with fields of trainer/config.py", remedy=remedy
    )
