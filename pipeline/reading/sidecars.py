"""img2dataset's sidecars: a row for each URL; recognised by their columns, for any Parquet file has such a name.

In: an open Parquet file, or names of columns. Out: whether img2dataset wrote them, and which rows have an image.

    url   caption   key         status               error_message     width ...
    ...   a dog     000000003   success              null              256
    ...   a cat     000000000   failed_to_download   HTTP Error 404    null     rows stand as downloads ended
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.reading.key_text import is_text
from vocab.errors import InputError

KEY, STATUS, ERROR, SUCCESS = "key", "status", "error_message", "success"
FAILED = "failed_to_"


def has_sidecar_columns(names: Collection[str]) -> bool:
    """Tell whether the columns that img2dataset adds to its input are among the names."""
    return {KEY, STATUS, ERROR} <= set(names)


def is_sidecar(file: pq.ParquetFile) -> bool:
    """Tell a sidecar, also one rewritten without some columns, by its columns and the values of `status`."""
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
            remedy="Keys that became numbers lost the leading zeros that images have: give the sidecars themselves.",
        )


def status_reasons(status: pa.Array) -> pa.Array:
    """Reasons to reject the URLs that could not be downloaded: there is no image to train on."""
    if pa.types.is_dictionary(status.type):
        status = status.dictionary_decode()
    if pa.types.is_nested(status.type):
        status = pa.array(map(str, status.to_pylist()), pa.string())
    told = pc.fill_null(status.cast(pa.string()), "null")
    named = pc.binary_join_element_wise("status:", told, "")
    return pc.if_else(pc.not_equal(told, SUCCESS), named, pa.scalar(None, pa.string()))
