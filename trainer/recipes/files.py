"""Recipes of your own: a Python file whose CONFIG is a `PretrainConfig`, like those in this folder.

In: the path of a file that you trust, for it is run. Out: its first docstring line and its CONFIG.
"""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any, get_type_hints

from trainer.config import PretrainConfig
from trainer.field_types import is_of, name_of
from vocab.errors import InputError


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
        raise _no_recipe(path, str(error)) from error
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


def _no_recipe(path: Path, found: str) -> InputError:
    return InputError(
        path,
        found=found,
        wanted="CONFIG = PretrainConfig(...), with fields of trainer/config.py",
        remedy="See trainer/recipes/vit_b16_cc3m.py for one; --help lists every field.",
    )
