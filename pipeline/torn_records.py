r"""Records of text that may not be quoted at all, of which a lost quote may have made several lines.

In: a block of lines. Out: lines with an end of a quoted field but no begin, and the lines that may belong together.

    a cat               two columns; the first line has one: its text may go on in the second, which then
    on a table"\tk1     is no caption of k1
"""

from __future__ import annotations

import numpy as np

from pipeline.csv_files import QUOTE, Block, Dialect, Offsets


def closing_lines(block: Block, dialect: Dialect) -> Offsets:
    """Lines in which a quote ends a field that none begins."""
    data, sign = np.frombuffer(block.data, dtype=np.uint8), ord(dialect.separator)
    quotes = np.flatnonzero(data == ord(QUOTE))
    quotes = quotes[np.isin(data[(quotes + 1) % len(data)], [sign, *b"\r\n"]) | (quotes + 1 == len(data))]
    lines = np.searchsorted(block.begins, quotes, side="right") - 1
    places = zip(block.begins[lines].tolist(), quotes.tolist(), strict=True)
    found = [block.data.rfind(dialect.separator, begin, quote) + 1 or begin for begin, quote in places]
    begins = np.array(found, dtype=np.int64)
    unique: Offsets = np.unique(lines[(data[begins] != ord(QUOTE)) | (begins == quotes)])
    return unique


def torn_lines(block: Block, line: int, step: int, dialect: Dialect) -> range:
    """A line and those before it (step -1) or behind it (1) that may be parts of one record, torn at its line ends.

    Empty where the line has all its separators and no line with fewer stands beside it.
    """
    if dialect.columns == 1:
        return range(0)
    missing = dialect.columns - 1 - block.text(line, line).count(dialect.separator)
    is_torn, last = missing > 0, line
    for beside in range(line + step, len(block.lines) if step > 0 else -1, step):
        text = block.text(beside, beside)
        count = text.count(dialect.separator)
        if missing <= 0 and count:
            break
        is_torn |= bool(text)
        missing, last = missing - count, beside
    return range(min(line, last), max(line, last) + 1) if is_torn else range(0)
