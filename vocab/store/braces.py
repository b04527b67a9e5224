"""Braces in the names of files, as shells expand them.

In: "laion/{00000..00331}.tar". Out: laion/00000.tar, laion/00001.tar, ..., laion/00331.tar.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence

from vocab.errors import InputError

MAX_NAMES = 10_000_000
"""most names that one pattern may give; as strings they take about 1 GB"""

_RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})(?:\.\.(\d{1,18}))?\}")
_BRACES = re.compile(_RANGE.pattern + r"|\{([^{}]*,[^{}]*)\}")


def expand_braces(pattern: str, *, only_ranges: bool = False) -> Iterator[str]:
    """Every name of a pattern, one at a time; braces within braces may give one twice.

        a/{08..10}.tar        a/08.tar a/09.tar a/10.tar: as wide as the wider end where one begins with 0
        {a,b}/{0..6..3}.tar   a/0.tar a/3.tar a/6.tar b/0.tar b/3.tar b/6.tar
        {a}, {}, ${HOME}      as they are

    `only_ranges` leaves lists as they are too. Raises InputError for a pattern of more than MAX_NAMES names, before it
    makes them where one range or the product of several has more.
    """
    for count, name in enumerate(_expand(pattern, _RANGE if only_ranges else _BRACES)):
        if count >= MAX_NAMES:
            raise _too_many(pattern)
        yield name


def _expand(pattern: str, braces: re.Pattern[str]) -> Iterator[str]:
    literals: list[str] = []
    choices: list[Sequence[str | int]] = []
    widths: list[int] = []
    end = 0
    for match in braces.finditer(pattern):
        choice, width = _choices(match[0][1:-1])
        literals.append(pattern[end : match.start()])
        choices.append(choice)
        widths.append(width)
        end = match.end()
    if not choices:
        yield pattern
        return
    # The product takes each range apart, so this must come before it.
    if math.prod(len(choice) for choice in choices) > MAX_NAMES:
        raise _too_many(pattern)
    # "%s" and "%05d", for the pattern is filled in a million times.
    form = "".join(
        literal.replace("%", "%%") + (f"%0{width}d" if isinstance(choice, range) else "%s")
        for literal, choice, width in zip(literals, choices, widths, strict=True)
    ) + pattern[end:].replace("%", "%%")
    for chosen in itertools.product(*choices):
        name = form % chosen
        if "{" in name:
            yield from _expand(name, braces)
        else:
            yield name


def _choices(inside: str) -> tuple[Sequence[str | int], int]:
    """The choices between braces, as a range, which takes no memory, or a list; and the digits that a number has."""
    match = _RANGE.fullmatch(f"{{{inside}}}")
    if match is None:
        return inside.split(","), 0
    first, last = int(match[1]), int(match[2])
    step = max(1, int(match[3] or 1))
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    padded = any(len(end) > 1 and end.startswith("0") for end in (match[1], match[2]))
    return numbers, max(len(match[1]), len(match[2])) if padded else 0


def _too_many(pattern: str) -> InputError:
    return InputError(
        pattern,
        found=f"braces that give more than {MAX_NAMES:,} names",
        wanted="names of files",
        remedy="Correct the range.",
    )
