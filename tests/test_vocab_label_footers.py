"""Footers of label files: no row group that holds a shard is left out, and few that do not are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labels import label_table
from vocab.store.label_shards import Footer, shard_range


def footer_of(table: pa.Table, place: Path, **options: object) -> pq.FileMetaData:
    pq.write_table(table, place / "x.parquet", **options)
    return pq.read_metadata(place / "x.parquet")


shard_names = st.sampled_from(["00000", "00001", "a/0", "ß", "\U0001f436", "\uffff"])


@settings(max_examples=40, deadline=None)
@given(shards=st.lists(shard_names, min_size=1, max_size=9), size=st.integers(1, 4), asked=shard_names)
def test_the_row_groups_of_a_shard_are_those_whose_range_it_lies_in(
    tmp_path_factory: pytest.TempPathFactory, shards: list[str], size: int, asked: str
) -> None:
    table = label_table(*((shard, "k", []) for shard in shards))
    metadata = footer_of(table, tmp_path_factory.mktemp("footer"), row_group_size=size)
    groups = [shards[start : start + size] for start in range(0, len(shards), size)]
    wanted = [number for number, group in enumerate(groups) if min(group) <= asked <= max(group)]
    assert Footer.of(metadata).groups_of(asked) == wanted
    assert shard_range(metadata) == (min(shards), max(shards))


def test_a_row_group_without_statistics_can_hold_any_shard(tmp_path: Path) -> None:
    table = label_table(("00000", "a", []), ("00001", "a", []))
    footer = Footer.of(footer_of(table, tmp_path, row_group_size=1, write_statistics=False))
    assert footer.ranges == [None, None]
    assert footer.groups_of("00007") == [0, 1]


def test_a_file_without_rows_has_no_range(tmp_path: Path) -> None:
    assert shard_range(footer_of(label_table(), tmp_path)) == (None, None)


def test_a_file_without_the_column_has_no_range(tmp_path: Path) -> None:
    metadata = footer_of(pa.table({"synset": [2084071], "captions": [1]}), tmp_path)
    assert shard_range(metadata) == (None, None)
    assert Footer.of(metadata).groups_of("00000") == []
