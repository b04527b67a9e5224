"""Fields of a tasks file's tables: their values as the types of a `SuiteTask` or of a verb's options have them.

In: a table as TOML gives it. Out: the values, or what was found instead and what is wanted, in words for whoever writes
TOML and not Python.

    epochs = "16"            found '16'; wanted a whole number, without quotes
    inits = ["randm"]        found 'randm'; wanted a list, each "random" or "transfer". Did you mean random?
    percent = [1]            found a field that there is not; wanted one of ... Did you mean percents?
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from vocab.errors import InputError
from vocab.store.field_types import is_of

SCALARS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text in quotes",
    Path: "a path in quotes",
}
BARE = (int, float, bool)
"""what TOML writes without quotes"""


Refuse = Callable[[str, str, str, str | None], InputError]
"""makes an error of the name of a field, what was found, what is wanted, and what may have been meant"""


def fields_of(table: Mapping[str, Any], hints: Mapping[str, Any], refuse: Refuse) -> dict[str, Any]:
    """The fields of a table as their types have them: lists as tuples, texts as paths. Raises what `refuse` makes."""
    values = {}
    for name, given in table.items():
        if name not in hints:
            known = f"one of {', '.join(hints)}" if hints else "no options"
            raise refuse(name, "a field that there is not", known, near_to(name, hints))
        value = _of_toml(given, hints[name])
        if not is_of(value, hints[name]):
            wrong = _wrong_part(given, hints[name])
            words = [word for kind in _kinds(hints[name]) for word in _choices(kind)]
            near = near_to(wrong, words) if isinstance(wrong, str) else None
            raise refuse(name, repr(wrong), _wanted(wrong, hints[name]), near)
        values[name] = value
    return values


def near_to(name: str, known: Collection[str]) -> str | None:
    """The one of some words that a misspelt one is most like."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Of `Path | None` and the like, what may stand there: TOML leaves out what is None."""
    if get_origin(hint) in (None, tuple, Literal):
        return (hint,)
    return tuple(kind for kind in get_args(hint) if kind is not NoneType)


def _of_toml(value: Any, hint: Any) -> Any:
    """TOML has no tuples and no paths, and 1 where people mean 1.0. What fits none of it stays as it is."""
    kinds = _kinds(hint)
    for kind in kinds:
        if isinstance(value, str) and kind is Path and str not in kinds:
            return Path(value)
        if isinstance(value, list) and get_origin(kind) is tuple:
            return tuple(_of_toml(each, get_args(kind)[0]) for each in value)
        if type(value) is int and kind is float and int not in kinds:
            # What no float can hold is refused as what is infinite.
            return float(value) if abs(value) < 1 << 1000 else math.inf
    return value


def _wrong_part(value: Any, hint: Any) -> Any:
    """The first entry of a list that cannot be in it; else the value itself."""
    for kind in _kinds(hint):
        if isinstance(value, list) and get_origin(kind) is tuple:
            inside = get_args(kind)[0]
            return next((each for each in value if not is_of(_of_toml(each, inside), inside)), value)
    return value


def _wanted(wrong: Any, hint: Any) -> str:
    # A place may be a URI, and is a path to most.
    kinds = [kind for kind in _kinds(hint) if kind is not str or Path not in _kinds(hint)]
    inside = [get_args(kind)[0] if get_origin(kind) is tuple else kind for kind in kinds]
    # Quotes around a number are the most frequent slip, and nothing in 'a whole number' tells of them.
    quoted = isinstance(wrong, str) and any(kind in BARE for kind in inside)
    return " or ".join(map(_words, kinds)) + (", without quotes" if quoted else "")


def _words(kind: Any) -> str:
    """A type as whoever writes a tasks file knows it."""
    if get_origin(kind) is tuple:
        entry, *more = get_args(kind)
        return f"a list of {len(more) + 1}, each {_words(entry)}" if more != [...] else f"a list, each {_words(entry)}"
    words = [f'"{word}"' for word in _choices(kind)]
    return SCALARS[kind] if not words else " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is tuple:
        return _choices(get_args(kind)[0])
    return list(map(str, get_args(kind))) if get_origin(kind) is Literal else []
