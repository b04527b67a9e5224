r"""Records that several lines may hold although no quotes enclose them: a quote was lost, or a line end is escaped.

In: a block of lines. Out: lines with an end of a quoted field but no begin, and the lines that may belong together.

    a cat               two columns; the first line has one: its text may go on in the second, which then
    on a table"\tk1     is no caption of k1

    a cat\              MySQL, Hadoop and csv.QUOTE_NONE with an escapechar write a line end in a field so
    on a table\tk1
"""

from __future__ import annotations

import numpy as np

from pipeline.reading.csv_files import ESCAPED, QUOTE, Block, Dialect, Offsets

BACKSLASH = b"\\"


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


def escaped_line_ends(block: Block, dialect: Dialect) -> list[range]:
    """Neighbouring lines whose ends stand behind a backslash, and the line behind them, where they make one record.

    A range that goes beyond the block: the block's end leaves open whether its lines make one.
    """
    # One byte is looked for in a tenth of the time.
    if BACKSLASH not in block.data:
        return []
    data = np.frombuffer(block.data, dtype=np.uint8)
    is_escaped = (block.ends > block.begins) & (data[block.ends - 1] == ord(BACKSLASH))
    candidates = np.flatnonzero(is_escaped).tolist()
    escaped = np.array([line for line in candidates if _ends_escaped(block.text(line, line))], dtype=np.int64)
    runs = np.split(escaped, np.flatnonzero(np.diff(escaped) > 1) + 1)
    found = [range(int(run[0]), int(run[-1]) + 2) for run in runs if len(run)]
    return [lines for lines in found if lines.stop > len(block.lines) or _is_one_record(block, lines, dialect)]


def _ends_escaped(text: bytes) -> bool:
    """Tell whether the last backslash is no escaped one itself."""
    return (len(text) - len(text.rstrip(BACKSLASH))) % 2 == 1


def _is_one_record(block: Block, lines: range, dialect: Dialect) -> bool:
    """Tell whether the lines have the fields of one record together, and some line by itself has not."""

    def fits(first: int, last: int) -> bool:
        return ESCAPED.sub(b"", block.text(first, last)).count(dialect.separator) + 1 == dialect.columns

    return fits(lines[0], lines[-1]) and not all(fits(line, line) for line in lines)
