"""Checks of values that were read from a file: the types of a dataclass's fields.

Python accepts any value for any field; the command line, recipes, tasks files and the JSON of a job do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def is_of(value: object, hint: Any) -> bool:
    """Tell whether a value has the type of a dataclass's field; values in a dict may have any type."""
    inside = get_args(hint)
    if get_origin(hint) is dict:
        return type(value) is dict
    if get_origin(hint) is Literal:
        return value in inside
    if get_origin(hint) in (Union, UnionType):
        return any(is_of(value, each) for each in inside)
    if get_origin(hint) is tuple:
        kinds = inside[:1] * len(value) if isinstance(value, tuple) and inside[1:] == (...,) else inside
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(is_of, value, kinds))
    if hint is float:
        return type(value) in (int, float)
    # Not isinstance: True is an int.
    return isinstance(value, Path) if hint is Path else type(value) is (NoneType if hint is None else hint)


def name_of(hint: Any) -> str:
    """Name of a type in a message: "int", "Literal['auto', 'cpu']", "Path | None"; the same on every Python."""
    name = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
    # Python 3.13 calls the module of paths pathlib._local.
    return re.sub(r"\b(typing|pathlib(\._local)?)\.", "", name)


def require_types(made: object) -> None:
    """Raise ValueError for a field of a dataclass, or of a NamedTuple, that holds another type than it declares."""
    kind: Any = type(made)
    require_fields(kind, {name: getattr(made, name) for name in _hints(kind)})


def require_fields(kind: Any, values: Mapping[str, object]) -> None:
    """Raise ValueError for a value of another type than the dataclass declares for the field of that name."""
    hints = _hints(kind)
    for name, value in values.items():
        if not is_of(value, hints[name]):
            raise ValueError(f"{name} is {str(value)[:80]!r}, where {name_of(hints[name])} is wanted")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
