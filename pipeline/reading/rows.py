"""Rows of captions in Arrow batches, the same for every stored format.

In: columns of one file. Out: batches of ROWS:

    shard string             null if the file itself is the shard
    key string               null if the key column has no key: the row is rejected
    captions list<binary>    the row's captions; bytes, because they may not be UTF-8
    named list<binary>       texts that name synsets; null if the job reads none
    reason string            reason to reject the row; null if reading found none
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.config import Quoting, StoredFormat
from pipeline.reading.nested import unlisted
from pipeline.reject_reasons import NO_CAPTION
from vocab.errors import InputError

BATCH_ROWS = 32_768
"""rows that are read and labelled at once"""
KEY_DIGITS = 9
ROWS = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("captions", pa.list_(pa.binary())),
        ("named", pa.list_(pa.binary())),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a job are read; travels to every task."""

    format: StoredFormat
    captions: tuple[str, ...]
    """columns, or extensions of a tar's members, that hold captions"""
    key: str | None
    """column of the key; None if a row's number is its key"""
    shard: str | None
    """column of the shard; None if the file is the shard"""
    synsets: tuple[str, ...] = ()
    """columns, or extensions of a tar's members, that name synsets"""
    columns: tuple[str, ...] = ()
    """names of a text file's columns, from the options or from the header"""
    header: bool = False
    """the first line of a text file names its columns"""
    separator: bytes = b""
    """byte between the fields of a text file"""
    quoting: Quoting | None = None
    """how text files quote; None if it is detected in each file"""
    strict: bool = False
    """a file that cannot be read fails the job"""

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Columns that give a row its synsets, each once."""
        return tuple(dict.fromkeys([*self.captions, *self.synsets]))

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that are read, each once."""
        return tuple(dict.fromkeys([*self.texts, *filter(None, (self.key, self.shard))]))


def column_fault(names: Sequence[str], name: str, *, where: str) -> InputError | None:
    """The error for a column that is missing or comes twice; None for any other column."""
    if name not in names:
        return InputError(
            where,
            found=f"columns {', '.join(names)}",
            wanted=f"a column {name!r}",
            remedy="Name the columns with --caption-columns, --key-column and --shard-column; those of a text file "
            "without a header line all of them, in order, with --columns.",
        )
    if names.count(name) > 1:
        return InputError(
            where,
            found=f"two columns {name!r}",
            wanted="different names",
            remedy="Rename one of them in the file; in a text file, name the columns with --columns.",
        )
    return None


def broken_file(path: str, why: object, *, kind: type[InputError] = InputError, also: str = "") -> InputError:
    """The error for a file of captions that cannot be read. `also`: another remedy."""
    return kind(
        path,
        found=f"a file that cannot be read ({why})",
        wanted="a whole file, of the format that its name says",
        remedy=f"Download it again, or leave it out of --captions{also}.",
    )


def own_reading(reading: ReadOptions, name_in_file: Callable[[str], str | None]) -> ReadOptions:
    """Options for a file that may lack columns of the job. `name_in_file`: the file's name of a column, or None.

    A missing key or shard keeps its name: rows without one are rejected, and so are all rows of a file without `texts`.
    """

    def held(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(own for name in names if (own := name_in_file(name)) is not None)

    key, shard = (name and (name_in_file(name) or name) for name in (reading.key, reading.shard))
    return replace(reading, captions=held(reading.captions), synsets=held(reading.synsets), key=key, shard=shard)


def captionless(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Reject rows of a file without any of the columns that hold captions."""
    return batch.set_column(ROWS.get_field_index("reason"), "reason", pc.coalesce(batch["reason"], NO_CAPTION))


def row_keys(first: int, count: int) -> pa.StringArray:
    """Numbers of `count` rows from `first` on as keys, of at least nine digits, so that they sort like numbers."""
    numbers = pa.array(np.arange(first, first + count)).cast(pa.string())
    return pc.utf8_lpad(numbers, KEY_DIGITS, "0")


def caption_lists(columns: Sequence[pa.Array], length: int) -> pa.ListArray:
    """list<binary>: captions of several columns, each text or a list of texts, row by row, without nulls."""
    return lists_of([unlisted(np.arange(length), column) for column in columns], length)


def lists_of(parts: Sequence[tuple[NDArray[np.int64], pa.Array]], length: int) -> pa.ListArray:
    """list<binary>: texts, given with the ascending numbers of their rows, row by row, without nulls."""
    if not parts:
        return pa.array([[]] * length, pa.list_(pa.binary()))
    parts = [_without_nulls(rows, texts) for rows, texts in parts]
    rows = np.concatenate([row for row, _ in parts])
    texts = pa.concat_arrays([text for _, text in parts])
    if len(parts) > 1:
        order = np.argsort(rows, kind="stable")
        rows, texts = rows[order], texts.take(pa.array(order))
    offsets = np.zeros(length + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=length), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), texts)


def _without_nulls(rows: NDArray[np.int64], texts: pa.Array) -> tuple[NDArray[np.int64], pa.BinaryArray]:
    texts = texts.cast(pa.binary())
    if texts.null_count:
        there = texts.is_valid()
        rows, texts = rows[np.asarray(there)], texts.filter(there)
    return rows, texts


def batch_of(
    keys: pa.Array,
    captions: pa.ListArray,
    *,
    named: pa.ListArray | None = None,
    shards: pa.Array | None = None,
    reasons: pa.Array | None = None,
) -> pa.RecordBatch:
    """Columns as a batch of ROWS; columns that are not given are null."""
    given = dict(zip(ROWS.names, (shards, keys, captions, named, reasons), strict=True))
    columns = [pa.nulls(len(keys), ROWS.field(n).type) if c is None else c for n, c in given.items()]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS)


class CaptionRow(NamedTuple):
    """Row of ROWS, as it is read from a record or a sample."""

    key: str | None
    captions: list[bytes]
    named: list[bytes]
    shard: str | None
    reason: str | None


def batch_of_rows(rows: Sequence[CaptionRow], reading: ReadOptions) -> pa.RecordBatch:
    """Rows as a batch of ROWS."""
    keys, captions, named, shards, reasons = zip(*rows, strict=True)
    return batch_of(
        pa.array(keys, pa.string()),
        pa.array(captions, pa.list_(pa.binary())),
        named=pa.array(named, pa.list_(pa.binary())) if reading.synsets else None,
        shards=pa.array(shards, pa.string()) if reading.shard else None,
        reasons=pa.array(reasons, pa.string()),
    )


def rejected(keys: Sequence[str], reason: str) -> pa.RecordBatch:
    """Rejected rows of which only the keys are known."""
    captions = pa.array([[]] * len(keys), pa.list_(pa.binary()))
    return batch_of(pa.array(keys, pa.string()), captions, reasons=pa.array([reason] * len(keys), pa.string()))
