"""Checks of a configuration: the types of its values.

In: a value and the type that the field's dataclass gives it. Out: yes or no. Python takes any value for any field; the
command line does not, and neither do recipes and tasks files.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def is_of(value: object, hint: Any) -> bool:
    """Whether a value is of a type as fields of configurations have them."""
    inside = get_args(hint)
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
