"""Import hook that holds a package to the dtypes and shapes of its annotations."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping


def check_shapes(package: str) -> None:
    """Check arguments and results of the functions and dataclasses of a package that have arrays in their annotations.

    jaxtyping's hook decorates the others too, and calls of what it decorates would take half of the time of a small
    training run.
    """
    decorate = jaxtyping.jaxtyped

    def where_arrays_are(*items: Any, **options: Any) -> Any:
        if items:
            return decorate(*items, **options)
        return lambda item: decorate(item, **options) if has_arrays(item) else item

    # The hook makes code that looks the decorator up by this name.
    jaxtyping.jaxtyped = where_arrays_are
    jaxtyping.install_import_hook(package, "beartype.beartype")


def has_arrays(item: Callable[..., object]) -> bool:
    """Tell whether annotations of a function, or of a dataclass's fields, name a jaxtyping type or an alias of one."""
    if isinstance(item, type):
        return dataclasses.is_dataclass(item) and has_arrays(item.__init__)
    written = " ".join(str(annotation) for annotation in getattr(item, "__annotations__", {}).values())
    return any(is_array(item.__globals__.get(name)) for name in set(re.findall(r"\w+", written)))


def is_array(value: object) -> bool:
    """Tell whether a value is a jaxtyping type, with or without its shape, or a type made of one."""
    named = isinstance(value, type) and issubclass(value, jaxtyping.AbstractArray | jaxtyping.AbstractDtype)
    return named or any(map(is_array, get_args(value)))
