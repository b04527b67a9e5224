"""Keys, shards and ids: every type of column and value gives the text a user expects, or is refused by name."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.align.image_ids import ids_of
from tests.captions import read_captions
from vocab.errors import InputError

DAY = dt.date(2024, 1, 2)
NAMED = {
    "float64 of pandas": (pa.array([98765432101.0, float("nan")]), ["98765432101", None]),
    "float32": (pa.array([-0.0, 1e6], pa.float32()), ["0", "1000000"]),
    "float16": (pa.array([10, None], pa.float16()), ["10", None]),
    "decimal": (pa.array([Decimal("10.00"), Decimal(10**25)], pa.decimal128(38, 2)), ["10", str(10**25)]),
    "decimal of zero": (pa.array([Decimal(0), None], pa.decimal128(20, 10)), ["0", None]),
    "least integers": (pa.array([-128, 7], pa.int8()), ["-128", "7"]),
    "greatest integers": (pa.array([2**64 - 1, 0], pa.uint64()), [str(2**64 - 1), "0"]),
    "date": (pa.array([DAY, None]), ["2024-01-02", None]),
    "date in milliseconds": (pa.array([DAY, None], pa.date64()), ["2024-01-02", None]),
    "bytes": (pa.array([b"k\xc3\xa9", b"\xff"]), ["ké", None]),
    "category": (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    "category of numbers": (pa.array([7, None]).dictionary_encode(), ["7", None]),
    "large_string": (pa.array(["007", ""], pa.large_string()), ["007", ""]),
    "string_view": (pa.array(["7.0", None]).cast(pa.string_view()), ["7.0", None]),
    "binary_view": (pa.array([b"x", None]).cast(pa.binary_view()), ["x", None]),
    "nothing": (pa.nulls(2), [None, None]),
}
if hasattr(pa, "uuid"):
    UUIDS = pa.array([UUID(int=5).bytes, None], pa.binary(16))
    NAMED["UUID"] = (pa.ExtensionArray.from_storage(pa.uuid(), UUIDS), [str(UUID(int=5)), None])
REFUSED = {
    "1.5 in a column of type double": pa.array([2, 1.5]),
    "inf in a column of type double": pa.array([float("inf"), 1]),
    "9007199254740992.0 in a column of type double": pa.array([2.0**53, 1]),
    "16777216.0 in a column of type float": pa.array([2.0**24, 1], pa.float32()),
    r"1.50 in a column of type decimal128\(9, 2\)": pa.array([Decimal("1.5"), None], pa.decimal128(9, 2)),
    "type bool": pa.array([True, False]),
    "type timestamp": pa.array([dt.datetime(2024, 1, 2, tzinfo=dt.UTC), None]),
    "type time": pa.array([dt.time(1), None]),
    "type duration": pa.array([dt.timedelta(1), None]),
    "type fixed_size_binary": pa.array([b"k", b"l"], pa.binary(1)),
    "type list": pa.array([["k"], None]),
    "type struct": pa.array([{"k": 1}, None]),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_column_of_names_is_the_same_text_as_key_shard_and_id(tmp_path: Path, name: str) -> None:
    column, texts = NAMED[name]
    table = pa.table({"caption": ["a dog", "a cat"], "id": column, "key": ["k0", "k1"]})
    pq.write_table(table, tmp_path / "a.parquet")
    for option in ("key", "shard"):
        options: dict[str, Any] = {f"{option}_column": "id", "format": "parquet"}
        assert [row[option] for row in read_captions(tmp_path, **options)] == texts
    ids = [row["id"] for batch in ids_of(str(tmp_path / "a.parquet"), "a", "id") for row in batch.to_pylist()]
    assert ids == [text or None for text in texts]


@pytest.mark.parametrize("found", REFUSED)
def test_a_column_that_cannot_name_samples_is_refused_with_its_type(tmp_path: Path, found: str) -> None:
    table = pa.table({"caption": ["a dog", "a cat"], "id": REFUSED[found], "key": ["k0", "k1"]})
    pq.write_table(table, tmp_path / "a.parquet")
    for options in ({"key_column": "id"}, {"shard_column": "id", "key_column": "key"}):
        with pytest.raises(InputError, match=f"column 'id': found {found}.*Write the column as text"):
            read_captions(tmp_path, **options)
    with pytest.raises(InputError, match=f"column 'id': found {found}"):
        list(ids_of(str(tmp_path / "a.parquet"), "a", "id"))


def test_numbers_of_json_are_the_same_keys_as_those_of_parquet(tmp_path: Path) -> None:
    ids = ["10.0", "1e5", "98765432101", "0", '"007"', "null", "NaN", '""', "true", "1.5", "1e300", "[1]", '"\\ud800"']
    lines = (f'{{"caption": "a dog", "at": {{"id": {value}}}}}\n' for value in ids)
    (tmp_path / "a.jsonl").write_text("".join(lines))
    rows = read_captions(tmp_path, key_column="at.id")
    assert [row["key"] for row in rows][:8] == ["10", "100000", "98765432101", "0", "007", None, None, None]
    assert [row["reason"] for row in rows] == [None] * 8 + ["malformed_record"] * 4 + ["not_utf8"]


def test_whole_numbers_are_the_same_keys_in_every_format(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a dog"], "id": [9007199254740993]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("caption,id\na dog,9007199254740993\n")
    (tmp_path / "a.tsv").write_text("caption\tid\na dog\t9007199254740993\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": "a dog", "id": 9007199254740993}) + "\n")
    for name in ("a.parquet", "a.csv", "a.tsv", "a.jsonl"):
        assert [row["key"] for row in read_captions(tmp_path / name, key_column="id")] == ["9007199254740993"]
