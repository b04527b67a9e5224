r"""Lines of text files.

Lines end with \n; a \r before it is dropped, one elsewhere belongs to the caption, unless \r is all that the file has.
A byte order mark at the start of a line is dropped: concatenated files have them. Bytes need not be UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reading.csv_files import Block, slices
from pipeline.reading.rows import BATCH_ROWS
from vocab.errors import InputError

BLOCK = 4 << 20
LONGEST_LINE = 64 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The mark of UTF-32 begins with that of UTF-16.
OTHER_ENCODINGS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
SIGNS_TO_GUESS_BY = 100


class Readable(Protocol):
    """A stream of bytes, such as an open file."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; none at the end."""
        ...


def decoded(line: bytes) -> str | None:
    """Text of bytes; None if they are not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def is_utf8(data: bytes) -> bool:
    """Tell whether all of it is UTF-8, and so each of its lines."""
    offsets = np.array([0, len(data)], dtype=np.int32)
    whole = pa.BinaryArray.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return bool(valid_utf8(whole)[0].as_py())


def valid_utf8(lines: pa.BinaryArray) -> pa.BooleanArray:
    """Mask [lines] of those that are UTF-8. Checks all at once, and one by one only if that fails."""
    try:
        lines.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([decoded(line) is not None for line in lines.to_pylist()], pa.bool_())
    return pa.array(np.ones(len(lines), dtype=bool))


def utf8_text(values: pa.BinaryArray, valid: pa.BooleanArray) -> pa.StringArray:
    """Values as text, with U+FFFD in place of bytes that are not UTF-8."""
    if pc.all(valid).as_py() in (True, None):
        # The values are parts of lines that were checked.
        return values.view(pa.string())
    return pa.array([None if v is None else v.decode("utf-8", "replace") for v in values.to_pylist()], pa.string())


def no_text(head: bytes) -> tuple[str, str] | None:
    """Description of a file that is not UTF-8, from its first bytes, and the remedy; None for UTF-8."""
    for mark, name in COMPRESSED.items():
        if head.startswith(mark):
            return f"{name} bytes", "Decompress it, or end its name in .gz if it is gzip."
    some = head[:SIGNS_TO_GUESS_BY]
    encodings = [name for mark, name in OTHER_ENCODINGS.items() if head.startswith(mark)]
    if encodings or some.count(0) * 3 > len(some):
        # In UTF-32, two of every four bytes are zero whatever the letters: the first two or the last two.
        is_wide = any(not any(some[at::4] + some[at + 1 :: 4]) for at in (0, 2))
        encoding = encodings[0] if encodings else "UTF-32" if is_wide else "UTF-16"
        return f"text in {encoding}", f"Write it anew: iconv -f {encoding} -t UTF-8."
    return None


def has_returns_alone(head: bytes) -> bool:
    """Tell whether lines end with \\r, as old Macs wrote them."""
    return b"\n" not in head and b"\r" in head


def first_line(head: bytes) -> bytes:
    """The first line, without its end."""
    sign = b"\r" if has_returns_alone(head) else b"\n"
    return head.split(sign, 1)[0].removeprefix(BYTE_ORDER_MARK).removesuffix(b"\r")


def numbered_lines(stream: Readable, path: str, first: int) -> Iterator[tuple[int, pa.BinaryArray]]:
    """Lines in arrays of at most BATCH_ROWS, each with the number of its first line."""
    number = first
    for data, _ in text_blocks(stream, path):
        lines = split_lines(data).lines
        for start in range(0, len(lines), BATCH_ROWS):
            yield number, lines[start : start + BATCH_ROWS]
            number += len(lines[start : start + BATCH_ROWS])


def text_blocks(stream: Readable, path: str) -> Iterator[tuple[bytes, bool]]:
    """Yield blocks of whole lines that end with \\n, then the rest; each with a flag that is true for the rest."""
    rest: Sequence[bytes] = ()
    returns: bool | None = None
    while block := stream.read(BLOCK):
        if returns is None:
            returns = has_returns_alone(block)
        if returns:
            block = _without_returns(block, path)
        end = block.rfind(b"\n") + 1
        if end:
            # A view avoids a copy.
            yield b"".join([*rest, memoryview(block)[:end]]), False
            rest = ()
        rest = [*rest, block[end:]]
        if sum(map(len, rest)) > LONGEST_LINE:
            raise InputError(
                path,
                found=f"a line of more than {LONGEST_LINE >> 20} MiB",
                wanted="one record a line",
                remedy="Check --format; a file of another kind has no lines.",
            )
    yield b"".join(rest), True


def _without_returns(block: bytes, path: str) -> bytes:
    if b"\n" in block:
        raise InputError(
            path,
            found="lines that end in \\r alone, and after some MiB a line that ends in \\n",
            wanted="lines of one kind",
            remedy="Write it anew, as with: tr '\\r' '\\n'",
        )
    return block.replace(b"\r", b"\n")


def split_lines(data: bytes) -> Block:
    """Lines of a block, without line ends and byte order marks, as slices of one buffer."""
    signs = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(signs == ord("\n"))
    begins = np.concatenate([[0], ends + 1])
    if begins[-1] == len(signs):
        begins = begins[:-1]
    ends = np.append(ends, len(signs))[: len(begins)]
    if len(begins):
        ends = ends - ((ends > begins) & (signs[np.maximum(ends - 1, 0)] == ord("\r")))
    for line in np.flatnonzero(signs[begins] == BYTE_ORDER_MARK[0]) if len(begins) else ():
        if data.startswith(BYTE_ORDER_MARK, begins[line], ends[line]):
            begins[line] += len(BYTE_ORDER_MARK)
    return Block(data, begins, ends, slices(data, begins, ends))
