r"""Captions out of files with one record a line: TSV and JSONL, gzipped or not.

In: an open stream of bytes. Out: batches of `rows.ROWS`.

    a dog on a couch\thttps://example.org/1.jpg       TSV without quoting, as img2dataset, CC3M and LAION have it
    {"caption": ["dogs", "a cat"], "uid": "7"}        JSONL; a caption field holds a text or a list of texts

Lines end with \n; a \r before it is dropped, one elsewhere belongs to the caption. Bytes need not be UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.key_text import text_of
from pipeline.nested import value_at
from pipeline.rows import BATCH_ROWS, Reading, batch_of, caption_lists, row_keys
from vocab.errors import InputError

BLOCK = 4 << 20
LONGEST_LINE = 64 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_tsv(stream: BinaryIO, path: str, first: int, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of tab-separated lines. `first`: number of the first line, 0 where the stream begins with the file."""
    for number, lines in numbered_lines(stream, path, first):
        if reading.header and number == 0:
            number, lines = 1, lines[1:]
        if len(lines):
            yield _tsv_rows(number - reading.header, lines, reading)


def _tsv_rows(number: int, lines: pa.BinaryArray, reading: Reading) -> pa.RecordBatch:
    fields = pc.split_pattern(lines, b"\t")
    begins, ends = np.asarray(fields.offsets[:-1]), np.asarray(fields.offsets[1:])

    def column(name: str) -> pa.BinaryArray:
        places = begins + reading.columns.index(name)
        return fields.values.take(pa.array(places, mask=places >= ends))

    valid = _valid_utf8(lines)
    keys = _text(column(reading.key), valid) if reading.key else row_keys(number, len(lines))
    return batch_of(
        keys,
        caption_lists([column(name) for name in reading.captions]),
        shards=_text(column(reading.shard), valid) if reading.shard else None,
        reasons=pc.if_else(valid, pa.scalar(None, pa.string()), "not_utf8"),
    )


def _valid_utf8(lines: pa.BinaryArray) -> pa.BooleanArray:
    """[lines] whether each is UTF-8; one check of all unless it fails."""
    try:
        lines.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_decoded(line) is not None for line in lines.to_pylist()])
    return pa.array(np.ones(len(lines), dtype=bool))


def _text(values: pa.BinaryArray, valid: pa.BooleanArray) -> pa.StringArray:
    """As text; of a line that is not UTF-8 with U+FFFD in place of the bytes."""
    if pc.all(valid).as_py() in (True, None):
        return values.cast(pa.string())
    return pa.array([None if v is None else v.decode("utf-8", "replace") for v in values.to_pylist()], pa.string())


@dataclass
class Records:
    """Columns of JSON records as they pass by."""

    numbers: list[int] = field(default_factory=list)
    captions: list[list[bytes]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    shards: list[str | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)


def read_jsonl(stream: BinaryIO, path: str, first: int, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of JSON records. Blank lines are none; a row's number is that of its line."""
    for number, lines in numbered_lines(stream, path, first):
        records = Records()
        for offset, line in enumerate(lines.to_pylist()):
            if line.strip():
                _take_record(records, number + offset, line, reading)
        if records.numbers:
            numbered = pc.utf8_lpad(pa.array(records.numbers).cast(pa.string()), 9, "0")
            yield batch_of(
                pa.array(records.keys, pa.string()) if reading.key else numbered,
                pa.array(records.captions, pa.list_(pa.binary())),
                shards=pa.array(records.shards, pa.string()) if reading.shard else None,
                reasons=pa.array(records.reasons, pa.string()),
            )


def _take_record(records: Records, number: int, line: bytes, reading: Reading) -> None:
    record: Any = None
    reason = None
    if (text := _decoded(line)) is None:
        reason = "not_utf8"
    else:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            reason = "malformed_record"
    if reason is None and not isinstance(record, dict):
        reason = "malformed_record"
    fields = record if reason is None else {}
    key, no_key = text_of(value_at(fields, reading.key)) if reading.key else (None, None)
    shard, no_shard = text_of(value_at(fields, reading.shard)) if reading.shard else (None, None)
    records.numbers.append(number)
    records.captions.append([text for name in reading.captions for text in _texts(value_at(fields, name))])
    records.keys.append(key if reason is None else "")
    records.shards.append(shard if reason is None else "")
    records.reasons.append(reason or no_key or no_shard)


def _texts(value: object) -> list[bytes]:
    if isinstance(value, str):
        return [value.encode("utf-8", "surrogatepass")]
    values = value if isinstance(value, list) else [value]
    # A path through a list gives a list of what each element holds.
    values = [text for held in values for text in (held if isinstance(held, list) else [held])]
    # A lone surrogate, which JSON can escape, is no UTF-8: the labeler's reader will say so.
    return [text.encode("utf-8", "surrogatepass") for text in values if isinstance(text, str)]


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def numbered_lines(stream: BinaryIO, path: str, first: int) -> Iterator[tuple[int, pa.BinaryArray]]:
    """Lines in arrays of at most BATCH_ROWS, each with the number of its first line."""
    number = first
    for block in _whole_lines(stream, path):
        lines = _split(block)
        for start in range(0, len(lines), BATCH_ROWS):
            yield number, lines[start : start + BATCH_ROWS]
            number += len(lines[start : start + BATCH_ROWS])


def _whole_lines(stream: BinaryIO, path: str) -> Iterator[bytes]:
    """Blocks that end with \\n, but for the last."""
    rest: Sequence[bytes] = ()
    begun = False
    while block := stream.read(BLOCK):
        if not begun:
            block, begun = block.removeprefix(BYTE_ORDER_MARK), True
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, block[:end]])
            rest = ()
        rest = [*rest, block[end:]]
        if sum(map(len, rest)) > LONGEST_LINE:
            raise InputError(
                path,
                found=f"a line of more than {LONGEST_LINE >> 20} MiB",
                wanted="one record a line",
                remedy="Check --format; a file of another kind has no lines.",
            )
    if last := b"".join(rest):
        yield last


def _split(block: bytes) -> pa.BinaryArray:
    """Lines of a block, without their ends, as slices of one buffer."""
    data = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    begins = np.concatenate([[0], ends + 1])
    if begins[-1] == len(data):
        begins = begins[:-1]
    ends = np.append(ends, len(data))[: len(begins)]
    ends = ends - ((ends > begins) & (data[np.maximum(ends - 1, 0)] == ord("\r")))
    # Slices with gaps between them: every second of these is a line.
    edges = np.column_stack([begins, ends]).ravel()
    offsets = np.append(edges, edges[-1]).astype(np.int32)
    pieces = pa.BinaryArray.from_buffers(pa.binary(), len(edges), [None, pa.py_buffer(offsets), pa.py_buffer(block)])
    return pieces.take(pa.array(np.arange(0, len(edges), 2)))
