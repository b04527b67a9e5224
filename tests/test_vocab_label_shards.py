"""Reading label shards: no more than is asked for is read, and what is wrong is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.labels import THREE_ROWS, label_table, write_three
from vocab.errors import FormatError
from vocab.store import label_writing
from vocab.store.label_shards import LabelShards
from vocab.store.manifest import FORMAT_VERSION, InputFile, Manifest
from vocab.store.sealing import to_sealed_json


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    write_three(tmp_path / "labels")
    return tmp_path / "labels"


def change_manifest(labels: Path, **changes: object) -> None:
    manifest = json.loads((labels / "manifest.json").read_text())
    (labels / "manifest.json").write_text(to_sealed_json(manifest | changes))


def test_rows_come_back_sorted_by_shard_and_key(labels: Path) -> None:
    rows = LabelShards.open(labels).read_all().to_pylist()
    assert [(row["shard"], row["key"]) for row in rows] == [("00000", "a"), ("00000", "c"), ("00001", "b")]


def test_one_shard_is_read_without_the_others(labels: Path) -> None:
    shards = LabelShards.open(labels)
    assert shards.read_shard("00000").to_pylist() == [
        {"key": "a", "synsets": []},
        {"key": "c", "synsets": [2084071, 2121620]},
    ]
    assert len(shards.read_shard("00002")) == 0


def test_counts_and_totals_add_up(labels: Path) -> None:
    shards = LabelShards.open(labels)
    assert shards.counts().to_pylist() == [
        {"synset": 2084071, "captions": 2},
        {"synset": 2121620, "captions": 1},
    ]
    manifest = shards.manifest
    assert (manifest.rows, manifest.labelled, manifest.empty, manifest.rejected) == (4, 2, 1, 1)
    assert shards.rejects().to_pylist() == [{"shard": "00001", "key": "z", "reason": "null_caption"}]


def test_synsets_and_reasons_stream_in_the_order_of_the_files(labels: Path) -> None:
    shards = LabelShards.open(labels)
    assert [row for batch in shards.synset_lists() for row in batch.to_pylist()] == [[], [2084071, 2121620], [2084071]]
    assert [reason for batch in shards.reasons() for reason in batch.to_pylist()] == ["null_caption"]


def test_a_part_file_that_breaks_while_it_streams_is_named(labels: Path) -> None:
    shards = LabelShards.open(labels)
    (labels / "part-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(FormatError, match=r"part-00001\.parquet: found 12 bytes"):
        list(shards.synset_lists())


def test_a_tar_finds_its_shard_by_stem_or_by_the_end_of_its_path(tmp_path: Path) -> None:
    names = ("00007", "coco/00000", "dt=1/00007", "emoji/00000")
    write_three(tmp_path / "labels", label_table(*((name, "a", []) for name in names)))
    shards = LabelShards.open(tmp_path / "labels")
    assert shards.find_shard("/data/images/emoji/00000.tar") == "emoji/00000"
    assert shards.find_shard("s3://bucket/00007.tar") == "00007"
    assert shards.find_shard("s3://bucket/dt=1/00007.tar") == "dt=1/00007"
    assert shards.find_shard("/data/00000.tar") is None


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"common_folder": None, "shards": {"/in/dt=2/00007.tsv": "dt=2/00007"}}, "/in/dt=2/00007.tsv"),
        ({"common_folder": "/in/"}, "/in/dt=2/00007.tsv.gz"),
        ({"common_folder": "/in/"}, "s3://bucket/in/dt=2/00007.parquet"),
    ],
)
def test_a_tar_whose_every_row_was_rejected_gets_no_other_shard_s_labels(
    tmp_path: Path, config: dict[str, object], path: str
) -> None:
    write_three(tmp_path / "labels", label_table(("00007", "a", []), ("dt=1/00007", "a", [])))
    shards = LabelShards.open(tmp_path / "labels")
    rejected = InputFile(path, size=1, modified="", rows=1, rejected=1)
    shards.manifest = replace(shards.manifest, config=config, inputs=(rejected,))
    found = [shards.find_shard(f"/images/dt={day}/00007.tar") for day in (1, 2, 3)]
    assert found == ["dt=1/00007", "dt=2/00007", "00007"]
    assert len(shards.read_shard("dt=2/00007")) == 0


@pytest.fixture
def small_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labels of three shards in row groups of two rows: a a | a b | b b | c."""
    monkeypatch.setattr(label_writing, "ROW_GROUP_ROWS", 2)
    rows = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2"), ("b", "3"), ("c", "1")]
    write_three(tmp_path / "small", label_table(*((shard, key, [int(key)]) for shard, key in rows)), parts=1)
    return tmp_path / "small"


class Spy:
    """Stands in for pq.ParquetFile and writes down what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.footers = 0
        self.groups: list[int] = []
        spy = self

        class Watched(pq.ParquetFile):  # type: ignore[misc]
            def __init__(self, file: Any, **options: Any) -> None:
                spy.footers += options.get("metadata") is None
                super().__init__(file, **options)

            def read_row_groups(self, groups: list[int], **options: Any) -> pa.Table:
                spy.groups += groups
                return super().read_row_groups(groups, **options)

            def read_row_group(self, group: int, **options: Any) -> pa.Table:
                spy.groups.append(group)
                return super().read_row_group(group, **options)

        monkeypatch.setattr(pq, "ParquetFile", Watched)


def test_a_footer_is_read_once_and_only_the_row_groups_that_can_hold_the_shard(
    small_groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, spy = LabelShards.open(small_groups), Spy(monkeypatch)
    assert shards.read_shard("b")["key"].to_pylist() == ["1", "2", "3"]
    assert (spy.footers, spy.groups) == (1, [1, 2])
    assert [len(shards.read_shard(shard)) for shard in ("a", "bb", "c", "d")] == [3, 0, 1, 0]
    assert (spy.footers, spy.groups) == (1, [1, 2, 0, 1, 3])


def test_shard_names_come_from_statistics_where_a_row_group_has_one_shard(
    small_groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, spy = LabelShards.open(small_groups), Spy(monkeypatch)
    assert shards.shard_names == {"a", "b", "c"}
    assert spy.groups == [1]
    assert [shards.find_shard(tar) for tar in ("x/a.tar", "x/c.tar", "x/d.tar")] == ["a", "c", None]
    assert (spy.footers, spy.groups) == (1, [1])


def test_pickled_labels_leave_their_footers_behind_and_read_the_same(small_groups: Path) -> None:
    shards = LabelShards.open(small_groups)
    before = pickle.dumps(shards)
    rows = shards.read_shard("a")
    assert shards.shard_names == {"a", "b", "c"}
    copy = pickle.loads(pickle.dumps(shards))  # noqa: S301
    assert len(pickle.dumps(shards)) == len(before)
    assert copy.read_shard("a") == rows
    assert copy.shard_names == {"a", "b", "c"}


def test_a_part_file_that_breaks_after_its_footer_was_read_is_named(small_groups: Path) -> None:
    shards = LabelShards.open(small_groups)
    shards.read_shard("a")
    (small_groups / "part-00000.parquet").write_bytes(b"PAR1 no more")
    for read in (lambda: shards.read_shard("b"), lambda: shards.shard_names, lambda: shards.find_shard("b.tar")):
        with pytest.raises(FormatError, match=r"part-00000\.parquet: found a file that cannot be read"):
            read()


def test_a_part_file_without_keys_is_named(labels: Path) -> None:
    shards = LabelShards.open(labels)
    pq.write_table(pa.table({"shard": ["00000"]}), labels / "part-00000.parquet")
    with pytest.raises(FormatError, match=r"part-00000\.parquet: found a file that cannot be read"):
        shards.read_shard("00000")


def test_other_rows_have_another_checksum(labels: Path, tmp_path: Path) -> None:
    write_three(tmp_path / "other", THREE_ROWS.slice(1))
    shutil.copytree(labels, tmp_path / "copy")
    shards, other, copy = (LabelShards.open(place) for place in (labels, tmp_path / "other", tmp_path / "copy"))
    assert shards.rows_sha256 == copy.rows_sha256 != other.rows_sha256
    assert len(shards.rows_sha256) == 64


def test_a_changed_byte_is_found(labels: Path) -> None:
    part = labels / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(FormatError, match=r"part-00000\.parquet: found sha256"):
        LabelShards.open(labels)


def test_a_missing_file_is_found(labels: Path) -> None:
    (labels / "counts.parquet").unlink()
    with pytest.raises(FormatError, match=r"counts\.parquet: found no such file"):
        LabelShards.open(labels, checksums=False)


def test_a_truncated_file_is_found_without_reading_it(labels: Path) -> None:
    part = labels / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"part-00001\.parquet: found .* bytes; wanted"):
        LabelShards.open(labels, checksums=False)


def test_a_newer_format_version_is_refused(labels: Path) -> None:
    change_manifest(labels, version=FORMAT_VERSION + 1)
    with pytest.raises(FormatError, match="format version 2, written by a newer release"):
        LabelShards.open(labels)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', "\ufffd", '{"format": "catlip-label-shards"}'])
def test_a_manifest_that_is_none_is_refused(labels: Path, text: str) -> None:
    (labels / "manifest.json").write_text(text)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        LabelShards.open(labels)


def test_a_directory_without_a_manifest_is_unfinished(labels: Path) -> None:
    (labels / "manifest.json").unlink()
    message = r"found no manifest\.json; wanted a finished label directory\. .* the same command goes on with it"
    with pytest.raises(FormatError, match=message):
        LabelShards.open(labels)


@pytest.mark.parametrize("path", ["../x.parquet", "/etc/x.parquet", "a/b.parquet", "part-0.txt"])
def test_a_manifest_cannot_point_outside_its_directory(labels: Path, path: str) -> None:
    manifest = json.loads((labels / "manifest.json").read_text())
    manifest["files"][0]["path"] = path
    change_manifest(labels, files=manifest["files"])
    with pytest.raises(FormatError, match="a file outside the directory"):
        LabelShards.open(labels)


def test_rows_that_do_not_add_up_make_no_manifest() -> None:
    whole = Manifest("wordnet", "f", "3.0", files=(), rows=3, labelled=1, empty=1, rejected=0)
    with pytest.raises(FormatError, match="3 rows in, 1 labelled"):
        whole.to_json()
    lost = InputFile("a.tsv", 1, "today", rows=2, labelled=1)
    with pytest.raises(FormatError, match=r"a\.tsv: found 2 rows in"):
        Manifest("wordnet", "f", "3.0", files=(), rows=1, labelled=1, empty=0, rejected=0, inputs=(lost,)).to_json()


def test_a_manifest_comes_back_as_it_was(labels: Path) -> None:
    manifest = LabelShards.open(labels).manifest
    assert Manifest.from_json("x", manifest.to_json()) == manifest
    file = InputFile("a.tsv", 1, "today", rows=3, labelled=1, merged=2, digest="f" * 64)
    joined = replace(manifest, rows=manifest.rows + 2, merged=2, inputs=(file, InputFile("b.tsv", 1, "today")))
    assert Manifest.from_json("x", joined.to_json()) == joined


def test_a_manifest_without_merged_rows_has_the_fields_that_earlier_releases_know(labels: Path) -> None:
    """Their account of rows, and of each input, is read with these names alone; other fields are skipped."""
    file = InputFile("a.tsv", 1, "today", rows=1, labelled=1, digest="f" * 64)
    content = json.loads(replace(LabelShards.open(labels).manifest, inputs=(file,)).to_json())
    assert list(content["totals"]) == ["rows", "labelled", "empty", "rejected"]
    assert list(content["inputs"][0]) == [
        "path", "size", "modified", "rows", "labelled", "empty", "rejected", "unreadable",
    ]  # fmt: skip
    assert content["digests"] == ["f" * 64]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rejected": 1', '"rejected": 9'),
        ('"first_shard": "00000"', '"first_shard": "00001"'),
        ('"wordnet": "3.0"', '"wordnet": "3.1"'),
        ('"rows": 2', '"rows": 3'),
        ('"config": {}', '"config": {"a": 1}'),
    ],
)
def test_a_manifest_that_was_altered_is_refused(labels: Path, old: str, new: str) -> None:
    text = (labels / "manifest.json").read_text()
    assert old in text
    (labels / "manifest.json").write_text(text.replace(old, new))
    with pytest.raises(FormatError, match=r"manifest\.json: found content that does not match its checksum"):
        LabelShards.open(labels)


def test_a_manifest_of_an_earlier_release_has_no_checksum_and_its_rows_are_added_up(labels: Path) -> None:
    manifest = json.loads((labels / "manifest.json").read_text())
    del manifest["own_sha256"]
    (labels / "manifest.json").write_text(json.dumps(manifest))
    assert LabelShards.open(labels).manifest.rejected == 1
    manifest["totals"]["rejected"] = 9
    (labels / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match=r"manifest\.json, totals: found 4 rows in"):
        LabelShards.open(labels)


def test_a_part_file_that_is_no_parquet_is_named(labels: Path) -> None:
    shards = LabelShards.open(labels)
    (labels / "part-00000.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(FormatError, match=r"part-00000\.parquet: found 8 bytes"):
        shards.read_all()


def test_a_copied_directory_reads_the_same(labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels, tmp_path / "copy")
    assert LabelShards.open(tmp_path / "copy").read_all() == LabelShards.open(labels).read_all()
