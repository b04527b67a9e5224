"""The one pass over the part files: exact at every threshold, equal to the naive count, and suspicious."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.report.tally import best_ranks, tally_of
from tests.labels import FIVE_ROWS, label_table, write_five
from tests.synsets import CAT, COUCH, DOG, PERSON
from vocab.errors import FormatError, InputError
from vocab.store.label_shards import COUNTS_SCHEMA, LabelShards
from vocab.store.label_writing import describe_file, write_counts, write_manifest
from vocab.store.sealing import to_sealed_json


def rewrite_counts(labels: LabelShards, counts: dict[int, int]) -> LabelShards:
    """The same directory with other counts, and a manifest that agrees with the changed file."""
    directory = Path(labels.location)
    write_counts(directory, pa.table([list(counts), list(counts.values())], schema=COUNTS_SCHEMA))
    files = tuple(describe_file(directory, file.path) for file in labels.manifest.files)
    write_manifest(directory, replace(labels.manifest, files=files))
    return LabelShards.open(directory)


def test_synsets_come_most_frequent_first_and_equals_by_offset(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels"))
    assert tally.synsets.tolist() == [DOG, PERSON, CAT, COUCH]
    assert tally.captions.tolist() == [3, 2, 1, 1]


def test_rows_are_counted_by_how_many_synsets_they_hold(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels"))
    assert tally.rows_by_length.tolist() == [1, 2, 1, 1]
    assert (tally.rows, tally.labels, tally.labels_per_row) == (5, 7, 1.4)


def test_a_row_has_no_label_when_even_its_most_frequent_synset_is_below_the_threshold(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels"))
    assert tally.sizes([1, 2, 3, 4]).tolist() == [4, 2, 1, 0]
    assert tally.unlabelled([1, 2, 3, 4]).tolist() == [1, 1, 2, 5]


def test_reasons_are_counted_and_the_most_frequent_comes_first(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels", reasons=("not_utf8", "null_caption", "null_caption")))
    assert list(tally.reasons.items()) == [("null_caption", 2), ("not_utf8", 1)]


def test_labels_without_a_row_give_zeros(tmp_path: Path) -> None:
    tally = tally_of(write_five(tmp_path / "labels", label_table(), parts=1))
    assert (tally.rows, len(tally.synsets), tally.labels_per_row) == (0, 0, 0.0)
    assert tally.sizes([1, 500]).tolist() == [0, 0]
    assert tally.unlabelled([1, 500]).tolist() == [0, 0]


lists = st.lists(st.sets(st.sampled_from([DOG, CAT, COUCH, PERSON, 1740, 1930, 2137]), max_size=4), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=lists, parts=st.integers(1, 3), thresholds=st.lists(st.integers(1, 31), min_size=1, max_size=6))
def test_the_tally_equals_a_count_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[set[int]], parts: int, thresholds: list[int]
) -> None:
    table = label_table(*(("0", f"{number:02d}", sorted(synsets)) for number, synsets in enumerate(rows)))
    tally = tally_of(write_five(tmp_path_factory.mktemp("tally") / "labels", table, parts=parts))
    counts = {synset: sum(synset in row for row in rows) for synset in set().union(*rows)}
    assert dict(zip(tally.synsets.tolist(), tally.captions.tolist(), strict=True)) == counts
    for threshold, size, without in zip(
        thresholds, tally.sizes(thresholds).tolist(), tally.unlabelled(thresholds).tolist(), strict=True
    ):
        kept = {synset for synset, count in counts.items() if count >= threshold}
        assert size == len(kept)
        assert without == sum(not row & kept for row in rows)


@given(rows=st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=20))
def test_the_least_rank_of_each_list_equals_the_naive_minimum(rows: list[list[int]]) -> None:
    ranks = np.array([rank for row in rows for rank in row], dtype=np.int32)
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    assert best_ranks(ranks, lengths, without=10).tolist() == [min(row, default=10) for row in rows]


def test_synsets_that_the_counts_lack_are_refused(tmp_path: Path) -> None:
    labels = rewrite_counts(write_five(tmp_path / "labels"), {DOG: 3, PERSON: 2, COUCH: 1})
    with pytest.raises(FormatError, match=r"found synsets in the part files that counts\.parquet lacks"):
        tally_of(labels)


def test_counts_of_other_rows_are_refused(tmp_path: Path) -> None:
    labels = rewrite_counts(write_five(tmp_path / "labels"), {DOG: 4, PERSON: 2, CAT: 1, COUCH: 1})
    with pytest.raises(FormatError, match="found 7 synsets in all rows; wanted 8, as its own account says"):
        tally_of(labels)


def test_a_count_of_nothing_is_refused(tmp_path: Path) -> None:
    labels = rewrite_counts(write_five(tmp_path / "labels"), {DOG: 3, PERSON: 2, CAT: 1, COUCH: 1, 1740: 0})
    with pytest.raises(FormatError, match=r"found a synset that no row holds in counts\.parquet"):
        tally_of(labels)


def test_an_account_that_the_part_files_do_not_bear_out_is_refused(tmp_path: Path) -> None:
    labels = write_five(tmp_path / "labels")
    write_manifest(tmp_path / "labels", replace(labels.manifest, empty=0, labelled=5))
    with pytest.raises(FormatError, match="found 1 rows without a synset; wanted 0"):
        tally_of(LabelShards.open(tmp_path / "labels"))


def test_synsets_of_another_wordnet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="synset n00000012: found no such noun"):
        tally_of(write_five(tmp_path / "labels", label_table(("0", "a", [12])), parts=1))


def test_a_null_in_place_of_a_list_is_refused(tmp_path: Path) -> None:
    labels = write_five(tmp_path / "labels", parts=1)
    part = tmp_path / "labels" / "part-00000.parquet"
    rows = pq.read_table(part).to_pylist()
    rows[0]["synsets"] = None
    pq.write_table(pa.Table.from_pylist(rows, schema=FIVE_ROWS.schema), part)
    files = tuple(describe_file(tmp_path / "labels", file.path) for file in labels.manifest.files)
    write_manifest(tmp_path / "labels", replace(labels.manifest, files=files))
    with pytest.raises(FormatError, match=r"part-00000\.parquet: found a file .* \(nulls in synsets\)"):
        tally_of(LabelShards.open(tmp_path / "labels"))


def test_rows_without_any_part_file_are_missed(tmp_path: Path) -> None:
    labels = write_five(tmp_path / "labels", parts=1)
    manifest = json.loads((tmp_path / "labels" / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].startswith("part-")]
    (tmp_path / "labels" / "manifest.json").write_text(to_sealed_json(manifest))
    with pytest.raises(FormatError, match=f"{labels.location}: found 0 rows without a synset; wanted 1"):
        tally_of(LabelShards.open(tmp_path / "labels"))
