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

from pipeline.key_text import is_text, require_name_type, texts_of
from pipeline.nested import element_type, first_step, stored_name, type_at, values_at
from pipeline.rows import BATCH_ROWS, Reading, batch_of, lists_of, rejected, require_columns, row_keys
from pipeline.sidecars import KEY, STATUS, is_sidecar, require_key_type, status_reasons
from vocab.errors import InputError
from vocab.storage import BROKEN

UNREADABLE = "unreadable_row_group"


def read_parquet(file: pq.ParquetFile, path: str, groups: Sequence[int], reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of the row groups, in order. Raises what `check_columns` and `texts_of` raise."""
    check_columns(file, reading, path)
    schema = file.schema_arrow
    status = [STATUS] if reading.format == "img2dataset" and STATUS in schema.names else []
    columns = list(dict.fromkeys([*(stored_name(schema, name) for name in reading.needed), *status]))
    for group in groups:
        first = sum(file.metadata.row_group(before).num_rows for before in range(group))
        end = first + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                yield _rows(batch, first, reading, path)
                first += len(batch)
        except BROKEN:
            if reading.strict:
                raise
            for start in range(first, end, BATCH_ROWS):
                keys = row_keys(start, min(BATCH_ROWS, end - start)).to_pylist()
                yield rejected(keys, UNREADABLE)


def _rows(batch: pa.RecordBatch, first: int, reading: Reading, path: str) -> pa.RecordBatch:
    reasons = pa.nulls(len(batch), pa.string())
    if reading.format == "img2dataset" and STATUS in batch.schema.names:
        reasons = status_reasons(batch.column(STATUS))
    named: dict[str, pa.Array] = {}
    for name in filter(None, (reading.key, reading.shard)):
        _, column = values_at(batch, name)
        named[name], broken = texts_of(column, where=f"{path}, column {name!r}")
        if broken.true_count:
            reasons = pc.if_else(pc.and_(pc.is_null(reasons), broken), "not_utf8", reasons)
    return batch_of(
        named[reading.key] if reading.key else row_keys(first, len(batch)),
        lists_of([values_at(batch, name) for name in reading.captions], len(batch)),
        shards=named[reading.shard] if reading.shard else None,
        reasons=reasons,
    )


def split_groups(metadata: pq.FileMetaData, rows: int) -> list[tuple[int, ...]]:
    """Row groups, in runs of neighbours that hold about `rows` rows each."""
    counts = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
    runs: dict[int, list[int]] = {}
    for group, end in enumerate(counts.tolist()):
        runs.setdefault((end - 1) // rows, []).append(group)
    return [tuple(run) for run in runs.values()]


def check_columns(file: pq.ParquetFile, reading: Reading, path: str) -> None:
    """Raise InputError unless the file has the columns of the job, each once, of types that can be read so.

    A sidecar of img2dataset is refused where row numbers would be its keys: its rows do not stand in the order of keys.
    """
    schema = file.schema_arrow
    heads = [first_step(schema.names, name) or (name, "") for name in reading.needed]
    require_columns(schema.names, [head for head, _ in heads], where=path)
    for name in reading.captions:
        kind = _type_at(schema, name, path)
        inner = element_type(kind)
        if not is_text(inner) and not pa.types.is_null(inner):
            raise InputError(
                f"{path}, column {name!r}",
                found=f"type {kind}",
                wanted="text, or a list of texts",
                remedy="Name another --caption-columns; a path names a field inside of a column, as json.caption.",
            )
    for name in filter(None, (reading.key, reading.shard)):
        require_name_type(_type_at(schema, name, path), where=f"{path}, column {name!r}")
    if reading.format == "img2dataset" and reading.key == KEY:
        require_key_type(schema.field(KEY).type, where=path)
    if reading.format == "parquet" and reading.key is None and is_sidecar(file):
        raise InputError(
            path,
            found="img2dataset's columns key and status, and no --key-column",
            wanted="img2dataset's sidecars in a job of their own, of format img2dataset",
            remedy="Leave --format out, or give --format img2dataset: then column key names the rows, and failed "
            "downloads are rejected. To name the rows by another column, give --key-column.",
        )


def _type_at(schema: pa.Schema, name: str, path: str) -> pa.DataType:
    kind = type_at(schema, name)
    if kind is None:
        step = first_step(schema.names, name) or (name, "")
        raise InputError(
            f"{path}, column {name!r}",
            found="no such field in it, or two",
            wanted="the path of a field, as json.caption",
            remedy=f"Column {step[0]!r} is of type {schema.field(step[0]).type}.",
        )
    return kind
