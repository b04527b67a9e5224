"""Help of the command lines: each option's text as one paragraph, and options without a value called optional.

`tyro` shows the docstring under a field of a dataclass as its help, with the line breaks of the source. Used by the
`__main__` of each room; needs tyro, so nothing that runs on an executor imports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

OPTIONAL = {
    str | None: "STR",
    int | None: "INT",
    float | None: "FLOAT",
    Path | None: "PATH",
    str | Path | None: "PATH",
}
"""how values of a type are shown that may also be None"""


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
        shown = tyro.conf.arg(metavar=OPTIONAL.get(kind), help_behavior_hint="(optional)")
        kind = Annotated[kind, shown]
    return replace(field, type=kind, helptext=joined(field.helptext))


def joined(text: str | Callable[[], str | None] | None) -> str | Callable[[], str | None] | None:
    """Make each paragraph of a text one line; of a text that is still to be read, when it is read."""
    if callable(text):
        return lambda: joined(text())  # type: ignore[return-value]
    return None if text is None else re.sub(r"(?<!\n)\n[ \t]*(?!\s*\n)", " ", text)
