"""Dotted paths to fields inside columns and records: json.caption, sentences.raw.

{"json": {"caption": "a dog"}}                        json.caption     a dog
{"sentences": [{"raw": "a dog"}, {"raw": "a cat"}]}   sentences.raw    a dog, a cat
{"json.caption": "a dog"}                             json.caption     a dog: a name with dots comes first
map {"en": "a dog", "de": "ein Hund"}                 alt.en           a dog
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from typing import cast

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
    """Type of a field; a list of that type if the path leads through a list; None if there is no such field, or two."""
    found = first_step(fields.names, path)
    if found is None or list(fields.names).count(found[0]) > 1:
        return None
    return _type_below(fields.field(found[0]).type, found[1])


def _type_below(kind: pa.DataType, rest: str) -> pa.DataType | None:
    inner = element_type(kind)
    if is_json(inner):
        return pa.list_(pa.string())
    if not rest or pa.types.is_null(inner):
        return kind
    below: pa.DataType | None = None
    if pa.types.is_struct(inner):
        below = type_at(inner, rest)
    elif has_named_items(inner):
        below = _type_below(inner.item_type, map_step(inner, rest)[1])
    return below if below is None or inner is kind else pa.list_(below)


def has_named_items(kind: pa.DataType) -> bool:
    """Tell a map whose keys are texts."""
    return bool(pa.types.is_map(kind) and any(map(kind.key_type.equals, (pa.string(), pa.large_string()))))


def map_step(kind: pa.MapType, path: str) -> tuple[str, str]:
    """Split a path into a key of the map and the rest. If nothing is below the map's items, a key may hold dots."""
    item = element_type(kind.item_type)
    if not (pa.types.is_struct(item) or pa.types.is_map(item) or is_json(item)):
        return path, ""
    key, _, rest = path.partition(".")
    return key, rest


def is_json(kind: pa.DataType) -> bool:
    """Tell Arrow's extension type of JSON texts, which older releases of pyarrow read as text."""
    return bool(isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json")


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
    """Name to read a field of a Parquet file by: its path, or the whole column if the path leads through lists."""
    name, rest = first_step(schema.names, path) or (path, "")
    kind = schema.field(name).type
    while rest and pa.types.is_struct(kind):
        inner, rest = first_step(kind.names, rest) or (rest, "")
        kind = kind.field(inner).type
    return name if rest else path


def values_at(batch: pa.RecordBatch, path: str) -> tuple[NDArray[np.int64], pa.Array]:
    """Row of each value of a field, ascending, and the values; those in lists one by one."""
    name, rest = first_step(batch.schema.names, path) or (path, "")
    values = batch.column(name)
    rows = np.arange(len(batch))
    while True:
        rows, values = unlisted(rows, values)
        if is_json(values.type):
            texts = pa.array([_texts_in(text, rest) for text in values.storage.to_pylist()], pa.list_(pa.string()))
            return unlisted(rows, texts)
        if not rest or pa.types.is_null(values.type):
            return rows, values
        if pa.types.is_map(values.type):
            name, rest = map_step(values.type, rest)
            values = pc.map_lookup(values, pa.scalar(name, values.type.key_type), "first")
        else:
            name, rest = first_step(values.type.names, rest) or (rest, "")
            values = pc.struct_field(values, [values.type.get_field_index(name)])


def _texts_in(text: str | None, path: str) -> list[str]:
    """Texts in a JSON document, or in one of its fields; none if it is not JSON."""
    try:
        value = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [part for part in elements(value_at(value, path) if path else value) if isinstance(part, str)]


def unlisted(rows: NDArray[np.int64], values: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Row of each element of lists, however deep, and the elements."""
    while is_list(values.type):
        rows = rows[np.asarray(pc.list_parent_indices(values), dtype=np.int64)]
        values = values.flatten()
    return rows, values


def value_at(record: object, path: str) -> object:
    """Value of a JSON record's field; a list of values if the path leads through a list; None if there is none."""
    if not isinstance(record, dict):
        return None
    if path in record:
        return record[path]
    found = first_step(record, path)
    if found is None:
        return None
    name, rest = found
    value = record[name]
    if isinstance(value, list):
        return [value_at(element, rest) for element in elements(value)]
    return value_at(value, rest)


def elements(value: object) -> Iterator[object]:
    """Elements of lists in lists, however deep, in order; of any other value, the value itself."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        else:
            yield value


def has_at(record: object, path: str) -> bool:
    """Tell whether a JSON record has a field, null or not; on a path through a list, any element may have it."""
    if isinstance(record, list):
        return any(has_at(element, path) for element in elements(record))
    found = first_step(record, path) if isinstance(record, dict) else None
    return found is not None and (not found[1] or has_at(cast(dict[str, object], record)[found[0]], found[1]))
