"""Help of the command lines: each option's text as one paragraph, and options without a value called optional.

`tyro` shows the docstring under a field of a dataclass as its help, with the line breaks of the source. Used by the
`__main__` of each room; needs tyro, so nothing that runs on an executor imports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

NAMES = {str: "STR", int: "INT", float: "FLOAT", Path: "PATH"}
"""how values of a type are shown"""
REQUIRED = "required"
"""mark of an option that must be given although its field has a default: `labels: Annotated[str, "required"] = ""`"""


def plain_help() -> ConstructorRegistry:
    """Make a context in which `tyro.cli` and its relatives show help without the source's line breaks.

        with plain_help():
            options = tyro.cli(Options)

    Names, types and defaults of the options are tyro's own.
    """
    registry = ConstructorRegistry()
    entered = False

    @registry.struct_rule
    def plain_fields(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal entered
        if entered or not is_dataclass(info.type):
            return None
        entered = True  # tyro's own rule comes next
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            entered = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return replace(spec, fields=tuple(plain_field(field) for field in spec.fields))

    return registry


def plain_field(field: StructFieldSpec) -> StructFieldSpec:
    """Join the lines of a field's help; show an option that may be left out by its type alone, as "(optional)"."""
    kind: Any = field.type
    if field.default is None or field.default == () or field.default == "":
        is_required = REQUIRED in getattr(kind, "__metadata__", ())
        hint = "(required)" if is_required else "(optional)"
        kind = Annotated[kind, tyro.conf.arg(metavar=optional_value(kind), help_behavior_hint=hint)]
    return replace(field, type=kind, helptext=joined(field.helptext))


def optional_value(kind: Any) -> str | None:
    """Name the values of `str | None` and its like without the None; return None for types that are no such union."""
    if get_origin(kind) not in (Union, UnionType):
        return None
    kinds = [get_args(each)[0] if get_origin(each) is Annotated else each for each in get_args(kind)]
    names = [NAMES.get(each) for each in kinds if each is not NoneType]
    return "|".join(filter(None, names)) if all(names) else None


def joined(text: str | Callable[[], str | None] | None) -> str | Callable[[], str | None] | None:
    """Make each paragraph of a text one line; of a text that is still to be read, when it is read."""
    if callable(text):
        return lambda: joined(text())  # type: ignore[return-value]
    return None if text is None else re.sub(r"(?<!\n)\n[ \t]*(?!\s*\n)", " ", text)
