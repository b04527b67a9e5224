"""Captions out of Parquet columns of every layout, and columns that are not what the job asks for."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Label
from pipeline.reading.captions import Piece, UnreadableFile, read_piece, reading_of
from pipeline.reading.inputs import list_inputs
from tests.captions import read_captions
from vocab.errors import InputError

DOGS = [["a dog", "two dogs"], None]
AB = [b"a", b"b"]
TEXT = pa.string()
MAP_OF_STRUCTS = pa.map_(TEXT, pa.struct({"t": TEXT}))
MAPS = pa.list_(pa.map_(TEXT, TEXT))
CATEGORY = pa.dictionary(pa.int32(), pa.string())
READ: dict[str, tuple[str, pa.Array, list[list[bytes]]]] = {
    "string_view": ("c", pa.array(["a dog", None]).cast(pa.string_view()), [[b"a dog"], []]),
    "category": ("c", pa.array(["a dog", None]).dictionary_encode(), [[b"a dog"], []]),
    "category of large_string": ("c", pa.array(["x", "x"], pa.large_string()).dictionary_encode(), [[b"x"], [b"x"]]),
    "bytes": ("c", pa.array([b"\xff", None]).cast(pa.binary_view()), [[b"\xff"], []]),
    "nothing": ("c", pa.nulls(2), [[], []]),
    "lists": ("c", pa.array(DOGS), [[b"a dog", b"two dogs"], []]),
    "large lists": ("c", pa.array(DOGS, pa.large_list(pa.string())), [[b"a dog", b"two dogs"], []]),
    "pairs": ("c", pa.array(DOGS, pa.list_(pa.string(), 2)), [[b"a dog", b"two dogs"], []]),
    "list views": ("c", pa.array(DOGS, pa.list_view(pa.string())), [[b"a dog", b"two dogs"], []]),
    "lists of categories": ("c", pa.array(DOGS, pa.list_(CATEGORY)), [[b"a dog", b"two dogs"], []]),
    "lists of lists": ("c", pa.array([[["a"], []], [["b"], None]]), [[b"a"], [b"b"]]),
    "lists of nothing": ("c", pa.array([[None], None], pa.list_(pa.null())), [[], []]),
    "a field": ("c.text", pa.array([{"text": "a dog", "n": 1}, None]), [[b"a dog"], []]),
    "a field of each in a list": ("c.raw", pa.array([[{"raw": "a"}, {"raw": None}, {"raw": "b"}], None]), [AB, []]),
    "a deep field": ("c.a.b", pa.array([{"a": {"b": ["x"]}}, {"a": None}]), [[b"x"], []]),
    "a field of nothing": ("c.text", pa.nulls(2), [[], []]),
    "an item of a map": ("c.en", pa.array([[("de", "Hund"), ("en", "a")], []], pa.map_(TEXT, TEXT)), [[b"a"], []]),
    "a key with a dot": ("c.a.b", pa.array([[("a.b", "x")], None], pa.map_(TEXT, TEXT)), [[b"x"], []]),
    "items of maps in lists": ("c.en", pa.array([[[("en", "a")], [("en", "b")]], None], MAPS), [AB, []]),
    "fields of a map": ("c.en.t", pa.array([[("en", {"t": "a"})], None], MAP_OF_STRUCTS), [[b"a"], []]),
    "a category in a struct": ("c.t", pa.array([{"t": "a"}, {"t": None}], pa.struct({"t": CATEGORY})), [[b"a"], []]),
    "categories in structs in lists": (
        "c.t", pa.array([[{"t": "a"}, {"t": "b"}], None], pa.list_(pa.struct({"t": CATEGORY}))), [AB, []]
    ),
}  # fmt: skip
if hasattr(pa, "json_"):
    JSON_TEXTS = pa.array(['{"t": ["a", {"u": 1}, "b"]}', "{"], pa.string())
    READ["JSON"] = ("c.t", pa.ExtensionArray.from_storage(pa.json_(pa.string()), JSON_TEXTS), [AB, []])


@pytest.mark.parametrize("name", READ)
def test_captions_of_every_layout_are_read(tmp_path: Path, name: str) -> None:
    path, column, captions = READ[name]
    pq.write_table(pa.table({"other": ["x", "y"], "c": column}), tmp_path / "a.parquet")
    assert [row["captions"] for row in read_captions(tmp_path, caption_columns=(path,))] == captions


def test_a_column_whose_name_holds_a_dot_goes_before_a_field(tmp_path: Path) -> None:
    pq.write_table(pa.table({"c.text": ["a dog"], "c": [{"text": "a cat"}]}), tmp_path / "a.parquet")
    assert [row["captions"] for row in read_captions(tmp_path, caption_columns=("c.text",))] == [[b"a dog"]]


def test_lists_in_lists_are_read_alike_in_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"c": [[["a"]], "b"], "m": [[{"t": "a"}], [{"t": ["b", [1, null]]}]]}\n')
    for path in ("c", "m.t"):
        assert [row["captions"] for row in read_captions(tmp_path, caption_columns=(path,))] == [AB]


def test_fields_of_json_lines_are_named_as_those_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"json": {"caption": "a dog"}, "s": [{"raw": "a"}, {"raw": ["b", 1]}, 2], "at": {"n": 9}}\n{"json": 3}\n[]\n'
    )
    rows = read_captions(tmp_path, caption_columns=("json.caption", "s.raw"), key_column="at.n")
    assert [(row["key"], row["captions"]) for row in rows] == [("9", [b"a dog", b"a", b"b"]), (None, []), ("", [])]


@pytest.mark.parametrize(
    ("path", "column", "message"),
    [
        ("c", pa.array([1, 2]), "column 'c': found type int64; wanted text"),
        ("c", pa.array([{"text": "a"}, None]), "column 'c': found type struct.*a path names a field"),
        ("c", pa.array([[1], None]), "column 'c': found type list"),
        ("c.text", pa.array(["a", "b"]), "column 'c.text': found no such field.*Column 'c' is of type string"),
        ("c.text", pa.array([{"alt": "a"}, None]), "column 'c.text': found no such field.*struct<alt: string>"),
        ("d", pa.array(["a", "b"]), "found columns c; wanted a column 'd'"),
        ("d.c", pa.array(["a", "b"]), "found columns c; wanted a column 'd.c'"),
    ],
)
def test_a_column_without_captions_is_refused(tmp_path: Path, path: str, column: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"c": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet.*{message}"):
        read_captions(tmp_path, caption_columns=(path,))


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("caption", "caption"), {}),
        (("caption", "id", "id"), {"key_column": "id"}),
        (("caption", "id", "id"), {"shard_column": "id"}),
        (("json", "json"), {"caption_columns": ("json.caption",)}),
    ],
)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, names: tuple[str, ...], options: dict[str, Any]) -> None:
    columns = [pa.array([f"a dog {number}"]) for number in range(len(names))]
    pq.write_table(pa.Table.from_arrays(columns, names=list(names)), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet: found two columns '{names[-1]}'"):
        read_captions(tmp_path, **options)


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        ({"id": ["k"], "text": ["a cat"]}, [("k", "no_caption")]),
        ({"n": [1, 2]}, [(None, "no_caption")] * 2),
        # pandas writes a column of NaN alone as floats.
        ({"caption": [float("nan")], "id": ["k"]}, [("k", "no_caption")]),
        ({"caption": [{"en": "a cat"}], "id": ["k"]}, [("k", "no_caption")]),
        ({"caption": ["a cat"]}, [(None, None)]),
    ],
)
@pytest.mark.parametrize("name", ["0.parquet", "b.parquet"])
def test_rows_of_a_file_without_the_columns_are_rejected(
    tmp_path: Path, name: str, other: dict[str, Any], rows: list[tuple[str | None, str | None]]
) -> None:
    pq.write_table(pa.table({"caption": ["a dog"], "id": ["7"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table(other), tmp_path / name)
    found = [(row["key"], row["reason"]) for row in read_captions(tmp_path, key_column="id")]
    assert found == ([*rows, ("7", None)] if name < "a" else [("7", None), *rows])


def test_a_later_file_whose_keys_are_no_names_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a dog"], "id": ["k"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"caption": ["a cat"], "id": [True]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet, column 'id': found type bool"):
        read_captions(tmp_path, key_column="id")


def test_columns_are_found_by_name_in_whatever_order_and_type_a_file_has_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a dog"], "id": ["7"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [8], "n": [1], "caption": [["a cat"]]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": [9.0], "caption": pa.nulls(1)}), tmp_path / "c.parquet")
    rows = read_captions(tmp_path, key_column="id")
    assert [(row["key"], row["captions"]) for row in rows] == [("7", [b"a dog"]), ("8", [b"a cat"]), ("9", [])]


CATEGORIES = pa.array([f"dog {number}" for number in range(200)]).dictionary_encode()


@pytest.mark.parametrize(
    ("column", "before", "after", "reasons"),
    [
        # A category that is not in the dictionary, and a column whose name is no text.
        (CATEGORIES, bytes(range(8, 64)), bytes([255] * 56), [("a", "unreadable_row_group")] * 200),
        (["a dog"] * 2, b"other", b"\xffther", []),
        (["a dog"] * 2, b"\x15", b"\x25", []),
    ],
)
def test_damage_costs_a_file_its_own_rows_alone(
    tmp_path: Path, column: pa.Array, before: bytes, after: bytes, reasons: list[tuple[str, str]]
) -> None:
    for name in "ab":
        table = pa.table({"caption": column, "other": ["x"] * len(column)})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="none", store_schema=before != b"other")
    whole = (tmp_path / "a.parquet").read_bytes()
    assert before in whole
    (tmp_path / "a.parquet").write_bytes(whole.replace(before, after))
    label = Label((str(tmp_path),), "")
    inputs = list_inputs(label.captions, label.format)
    reading, found = reading_of(label, inputs), []
    for file in inputs.files:
        with suppress(UnreadableFile):
            for batch in read_piece(Piece(file.path, Path(file.path).stem), reading):
                found += [(Path(file.path).stem, row["reason"]) for row in batch.to_pylist()]
    assert found == [*reasons, *[("b", None)] * len(column)]


def varint(number: int) -> bytes:
    """A number as Parquet's footer has it (Thrift's compact protocol)."""
    number, out = number << 1, b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize(
    ("claimed", "reasons"),
    [
        (4_000_000_000, None),
        (2**40, None),
        (200_000, ["unreadable_row_group"]),
    ],
)
def test_a_row_group_that_claims_other_rows_than_it_has_costs_no_more_than_its_file(
    tmp_path: Path, claimed: int, reasons: list[str] | None, *, is_damaged: bool
) -> None:
    path, rows = tmp_path / "a.parquet", 123_457
    pq.write_table(pa.table({"caption": ["a dog"] * rows}), path, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    size = int.from_bytes(whole[-8:-4], "little")
    footer = whole[-8 - size : -8].replace(varint(rows), varint(claimed))
    body = whole[:4] + b"\xff" * (len(whole) - size - 12) if is_damaged else whole[: -8 - size]
    path.write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    label = Label((str(path),), "")
    reading, found = reading_of(label, list_inputs(label.captions, label.format)), Counter[str | None]()
    with suppress(UnreadableFile) if reasons or is_damaged else pytest.raises(UnreadableFile, match="rows away"):
        for batch in read_piece(Piece(str(path), "a"), reading):
            found.update(batch.column("reason").to_pylist())
    if reasons:
        assert found == Counter({"unreadable_row_group": claimed - found[None], None: found[None]}) + Counter()
    assert sum(found.values()) <= max(rows, 200_000)
