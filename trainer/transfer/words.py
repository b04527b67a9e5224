"""Numbers of things in notes and messages.

In: how many, and what they are called. Out: "1 image", "2 images", "1,000 classes have none".
"""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, and what follows it: `one` of a single one, else `many`, by default `one` and an s."""
    return f"{number:,} {one if number == 1 else many if many is not None else f'{one}s'}"
