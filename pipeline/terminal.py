"""Tables of numbers for a terminal, with strangers' text in them.

In: rows of cells; captions, keys and file names. Out: lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from vocab.pages.text import shown

LONGEST_CELL = 240
"""characters of a key, a reason or a file's name"""


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows as lines: numbers with thousands parted and to the right, the last column, a name, as wide as it is."""
    cells = [[_text_of(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)), row[-1]])
        for row in cells
    ]


def _text_of(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else shown(str(cell), longest=LONGEST_CELL)
