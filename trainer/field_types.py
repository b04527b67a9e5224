"""Checks of a configuration: types of its values, and paths that must be of this machine.

In: a value and the type that the field's dataclass gives it. Out: yes or no. Python takes any value for any field; the
command line does not, and neither do recipes and tasks files.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from vocab.storage import local_path

Config = TypeVar("Config")
"""a dataclass"""


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


def with_local_paths(config: Config, *, prefix: str = "--", nested: bool = True) -> Config:
    """The configuration, every field that is a path as one of this machine: file:///x is /x.

    `prefix`: before the names of options. `nested`: options of a part are named after it, as --task.cache. Raises
    InputError, naming the option, for any other URI, which pathlib takes for a local folder called "s3:".
    """
    hints = get_type_hints(type(config), include_extras=True)
    changes: dict[str, Any] = {}
    for each in fields(cast(Any, config)):
        value, name = getattr(config, each.name), each.name.replace("_", "-")
        # What stands without an option on the command line is called as --help calls it.
        option = name.upper() if get_origin(hints[each.name]) is Annotated else f"{prefix}{name}"
        if isinstance(value, Path):
            changes[each.name] = local_path(value, option=option)
        elif is_dataclass(value) and not isinstance(value, type):
            inside = f"{prefix}{name}." if nested else prefix
            changes[each.name] = with_local_paths(value, prefix=inside, nested=nested)
    return cast(Config, replace(cast(Any, config), **changes))
