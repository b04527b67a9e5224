"""Labels made by id, then aligned with the images that were downloaded: what matches, what does not, and why."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.align.image_ids import ids_of, list_image_files
from pipeline.align.story import Matches, align, run_align
from pipeline.claim import refuse_used
from pipeline.config import Align, Label, SampleConfig
from pipeline.sample.draw import draw_sample
from tests.labels import label_table
from vocab.errors import FormatError, InputError, MismatchError, OutputExistsError
from vocab.store.label_shards import REJECTS_SCHEMA, LabelShards
from vocab.store.label_writing import write_label_shards, write_manifest
from vocab.store.manifest import EMPTY_REASONS, Manifest

DOG, CAT, SOFA = 2084071, 2121620, 4256520


def write_labels(
    place: Path, *rows: tuple[str, str, list[int]], rejects: tuple[tuple[str, str, str], ...] = (), **config: str
) -> None:
    rejected = pa.table([list(c) for c in zip(*rejects, strict=True)] if rejects else [[], [], []], REJECTS_SCHEMA)
    write_label_shards(place, label_table(*rows), labeler="mine", fingerprint="f" * 64, rejects=rejected, config=config)


def write_sidecar(place: Path, **columns: Any) -> None:
    """A sidecar and an empty tar beside it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), place)
    place.with_suffix(".tar").write_bytes(bytes(10240))


def write_tar(path: Path, **members: object) -> None:
    """A tar with "KEY.jpg" for each key, and its record as "KEY.json"; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, record in members.items():
            content = record if isinstance(record, bytes) else json.dumps(record).encode()
            for name, data in ((f"{key}.jpg", b"never read"), (f"{key}.json", content)):
                if record is not None or name.endswith("jpg"):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def run(spark: Any, place: Path, id_column: str = "uid", **options: Any) -> tuple[Manifest, Matches, LabelShards]:
    out = options.pop("out", place / "out")
    asked = Align(str(place / "labels"), (str(place / "in"),), id_column, str(out), **options)
    labels, images = LabelShards.open(asked.labels), list_image_files(asked.images, id_column)
    manifest, matches = align(spark, labels, images, asked)
    return manifest, matches, LabelShards.open(out)


def rows(labels: LabelShards) -> list[tuple[str, str, list[int]]]:
    return [(row["shard"], row["key"], row["synsets"]) for row in labels.read_all().to_pylist()]


def rejects(labels: LabelShards) -> list[tuple[str, str, str]]:
    return [(row["shard"], row["key"], row["reason"]) for row in labels.rejects().to_pylist()]


@pytest.fixture(scope="module")
def verb(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the verb wrote in, and the lines that it printed."""
    place = tmp_path_factory.mktemp("verb")
    write_labels(
        place / "labels",
        *(("m1", "u1", [DOG, CAT]), ("m1", "u2", []), ("m2", "u3", [SOFA]), ("m2", "u9", [DOG])),
        rejects=(("m2", "u4", "not_utf8"), ("m2", "", "null_key")),
    )
    write_sidecar(
        place / "in/00001.parquet",
        key=["k0", "k1", "k2", "k3"],
        uid=["u3", "u1", "u7", None],
        status=["success", "success", "success", "success"],
    )
    write_sidecar(
        place / "in/00000.parquet",
        key=["k0", "k1", "k2", None, "k4", "k5"],
        uid=["u2", "u4", "u1", "u1", "", "u1"],
        status=["success", "success", "failed_to_download", "success", "success", None],
    )
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr("pipeline.align.story.spark_session", lambda *_, **__: nullcontext(spark))
        run_align(Align(str(place / "labels"), (str(place / "in"),), "uid", str(place / "out")))
    return place / "out", said.getvalue()


def test_labels_follow_the_tars_and_every_row_is_accounted_for(verb: tuple[Path, str]) -> None:
    labels = LabelShards.open(verb[0])
    manifest = labels.manifest
    assert rows(labels) == [("00000", "k0", []), ("00001", "k0", [SOFA]), ("00001", "k1", [CAT, DOG][::-1])]
    assert rejects(labels) == [
        ("00000", "", "null_key"),
        ("00000", "k1", "not_utf8"),
        ("00000", "k2", "status:failed_to_download"),
        ("00000", "k4", "null_id"),
        ("00000", "k5", "status:null"),
        ("00001", "k2", "no_label"),
        ("00001", "k3", "null_id"),
    ]
    assert [(Path(f.path).name, f.rows, f.labelled, f.empty, f.rejected) for f in manifest.inputs] == [
        ("00000.parquet", 6, 0, 1, 5),
        ("00001.parquet", 4, 2, 0, 2),
    ]
    assert labels.counts().to_pylist() == [{"synset": s, "captions": 1} for s in (DOG, CAT, SOFA)]
    assert (manifest.rows, manifest.labelled, manifest.empty, manifest.rejected) == (10, 2, 1, 7)


def test_the_verb_says_what_matched_and_the_manifest_whose_labels_these_are(verb: tuple[Path, str]) -> None:
    out, said = verb
    manifest = LabelShards.open(out).manifest
    assert (manifest.labeler, manifest.labeler_fingerprint, manifest.wordnet) == ("mine", "f" * 64, "3.0")
    assert (manifest.config["verb"], manifest.config["id_column"]) == ("align", "uid")
    assert len(manifest.config["source"]["manifest_sha256"]) == 64
    matches = Matches(10, 3, 1, 1, 5, used=3, unused=1, repeated_ids=0, shared_ids=0)
    assert manifest.config["matches"] == asdict(matches)
    names = sorted(path.name for path in out.iterdir())
    assert [re.sub(r"-[0-9a-f]{8}\.", ".", name) for name in names] == [
        "counts.parquet",
        "manifest.json",
        "part-00000-000.parquet",
        "rejects.parquet",
    ]
    assert said.splitlines() == [
        f"{out}: 10 rows = 2 labelled + 1 empty + 7 rejected",
        "samples: 3 matched, 1 with an id that the labels lack, 1 rejected when labelled, "
        "5 not downloaded or without a usable id",
        "labels: 3 used, 1 without an image; 0 ids of several equal labels, 0 ids of several samples",
    ]


@pytest.fixture(scope="module")
def repeated(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Matches, LabelShards]:
    """Ids of several samples, and ids of several label rows, of which those that differ belong to no sample."""
    place = tmp_path_factory.mktemp("repeated")
    write_labels(
        place / "labels",
        *(("m", "7", [DOG]), ("m", "u", [CAT]), ("n", "u", [CAT]), ("m", "unasked", [DOG]), ("n", "unasked", [CAT])),
        rejects=(("o", "u", "null_caption"),),
    )
    write_sidecar(place / "in/a/00000.parquet", key=["k0", "k1"], uid=[7, 7])
    write_sidecar(place / "in/b/00000.parquet", key=["k0"], uid=[7])
    write_sidecar(place / "in/c/00000.parquet", key=["k"], uid=["u"])
    _, matches, labels = run(spark, place)
    return matches, labels


def test_one_id_of_several_samples_labels_each_and_counts_each(repeated: tuple[Matches, LabelShards]) -> None:
    matches, labels = repeated
    assert rows(labels)[:3] == [("a/00000", "k0", [DOG]), ("a/00000", "k1", [DOG]), ("b/00000", "k0", [DOG])]
    assert labels.counts().to_pylist() == [{"synset": DOG, "captions": 3}, {"synset": CAT, "captions": 1}]
    assert (matches.matched, matches.shared_ids) == (4, 1)


def test_an_id_twice_in_the_labels_is_taken_where_its_rows_are_equal(repeated: tuple[Matches, LabelShards]) -> None:
    matches, labels = repeated
    assert rows(labels)[3:] == [("c/00000", "k", [CAT])]
    assert (matches.used, matches.unused, matches.repeated_ids) == (3, 2, 1)


def test_ids_twice_with_different_labels_are_refused(spark: Any, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", ("m", "u", [DOG]), ("n", "u", []), ("m", "v", [DOG]), ("n", "v", [DOG, CAT]))
    write_sidecar(tmp_path / "in/00000.parquet", key=["k", "l"], uid=["u", "v"])
    with pytest.raises(MismatchError, match=r"id 'u': found rows with different synsets .* \(so have 2 ids in all\)"):
        run(spark, tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_id_whose_captions_were_to_be_joined_gets_the_union_of_its_shards(spark: Any, tmp_path: Path) -> None:
    given = (("m", "u", [CAT]), ("n", "u", [DOG, CAT]), ("o", "u", []), ("m", "v", []))
    write_labels(tmp_path / "labels", *given, rejects=(("o", "v", "null_caption"),), same_key="union")
    # As after an extension.
    manifest = LabelShards.open(tmp_path / "labels").manifest
    (tmp_path / "labels/rejects.parquet").rename(tmp_path / "labels/rejects-1.parquet")
    renamed = [replace(file, path=file.path.replace("rejects", "rejects-1")) for file in manifest.files]
    write_manifest(tmp_path / "labels", replace(manifest, files=tuple(renamed)))
    write_sidecar(tmp_path / "in/00000.parquet", key=["k", "l", "m"], uid=["u", "v", "w"])
    _, matches, labels = run(spark, tmp_path)
    assert rows(labels) == [("00000", "k", [DOG, CAT]), ("00000", "l", [])]
    assert (matches.used, matches.unused, matches.unmatched) == (4, 0, 1)


@pytest.fixture(scope="module")
def of_tars(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Matches, LabelShards]:
    """Samples of tars whose ids are in JSON members: one of odd members, one truncated, one with a repeated key."""
    place = tmp_path_factory.mktemp("tars")
    write_labels(place / "labels", ("m", "u1", [DOG]), ("m", "7", [CAT]))
    members = {
        "k0": {"uid": "u1"},
        "k1": {"uid": 7},
        "k2": {"uid": None},
        "k3": {"other": 1},
        "k4": [1],
        "k5": b"{broken",
        "k6": {"uid": 1.5},
        "k7": None,
        "k8": {"uid": "\ud800"},
        "dir/k9": {"uid": "u1"},
    }
    write_tar(place / "in/odd.tar", **members)
    cut, behind = place / "in/cut.tar", place / "in/repeated.tar"
    for path in (cut, behind):
        write_tar(path, k0={"uid": "u1"}, k1={"uid": "u1"})
    cut.write_bytes(cut.read_bytes()[:2700])
    write_tar(place / "more.tar", k1={"uid": "u1"}, k2={"uid": "u1"})
    behind.write_bytes(behind.read_bytes() + (place / "more.tar").read_bytes())
    _, matches, labels = run(spark, place, "json.uid")
    return matches, labels


def of_shard(found: list[tuple[str, str, Any]], shard: str) -> list[tuple[str, Any]]:
    return [(key, value) for name, key, value in found if name == shard]


def test_ids_out_of_the_json_members_of_tars(of_tars: tuple[Matches, LabelShards]) -> None:
    matches, labels = of_tars
    assert of_shard(rows(labels), "odd") == [("dir/k9", [DOG]), ("k0", [DOG]), ("k1", [CAT])]
    assert of_shard(rejects(labels), "odd") == [
        ("k2", "null_id"),
        ("k3", "null_id"),
        ("k4", "malformed_record"),
        ("k5", "malformed_record"),
        ("k6", "malformed_record"),
        ("k7", "null_id"),
        ("k8", "not_utf8"),
    ]
    # Of the odd members, of the truncated tar, of the repeated key.
    assert (matches.matched, matches.unusable) == (3 + 1 + 2, 7 + 1 + 2)


def test_a_truncated_tar_keeps_its_whole_samples(of_tars: tuple[Matches, LabelShards]) -> None:
    assert of_shard(rows(of_tars[1]), "cut") == [("k0", [DOG])]
    assert of_shard(rejects(of_tars[1]), "cut") == [("k1", "truncated_tar")]


def test_all_samples_of_a_key_that_a_tar_has_twice_are_rejected(of_tars: tuple[Matches, LabelShards]) -> None:
    assert of_shard(rows(of_tars[1]), "repeated") == [("k0", [DOG]), ("k2", [DOG])]
    assert of_shard(rejects(of_tars[1]), "repeated") == [("k1", "repeated_key")] * 2


def test_labels_whose_keys_are_names_of_image_files_follow_the_samples_keys(spark: Any, tmp_path: Path) -> None:
    names = {"dir/1000": [DOG], "dir/1001.jpg": [CAT], "dir/1002.tar.JPG": [SOFA]}
    write_labels(tmp_path / "labels", *(("flickr", key, synsets) for key, synsets in names.items()))
    write_tar(tmp_path / "in/00000.tar", **{f"dir/100{number}": {} for number in range(4)})
    _, matches, labels = run(spark, tmp_path, "__key__")
    assert of_shard(rows(labels), "00000") == [("dir/1000", [DOG]), ("dir/1001", [CAT]), ("dir/1002", [SOFA])]
    assert rejects(labels) == [("00000", "dir/1003", "no_label")]
    assert (matches.matched, matches.unmatched) == (3, 1)


def test_a_key_twice_in_a_sidecar_is_refused(spark: Any, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", ("m", "u", [DOG]))
    write_sidecar(tmp_path / "in/00000.parquet", key=["k", "j", "k"], uid=["u", "u", "u"])
    with pytest.raises(InputError, match="sample 00000/k: found two rows"):
        run(spark, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": ["k"], "url": ["u"]}, r"00000\.parquet: found columns key, url; wanted a column 'uid'"),
        ({"uid": ["u"]}, "wanted a column 'key'"),
        ({"key": ["k"], "uid": [1.5]}, "column 'uid': found 1.5 in a column of type double; wanted text or whole numb"),
        ({"key": ["k"], "uid": [True]}, "column 'uid': found type bool; wanted text or whole numbers"),
        ({"key": [1], "uid": ["u"]}, "column 'key': found type int64; wanted text, as img2dataset writes it"),
    ],
)
def test_a_sidecar_without_the_columns_is_named(
    spark: Any, tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    write_labels(tmp_path / "labels", ("m", "u", [DOG]))
    write_sidecar(tmp_path / "in/00000.parquet", **columns)
    with pytest.raises(InputError, match=message):
        run(spark, tmp_path)


def test_a_later_sidecar_without_the_column_is_named_too(spark: Any, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", ("m", "u", [DOG]))
    write_sidecar(tmp_path / "in/00000.parquet", key=["k"], uid=["u"])
    write_sidecar(tmp_path / "in/00001.parquet", key=["k"], url=["u"])
    with pytest.raises(InputError, match=r"00001\.parquet: found columns key, url; wanted a column 'uid'"):
        run(spark, tmp_path)


@pytest.mark.parametrize(
    ("name", "id_column", "message"),
    [("0.parquet", "uid", "found a file that cannot be read"), ("0.tar", "json.uid", "found no tar")],
)
def test_a_file_that_is_none_is_named(spark: Any, tmp_path: Path, name: str, id_column: str, message: str) -> None:
    write_labels(tmp_path / "labels", ("m", "u", [DOG]))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.tar").write_text("<html>404</html>" * 100)
    (tmp_path / "in" / name).write_text("<html>404</html>" * 100)
    with pytest.raises(InputError, match=message):
        run(spark, tmp_path, id_column)


def test_labels_of_which_no_id_matches_are_refused(spark: Any, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", ("m", "000000000", [DOG]))
    write_sidecar(tmp_path / "in/00000.parquet", key=["k", "l"], uid=["u", None])
    with pytest.raises(
        MismatchError, match=r"found no label for any of 2 samples \(1 ids without a label.*--key-column"
    ):
        run(spark, tmp_path)


def test_a_sidecar_and_its_tar_belong_together(tmp_path: Path) -> None:
    write_sidecar(tmp_path / "0.parquet", key=["k"], uid=["u"])
    list_image_files((str(tmp_path),), "uid")
    write_tar(tmp_path / "1.tar")
    with pytest.raises(InputError, match=r"1\.tar: found no sidecar beside it"):
        list_image_files((str(tmp_path),), "uid")
    (tmp_path / "1.tar").unlink()
    (tmp_path / "0.tar").unlink()
    with pytest.raises(InputError, match=r"0\.parquet: found no 0\.tar beside it"):
        list_image_files((str(tmp_path),), "uid")
    write_tar(tmp_path / "tars/2.tar")
    with pytest.raises(InputError, match=r"no \.parquet file; wanted .* column 'uid' .* --id-column json\.FIELD"):
        list_image_files((str(tmp_path / "tars"),), "uid")
    (tmp_path / "void").mkdir()
    for id_column in ("uid", "json.uid"):
        with pytest.raises(InputError, match="found no file"):
            list_image_files((str(tmp_path / "void"),), id_column)


def test_labels_of_a_newer_version_are_refused(spark: Any, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", ("m", "u", [DOG]))
    write_sidecar(tmp_path / "in/00000.parquet", key=["k"], uid=["u"])
    manifest = json.loads((tmp_path / "labels/manifest.json").read_text())
    (tmp_path / "labels/manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(FormatError, match="newer release"):
        run(spark, tmp_path)


def test_ids_that_are_bytes_or_dictionaries_are_texts(tmp_path: Path) -> None:
    uid = pa.array([b"u", b"\xff", None], pa.binary())
    write_sidecar(tmp_path / "0.parquet", key=pa.array(["a", "b", "c"]).dictionary_encode(), uid=uid)
    batches = list(ids_of(str(tmp_path / "0.parquet"), "s", "uid"))
    assert [(row["key"], row["id"], row["reason"], row["total"]) for row in batches[0].to_pylist()] == [
        ("a", "u", None, 3),
        ("b", None, "not_utf8", 3),
        ("c", None, "null_id", 3),
    ]


def test_rows_are_the_same_however_they_are_parted(spark: Any, tmp_path: Path) -> None:
    chance = Random(0)
    uids = [f"u{chance.randrange(40)}" for _ in range(60)]
    write_labels(tmp_path / "labels", *(("m", f"u{n}", [DOG] * (n % 3 > 0)) for n in range(30)))
    for shard in range(3):
        chosen = slice(shard * 20, shard * 20 + 20)
        write_sidecar(tmp_path / f"in/{shard}.parquet", key=[f"{n:03d}" for n in range(20)], uid=uids[chosen])
    _, first, one = run(spark, tmp_path, out=tmp_path / "one")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        _, second, many = run(spark, tmp_path, out=tmp_path / "many", rows_per_file=15)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "2")
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert first == second
    assert len([file for file in many.manifest.files if file.path.startswith("part-")]) > 1
    assert rows(one) == rows(many)
    assert rejects(one) == rejects(many)
    assert (tmp_path / "one/counts.parquet").read_bytes() == (tmp_path / "many/counts.parquet").read_bytes()


def test_shuffled_metadata_aligned_with_other_shards_equals_labels_made_from_the_tars(
    spark: Any, tmp_path: Path
) -> None:
    from pipeline.run import label_captions

    draw_sample(SampleConfig(tmp_path / "in", samples=90, samples_per_shard=30, size=16, processes=1))
    sidecars = sorted((tmp_path / "in").glob("*.parquet"))
    metadata = pa.concat_tables([pq.read_table(path, columns=["url", "caption"]) for path in sidecars])
    order = Random(0).sample(range(90), 90)
    (tmp_path / "meta").mkdir()
    pq.write_table(metadata.take(order[:50]), tmp_path / "meta/x.parquet")
    pq.write_table(metadata.take(order[50:]), tmp_path / "meta/y.parquet")
    for path in sidecars:
        for file in (path, path.with_suffix(".tar")):
            file.rename(file.with_stem(f"{97 - int(path.stem):05d}"))

    label_captions(spark, Label((str(tmp_path / "meta"),), str(tmp_path / "labels"), key_column="url"))
    direct = label_captions(spark, Label((str(tmp_path / "in"),), str(tmp_path / "direct"), format="img2dataset"))
    manifest, _, aligned = run(spark, tmp_path, "url")

    expected = LabelShards.open(tmp_path / "direct")
    assert {shard for shard, _, _ in rows(aligned)} == {"00095", "00096", "00097"}
    assert rows(aligned) == rows(expected)
    assert rejects(aligned) == rejects(expected)
    assert aligned.counts_sha256 == expected.counts_sha256
    assert manifest.labeler_fingerprint == direct.labeler_fingerprint
    # Align reads no captions.
    unknown = {"digest": "", **dict.fromkeys(EMPTY_REASONS, 0)}
    assert manifest.inputs == tuple(replace(file, **unknown) for file in direct.inputs)


def test_real_images_are_aligned_by_their_source(spark: Any, tmp_path: Path, real_data: Path) -> None:
    images = real_data / "images/coco_ccby"
    sources = [s for n in (0, 1) for s in pq.read_table(images / f"0000{n}.parquet")["source"].to_pylist()]
    write_labels(tmp_path / "labels", *(("m", source, [DOG]) for source in sorted(sources)[:100]))
    (tmp_path / "in").symlink_to(images)
    manifest, matches, _ = run(spark, tmp_path, "source")
    assert (manifest.rows, manifest.labelled, manifest.rejected) == (129, 100, 29)
    assert (matches.matched, matches.unmatched, matches.unused) == (100, 29, 0)


def test_an_alignment_that_died_begins_anew_and_a_finished_one_is_cleaned(spark: Any, tmp_path: Path) -> None:
    write_labels(tmp_path / "labels", ("../m", "../u", [DOG]))
    write_sidecar(tmp_path / "in/00000.parquet", key=["../k"], uid=["../u"])
    out = tmp_path / "out"

    def leave(*files: str) -> None:
        for name in files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text("{")

    dead = ("_job/owner.json", "_staging/_temporary/0/part-0.parquet", "part-00000.parquet", ".counts.parquet.0a.tmp")
    for count in range(1, len(dead) + 1):
        leave(*dead[:count])
        refuse_used(str(out))
    shutil.rmtree(out / "_job")
    refuse_used(str(out))
    leave("mine.txt")
    with pytest.raises(OutputExistsError):
        refuse_used(str(out))
    (out / "mine.txt").unlink()
    _, _, labels = run(spark, tmp_path)
    assert rows(labels) == [("00000", "../k", [DOG])]
    named = {"manifest.json", *(file.path for file in labels.manifest.files)}
    assert {path.name for path in out.iterdir()} == named
    leave("_job/owner.json", "_staging/part-0.parquet", "part-00009.parquet")
    with pytest.raises(OutputExistsError, match="a finished label directory"):
        run(spark, tmp_path)
    assert {path.name for path in out.iterdir()} == named
