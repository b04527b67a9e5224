"""Which files are the input, how they are stored, what their shards are called."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Label
from pipeline.reading import inputs as inputs_module
from pipeline.reading.inputs import InputFiles, inputs_of, list_inputs
from pipeline.reading.stored_formats import begins_as
from tests.servers import s3_server
from vocab.errors import InputError
from vocab.store.files import filesystem_of


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


@pytest.mark.parametrize(
    ("names", "stored"),
    [
        (["a.tsv", "a.tsv.gz"], "auto"),
        (["a.ndjson", "a.jsonl", "b.jsonl"], "jsonl"),
        (["a.parquet", "a.pq"], "parquet"),
        (["x/a.tgz", "x/a.tar.gz", "y/a.tar"], "auto"),
    ],
)
def test_files_of_one_shard_are_refused_unless_a_column_names_it(tmp_path: Path, names: list[str], stored: Any) -> None:
    asked = Label((touch(tmp_path, *names),), str(tmp_path / "out"), format=stored)
    with pytest.raises(InputError, match=r"a\.\w+(\.gz)?: found a second file for shard '(x/)?a', which .*/a\."):
        inputs_of(asked)
    if "tgz" not in names[0]:
        assert len(inputs_of(replace(asked, shard_column="s")).files) == len(names)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("a.tar", "key_column"),
        ("a.tar", "shard_column"),
        ("a.parquet", "separator"),
        ("a.parquet", "quoting"),
        ("a.jsonl", "columns"),
    ],
)
@pytest.mark.parametrize("is_named", [False, True])
def test_an_option_that_the_format_would_ignore_is_refused(
    tmp_path: Path, name: str, option: str, is_named: bool
) -> None:
    stored = {"tar": "webdataset"}.get(name[2:], name[2:]) if is_named else "auto"
    value: Any = {"columns": ("x",), "separator": ";", "quoting": "none"}.get(option, "x")
    with pytest.raises(InputError, match=f"^--{option.replace('_', '-')}: found given for format .*Leave it out"):
        inputs_of(Label((touch(tmp_path, name),), "out", format=stored, **{option: value}))


def test_labels_among_the_captions_are_no_captions(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.parquet", "labels/part-0.parquet", "labels/_job/counts.parquet", "labels2/b.parquet")
    for place in (folder, f"{folder}/*", f"file://{folder}/**/*.parquet"):
        for out in (f"{folder}/labels", f"file://{folder}/labels/"):
            found = inputs_of(Label((place,), out)).files
            assert [Path(file.path).name for file in found] == ["a.parquet", "b.parquet"]


def test_globs_folders_and_files_may_overlap(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.tsv", "b/c.tsv", "b/d.txt")
    inputs = list_inputs(
        (folder, f"{folder}/*.tsv", f"{folder}/a.tsv", f"{folder}/b/[c].tsv", f"file://{folder}"), "auto"
    )
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
    assert InputFiles("tsv", (), None).shard_of(path) == shard


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


LINES = b'{"caption": "a dog"}\n'
TABLE = b"caption\tn\na dog\t1\n"


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("0.txt"))
    return buffer.getvalue()


def parquet_bytes() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"caption": ["a dog"]}), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("stored", "content", "names"),
    [
        ("jsonl", LINES, ["part-0.json", "b.json.gz", "c.txt", "part-1"]),
        ("jsonl", LINES, ["a.jsonl", "b.json", "c.txt"]),
        ("parquet", parquet_bytes(), ["a.pq", "b.parq", "c.parquet", "part-00000", "x.data"]),
        ("parquet", parquet_bytes(), ["part-00000", "part-00001"]),
        ("tsv", TABLE, ["a.txt", "b.TXT", "c"]),
        ("tsv", TABLE, ["a.csv"]),
        ("tsv", TABLE, ["a.tsv", "b.txt", "c.txt.gz"]),
        ("csv", b"caption,n\na dog,1\n", ["a.txt", "b.dat"]),
        ("webdataset", b"", ["00000.tar.gz", "1.tgz", "2.wds", "3"]),
        ("img2dataset", parquet_bytes(), ["00000.pq"]),
    ],
)
def test_a_named_format_takes_files_of_any_extension(
    tmp_path: Path, stored: Any, content: bytes, names: list[str]
) -> None:
    no_data = [
        "README.txt",
        "run.log",
        "LICENSE",
        "_SUCCESS",
        ".part-0.json.crc",
        "part-0.md5",
        "x.jpg",
        "y.part",
        "z.zst",
    ]
    for name in no_data:
        touch(tmp_path, f"in/{name}")
    if stored == "webdataset":
        content = tar_bytes()
    for name in names:
        (tmp_path / "in" / name).write_bytes(gzip.compress(content) if name.endswith("z") else content)
    folder = f"{tmp_path}/in"
    for places in ((folder,), (f"{folder}/*",), tuple(f"{folder}/{name}" for name in names)):
        inputs = list_inputs(places, stored)
        assert sorted(Path(file.path).name for file in inputs.files) == sorted(names)
        assert not {inputs.shard_of(file.path).rpartition(".")[2] for file in inputs.files} & {
            "json", "gz", "txt", "TXT", "tgz", "pq", "parq", "csv",
        }  # fmt: skip


def test_beside_files_of_the_named_format_others_are_told_by_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(
        inputs_module, "begins_as", lambda path, *a, **k: looked_at.append(Path(path).name) or begins_as(path, *a, **k)
    )
    folder = touch(tmp_path, "00000.tar", "00000_stats.json", "00000.parquet", "x.jpg")
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.json").write_bytes(LINES)
    (tmp_path / "c.json").write_text('{\n "a": 1\n}')
    inputs = list_inputs((folder,), "jsonl")
    assert [Path(file.path).name for file in inputs.files] == ["a.jsonl", "b.json"]
    assert [Path(path).name for path in inputs.left_out] == ["00000_stats.json", "c.json"]
    assert looked_at == ["00000_stats.json", "b.json", "c.json"]
    assert [Path(file.path).name for file in list_inputs((folder,), "webdataset").files] == ["00000.tar"]


COCO = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a dog"}]}
KARPATHY = {"images": [{"cocoid": 1, "sentences": [{"raw": "a dog"}]}], "dataset": "coco"}


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (LINES * 2, "jsonl"),
        (b'\xef\xbb\xbf\n{"images": ["a.jpg"], "caption": "a dog"}\n', "jsonl"),
        (json.dumps(COCO).encode(), "coco"),
        (json.dumps(COCO, indent=1).encode(), "coco"),
        (json.dumps({"info": "x" * 2_000_000} | COCO).encode(), "coco"),
        (json.dumps(KARPATHY).encode(), "coco"),
        (json.dumps([{"caption": "a dog"}]).encode(), None),
        (json.dumps([{"caption": "a dog"}, {"caption": "b"}], indent=1).encode(), None),
        (json.dumps({"images": [], "annotations": [{"bbox": [1]}]}).encode(), None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_a_json_file_is_told_by_what_it_holds(tmp_path: Path, content: bytes, stored: str | None, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(content if ending == "json" else gzip.compress(content))
    if stored is None:
        with pytest.raises(InputError, match=r"one JSON document, not JSON lines.*jq -c .*--format coco"):
            list_inputs((str(tmp_path),), "auto")
    else:
        assert list_inputs((str(tmp_path),), "auto").format == stored


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.tar.bz2", "bzip2 -d"), ("a.tar.xz", "xz -d"), ("a.tar.zst", "zstd -d"), ("a.tbz2", "bzip2 -d"),
        ("a.jsonl.zst", "zstd -d"), ("a.csv.bz2", "bzip2 -d"), ("captions.zip", "unzip"),
    ],
)  # fmt: skip
def test_a_compression_that_is_not_read_is_refused_by_name(tmp_path: Path, name: str, remedy: str) -> None:
    folder = touch(tmp_path, name)
    for place in (folder, f"{folder}/{name}", f"{folder}/*"):
        for stored in ("auto", "webdataset", "jsonl"):
            with pytest.raises(InputError, match=rf"{name}: found a file compressed with .*Unpack it first: {remedy}"):
                list_inputs((place,), stored)  # type: ignore[arg-type]


def test_a_tar_and_its_compressed_copy_are_one(tmp_path: Path) -> None:
    inputs = list_inputs((touch(tmp_path, "0.tar", "0.tar.gz", "1.tgz", "d/0.tar.gz"),), "auto")
    assert [inputs.shard_of(file.path) for file in inputs.files] == ["0", "1", "d/0"]
    assert [Path(path).name for path in inputs.left_out] == ["0.tar.gz"]


TREE = ["dt=1/lang=en/a.tsv", "dt=1/lang=de/b.tsv", "dt=2/lang=en/x/c.tsv", "dt=2/lang=en/_t/d.tsv", "e.tsv", "f.tsv/g"]


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("dt=*/lang=en", "ac"), ("dt=*/lang=en/", "ac"), ("dt=?/lang=en/*.tsv", "a"), ("dt=[!1]/**/*.tsv", "c"),
        ("*.tsv", "e"), ("**/*.tsv", "abce"), ("**/lang=en", "ac"), ("*", "abce"), ("dt={1,2}/lang=en", "ac"),
        ("dt={1..2}/lang=*", "abc"), ("{dt=1,e.tsv}", "abe"), ("dt=1/lang=[d-e]?/[ab].tsv", "ab"),
    ],
)  # fmt: skip
def test_globs_and_braces_name_files_and_folders(tmp_path: Path, glob: str, names: str) -> None:
    folder = touch(tmp_path, *TREE)
    found = list_inputs((f"{folder}/{glob}",), "auto").files
    assert sorted(Path(file.path).stem for file in found) == list(names)
    assert list_inputs((f"file://{folder}/{glob}",), "auto").files[0].path.startswith("file:///")


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("dt=*/lang=fr", "nothing that matches"),
        ("*/*.tsv.gz", "nothing that matches"),
        ("dt={1..3}/lang=en", "no file .*dt=3/lang=en; wanted all 3 files"),
        ("{e,h,i}.tsv", r"no file .*h\.tsv, nor 1 more"),
    ],
)
def test_a_glob_without_files_and_a_missing_name_of_braces_are_refused(tmp_path: Path, glob: str, message: str) -> None:
    folder = touch(tmp_path, *TREE)
    with pytest.raises(InputError, match=message):
        list_inputs((f"{folder}/e.tsv", f"{folder}/{glob}"), "auto")


def test_a_file_whose_name_has_the_signs_of_a_glob_is_itself(tmp_path: Path) -> None:
    names = ["a[1].tsv", "b{1,2}.tsv", "c*.tsv", "d?.tsv", "a1.tsv", "cc.tsv"]
    folder = touch(tmp_path, *names)
    for name in names[:4]:
        (file,) = list_inputs((f"{folder}/{name}",), "auto").files
        assert Path(file.path).name == name


def test_globs_and_braces_are_the_same_in_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch):
        filesystem, _ = filesystem_of("s3://tars/in")
        for name in TREE:
            with filesystem.open_output_stream(f"tars/in/{name}") as file:
                file.write(TABLE)
        for glob, names in (("dt=*/lang=en", "ac"), ("*.tsv", "e"), ("dt={1..2}/lang=*", "abc"), ("**/?.tsv", "abce")):
            files = list_inputs((f"s3a://tars/in/{glob}",), "auto").files
            assert sorted(Path(file.path).stem for file in files) == list(names)
            assert all(file.path.startswith("s3a://tars/in/") for file in files)
        with pytest.raises(InputError, match=r"no file tars/in/dt=3"):
            list_inputs(("s3://tars/in/dt={1..3}/lang=en",), "auto")
