"""Labels against tars: what has no label, what no image, and which tars are damaged."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline.check import Comparison, compare, refuse_misfit, run_check, summary_lines
from pipeline.config import Check
from pipeline.reading.inputs import list_inputs
from tests.labels import write_labels
from vocab.errors import FormatError, InputError, MismatchError, OutputExistsError
from vocab.pages.tables import terminal_table
from vocab.store.label_shards import LabelShards

DOG, CAT = 2084071, 2121620


def write_tar(path: Path, *names: str, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(b"x" * size))
    return path


def report_on(spark: Any, place: Path) -> Comparison:
    tars = [file.path for file in list_inputs((str(place / "in"),), "webdataset").files]
    return compare(spark, LabelShards.open(place / "labels"), tars)


def numbers(report: Comparison) -> dict[str, tuple[str | None, int, int, int, int, int]]:
    return {
        Path(tar.tar).name: (tar.shard, tar.samples, tar.labelled, tar.rejected, tar.missing, tar.surplus)
        for tar in report.tars
    }


def test_each_tar_has_its_account(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/0.tar", "a.jpg", "a.txt", "b.jpg", "c.jpg", "d.jpg")
    write_tar(tmp_path / "in/1.tar", "a.jpg")
    write_labels(
        tmp_path / "labels",
        *(("0", "a", [DOG]), ("0", "b", []), ("0", "z", [CAT]), ("1", "a", [DOG]), ("7", "a", [DOG]), ("8", "a", [])),
        rejects=(("0", "c", "not_utf8"), ("0", "y", "status:failed_to_download")),
    )
    report = report_on(spark, tmp_path)
    assert numbers(report) == {"0.tar": ("0", 4, 2, 1, 1, 1), "1.tar": ("1", 1, 1, 0, 0, 0)}
    assert report.tars[0].absent_rejects == 1
    assert (report.absent_shards, report.absent_rows, report.first_absent) == (2, 2, ("7", "8"))
    assert (report.missing_share, report.surplus_share) == (1 / 5, 3 / 6)
    assert summary_lines(report, worst=1) == [
        "2 tars, 5 samples: 3 with a row in the labels, 1 rejected when labelled, 1 missing from the labels (20.00%)",
        f"{tmp_path}/labels: 6 labels, 1 without a sample in their tar, 2 in 2 shards without a tar (50.00% together)",
        "rejected rows without a sample, such as failed downloads: 1; that is no fault",
        "",
        "tars that do not fit (missing: not in the labels; surplus: labels without a sample; repeated: samples whose "
        "key the tar has twice):",
        "samples  labelled  rejected  missing  surplus  repeated  truncated  tar",
        f"      4         2         1        1        1         0             {tmp_path}/in/0.tar",
        "",
        "shards without a tar: 7, 8",
    ]


def test_shares_beyond_the_stated_ones_are_errors_and_rejects_never_are(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/0.tar", "a.jpg", "b.jpg")
    write_labels(tmp_path / "labels", ("0", "a", [DOG]), ("0", "z", [DOG]), rejects=(("0", "y", "status:x"),))
    report = report_on(spark, tmp_path)
    with pytest.raises(MismatchError, match="found no row for 1 of 2 samples; wanted a row for each"):
        refuse_misfit(report, max_missing=0, max_surplus=1)
    with pytest.raises(MismatchError, match=r"found 1 of 2 labels without a sample; wanted .* all but 49\.00%"):
        refuse_misfit(report, max_missing=0.5, max_surplus=0.49)
    refuse_misfit(report, max_missing=0.5, max_surplus=0.5)


def test_a_tar_whose_every_sample_was_rejected_is_known(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/0.tar", "a.jpg")
    write_tar(tmp_path / "in/1.tar", "a.jpg")
    write_labels(tmp_path / "labels", ("1", "a", [DOG]), rejects=(("0", "a", "null_caption"),))
    report = report_on(spark, tmp_path)
    assert numbers(report)["0.tar"] == ("0", 1, 0, 1, 0, 0)
    refuse_misfit(report, max_missing=0, max_surplus=0)
    assert summary_lines(report, worst=1)[-1] == "every tar fits its labels"


def test_damaged_tars_are_all_found_in_one_run(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/cut.tar", "a.jpg", "b.jpg", size=2000)
    (tmp_path / "in/cut.tar").write_bytes((tmp_path / "in/cut.tar").read_bytes()[:4000])
    write_tar(tmp_path / "in/twice.tar", "a.jpg", "b.jpg", "a.jpg", "b.txt", "b.jpg", "b.jpg")
    (tmp_path / "in/page.tar").write_text("<html>404</html>" * 100)
    (tmp_path / "in/void.tar").write_bytes(b"")
    write_labels(tmp_path / "labels", *((shard, "a", [DOG]) for shard in ("cut", "twice", "page", "void")))
    report = report_on(spark, tmp_path)
    cut, page, twice, void = report.tars
    assert (cut.samples, cut.truncated, cut.unreadable) == (1, True, None)
    assert (twice.samples, twice.repeated) == (2, 5)
    assert (str(page.unreadable).startswith("no tar"), str(void.unreadable).startswith("no tar")) == (True, True)
    with pytest.raises(InputError, match=r"page\.tar: found no tar .*, and 1 more such files"):
        refuse_misfit(report, max_missing=1, max_surplus=1)


def test_two_tars_of_one_shard_are_refused_as_the_trainer_refuses_them(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/x/0.tar", "a.jpg")
    write_tar(tmp_path / "in/y/0.tar", "a.jpg")
    write_labels(tmp_path / "labels", ("0", "a", [DOG]))
    with pytest.raises(MismatchError, match="shard '0': found 2 tars of this shard"):
        refuse_misfit(report_on(spark, tmp_path), max_missing=1, max_surplus=1)


def test_shards_are_told_apart_by_path_and_keys_may_hold_separators(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/x/0.tar", "deep/er/a.jpg", "../b.jpg")
    write_tar(tmp_path / "in/y/0.tar", "a b.c.jpg")
    write_labels(
        tmp_path / "labels", ("x/0", "deep/er/a", [DOG]), ("x/0", "../b", []), ("y/0", "a b", []), ("../0", "a", [])
    )
    report = report_on(spark, tmp_path)
    assert [(tar.shard, tar.labelled, tar.missing) for tar in report.tars] == [("x/0", 2, 0), ("y/0", 1, 0)]
    assert report.first_absent == ("../0",)


def test_labels_remade_at_the_same_place_are_read_anew(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/0.tar", "a.jpg", "b.jpg")
    write_labels(tmp_path / "labels", ("0", "a", [DOG]))
    assert report_on(spark, tmp_path).total("missing") == 1
    (tmp_path / "labels").rename(tmp_path / "old")
    write_labels(tmp_path / "labels", ("0", "a", [DOG]), ("0", "b", [DOG]), ("1", "c", []))
    assert report_on(spark, tmp_path).total("missing") == 0


def test_the_labels_folder_may_have_the_signs_of_a_glob(spark: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "in/0.tar", "a.jpg")
    write_labels(tmp_path / "x[1]{2}*/labels", ("0", "a", [DOG]), ("1", "a", [DOG]))
    report = compare(spark, LabelShards.open(tmp_path / "x[1]{2}*/labels"), [str(tmp_path / "in/0.tar")])
    assert report.first_absent == ("1",)


def test_the_verb_prints_then_writes_then_fails(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.check.spark_session", lambda *_, **__: nullcontext(spark))
    write_tar(tmp_path / "in/0.tar", "a.jpg", "b.jpg")
    write_labels(tmp_path / "labels", ("0", "a", [DOG]))
    options = Check(str(tmp_path / "labels"), (str(tmp_path / "in"),), out=tmp_path / "report.json")
    with pytest.raises(MismatchError, match="found no row for 1 of 2 samples"):
        run_check(options)
    assert capsys.readouterr().out.startswith("1 tar, 2 samples: 1 with a row in the labels")
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["totals"]["samples"], content["totals"]["labelled"]) == (2, 1)
    assert content["tars"][0]["tar"] == str(tmp_path / "in/0.tar")
    assert content["config"]["max_missing"] == 0.0
    with pytest.raises(OutputExistsError, match=r"report\.json: found a file"):
        run_check(options)


def test_an_empty_folder_and_labels_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_labels(tmp_path / "labels", ("0", "a", [DOG]))
    options = Check(str(tmp_path / "labels"), (str(tmp_path / "in"),))
    with pytest.raises(InputError, match="found no file"):
        run_check(options)
    write_tar(tmp_path / "in/0.tar", "a.jpg")
    manifest = json.loads((tmp_path / "labels/manifest.json").read_text())
    (tmp_path / "labels/manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(FormatError, match="format version 2, written by a newer release"):
        run_check(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_missing": -0.1}, "--max-missing: found -0.1; wanted 0 to 1"),
        ({"max_surplus": float("nan")}, "--max-surplus: found nan"),
        ({"worst": 0}, "--worst: found 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Check("labels", ("in",), **options)


def test_numbers_stand_below_each_other_beside_names_that_are_written_out() -> None:
    assert terminal_table([("n", "name"), (12345, "x\r"), (1, "y")]) == ["     n  name", "12,345  x\\r", "     1  y"]


def test_labels_of_real_images_fit_them(spark: Any, tmp_path: Path, real_data: Path) -> None:
    tars = [file.path for file in list_inputs((str(real_data / "images/coco_ccby"),), "webdataset").files]
    write_labels(tmp_path / "labels", *(("00000", f"{key:09d}", [DOG]) for key in range(65)))
    report = compare(spark, LabelShards.open(tmp_path / "labels"), tars)
    assert [(tar.shard, tar.samples, tar.labelled) for tar in report.tars] == [("00000", 65, 65), (None, 64, 0)]
