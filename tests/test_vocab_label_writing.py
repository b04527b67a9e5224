"""Writing label shards: what is written is what is read, and what the format does not allow is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.labels import THREE_ROWS, label_table, write_three
from vocab.errors import InputError, OutputExistsError
from vocab.store.label_shards import COUNTS, LabelShards
from vocab.store.label_writing import describe_file, refuse_used_directory


def test_the_directory_holds_exactly_what_the_format_names(tmp_path: Path) -> None:
    write_three(tmp_path / "labels")
    names = sorted(path.name for path in (tmp_path / "labels").iterdir())
    assert names == ["counts.parquet", "manifest.json", "part-00000.parquet", "part-00001.parquet", "rejects.parquet"]


shard_names = st.sampled_from(["00000", "00001", "a/0", "ß", "\U0001f436", "\uffff"])
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
synsets = st.lists(st.integers(0, 2**31 - 1), unique=True, max_size=4).map(sorted)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.dictionaries(st.tuples(shard_names, keys), synsets, max_size=12), parts=st.integers(1, 4))
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[tuple[str, str], list[int]], parts: int
) -> None:
    directory = tmp_path_factory.mktemp("format") / "labels"
    write_three(directory, label_table(*((shard, key, ids) for (shard, key), ids in rows.items())), parts=parts)
    shards = LabelShards.open(directory)
    read = {
        (shard, row["key"]): row["synsets"]
        for shard in {shard for shard, _ in rows}
        for row in shards.read_shard(shard).to_pylist()
    }
    assert read == rows
    assert len(shards.read_all()) == len(rows)
    assert shards.shard_names == {shard for shard, _ in rows}


def test_the_same_rows_give_the_same_counts_file(tmp_path: Path) -> None:
    write_three(tmp_path / "a", THREE_ROWS)
    write_three(tmp_path / "b", THREE_ROWS.take([2, 0, 1]), parts=1)
    assert (tmp_path / "a" / COUNTS).read_bytes() == (tmp_path / "b" / COUNTS).read_bytes()
    assert LabelShards.open(tmp_path / "a").counts_sha256 == LabelShards.open(tmp_path / "b").counts_sha256


def test_a_used_directory_is_refused(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    write_three(labels)
    with pytest.raises(OutputExistsError, match="found a finished label directory"):
        write_three(labels)
    (labels / "manifest.json").unlink()
    with pytest.raises(OutputExistsError, match="4 entries"):
        refuse_used_directory(labels)
    with pytest.raises(OutputExistsError, match="found a file"):
        refuse_used_directory(labels / "counts.parquet")


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    assert write_three(tmp_path / "labels").rows == 4


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([("0", "a", [1]), ("0", "a", [2])], "twice"),
        ([("0", "a", [2, 1])], r"synsets \[2, 1\]"),
        ([("0", "a", [1, 1])], r"synsets \[1, 1\]"),
        ([("0", None, [1])], "1 nulls in key"),
    ],
)
def test_rows_that_the_format_does_not_allow_are_refused(
    tmp_path: Path, rows: list[tuple[str, str, list[int]]], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        write_three(tmp_path / "labels", label_table(*rows))
    assert list(tmp_path.iterdir()) == []


def test_the_shard_range_of_a_file_comes_from_its_row_groups(tmp_path: Path) -> None:
    table = label_table(*((f"{i:05d}", "k", []) for i in range(10)))
    pq.write_table(table, tmp_path / "part-0.parquet", row_group_size=3)
    described = describe_file(tmp_path, "part-0.parquet")
    assert (described.rows, described.first_shard, described.last_shard) == (10, "00000", "00009")
