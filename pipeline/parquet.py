"""Captions out of Parquet files, row group by row group; img2dataset's sidecars among them.

In: an open file and the row groups wanted. Out: batches of `rows.ROWS`. A row group that cannot be read becomes as many
rejected rows as the footer says it holds, so that the account still closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.rows import BATCH_ROWS, Reading, batch_of, caption_lists, rejected, require_columns, row_keys
from vocab.errors import InputError

UNREADABLE = "unreadable_row_group"


def read_parquet(file: pq.ParquetFile, path: str, groups: Sequence[int], reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of the row groups, in order. Raises InputError for a column that is missing or holds no text."""
    require_text(file.schema_arrow, reading, path)
    status = ["status"] if reading.format == "img2dataset" and "status" in file.schema_arrow.names else []
    columns = [*reading.needed, *status]
    for group in groups:
        first = sum(file.metadata.row_group(before).num_rows for before in range(group))
        end = first + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                yield _rows(batch, first, reading)
                first += len(batch)
        except (pa.ArrowInvalid, OSError):
            if reading.strict:
                raise
            for start in range(first, end, BATCH_ROWS):
                keys = row_keys(start, min(BATCH_ROWS, end - start)).to_pylist()
                yield rejected(keys, UNREADABLE)


def _rows(batch: pa.RecordBatch, first: int, reading: Reading) -> pa.RecordBatch:
    keys = batch.column(reading.key).cast(pa.string()) if reading.key else row_keys(first, len(batch))
    shards = batch.column(reading.shard).cast(pa.string()) if reading.shard else None
    reasons = None
    if "status" in batch.schema.names and reading.format == "img2dataset":
        reasons = status_reasons(batch.column("status"))
    return batch_of(
        keys, caption_lists([batch.column(name) for name in reading.captions]), shards=shards, reasons=reasons
    )


def status_reasons(status: pa.Array) -> pa.Array:
    """img2dataset writes a row for every URL; those it could not download have no image to train on."""
    failed = pc.fill_null(pc.not_equal(status, "success"), True)
    named = pc.binary_join_element_wise("status:", pc.fill_null(status.cast(pa.string()), "null"), "")
    return pc.if_else(failed, named, pa.scalar(None, pa.string()))


def split_groups(metadata: pq.FileMetaData, rows: int) -> list[tuple[int, ...]]:
    """Row groups, in runs of neighbours that hold about `rows` rows each."""
    counts = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
    runs: dict[int, list[int]] = {}
    for group, end in enumerate(counts.tolist()):
        runs.setdefault((end - 1) // rows, []).append(group)
    return [tuple(run) for run in runs.values()]


def require_text(schema: pa.Schema, reading: Reading, path: str) -> None:
    """Raise InputError for a column that is missing or holds no text."""
    require_columns(schema.names, reading.needed, where=path)
    for name in reading.captions:
        kind = schema.field(name).type
        inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
        text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
        if not any(is_text(inner) for is_text in text):
            raise InputError(
                f"{path}, column {name!r}",
                found=f"type {kind}",
                wanted="text, or a list of texts",
                remedy="Name another --caption-columns.",
            )
