"""img2dataset's sidecars are told by what they hold, under any name, and never read by the numbers of their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.reading.inputs import list_inputs
from tests.captions import read_captions
from vocab.errors import InputError

SIDECAR: dict[str, Any] = {
    "url": ["u1", "u0"],
    "caption": ["a cat", "a dog"],
    "key": ["000000001", "000000000"],
    "status": ["failed_to_download", "success"],
    "error_message": ["HTTP Error 404", None],
}
ROWS = [("000000001", "status:failed_to_download"), ("000000000", None)]
SHORT = {name: column for name, column in SIDECAR.items() if name != "error_message"}


def write(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "place"),
    [
        (SIDECAR, ""),
        (SIDECAR, "*.parquet"),
        (SIDECAR, "all.parquet"),
        (SIDECAR | {"TEXT": SIDECAR["caption"], "caption": [1, 2]}, ""),
        (SIDECAR | {"status": pa.array(SIDECAR["status"]).dictionary_encode()}, ""),
        ({name: SIDECAR[name] for name in reversed(SIDECAR)}, ""),
        (SHORT, ""),
        (SHORT | {"key": pa.array(SIDECAR["key"], pa.large_string())}, "*"),
        (SHORT | {"status": pa.array(SIDECAR["status"]).dictionary_encode()}, "all.parquet"),
    ],
)
def test_a_sidecar_without_its_tar_is_told_by_its_columns(tmp_path: Path, columns: dict[str, Any], place: str) -> None:
    write(tmp_path / "in" / "all.parquet", columns)
    options = {"caption_columns": ("TEXT",)} if "TEXT" in columns else {}
    assert [(row["key"], row["reason"]) for row in read_captions(tmp_path / "in" / place, **options)] == ROWS


def test_sidecars_with_and_without_tars_in_folders_of_a_partition_are_read_alike(tmp_path: Path) -> None:
    for name in ("day=1/00000.parquet", "day=2/00001.parquet"):
        write(tmp_path / "in" / name, SIDECAR)
    (tmp_path / "in/day=1/00000.tar").write_bytes(b"")
    assert [(row["key"], row["reason"]) for row in read_captions(tmp_path / "in")] == ROWS * 2


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        (SIDECAR, SIDECAR, {"format": "parquet"}, r"a\.parquet: found img2dataset's columns.*Leave --format out"),
        (SHORT, SHORT, {"format": "parquet"}, r"a\.parquet: found img2dataset's columns.*--key-column"),
        ({"caption": ["a dog"]}, SIDECAR, {}, r"b\.parquet: found img2dataset's columns.*a job of their own"),
        (SIDECAR | {"key": [1, 0]}, SIDECAR, {}, r"a\.parquet, column 'key': found type int64.*leading zeros"),
        ({"caption": ["a"], "key": ["k"]}, SHORT, {}, r"found a column 'key'.*--key-column key.*--format parquet"),
        ({"caption": ["a"], "__key__": ["k"]}, SHORT, {}, "found a column '__key__'.*--key-column __key__"),
        ({"caption": ["a"], "KEY": ["k"]}, SHORT, {}, "found a column 'KEY'.*--key-column KEY"),
        ({"caption": ["a"], " Key": ["k"]}, SHORT, {}, "found a column ' Key'"),
        (SHORT | {"status": ["new", "old"]}, SHORT, {}, "found a column 'key'.*--key-column key"),
    ],
)
def test_row_numbers_are_no_keys_where_a_file_has_its_own(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.parquet", first)
    write(tmp_path / "b.parquet", second)
    with pytest.raises(InputError, match=message):
        read_captions(tmp_path, **options)


def test_options_decide_against_the_columns(tmp_path: Path) -> None:
    write(tmp_path / "a/a.parquet", SIDECAR)
    assert [row["key"] for row in read_captions(tmp_path / "a", format="parquet", key_column="url")] == ["u1", "u0"]
    assert [row["reason"] for row in read_captions(tmp_path / "a", key_column="url")] == [reason for _, reason in ROWS]
    write(tmp_path / "b/a.parquet", {"caption": ["a dog"], "key": ["k"]})
    assert [row["key"] for row in read_captions(tmp_path / "b", format="parquet")] == ["000000000"]


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl"])
def test_a_sidecar_written_anew_as_text_is_refused(tmp_path: Path, extension: str) -> None:
    row = {name: column[1] for name, column in SIDECAR.items()}
    separator = {"csv": ",", "tsv": "\t"}.get(extension, "")
    texts = [separator.join(row), separator.join(str(value or "") for value in row.values())]
    (tmp_path / f"a.{extension}").write_text("\n".join(texts if separator else [json.dumps(row)]) + "\n")
    for options in ({}, {"key_column": "key"}, {"format": extension}):
        with pytest.raises(InputError, match=f"img2dataset's columns.*--format {extension} --key-column key"):
            read_captions(tmp_path, **options)
    assert [row["key"] for row in read_captions(tmp_path, format=extension, key_column="key")] == ["000000000"]


def test_a_tar_without_its_sidecar_is_named(tmp_path: Path) -> None:
    write(tmp_path / "00000.parquet", SIDECAR)
    for name in ("00000.tar", "00001.tar", "00002.tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"00001\.tar: found a tar without its sidecar, and 1 more; wanted 00001\.par"):
        list_inputs((str(tmp_path),), "auto")
    assert [Path(f.path).name for f in list_inputs((str(tmp_path),), "img2dataset").files] == ["00000.parquet"]
