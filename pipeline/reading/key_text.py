"""Keys, shards and ids as text: one rule for all columns and records that name samples.

"k7"  b"k7"  7  7.0  decimal 7.00     k7  k7  7  7  7       a category is read as its value
date 2026-01-31                       2026-01-31
UUID                                  00000000-0000-0000-0000-000000000005
null  NaN                             no text
7.5  1e300  true  a time  a list      refused: programs write them in several ways, or they cannot be names
"""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reading.lines import decoded
from pipeline.reject_reasons import MALFORMED_RECORD, NOT_UTF8
from vocab.errors import InputError

NO_TEXT = pa.scalar(None, pa.string())
TEXT_TYPES = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
)  # fmt: skip
NAME_TYPES = (
    *TEXT_TYPES, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_date, pa.types.is_null,
)  # fmt: skip
# 12, 12.00, and 0E-10, as a zero of ten places is written.
WHOLE = r"^(?:(-?\d+)(?:\.0*)?|-?(0)E-\d+)$"
# Floats of 2, 4 and 8 bytes hold all whole numbers below these.
EXACT_BELOW = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
WANTED = "text or whole numbers"
REMEDY = "Write the column as text, the same everywhere these samples are named, or name another column."


def is_text(kind: pa.DataType) -> bool:
    """Tell text and bytes of any layout from other types; a category counts as its value."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(kind) for test in TEXT_TYPES)


def is_uuid(kind: pa.DataType) -> bool:
    """Tell Arrow's extension type of UUIDs, which older releases of pyarrow read as bytes."""
    return bool(isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid")


def require_name_type(kind: pa.DataType, *, where: str) -> None:
    """Raise InputError for a column that cannot name samples, such as times, lists and booleans."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not is_uuid(inner) and not any(test(inner) for test in NAME_TYPES):
        raise InputError(where, found=f"type {kind}", wanted=WANTED, remedy=REMEDY)


def texts_of(column: pa.Array, *, where: str) -> tuple[pa.Array, pa.Array]:
    """A column as string, and a mask [rows] of values that are null there because they are not UTF-8.

    Raises InputError for fractions, and for floats so large that they may be rounded.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    nothing_broken = pa.repeat(pa.scalar(False), len(column))
    kind = column.type
    if is_uuid(kind):
        values = column.storage.to_pylist()
        return pa.array([None if v is None else str(UUID(bytes=v)) for v in values], pa.string()), nothing_broken
    if pa.types.is_floating(kind):
        return _texts_of_floats(column, where), nothing_broken
    if pa.types.is_decimal(kind):
        return _texts_of_decimals(column, where), nothing_broken
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.string()), nothing_broken
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()), nothing_broken
    if _is_ascii(column):
        return column, nothing_broken
    # Parquet readers do not check the bytes of a text column.
    raw = column.cast(pa.binary())
    try:
        texts = raw.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array([None if value is None else decoded(value) for value in raw.to_pylist()], pa.string())
    return texts, pc.and_(pc.is_valid(raw), pc.is_null(texts))


def _is_ascii(column: pa.Array) -> bool:
    """Tell a column of type string that holds only ASCII, by its buffer, which is faster than value by value."""
    if not pa.types.is_string(column.type) or not len(column):
        return False
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[[column.offset, column.offset + len(column)]]
    values = np.frombuffer(b"" if data is None else data, dtype=np.int8)[ends[0] : ends[1]]
    return int(np.min(values, initial=0)) >= 0


def _texts_of_floats(column: pa.Array, where: str) -> pa.Array:
    limit = EXACT_BELOW[column.type.bit_width]
    numbers = column.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    exact = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), limit))
    _refuse_inexact(column, exact, where)
    return numbers.cast(pa.int64()).cast(pa.string())


def _texts_of_decimals(column: pa.Array, where: str) -> pa.Array:
    texts = column.cast(pa.string())
    _refuse_inexact(column, pc.match_substring_regex(texts, WHOLE), where)
    return pc.replace_substring_regex(texts, WHOLE, r"\1\2")


def _refuse_inexact(column: pa.Array, exact: pa.Array, where: str) -> None:
    at = pc.index(exact, False).as_py()
    if at >= 0:
        raise InputError(
            where,
            found=f"{column[at].as_py()} in a column of type {column.type}",
            wanted=f"{WANTED} that the type holds exactly",
            remedy=REMEDY,
        )


def text_of(value: object) -> tuple[str | None, str | None]:
    """Text of a JSON value, or None; and the reason why it cannot be a name, or None."""
    if isinstance(value, str) and value and value.isascii():
        return value, None
    if value is None or value == "" or value != value:
        return None, None
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_BELOW[64]:
        value = int(value)
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return None, MALFORMED_RECORD
    try:
        str(value).encode("utf-8")
    except UnicodeEncodeError:
        # JSON, unlike other text, can hold half of a surrogate pair.
        return None, NOT_UTF8
    return str(value), None
