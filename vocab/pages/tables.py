r"""Tables for a terminal, for Markdown and as CSV, with strangers' text in them.

>>> print(markdown_table(["class", "top-1"], [["a|b", "50.0%"], ["hot_dog", ""]]))
| class | top-1 |
|---|---|
| a\|b | 50.0% |
| hot\_dog | |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from vocab.pages.text import shown

LONGEST_CELL = 240
"""characters of a cell on a terminal: a key, a reason, a file's name"""

# Signs that begin emphasis, code, links, HTML, entities, mathematics, mentions or another column; what GitHub and the
# Hub turn into links by themselves; and what begins a heading, a quotation or a list at the start of a line.
_MARKS = re.compile(r"([\\`*_\[\]<|~&@$])|(?<=[a-z])(:)(?=//)|(?<=\bwww)(\.)|^([#>+-])(?=#* )", re.IGNORECASE)
# A spreadsheet takes a cell that begins with one of these for a formula, which may call programs and web sites.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Markdown(str):
    """Text that is Markdown already, by our own hand: `in_markdown` leaves it as it is."""

    __slots__ = ()


def terminal_table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows as lines; integers get thousands separators, every column but the last is flush right."""
    cells = [[_terminal_cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)), row[-1]])
        for row in cells
    ]


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Table without a line end after it; every cell passes through `in_markdown`."""
    return "\n".join([_markdown_row(head), f"|{'---|' * len(head)}", *map(_markdown_row, rows)])


def csv_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated table for spreadsheets and programs.

    A text that begins like a formula gets an apostrophe in front. Numbers have six digits after the point; None and NaN
    are empty cells.
    """
    # Not by the csv module, which leaves a carriage return bare, and reads a line end there.
    return "".join(f"{','.join(map(_csv_cell, row))}\n" for row in [head, *rows])


def markdown_list(items: Iterable[object]) -> str:
    """Bulleted list, an item a line; every item passes through `in_markdown`."""
    return "\n".join(f"- {in_markdown(item)}" for item in items)


def in_markdown(text: object) -> str:
    """Text on one line, which Markdown and HTML show as it is."""
    if isinstance(text, Markdown):
        return text
    return _MARKS.sub(r"\\\g<0>", shown(" ".join(str(text).split())))


def _markdown_row(cells: Sequence[object]) -> str:
    # An empty cell is one space wide, as people write it.
    return "|" + "".join(f" {text} |" if text else " |" for text in map(in_markdown, cells))


def _csv_cell(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    text = f"{cell:.6f}" if isinstance(cell, float) else str(cell)
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        text = f"'{text}"
    return '"{}"'.format(text.replace('"', '""')) if re.search(r'[",\r\n]', text) else text


def _terminal_cell(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else shown(str(cell), longest=LONGEST_CELL)
