r"""Captions out of CSV files: commas, quotes as RFC 4180 has them, line breaks inside of quotes.

In: an open stream of bytes. Out: batches of `rows.ROWS`.

    id,caption
    7,"a dog,\na ""cat"" "
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import pyarrow as pa

from pipeline.rows import BATCH_ROWS, Reading, batch_of, caption_lists, row_keys
from vocab.errors import InputError

LONGEST_FIELD = 64 << 20


def read_csv(stream: BinaryIO, path: str, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of a CSV file; blank lines are none, and a short row lacks its last columns."""
    csv.field_size_limit(LONGEST_FIELD)
    # Bytes that are not UTF-8 pass through as lone surrogates, and back.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    records = (record for record in csv.reader(text) if record)
    number = 0
    try:
        if reading.header:
            next(records, None)
        while rows := list(islice(records, BATCH_ROWS)):
            yield _rows(rows, number, reading)
            number += len(rows)
    except csv.Error as error:
        raise InputError(
            path,
            found=f"a record after row {number:,} that cannot be parsed ({error})",
            wanted="comma-separated values, quoted as RFC 4180 has it",
            remedy="Mend the file, or name another --format.",
        ) from error


def _rows(rows: list[list[str]], number: int, reading: Reading) -> pa.RecordBatch:
    def column(name: str) -> list[str | None]:
        place = reading.columns.index(name)
        return [row[place] if place < len(row) else None for row in rows]

    broken = [any(_is_broken(field) for field in row) for row in rows]
    captions = [
        pa.array([None if v is None else v.encode("utf-8", "surrogateescape") for v in column(name)], pa.binary())
        for name in reading.captions
    ]
    return batch_of(
        pa.array([_clean(v) for v in column(reading.key)], pa.string()) if reading.key else row_keys(number, len(rows)),
        caption_lists(captions),
        shards=pa.array([_clean(v) for v in column(reading.shard)], pa.string()) if reading.shard else None,
        reasons=pa.array(["not_utf8" if is_broken else None for is_broken in broken], pa.string()),
    )


def _is_broken(field: str) -> bool:
    return not field.isascii() and any("\udc80" <= sign <= "\udcff" for sign in field)


def _clean(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
