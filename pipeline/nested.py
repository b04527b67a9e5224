"""Dotted paths to fields inside columns and records: json.caption, sentences.raw.

In: a path, and a schema, a batch or a JSON record. Out: the type or the values found there.

    {"json": {"caption": "a dog"}}                        json.caption     a dog
    {"sentences": [{"raw": "a dog"}, {"raw": "a cat"}]}   sentences.raw    a dog, a cat
    {"json.caption": "a dog"}                             json.caption     a dog: a name as it stands goes first
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def first_step(names: Container[str], path: str) -> tuple[str, str] | None:
    """Split a path into the name it begins with and the rest, "" at its end; None if no name fits."""
    if path in names:
        return path, ""
    for end in (at for at in range(len(path) - 1, 0, -1) if path[at] == "."):
        if path[:end] in names:
            return path[:end], path[end + 1 :]
    return None


def type_at(fields: pa.Schema | pa.StructType, path: str) -> pa.DataType | None:
    """Type of a field; a list of it where the path leads through a list; None if there is no such field, or two."""
    found = first_step(fields.names, path)
    if found is None or list(fields.names).count(found[0]) > 1:
        return None
    name, rest = found
    kind = fields.field(name).type
    inner = element_type(kind)
    if not rest or pa.types.is_null(inner):
        return kind
    below = type_at(inner, rest) if pa.types.is_struct(inner) else None
    return below if below is None or inner is kind else pa.list_(below)


def element_type(kind: pa.DataType) -> pa.DataType:
    """Type of a list's elements, however deep; of anything else the type itself."""
    while is_list(kind):
        kind = kind.value_type
    return kind


def is_list(kind: pa.DataType) -> bool:
    """Tell a list of any layout from other types."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in (*tests, pa.types.is_list_view, pa.types.is_large_list_view))


def stored_name(schema: pa.Schema, path: str) -> str:
    """Name to read a field of a Parquet file by: the path itself, or the whole column where lists are on the way."""
    name, rest = first_step(schema.names, path) or (path, "")
    kind = schema.field(name).type
    while rest and pa.types.is_struct(kind):
        inner, rest = first_step(kind.names, rest) or (rest, "")
        kind = kind.field(inner).type
    return name if rest else path


def values_at(batch: pa.RecordBatch, path: str) -> tuple[NDArray[np.int64], pa.Array]:
    """Values of a field, those in lists one by one, and the row of each, ascending."""
    name, rest = first_step(batch.schema.names, path) or (path, "")
    values = batch.column(name)
    rows = np.arange(len(batch))
    while True:
        rows, values = unlisted(rows, values)
        if not rest or pa.types.is_null(values.type):
            return rows, values
        name, rest = first_step(values.type.names, rest) or (rest, "")
        values = pc.struct_field(values, [values.type.get_field_index(name)])


def unlisted(rows: NDArray[np.int64], values: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Elements of lists, however deep, and the row of each."""
    while is_list(values.type):
        rows = rows[np.asarray(pc.list_parent_indices(values), dtype=np.int64)]
        values = values.flatten()
    return rows, values


def value_at(record: object, path: str) -> object:
    """Value of a JSON record's field, a list of values where the path leads through a list, None if there is none."""
    if not isinstance(record, dict):
        return None
    if path in record:
        return record[path]
    found = first_step(record, path)
    if found is None:
        return None
    name, rest = found
    value = record[name]
    return [value_at(element, rest) for element in value] if isinstance(value, list) else value_at(value, rest)
