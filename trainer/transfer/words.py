"""Numbers and names of things in notes and messages.

In: how many, and what they are called. Out: "1 image", "1,000 classes have none"; "cat, dog and 3 more".
"""

from __future__ import annotations

from collections.abc import Sequence

from vocab.pages.text import shown

NAMED = 5
"""things that a line names at most"""
LONGEST_NAME = 240
"""characters of each of them"""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, and what follows it: `one` of a single one, else `many`, by default `one` and an s."""
    return f"{number:,} {one if number == 1 else many if many is not None else f'{one}s'}"


def listed(names: Sequence[str]) -> str:
    """The first few of many names, which may be strangers'."""
    named = ", ".join(shown(name, longest=LONGEST_NAME) for name in names[:NAMED])
    return named + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
