"""Captions in Parquet files, row group by row group; also in img2dataset's sidecars, a row for each URL.

A row group that cannot be read becomes as many rejected rows as the footer says it holds, so that the account still
closes; if that is more than any writer makes, or less than was read, the file ends there. Sidecars are recognised by
their columns, since any Parquet file may have such a name:

    url   caption   key         status               error_message     width ...
    ...   a dog     000000003   success              null              256
    ...   a cat     000000000   failed_to_download   HTTP Error 404    null     rows stand in the order of downloads
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.reading.key_text import is_text, require_name_type, texts_of
from pipeline.reading.nested import element_type, first_step, stored_name, type_at, values_at
from pipeline.reading.rows import (
    BATCH_ROWS,
    ReadOptions,
    batch_of,
    captionless,
    column_fault,
    lists_of,
    own_reading,
    rejected,
    row_keys,
)
from pipeline.reject_reasons import FAILED_DOWNLOAD, NOT_UTF8, UNREADABLE_ROW_GROUP
from vocab.errors import InputError
from vocab.store.files import BROKEN

MOST_UNREADABLE = 1 << 24
"""most rows of unreadable row groups in a piece of a file: a damaged footer can claim billions"""


def read_parquet(
    file: pq.ParquetFile, path: str, groups: Sequence[int], reading: ReadOptions
) -> Iterator[pa.RecordBatch]:
    """Rows of the row groups, in order; rows of a file without the columns of captions are rejected.

    Raises InputError for keys that cannot be names and for a sidecar that is read like any other file; what `texts_of`
    raises; and OSError, or another of BROKEN, for a broken row group whose number of rows is broken as well.
    """
    refuse_keys(file, reading, path)
    schema = file.schema_arrow
    reading = own_reading(reading, lambda name: None if name in column_faults(schema, reading, path) else name)
    needed = [name for name in reading.needed if type_at(schema, name) is not None]
    status = [STATUS] if reading.format == "img2dataset" and STATUS in schema.names else []
    # A batch without columns would not know its number of rows.
    columns = list(dict.fromkeys([*(stored_name(schema, name) for name in needed), *status])) or schema.names[:1]
    left = MOST_UNREADABLE
    for group in groups:
        first = sum(file.metadata.row_group(before).num_rows for before in range(group))
        end = first + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                rows = _rows(batch, first, reading, path)
                yield rows if reading.texts else captionless(rows)
                first += len(batch)
            if first != end:
                raise OSError(f"row group {group} ends {abs(end - first):,} rows away from where the footer says")
        except BROKEN:
            left -= end - first
            if reading.strict or left < 0 or first > end:
                raise
            for start in range(first, end, BATCH_ROWS):
                keys = row_keys(start, min(BATCH_ROWS, end - start)).to_pylist()
                yield rejected(keys, UNREADABLE_ROW_GROUP)


def _rows(batch: pa.RecordBatch, first: int, reading: ReadOptions, path: str) -> pa.RecordBatch:
    reasons = pa.nulls(len(batch), pa.string())
    if reading.format == "img2dataset" and STATUS in batch.schema.names:
        reasons = status_reasons(batch.column(STATUS))
    named: dict[str, pa.Array] = {}
    for name in filter(None, (reading.key, reading.shard)):
        column = pa.nulls(len(batch))
        if type_at(batch.schema, name) is not None:
            _, column = values_at(batch, name)
        named[name], broken = texts_of(column, where=f"{path}, column {name!r}")
        if broken.true_count:
            reasons = pc.if_else(pc.and_(pc.is_null(reasons), broken), NOT_UTF8, reasons)
    synsets = lists_of([values_at(batch, name) for name in reading.synsets], len(batch)) if reading.synsets else None
    return batch_of(
        named[reading.key] if reading.key else row_keys(first, len(batch)),
        lists_of([values_at(batch, name) for name in reading.captions], len(batch)),
        named=synsets,
        shards=named[reading.shard] if reading.shard else None,
        reasons=reasons,
    )


def split_groups(metadata: pq.FileMetaData, rows: int) -> list[tuple[int, ...]]:
    """Neighbouring row groups put together to pieces of about `rows` rows."""
    counts = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
    runs: dict[int, list[int]] = {}
    for group, end in enumerate(counts.tolist()):
        runs.setdefault((end - 1) // rows, []).append(group)
    return [tuple(run) for run in runs.values()]


def column_faults(schema: pa.Schema, reading: ReadOptions, path: str) -> dict[str, InputError]:
    """Errors by column that the job needs and the file lacks."""
    faults: dict[str, InputError] = {}
    for name in reading.needed:
        head, _ = first_step(schema.names, name) or (name, "")
        kind = type_at(schema, name)
        if (missing := column_fault(schema.names, head, where=path)) is not None:
            faults[name] = missing
        elif kind is None:
            faults[name] = InputError(
                f"{path}, column {name!r}",
                found="no such field in it, or two",
                wanted="the path of a field, as json.caption",
                remedy=f"Column {head!r} is of type {schema.field(head).type}.",
            )
        elif name in reading.texts and not (is_text(element_type(kind)) or pa.types.is_null(element_type(kind))):
            faults[name] = InputError(
                f"{path}, column {name!r}",
                found=f"type {kind}",
                wanted="text, or a list of texts",
                remedy="Name another column; a path names a field inside of a column, or the item of a map's key, as "
                "json.caption.",
            )
    return faults


def refuse_keys(file: pq.ParquetFile, reading: ReadOptions, path: str) -> None:
    """Raise InputError for a column of keys or shards that cannot name samples.

    A sidecar of img2dataset is refused if row numbers would be its keys: its rows are not in the order of their keys.
    """
    schema = file.schema_arrow
    for name in filter(None, (reading.key, reading.shard)):
        if (kind := type_at(schema, name)) is not None:
            require_name_type(kind, where=f"{path}, column {name!r}")
    if reading.format == "img2dataset" and reading.key == KEY and KEY in schema.names:
        require_key_type(schema.field(KEY).type, where=path)
    if reading.format == "parquet" and reading.key is None and is_sidecar(file):
        raise InputError(
            path,
            found="img2dataset's columns key and status, and no --key-column",
            wanted="img2dataset's sidecars in a job of their own, of format img2dataset",
            remedy="Leave --format out, or give --format img2dataset: then column key names the rows, and failed "
            "downloads are rejected. To name the rows by another column, give --key-column.",
        )


KEY, STATUS, ERROR, SUCCESS = "key", "status", "error_message", "success"
FAILED = "failed_to_"


def has_sidecar_columns(names: Collection[str]) -> bool:
    """Tell whether the columns that img2dataset adds to its input are among the names."""
    return {KEY, STATUS, ERROR} <= set(names)


def is_sidecar(file: pq.ParquetFile) -> bool:
    """Tell a sidecar, even one rewritten without some columns, by its columns and the values of `status`."""
    names = file.schema_arrow.names
    if has_sidecar_columns(names):
        return True
    if names.count(KEY) != 1 or names.count(STATUS) != 1:
        return False
    first = next(file.iter_batches(1024, columns=[STATUS]), None)
    said = set() if first is None else {str(status) for status in first.column(0).drop_null().to_pylist()}
    return bool(said) and all(status == SUCCESS or status.startswith(FAILED) for status in said)


def require_key_type(kind: pa.DataType, *, where: str) -> None:
    """Raise InputError for keys that are not text."""
    if not is_text(kind):
        raise InputError(
            f"{where}, column {KEY!r}",
            found=f"type {kind}",
            wanted="text, as img2dataset writes it",
            remedy="As numbers, keys lost the leading zeros that the images' names have: give the original sidecars.",
        )


def status_reasons(status: pa.Array) -> pa.Array:
    """Reasons to reject the URLs that could not be downloaded: there is no image to train on."""
    if pa.types.is_dictionary(status.type):
        status = status.dictionary_decode()
    if pa.types.is_nested(status.type):
        status = pa.array(map(str, status.to_pylist()), pa.string())
    text = pc.fill_null(status.cast(pa.string()), "null")
    named = pc.binary_join_element_wise(FAILED_DOWNLOAD, text, "")
    return pc.if_else(pc.not_equal(text, SUCCESS), named, pa.scalar(None, pa.string()))
