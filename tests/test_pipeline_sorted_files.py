"""The external merge sort: files sorted by themselves, and groups of files that overlap."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import sorted_files
from pipeline.sorted_files import SortedFile, SortedWriter, overlapping
from vocab.errors import InputError
from vocab.store.label_shards import REJECTS_SCHEMA


def table(*keys: str) -> pa.Table:
    return pa.table([["s"] * len(keys), list(keys), ["r"] * len(keys)], schema=REJECTS_SCHEMA)


def written(
    folder: Path, *tables: pa.Table, rows_per_file: int = sys.maxsize, remedy: str | None = "Mend it."
) -> list[SortedFile]:
    with SortedWriter(str(folder), "x", REJECTS_SCHEMA, rows_per_file=rows_per_file, remedy=remedy) as writer:
        for rows in tables:
            writer.add(rows)
        return writer.close()


def keys_of(folder: Path, file: SortedFile) -> list[str]:
    keys: list[str] = pq.read_table(folder / file.file.path)["key"].to_pylist()
    return keys


def test_rows_in_order_make_one_file_after_another(tmp_path: Path) -> None:
    files = written(tmp_path, table("a", "b", "c"), table("d", "e"), rows_per_file=2)
    assert [keys_of(tmp_path, file) for file in files] == [["a", "b"], ["c", "d"], ["e"]]
    assert [len(group) for group in overlapping(files)] == [1, 1, 1]


def test_rows_that_come_too_late_begin_a_file_that_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_files, "BUFFER_ROWS", 1)
    files = written(tmp_path, table("b", "d"), table("c", "e"), table("f"))
    assert [keys_of(tmp_path, file) for file in files] == [["b", "d"], ["c", "e", "f"]]
    assert [len(group) for group in overlapping(files)] == [2]


def test_files_that_share_a_key_overlap(tmp_path: Path) -> None:
    files = [*written(tmp_path, table("a", "b")), *written(tmp_path, table("b", "c")), *written(tmp_path, table("d"))]
    assert [len(group) for group in overlapping(files)] == [2, 1]


@pytest.mark.parametrize("buffer", [1, 100])
def test_a_name_of_two_rows_is_refused_with_the_callers_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    monkeypatch.setattr(sorted_files, "BUFFER_ROWS", buffer)
    with pytest.raises(InputError, match=r"sample s/b: found two rows with this \(shard, key\).* Mend it\."):
        written(tmp_path, table("a", "b"), table("b"))
    assert not list(tmp_path.iterdir())


def test_rows_of_one_name_are_kept_where_no_remedy_is_given(tmp_path: Path) -> None:
    (file,) = written(tmp_path, table("b", "a"), table("b"), remedy=None)
    assert keys_of(tmp_path, file) == ["a", "b", "b"]
