"""Text for a terminal: tables of numbers, and strangers' text that can do no harm there.

In: rows of cells; captions, keys and file names. Out: lines.
"""

from __future__ import annotations

from collections.abc import Sequence


def harmless(text: str) -> str:
    r"""Text whose control characters, line breaks and invisible marks are written out: "\x1b[2J" clears no screen."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows as lines: numbers with thousands parted and to the right, the last column, a name, as wide as it is."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else harmless(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)), row[-1]])
        for row in cells
    ]
