"""Which files are the input, how they are stored, what their shards are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.inputs import Inputs, list_inputs
from vocab.errors import InputError


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


@pytest.mark.parametrize(
    ("names", "stored"),
    [
        (["a.parquet"], "parquet"),
        (["a.tsv", "b.tsv.gz"], "tsv"),
        (["a.csv.gz"], "csv"),
        (["a.jsonl", "b.ndjson"], "jsonl"),
        (["00000.tar", "00001.tar"], "webdataset"),
        (["00000.tar", "00000.parquet", "00000_stats.json"], "img2dataset"),
    ],
)
def test_the_format_is_told_by_the_names(tmp_path: Path, names: list[str], stored: str) -> None:
    assert list_inputs((touch(tmp_path, *names),), "auto").format == stored


def test_files_of_two_formats_need_a_named_format(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.tsv", "b.parquet")
    with pytest.raises(InputError, match=r"files of parquet and tsv.*Name the --format"):
        list_inputs((folder,), "auto")
    assert [Path(f.path).name for f in list_inputs((folder,), "tsv").files] == ["a.tsv"]


def test_unique_stems_name_the_shards(tmp_path: Path) -> None:
    inputs = list_inputs((touch(tmp_path, "x/00000.tar", "y/00001.tar"),), "auto")
    assert [inputs.shard_of(f.path) for f in inputs.files] == ["00000", "00001"]


def test_repeated_stems_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "emoji/00000.tar", "coco/00000.tar", "coco/00001.tar")
    inputs = list_inputs((str(tmp_path / "emoji"), str(tmp_path / "coco")), "auto")
    assert [inputs.shard_of(f.path) for f in inputs.files] == ["coco/00000", "coco/00001", "emoji/00000"]


def test_globs_folders_and_files_may_overlap(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.tsv", "b/c.tsv", "b/d.txt")
    inputs = list_inputs((folder, f"{folder}/*.tsv", f"{folder}/a.tsv", f"{folder}/b/[c].tsv"), "auto")
    assert [inputs.shard_of(f.path) for f in inputs.files] == ["a", "c"]


def test_hidden_and_temporary_files_are_no_input(tmp_path: Path) -> None:
    inputs = list_inputs((touch(tmp_path, "a.parquet", ".b.parquet", "_tmp/c.parquet"),), "auto")
    assert [Path(f.path).name for f in inputs.files] == ["a.parquet"]


@pytest.mark.parametrize("place", ["missing", "missing/*.tsv", "empty"])
def test_a_place_without_input_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=place.split("/", maxsplit=1)[0]):
        list_inputs((str(tmp_path / place),), "auto")


@pytest.mark.parametrize(
    ("path", "shard"),
    [("file:///d/00017.tar", "00017"), ("s3a://b/x.y.tsv.gz", "x.y"), ("/d/a.parquet", "a"), ("a b.jsonl", "a b")],
)
def test_a_stem_has_no_folder_and_no_extension(path: str, shard: str) -> None:
    assert Inputs("tsv", (), None).shard_of(path) == shard


@pytest.mark.parametrize(
    ("marker", "file", "what"),
    [
        ("_delta_log/00000000000000000000.json", "part-0.parquet", "table of Delta.*format\\('delta'\\)"),
        ("_delta_log/_last_checkpoint", "date=2024-01-01/part-0.parquet", "table of Delta.*with_synsets"),
        (".hoodie/hoodie.properties", "2024/01/a_0_1.parquet", "table of Hudi.*format\\('hudi'\\)"),
        ("metadata/v1.metadata.json", "data/x=1/0.parquet", "table of Iceberg.*format\\('iceberg'\\)"),
        ("metadata/00000-u.metadata.json", "data/0.parquet", "table of Iceberg"),
        ("metadata/00000-u.gz.metadata.json", "data/0.parquet", "table of Iceberg"),
        ("schema/schema-0", "bucket-0/data-0.parquet", "table of Paimon"),
        ("_spark_metadata/0", "part-0.parquet", "stream of Spark"),
        ("_temporary/0/task_0/part-1.parquet", "part-0.parquet", "_temporary and no _SUCCESS: an unfinished write"),
    ],
)
def test_files_that_alone_do_not_say_what_is_in_them_are_refused(
    tmp_path: Path, marker: str, file: str, what: str
) -> None:
    table = touch(tmp_path / "table", marker, file)
    folder = str(Path(table, file).parent)
    links = tmp_path / "links"
    links.mkdir()
    (links / "file.parquet").symlink_to(f"{table}/{file}")
    (tmp_path / "linked").symlink_to(folder)
    linked = () if what.startswith("_temporary") else (links, links / "file.parquet", tmp_path / "linked")
    wild = (f"{folder}/*.parquet", f"{tmp_path}/t*/**.parquet")
    for place in map(str, (table, folder, f"{table}/{file}", *wild, *linked)):
        with pytest.raises(InputError, match=what):
            list_inputs((place,), "auto")
    with pytest.raises(InputError, match=what):
        list_inputs((touch(tmp_path / "other", "a.parquet"), table), "parquet")


def test_a_log_that_is_not_the_files_own_is_no_matter(tmp_path: Path) -> None:
    touch(tmp_path, "table/_delta_log/0.json", "table/a.parquet", "metadata/notes.json", "data/b.parquet")
    touch(tmp_path, "spark/_temporary/0/c.parquet", "spark/_SUCCESS", "spark/d.parquet")
    touch(tmp_path, "bricks/_started_17", "bricks/_committed_17", "bricks/e.parquet")
    inputs = list_inputs(tuple(str(tmp_path / name) for name in ("data", "spark", "bricks")), "auto")
    assert [Path(f.path).name for f in inputs.files] == ["e.parquet", "b.parquet", "d.parquet"]


@pytest.mark.parametrize(
    "names",
    [
        ["_temporary/0/task_0/part-0.parquet"],
        [".spark-staging-4/day=1/part-0.parquet", "day=2/part-0.parquet"],
        ["_started_17", "_started_18", "_committed_17", "part-0.parquet"],
    ],
)
def test_an_unfinished_write_is_told_by_what_its_committer_left(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match="an unfinished write of Spark"):
        list_inputs((touch(tmp_path, *names),), "auto")


def test_hidden_and_unfinished_files_are_left_out_and_told(tmp_path: Path) -> None:
    left_out = [
        "#recycle/a.parquet", "._a.parquet", ".ipynb_checkpoints/a.parquet", "__MACOSX/._a.parquet",
        "b.parquet.part", "c.tsv.tmp", "d.tar.crdownload", "e.parquet.5e4d2f.tmp", "f.parquet._COPYING_",
        "z.PARQUET",
        "z.jsonl.zst",
        "z.tar.gz",
        "z.tgz",
    ]  # fmt: skip
    folder = touch(tmp_path, "a.parquet", "_SUCCESS", ".a.parquet.crc", "notes.txt", *left_out)
    inputs = list_inputs((folder,), "auto")
    assert [Path(f.path).name for f in inputs.files] == ["a.parquet"]
    assert [path.removeprefix(f"{folder}/") for path in inputs.left_out] == left_out
