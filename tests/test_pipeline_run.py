"""The Spark job: every stored format in, a label directory out; and what it does with bad input."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.__main__ import what_was_rejected
from pipeline.align.image_ids import list_image_files
from pipeline.align.story import align
from pipeline.check import compare
from pipeline.config import Align, Label, Prune
from pipeline.prune import preview, prune
from pipeline.report.sections import account
from pipeline.report.tally import tally_of
from pipeline.run import label_captions
from vocab.errors import FormatError, InputError, MismatchError, OutputExistsError
from vocab.store.label_shards import SCHEMA, LabelShards
from vocab.store.label_writing import write_label_shards
from vocab.store.manifest import ACCOUNT, Manifest
from vocab.vocabulary import Vocabulary

DOG, CAT, SOFA, MOUSE = 2084071, 2121620, 4256520, 2330245


def run(spark: Any, captions: Path | tuple[Path, ...], **options: Any) -> tuple[Manifest, LabelShards]:
    places = captions if isinstance(captions, tuple) else (captions,)
    out = places[0].parent / "labels"
    manifest = label_captions(spark, Label(captions=tuple(map(str, places)), out=str(out), **options))
    return manifest, LabelShards.open(out)


def rows(labels: LabelShards) -> list[tuple[str, str, list[int]]]:
    return [(row["shard"], row["key"], row["synsets"]) for row in labels.read_all().to_pylist()]


def reasons(labels: LabelShards) -> dict[str, str]:
    return {row["key"]: row["reason"] for row in labels.rejects().to_pylist()}


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_relative_paths_are_those_of_the_driver_where_workers_run_in_another_folder(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers stay in the folder in which Spark was started, as those of a cluster stay in theirs.
    spark.range(1).mapInArrow(lambda batches: batches, "id long").collect()
    monkeypatch.chdir(tmp_path)
    Path("captions.tsv").write_text("uid\tcaption\nu0\ta dog\nu1\ta cat\n")
    with tarfile.open("00000.tar", "w") as tar:
        for key in ("0", "1"):
            add_member(tar, f"{key}.jpg", b"")
            add_member(tar, f"{key}.json", json.dumps({"uid": f"u{key}"}).encode())
    label_captions(spark, Label(("captions.tsv",), "by-uid", key_column="uid"))
    options = Align("by-uid", ("00000.tar",), "json.uid", "labels")
    align(spark, LabelShards.open("by-uid"), list_image_files(options.images, options.id_column), options)
    labels = LabelShards.open("labels")
    assert rows(labels) == [("00000", "0", [DOG]), ("00000", "1", [CAT])]
    assert compare(spark, labels, [str(tmp_path / "00000.tar")]).total("labelled") == 2


def test_parquet(spark: Any, tmp_path: Path) -> None:
    table = pa.table({"TEXT": ["a dog", None, "couch", ""], "more": [["cats"], ["a mouse", None], [], None]})
    pq.write_table(table, tmp_path / "web.parquet")
    manifest, labels = run(spark, tmp_path / "web.parquet", caption_columns=("TEXT", "more"))
    assert rows(labels) == [
        ("web", "000000000", [DOG, CAT]),
        ("web", "000000001", [MOUSE]),
        ("web", "000000002", [SOFA]),
        ("web", "000000003", []),
    ]
    assert (manifest.rows, manifest.labelled, manifest.empty, manifest.rejected) == (4, 3, 1, 0)
    assert sorted(p.name for p in (tmp_path / "labels").iterdir() if not p.name.startswith("part-")) == [
        "counts.parquet",
        "manifest.json",
        "rejects.parquet",
    ]


def test_a_uid_and_a_shard_column_are_used_where_they_are_named(spark: Any, tmp_path: Path) -> None:
    table = {"caption": ["dog"] * 4, "uid": ["b", None, "", "z"], "s": ["x", "y", "y", ""]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    _, labels = run(spark, tmp_path / "a.parquet", key_column="uid", shard_column="s")
    assert rows(labels) == [("x", "b", [DOG])]
    assert sorted((row["shard"], row["key"], row["reason"]) for row in labels.rejects().to_pylist()) == [
        ("", "z", "null_shard"), ("y", "", "null_key"), ("y", "", "null_key"),
    ]  # fmt: skip


def test_tsv_with_and_without_a_header(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "head.tsv").write_bytes(b'caption\turl\na dog\thttp://x\n"a cat\tu\n\n')
    (tmp_path / "bare.tsv.gz").write_bytes(gzip.compress(b"http://x\tmice\nhttp://y\n"))
    _, labels = run(spark, tmp_path / "head.tsv")
    assert rows(labels) == [("head", "000000000", [DOG]), ("head", "000000001", [CAT])]
    assert reasons(labels) == {"000000002": "malformed_record"}
    out = tmp_path / "second"
    label_captions(spark, Label((str(tmp_path / "bare.tsv.gz"),), str(out), columns=("url", "caption")))
    assert rows(LabelShards.open(out)) == [("bare", "000000000", [MOUSE])]
    assert reasons(LabelShards.open(out)) == {"000000001": "malformed_record"}


def test_csv_with_quotes_and_line_breaks(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,caption\n7,"a dog,\na ""cat"""\n8,sofa\n9,b\xff\n')
    _, labels = run(spark, tmp_path / "a.csv", key_column="id")
    assert rows(labels) == [("a", "7", [DOG, CAT]), ("a", "8", [SOFA])]
    assert reasons(labels) == {"9": "not_utf8"}


def test_jsonl_with_texts_lists_and_broken_lines(spark: Any, tmp_path: Path) -> None:
    lines = [
        b'{"caption": ["dogs", "a cat"]}',
        b'{"caption": "[sofa] 2"}',
        b"{broken",
        b'{"other": 1}',
        b'{"caption": "\xff"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    manifest, labels = run(spark, tmp_path / "a.jsonl")
    assert rows(labels) == [("a", "000000000", [DOG, CAT]), ("a", "000000001", [SOFA])]
    assert reasons(labels) == {"000000002": "malformed_record", "000000003": "null_caption", "000000004": "not_utf8"}
    assert manifest.rows == 5


def test_a_tsv_column_may_have_any_name_and_captions_hold_carriage_returns(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(
        b"\xef\xbb\xbfcaption\tline\tinput\r\na dog\rand a cat\tx\ty\r\nsofa\tx\ty\r\ndog\xff\tx\ty\r\n"
    )
    _, labels = run(spark, tmp_path / "a.tsv")
    assert reasons(labels) == {"000000002": "not_utf8"}
    assert rows(labels) == [("a", "000000000", [DOG, CAT]), ("a", "000000001", [SOFA])]


def test_files_without_the_column_are_rejected_and_named(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tsv").write_text("text\turl\na dog\tx\n")
    (tmp_path / "in/b[1].tsv").write_text("caption\turl\na dog\tx\n")
    (tmp_path / "in/c.tsv").write_text("url\tcaption\nx\ta cat\n")
    manifest, labels = run(spark, tmp_path / "in")
    assert rows(labels) == [("b[1]", "000000000", [DOG]), ("c", "000000000", [CAT])]
    assert reasons(labels) == {"000000000": "no_caption"}
    said = what_was_rejected(str(tmp_path / "labels"), manifest)
    assert f"1 of 3 files whose every row was rejected: {tmp_path}/in/a.tsv\n" in said


def test_a_repeated_column_is_refused(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\tcaption\ndog\tcat\n")
    with pytest.raises(InputError, match="two columns 'caption'"):
        run(spark, tmp_path / "a.tsv")


def test_after_a_failed_run_the_corrected_one_finds_room(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "dog", "caption": null}\n')
    with pytest.raises(InputError, match="null_caption"):
        run(spark, tmp_path / "a.jsonl")
    assert not (tmp_path / "labels").exists()
    assert rows(run(spark, tmp_path / "a.jsonl", caption_columns=("text",))[1]) == [("a", "000000000", [DOG])]


def test_webdataset_tars(spark: Any, tmp_path: Path) -> None:
    for shard in ("00000", "00001"):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            add_member(tar, f"{shard}7.jpg", b"\xff\xd8 never read")
            add_member(tar, f"{shard}7.txt", b"a dog")
            add_member(tar, f"{shard}7.json", json.dumps({"alts": ["a cat", 3]}).encode())
            add_member(tar, f"{shard}8.jpg", b"")
            add_member(tar, f"{shard}9.txt", b"sofa")
    manifest, labels = run(
        spark, (tmp_path / "00000.tar", tmp_path / "00001.tar"), caption_columns=("txt", "json.alts")
    )
    assert rows(labels) == [
        ("00000", "000007", [DOG, CAT]),
        ("00000", "000009", [SOFA]),
        ("00001", "000017", [DOG, CAT]),
        ("00001", "000019", [SOFA]),
    ]
    assert reasons(labels) == {"000008": "no_caption", "000018": "no_caption"}
    assert [(Path(f.path).name, f.rows, f.rejected) for f in manifest.inputs] == [
        ("00000.tar", 3, 1),
        ("00001.tar", 3, 1),
    ]


def test_img2dataset_folders_respect_the_status(spark: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "00000.tar").write_bytes(b"")
        sidecar = {"key": ["0", "1"], "caption": ["dog", "cat"], "status": ["success", "failed_to_download"]}
        pq.write_table(pa.table(sidecar), tmp_path / "in" / folder / "00000.parquet")
    manifest, labels = run(spark, (tmp_path / "in" / "a", tmp_path / "in" / "b"))
    assert rows(labels) == [("a/00000", "0", [DOG]), ("b/00000", "0", [DOG])]
    assert reasons(labels) == {"1": "status:failed_to_download"}
    assert manifest.config["format"] == "img2dataset"


def test_paths_with_dots_spaces_and_signs_keep_their_names(spark: Any, tmp_path: Path) -> None:
    place = tmp_path / "a b+c%20"
    place.mkdir()
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"caption": ["dog"]}), place / "ä #1.parquet")
    manifest, labels = run(spark, tmp_path / "other" / ".." / place.name / "ä #1.parquet")
    assert rows(labels) == [("ä #1", "000000000", [DOG])]
    assert manifest.inputs[0].rows == 1


def test_hostile_captions_are_labelled_or_rejected_never_lost(spark: Any, tmp_path: Path) -> None:
    captions = [b"dog", b"\xff\xfe", b"x" * (1 << 20), b"dog " * 10_000, b" ", b"", b"<&%" * 1000]
    offsets = pa.array([0, *(sum(map(len, captions[: i + 1])) for i in range(len(captions)))], pa.int32())
    column = pa.StringArray.from_buffers(len(captions), offsets.buffers()[1], pa.py_buffer(b"".join(captions)))
    pq.write_table(pa.table({"caption": column}), tmp_path / "a.parquet")
    manifest, labels = run(spark, tmp_path / "a.parquet")
    assert [synsets for _, _, synsets in rows(labels)] == [[DOG], [DOG], [], [], []]
    assert reasons(labels) == {"000000001": "not_utf8", "000000002": "caption_too_long"}
    assert (manifest.rows, manifest.labelled, manifest.empty, manifest.rejected) == (7, 2, 3, 2)


def test_files_are_few_sorted_and_in_order(spark: Any, tmp_path: Path) -> None:
    keys = [f"{i * 7919 % 1000:04d}" for i in range(1000)]
    pq.write_table(pa.table({"caption": ["dog"] * 1000, "key": keys}), tmp_path / "a.parquet")
    manifest, labels = run(spark, tmp_path / "a.parquet", key_column="key", rows_per_file=400)
    parts = [f for f in manifest.files if f.path.startswith("part-")]
    assert len(parts) == 3
    assert sum(f.rows for f in parts) == 1000
    assert [key for _, key, _ in rows(labels)] == sorted(keys)


def test_two_runs_give_the_same_counts_and_vocabulary(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["dog", "dog cat", "sofa"]}), tmp_path / "a.parquet")
    for name in ("one", "two"):
        label_captions(spark, Label((str(tmp_path / "a.parquet"),), str(tmp_path / name)))
        prune(Prune((str(tmp_path / name),), tmp_path / f"{name}.parquet", min_count=1))
    assert (tmp_path / "one/counts.parquet").read_bytes() == (tmp_path / "two/counts.parquet").read_bytes()
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    vocabulary = Vocabulary.load(tmp_path / "one.parquet")
    assert vocabulary.synsets.tolist() == [DOG, CAT, SOFA]
    assert (vocabulary.captions.tolist(), vocabulary.rows) == ([2, 1, 1], 3)


def test_a_parquet_file_without_the_column_is_refused(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"TEXT": ["dog"], "URL": ["u"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: found columns TEXT, URL; wanted a column 'caption'"):
        run(spark, tmp_path / "a.parquet")
    assert not (tmp_path / "labels").exists()


def test_a_truncated_gzip_is_named(spark: Any, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d dogs\t%d\n" % (i, i * i) for i in range(50_000)))
    (tmp_path / "cut.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.tsv\.gz: found a file that cannot be read .*Download it again"):
        run(spark, tmp_path / "cut.tsv.gz", columns=("caption", "n"))
    assert not (tmp_path / "labels" / "manifest.json").exists()


def test_a_truncated_parquet_file_is_named(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["dog"] * 1000}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.parquet: found a file that cannot be read"):
        run(spark, tmp_path / "a.parquet")


def test_a_truncated_tar_keeps_its_whole_samples_and_counts_the_broken_one(spark: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add_member(tar, "1.txt", b"a dog")
        add_member(tar, "2.txt", b"a cat")
        add_member(tar, "2.jpg", b"x" * 5000)
    (tmp_path / "0.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:4000])
    _, labels = run(spark, tmp_path / "0.tar")
    assert rows(labels) == [("0", "1", [DOG])]
    assert reasons(labels) == {"2": "truncated_tar"}


@pytest.mark.parametrize(
    "order",
    [
        "0.jpg 1.jpg 0.txt 1.txt",
        "images/0.jpg images/1.jpg captions/0.txt captions/1.txt images/0.png images/1.png",
        "0.txt 0.txt 1.txt 1.txt",
        "0.txt 1.txt 0.json 1.json",
    ],
)
def test_members_that_are_no_neighbours_end_in_words_about_their_order(spark: Any, tmp_path: Path, order: str) -> None:
    names = order.split()
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in names:
            add_member(tar, name, b"a dog")
    repeated = len([name for name in names if not name.startswith("captions/")])
    alone = "captions/" not in order
    if alone:
        with pytest.raises(InputError, match=f"{repeated} rows repeated_key.*neighbours.*sorted order"):
            run(spark, tmp_path / "0.tar")
        with tarfile.open(tmp_path / "1.tar", "w") as tar:
            add_member(tar, "2.txt", b"a cat")
    manifest, labels = run(spark, (tmp_path / "0.tar", tmp_path / "1.tar") if alone else tmp_path / "0.tar")
    assert manifest.rows == manifest.labelled + manifest.rejected == len(names) + alone
    assert list(reasons(labels).values()).count("repeated_key") == len(
        {name.rpartition(".")[0] for name in names if not name.startswith("captions/")}
    )
    assert "tar --sort=name packs members in sorted order" in what_was_rejected(str(tmp_path / "labels"), manifest)


def test_a_truncated_tar_is_named_and_fails_a_strict_job(spark: Any, tmp_path: Path) -> None:
    for name in ("0.tar", "1.tar"):
        with tarfile.open(tmp_path / name, "w") as tar:
            add_member(tar, "1.txt", b"a dog")
            add_member(tar, "2.txt", b"a cat")
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:1200])
    tars = (tmp_path / "0.tar", tmp_path / "1.tar")
    with pytest.raises(InputError, match=r"1\.tar: found a file that cannot be read \(the archive breaks off\)"):
        run(spark, tars, strict=True)
    manifest, _ = run(spark, tars)
    assert [file.unreadable for file in manifest.inputs] == ["", "the archive breaks off"]
    said = what_was_rejected(str(tmp_path / "labels"), manifest)
    assert said == f"rejected: 1 truncated_tar\n1 of 2 files not read to the end: {tmp_path}/1.tar\n"


def test_an_empty_file_among_others_is_no_other_header(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("")
    (tmp_path / "b.tsv").write_text("caption\ndog\n")
    manifest, labels = run(spark, (tmp_path / "a.tsv", tmp_path / "b.tsv"))
    assert rows(labels) == [("b", "000000000", [DOG])]
    assert [file.rows for file in manifest.inputs] == [0, 1]


def test_only_a_finished_directory_can_be_extended(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\ndog\n")
    with pytest.raises(InputError, match="found no finished label directory"):
        run(spark, tmp_path / "a.tsv", extend=True)


def test_a_tar_that_breaks_off_inside_a_header_is_no_whole_tar(spark: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add_member(tar, "1.txt", b"a dog")
        add_member(tar, "2.txt", b"a cat")
    (tmp_path / "0.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:1200])
    _, labels = run(spark, tmp_path / "0.tar")
    assert rows(labels) == [("0", "1", [DOG])]
    assert labels.rejects().to_pylist() == [{"shard": "0", "key": "", "reason": "truncated_tar"}]


def test_a_file_that_is_no_tar_is_named(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(InputError, match=r"0\.tar: found a file that cannot be read \(invalid header\)"):
        run(spark, tmp_path / "0.tar")


def test_one_sample_twice_is_refused(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["dog", "cat"], "uid": ["x", "x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"sample a/x: found two rows with this \(shard, key\).*--same-key union"):
        run(spark, tmp_path / "a.parquet", key_column="uid")
    with pytest.raises(FormatError, match=r"no manifest\.json"):
        LabelShards.open(tmp_path / "labels")


def test_several_captions_of_an_image_in_several_rows_are_joined(spark: Any, tmp_path: Path) -> None:
    """Rows as COCO and Flickr30k have them, over files, tasks and an extension, read by each verb that reads labels."""
    for name, captions in (
        ("a", ["of the", "a cat", None, "a mouse"]),
        ("b", ["a dog", "a cat", "a sofa", ""]),
        ("c", ["a dog and a cat", None, None, "of the"]),
    ):
        (tmp_path / "in").mkdir(exist_ok=True)
        table = {"caption": captions, "image": ["k", "l", "m", name], "s": ["00000"] * 3 + ["00001"]}
        pq.write_table(pa.table(table), tmp_path / "in" / f"{name}.parquet")
    asked = {"key_column": "image", "shard_column": "s", "same_key": "union", "task_bytes": 1}
    run(spark, (tmp_path / "in/a.parquet", tmp_path / "in/c.parquet"), **asked)
    manifest, labels = run(spark, tmp_path / "in/b.parquet", extend=True, **asked)
    assert rows(labels) == [
        ("00000", "k", [DOG, CAT]), ("00000", "l", [CAT]), ("00000", "m", [SOFA]),
        ("00001", "a", [MOUSE]), ("00001", "b", []), ("00001", "c", []),
    ]  # fmt: skip
    # Of k, a.parquet's row comes first, and is labelled by those that joined it.
    assert [[getattr(file, name) for name in ACCOUNT] for file in manifest.inputs] == [
        [4, 3, 0, 1, 0], [4, 1, 1, 0, 2], [4, 0, 1, 2, 1],
    ]  # fmt: skip
    assert [getattr(manifest, name) for name in ACCOUNT] == [12, 4, 2, 3, 3]
    tally = tally_of(labels)
    assert dict(zip(tally.synsets.tolist(), tally.captions.tolist(), strict=True)) == {
        DOG: 1,
        CAT: 2,
        SOFA: 1,
        MOUSE: 1,
    }
    assert [name for name, *_ in account(manifest, tally)["totals"]] == [
        "labelled",
        "empty",
        "rejected",
        "merged",
        "together",
    ]
    assert pq.read_schema(tmp_path / "in/labels" / manifest.files[0].path).names == [*SCHEMA.names, "input"]
    assert len(prune(Prune((labels.location,), tmp_path / "v.parquet", min_count=2)).vocabulary) == 1
    for shard, keys in (("00000", "klm"), ("00001", "abc")):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for key in keys:
                add_member(tar, f"{key}.jpg", b"x")
    report = compare(spark, labels, [str(tmp_path / f"{shard}.tar") for shard in ("00000", "00001")])
    assert [(tar.samples, tar.labelled, tar.rejected, tar.missing, tar.surplus) for tar in report.tars] == [
        (3, 3, 0, 0, 0), (3, 3, 0, 0, 0),
    ]  # fmt: skip


def test_an_output_directory_that_holds_something_is_refused(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.txt").write_text("keep")
    (tmp_path / "a.tsv").write_text("caption\ndog\n")
    with pytest.raises(OutputExistsError, match=r"mine\.txt"):
        run(spark, tmp_path / "a.tsv")
    assert [p.name for p in (tmp_path / "labels").iterdir()] == ["mine.txt"]


def test_input_of_which_no_row_can_be_labelled_is_refused(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": null}\n{"caption": []}\n')
    with pytest.raises(
        InputError, match=r"a\.jsonl: found 2 rows null_caption; wanted at least one row with a caption"
    ):
        run(spark, tmp_path / "a.jsonl")


def test_counts_of_several_corpora_are_added_before_the_threshold(tmp_path: Path) -> None:
    from tests.labels import label_table

    for name, fingerprint in (("a", "f"), ("b", "f"), ("c", "g")):
        table = label_table(("0", "k", [DOG]), ("0", "l", [CAT] if name == "b" else []))
        write_label_shards(tmp_path / name, table, labeler="wordnet", fingerprint=fingerprint)
    both = prune(Prune((str(tmp_path / "a"), str(tmp_path / "b")), tmp_path / "v.parquet", min_count=2)).vocabulary
    assert (both.synsets.tolist(), both.rows, len(both.sources)) == ([DOG], 4, 2)
    with pytest.raises(MismatchError, match="Label both corpora with the same release"):
        prune(Prune((str(tmp_path / "a"), str(tmp_path / "c")), tmp_path / "w.parquet", min_count=1))
    with pytest.raises(MismatchError, match="once more"):
        prune(Prune((str(tmp_path / "a"), str(tmp_path / "a")), tmp_path / "w.parquet", min_count=1))
    with pytest.raises(OutputExistsError):
        prune(Prune((str(tmp_path / "a"),), tmp_path / "v.parquet", min_count=1))


def test_rows_that_a_vocabulary_leaves_without_a_label_are_counted(tmp_path: Path) -> None:
    from tests.labels import label_table

    table = label_table(
        ("0", "a", [DOG, CAT]), ("0", "b", [DOG]), ("0", "c", [SOFA]), ("0", "d", []), ("1", "a", [CAT])
    )
    write_label_shards(tmp_path / "labels", table, labeler="catlip", fingerprint="f")
    places = (str(tmp_path / "labels"),)
    chosen = prune(Prune(places, tmp_path / "v.parquet", min_count=2, count_unlabelled=True))
    assert str(chosen) == (
        "2 classes seen in at least 2 of 5 captions, 0.80 labels per caption, 2 captions (40.0%) without one\n"
        "few classes for a model to tell apart: --min-count 1 leaves 3"
    )
    assert not prune(Prune(places, tmp_path / "two.parquet", top_k=2)).remarks
    assert [line.split() for line in preview(Prune(places)).splitlines()[1:]] == [
        ["1", "3", "1.00"],
        ["2", "2", "0.80"],
    ]
    with pytest.raises(InputError, match="--out"):
        prune(Prune(places, min_count=2))


def test_real_captions_are_all_accounted_for(spark: Any, tmp_path: Path, real_data: Path) -> None:
    out = str(tmp_path / "labels")
    source = (str(real_data / "captions" / "img2dataset_test_10000.parquet"),)
    manifest = label_captions(spark, Label(source, out, caption_columns=("TEXT",)))
    assert manifest.rows == 10_000 == manifest.labelled + manifest.empty + manifest.rejected
    assert len(LabelShards.open(out).read_shard("img2dataset_test_10000")) == 10_000 - manifest.rejected


def test_rows_that_name_their_synsets_are_counted_like_others(spark: Any, tmp_path: Path) -> None:
    days = {"1": (["n02084071", "n02121620 dog.n.01"], ["a cat", None]), "2": (["x", None], [None, "sofa"])}
    for day, (wnids, captions) in days.items():
        (tmp_path / f"dt={day}/en").mkdir(parents=True)
        table = pa.table({"id": [f"k{day}0", f"k{day}1"], "wnid": wnids, "caption": pa.array(captions, pa.string())})
        pq.write_table(table, tmp_path / f"dt={day}/en/{day}.parquet")
    options: dict[str, Any] = {"synset_columns": ("wnid",), "caption_columns": ("caption",), "key_column": "id"}
    manifest, labels = run(spark, tmp_path / "dt=*", **options)
    assert [(row[1], row[2]) for row in rows(labels)] == [("k10", [DOG, CAT]), ("k11", [DOG, CAT]), ("k21", [SOFA])]
    assert reasons(labels) == {"k20": "unknown_synset"}
    assert dict(zip(*labels.counts().to_pydict().values(), strict=True)) == {DOG: 2, CAT: 2, SOFA: 1}
    assert (manifest.rows, manifest.config["synset_columns"]) == (4, ["wnid"])
