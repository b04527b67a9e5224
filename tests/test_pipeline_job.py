"""A job that is stopped, started again, disturbed, extended, or given broken files: no row is lost or comes twice."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import run as story
from pipeline.caption_sample import options_of
from pipeline.claim import Owner
from pipeline.config import Label, Prune
from pipeline.extension import Extension, extension_of
from pipeline.job import JobPlan, begun_plan, finished_tasks
from pipeline.planning import Range, Task, count_starts, cut, plan_tasks
from pipeline.prune import prune
from pipeline.reading.captions import Piece, Span
from pipeline.reading.inputs import InputFiles, list_inputs
from pipeline.reading.rows import ReadOptions
from pipeline.rewriting import Rewritten
from pipeline.run import label_captions, look_before
from pipeline.sorted_files import SortedFile
from pipeline.task import JOB, Done, JobSettings, run_task
from vocab.errors import FormatError, InputError, MismatchError, OutputExistsError
from vocab.labelers import load_labeler
from vocab.store.label_shards import LabelShards
from vocab.store.locks import machine
from vocab.store.manifest import InputFile, LabelFile, Manifest
from vocab.store.sealing import to_sealed_json, without_seal

DOG, CAT, SOFA = 2084071, 2121620, 4256520
FILE = LabelFile("part-0.parquet", 1, "s", "s", 9, "f" * 64)
INPUT = InputFile("a.tsv", 1, "today", rows=1, labelled=1, digest="f" * 64)
PIECES = (Piece("a.tsv", "a", span=Span(0, 9, 0)), Piece("b.parquet", "b", groups=(0, 1)))
WRITTEN: dict[str, tuple[Callable[[str, str], object], str]] = {
    "manifest.json": (
        Manifest.from_json,
        Manifest("catlip", "f", "3.0", (FILE,), 1, 1, 0, 0, inputs=(INPUT,), config={"format": "tsv"}).to_json(),
    ),
    "plan.json": (
        JobPlan.from_json,
        JobPlan({"format": "tsv"}, "catlip", "f", "3.0", (InputFile("a.tsv", 1, ""),), (Task(0, PIECES, 9),)).to_json(),
    ),
    "task-00000.json": (
        Done.from_json,
        Done("p", 0, (SortedFile(FILE, ("s", "a"), ("s", "b")),), (), FILE, (INPUT,), 9).to_json(),
    ),
}
"""by the name of a file that a job writes and reads: its reader, and a text"""


@pytest.mark.parametrize(
    "config",
    [
        {"columns": 7},
        {"caption_columns": "caption"},
        {"columns": [["a"]]},
        {"quoting": []},
        {"format": {}},
        {"separator": 1},
    ]
    + [{"max_caption_bytes": value} for value in ("x", 1e400, True)],
)
def test_options_of_another_type_in_a_manifest_are_refused_in_one_sentence(config: dict[str, Any]) -> None:
    manifest = Manifest("catlip", "f", "3.0", (), 0, 0, 0, 0, config=config)
    with pytest.raises(FormatError, match=rf"manifest\.json: found a job whose option {next(iter(config))} is"):
        options_of(manifest, ("a.tsv",))


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in a JSON value."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from places_in(each, (*place, name))


def with_other(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    """A JSON value with another one in place of a part."""
    if not place:
        return other
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place[0]] = with_other(value[place[0]], place[1:], other)
    return changed


DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize("name", WRITTEN)
def test_json_of_a_job_with_a_value_of_another_type_is_refused_in_one_sentence(name: str) -> None:
    read, text = WRITTEN[name]
    whole = without_seal(name, json.loads(text))
    assert read(name, text) == read(name, json.dumps(whole))
    for place in set(places_in(whole)) - {("version",)}:
        for other in (None, True, -1.5, 10**400, float("inf"), "x", [], {}, [[7]], {"a": 1}, DEEP):
            changed = with_other(whole, place, other)
            for body in (json.dumps(changed), to_sealed_json(changed) if isinstance(changed, dict) else "7"):
                with suppress(FormatError):
                    read(name, body)
                    found = whole
                    for step in place:
                        found = found[step]
                    free = "config" in place or isinstance(found, list | dict) or None in (found, other)
                    assert free or type(found) is type(other), (place, other)
    for body in ("[" * 100_000, '{"format":' * 50_000, "9" * 5_000, "\ufffd", ""):
        with pytest.raises(FormatError, match=name):
            read(name, body)


def write_corpus(folder: Path, *, files: int = 6, rows: int = 20) -> Path:
    folder.mkdir()
    for number in range(files):
        captions = ["a dog", "cats on a sofa", None, "of the"] * (rows // 4)
        keys = [f"{(i * 7) % rows:03d}" for i in range(rows)]
        pq.write_table(pa.table({"caption": captions, "uid": keys}), folder / f"{number:05d}.parquet")
    return folder


def options(corpus: Path, out: Path, **others: Any) -> Label:
    return Label((str(corpus),), str(out), key_column="uid", **{"task_bytes": 1, **others})


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = LabelShards.open(out).read_all().to_pylist()
    return found


def done_of(out: Path) -> dict[int, Done]:
    plan = begun_plan(str(out))
    assert plan is not None
    return finished_tasks(str(out), plan.id)


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the job die when so many tasks are done, as if its driver had been killed."""

    def dying(spark: Any, wave: list[Task], job: JobSettings) -> list[Done]:
        for task in wave[:count]:
            run_task(task, job)
        raise KeyboardInterrupt

    monkeypatch.setattr(story, "run_wave", dying)


def test_a_job_that_died_goes_on_and_gives_what_an_undisturbed_one_gives(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "in")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    label_captions(spark, options(corpus, whole))
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            label_captions(spark, options(corpus, torn))
    before = {done.task: done.parts[0].file.path for done in done_of(torn).values()}
    assert sorted(before) == [0, 1, 2]
    # What a try that died left behind.
    (torn / "part-00003-000-dead.parquet").write_bytes(b"half")
    (torn / ".part-00004.tmp").write_bytes(b"half")

    manifest = label_captions(spark, options(corpus, torn, log=tmp_path / "log.jsonl"))

    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["task"] for event in events if event["event"] == "task"] == [3, 4, 5]
    assert set(before.values()) <= {file.path for file in manifest.files}
    assert rows(torn) == rows(whole)
    assert LabelShards.open(torn).rejects() == LabelShards.open(whole).rejects()
    assert (torn / "counts.parquet").read_bytes() == (whole / "counts.parquet").read_bytes()
    for out in (whole, torn):
        prune(Prune((str(out),), tmp_path / f"{out.name}.parquet", min_count=1))
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "torn.parquet").read_bytes()
    named = {"manifest.json", *(file.path for file in manifest.files)}
    assert {p.name for p in torn.iterdir() if not p.name.endswith(".crc")} == named


def test_tasks_of_another_plan_are_not_taken_for_this_ones(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = write_corpus(tmp_path / "in"), tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            label_captions(spark, options(corpus, out))
    place = out / JOB / "plan.json"
    place.write_text(to_sealed_json(json.loads(place.read_text()) | {"id": "another"}))
    assert done_of(out) == {}
    assert label_captions(spark, options(corpus, out)).rows == 120


def test_no_row_is_shuffled_where_files_are_shards(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []

    def watched(spark: Any, group: list[Any], job: JobSettings) -> Rewritten:
        groups.append(len(group))
        return Rewritten(tuple(group))

    monkeypatch.setattr(story, "merged", watched)
    manifest = label_captions(spark, options(write_corpus(tmp_path / "in"), tmp_path / "out"))
    assert set(groups) == {1}
    assert [row["shard"] for row in rows(tmp_path / "out")] == sorted(row["shard"] for row in rows(tmp_path / "out"))
    assert (manifest.rows, manifest.labelled, manifest.empty, manifest.rejected) == (120, 60, 30, 30)


def test_rows_of_one_shard_in_many_files_are_merged_in_order(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        keys = [f"{i:03d}" for i in range(number, 40, 4)]
        table = pa.table({"caption": ["dog"] * 10, "uid": keys, "s": ["x"] * 5 + ["y"] * 5})
        pq.write_table(table, tmp_path / "in" / f"{number}.parquet")
    manifest = label_captions(spark, options(tmp_path / "in", tmp_path / "out", shard_column="s", rows_per_file=15))
    places = [(row["shard"], row["key"]) for row in rows(tmp_path / "out")]
    assert places == sorted(places)
    assert len(places) == 40
    assert len([file for file in manifest.files if file.path.startswith("part-")]) > 1
    assert [row["key"] for row in LabelShards.open(tmp_path / "out").read_shard("x").to_pylist()] == [
        key for shard, key in places if shard == "x"
    ]


def test_a_sample_that_stands_in_two_files_is_refused(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        table = pa.table({"caption": ["dog", "cat"], "uid": ["a", f"b{number}"], "s": ["x", "x"]})
        pq.write_table(table, tmp_path / "in" / f"{number}.parquet")
    with pytest.raises(InputError, match=r"sample x/a: found two rows with this \(shard, key\)"):
        label_captions(spark, options(tmp_path / "in", tmp_path / "out", shard_column="s"))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("file", r"input file .*00001\.parquet: found [\d,]+ bytes"),
        ("gone", r"input file .*00001\.parquet: found no such file"),
        ("new", r"input file .*zzzzz\.parquet: found [\d,]+ bytes .*wanted no such file"),
        ("option", r"option max_caption_bytes: found 7; wanted 65536"),
        ("labeler", r"labeler catlip: found tables [0-9a-f]+; wanted tables before"),
    ],
)
def test_what_changed_since_the_job_began_is_named(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    corpus, out = write_corpus(tmp_path / "in"), tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            label_captions(spark, options(corpus, out))
    others: dict[str, Any] = {}
    if change == "file":
        pq.write_table(pa.table({"caption": ["x"], "uid": ["y"]}), corpus / "00001.parquet")
    elif change == "gone":
        (corpus / "00001.parquet").unlink()
    elif change == "new":
        shutil.copy(corpus / "00001.parquet", corpus / "zzzzz.parquet")
    elif change == "option":
        others["max_caption_bytes"] = 7
    else:
        place = out / JOB / "plan.json"
        place.write_text(to_sealed_json(json.loads(place.read_text()) | {"fingerprint": "before"}))
    with pytest.raises(MismatchError, match=message):
        label_captions(spark, options(corpus, out, **others))
    assert sorted(done_of(out)) == [0]


def test_a_finished_directory_is_extended_by_new_files_only(spark: Any, tmp_path: Path) -> None:
    corpus, out, whole = write_corpus(tmp_path / "in", files=3), tmp_path / "out", tmp_path / "whole"
    first = label_captions(spark, options(corpus, out))
    with pytest.raises(OutputExistsError, match="--extend"):
        label_captions(spark, options(corpus, out))
    written = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert look_before(options(corpus, out, extend=True)) == label_captions(spark, options(corpus, out, extend=True))
    assert written == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    shutil.copy(corpus / "00001.parquet", corpus / "00000a.parquet")
    shutil.copy(corpus / "00001.parquet", corpus / "90000.parquet")
    second = label_captions(spark, options(corpus, out, extend=True))
    label_captions(spark, options(corpus, whole))
    assert (first.rows, second.rows) == (60, 100)
    assert [Path(file.path).name for file in second.inputs] == [
        "00000.parquet", "00000a.parquet", "00001.parquet", "00002.parquet", "90000.parquet",
    ]  # fmt: skip
    assert rows(out) == rows(whole)
    assert LabelShards.open(out).counts() == LabelShards.open(whole).counts()
    assert len(LabelShards.open(out).rejects()) == 25


def test_a_new_day_alone_is_added_and_changed_files_are_labelled_again(spark: Any, tmp_path: Path) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    corpus.mkdir()
    for day in ("1", "2", "3"):
        write_corpus(corpus / f"dt={day}", files=2)
    days = [str(corpus / f"dt={day}") for day in ("1", "2", "3")]
    label_captions(spark, replace(options(corpus, out), captions=tuple(days[:2])))
    asked = options(corpus / "dt=3", out, extend=True)
    assert [Path(file.path).parent.name for file in label_captions(spark, asked).inputs][-2:] == ["dt=3"] * 2

    os.utime(corpus / "dt=1/00000.parquet", (1, 1))
    moved = label_captions(spark, options(corpus, out, extend=True))
    assert moved == LabelShards.open(out).manifest

    changed = {"caption": ["a dog", "a sofa", None], "uid": ["c", "b", "a"]}
    pq.write_table(pa.table(changed), corpus / "dt=2/00001.parquet")
    with pytest.raises(MismatchError, match=r"dt=2/00001\.parquet: found .*--replace-changed"):
        label_captions(spark, options(corpus, out, extend=True))
    parts = {file.path for file in LabelShards.open(out).manifest.files}
    (corpus / "dt=3/00000.parquet").unlink()
    label_captions(spark, options(corpus, out, extend=True, replace_changed=True))
    write_corpus(tmp_path / "again", files=2)
    shutil.copy(tmp_path / "again/00000.parquet", corpus / "dt=3/00000.parquet")
    whole = label_captions(spark, options(corpus, tmp_path / "whole"))
    now = LabelShards.open(out)
    assert rows(out) == rows(tmp_path / "whole")
    assert now.counts() == LabelShards.open(tmp_path / "whole").counts()
    order = [("shard", "ascending"), ("key", "ascending")]
    assert now.rejects().sort_by(order) == LabelShards.open(tmp_path / "whole").rejects().sort_by(order)
    assert [replace(file, modified="") for file in now.manifest.inputs] == [
        replace(file, modified="") for file in whole.inputs
    ]
    assert {file.path for file in now.manifest.files} & parts, "what did not change is not written again"


def held_file(path: str, **others: Any) -> InputFile:
    return InputFile(path, **{"size": 9, "modified": "then", "digest": "d", **others})


@pytest.mark.parametrize(
    ("file", "options_", "common", "becomes"),
    [
        (held_file("/c/a.tsv"), {}, None, "same"),
        (held_file("/c/a.tsv", modified="now"), {}, None, "same"),
        (held_file("/c/a.tsv", modified="now", digest="e"), {}, None, "other content of the same size"),
        (held_file("/c/a.tsv", size=8), {}, None, "8 bytes"),
        (held_file("/c/a.tsv", size=8), {"replace_changed": True}, None, "replaced"),
        (held_file("/c/a.tsv", modified="now", digest="e"), {"replace_changed": True}, None, "replaced"),
        (held_file("/c/a.tsv", size=8), {"replace_changed": True, "shard_column": "s"}, None, "with --shard-column"),
        (held_file("/c/old.tsv", modified="now"), {}, None, "hold no digest"),
        (held_file("/c/old.tsv", modified="now"), {"replace_changed": True}, None, "replaced"),
        (held_file("/elsewhere/a.tsv", modified="now"), {}, None, "same"),
        (held_file("s3://b/c/a.tsv", modified="now"), {}, None, "same"),
        (held_file("/elsewhere/a.tsv", modified="now", digest="e"), {}, None, "a second file for shard 'a'"),
        (held_file("/c/dt=2/a.tsv", size=8), {"replace_changed": True}, None, "a second file for shard 'a'"),
        (held_file("/c/dt=2/a.tsv", size=8), {"shard_column": "s"}, None, "new"),
        (held_file("/c/dt=2/a.tsv", size=8), {}, "/c/", "new"),
        (held_file("/d/dt=2/b.tsv", size=8), {}, "/c/", "outside the folder"),
        (held_file("/c/b.tsv"), {}, None, "new"),
    ],
)
def test_a_file_is_held_new_changed_or_refused(
    file: InputFile, options_: dict[str, Any], common: str | None, becomes: str
) -> None:
    base = Manifest(
        "catlip", "f", "3.0", (), 0, 0, 0, 0, inputs=(held_file("/c/a.tsv"), held_file("/c/old.tsv", digest=""))
    )
    asked = options(Path("/c"), Path("/out"), extend=True, **options_)
    inputs = InputFiles("tsv", (replace(file, digest=""),), common)

    def found() -> Extension:
        return extension_of(inputs, base, asked, lambda files: {each.path: file.digest for each in files})

    if becomes not in ("same", "new", "replaced"):
        with pytest.raises((MismatchError, InputError), match=becomes):
            found()
        return
    extension = found()
    assert (extension.same, len(extension.inputs.files), len(extension.replaced)) == {
        "same": (1, 0, 0), "new": (0, 1, 0), "replaced": (0, 1, 1),
    }[becomes]  # fmt: skip
    assert len(extension.kept) == 2 - len(extension.replaced)
    # A time that moved is remembered, for the file not to be read again.
    assert {each.path: each.modified for each in extension.kept}.get(file.path, file.modified) == file.modified


def test_files_of_a_new_day_that_share_a_name_are_refused() -> None:
    base = Manifest("catlip", "f", "3.0", (), 0, 0, 0, 0, inputs=(held_file("/c/a.tsv"),))
    inputs = InputFiles("tsv", (held_file("/d/1/b.tsv"), held_file("/d/2/b.tsv")), None)
    with pytest.raises(MismatchError, match=r"a second file for shard 'b', which /d/1/b\.tsv has"):
        extension_of(inputs, base, options(Path("/d"), Path("/out"), extend=True), None)


@pytest.mark.parametrize(
    ("held", "new", "shard"),
    [
        ("/c/dt=1/en/a.tsv", "/c/dt=2/en/a.tsv", "dt=2/en/a"),
        ("/c/2024-01-31/a.tsv", "/c/2024-02-01/a.tsv", "2024-02-01/a"),
        ("s3://b/lang=en/a.tsv", "s3://b/lang=fr/a.tsv", "lang=fr/a"),
        ("s3://b/dt=1/a.tsv", "s3://KEY:WORD@b/dt=2/a.tsv", "dt=2/a"),
        # These may be the held file in another place.
        ("/c/dt=1/a.tsv", "/d/dt=2/a.tsv", None),
        ("/c/dt=1/a.tsv", "/c/dt=1/en/a.tsv", None),
        ("/c/a.tsv", "/d/a.tsv", None),
    ],
)
def test_a_file_of_another_day_that_shares_a_name_is_named_by_its_folder_too(
    held: str, new: str, shard: str | None
) -> None:
    base = Manifest("catlip", "f", "3.0", (), 0, 0, 0, 0, inputs=(held_file(held),))
    inputs = InputFiles("tsv", (held_file(new, size=8),), None)
    asked = options(Path("/c"), Path("/out"), extend=True)
    if shard is None:
        with pytest.raises(MismatchError, match="a second file for shard 'a'"):
            extension_of(inputs, base, asked, None)
    else:
        found = extension_of(inputs, base, asked, None)
        assert [found.inputs.shard_of(path) for path in (new, held)] == [shard, "a"]


def test_two_runs_on_one_directory_do_not_meet(spark: Any, tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "in"), tmp_path / "out"
    (out / JOB).mkdir(parents=True)
    alive = subprocess.Popen(["sleep", "60"])
    try:
        claim = {"run": "other", "machine": machine(), "host": "h", "pid": alive.pid, "time": time.time()}
        (out / JOB / "owner.json").write_text(json.dumps(claim))
        owner = Owner(str(out), "mine")
        with pytest.raises(OutputExistsError, match=rf"another run at work in it .*process {alive.pid}"):
            owner.claim()
    finally:
        alive.kill()
        alive.wait()
    # Its number is free now, which says nothing about a process of another container.
    (out / JOB / "owner.json").write_text(json.dumps(claim | {"machine": f"{machine()}0"}))
    with pytest.raises(OutputExistsError, match="another run at work in it"):
        owner.claim()
    (out / JOB / "owner.json").write_text(json.dumps(claim))
    # The other one is dead: its directory is free.
    owner.claim()
    (out / JOB / "owner.json").write_text(json.dumps(claim))
    with pytest.raises(OutputExistsError, match="the claim of another run"):
        owner.check()
    shutil.rmtree(out)
    assert label_captions(spark, options(corpus, out)).rows == 120


def test_one_broken_file_among_many_is_named_and_the_rest_is_labelled(spark: Any, tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "in"), tmp_path / "out"
    (corpus / "00002.parquet").write_bytes(b"PAR1 not a Parquet file PAR1")
    manifest = label_captions(spark, options(corpus, out))
    assert {"shard": "00002", "key": "", "reason": "unreadable_file"} in LabelShards.open(out).rejects().to_pylist()
    broken = [file for file in manifest.inputs if file.unreadable]
    assert [(Path(file.path).name, file.rows, file.rejected) for file in broken] == [("00002.parquet", 1, 1)]
    assert manifest.rows == 101 == manifest.labelled + manifest.empty + manifest.rejected
    assert Manifest.from_json("m", (out / "manifest.json").read_text()) == manifest


def test_a_broken_file_fails_a_strict_job(spark: Any, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in")
    (corpus / "00002.parquet").write_bytes(b"PAR1 not a Parquet file PAR1")
    with pytest.raises(InputError, match=r"00002\.parquet: found a file that cannot be read"):
        label_captions(spark, options(corpus, tmp_path / "out", strict=True))


def test_rows_of_whole_gzip_members_before_a_break_are_kept(spark: Any, tmp_path: Path) -> None:
    members = [gzip.compress(b"".join(b"%d dogs\t%d\n" % (i, i * i) for i in range(n))) for n in (300, 50_000)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cut.tsv.gz").write_bytes(b"".join(members)[:-1])
    (tmp_path / "in" / "good.tsv").write_bytes(b"a cat\t1\n")
    out = tmp_path / "out"
    manifest = label_captions(spark, Label((str(tmp_path / "in"),), str(out), columns=("caption", "n")))
    cut, good = manifest.inputs
    assert "breaks off" in cut.unreadable
    assert (cut.labelled, cut.rejected, good.rejected, good.rows) == (300, 1, 0, 1)
    assert len(LabelShards.open(out).read_shard("cut")) == 300


def test_a_broken_row_group_costs_its_rows_alone(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"caption": ["dog"] * 300}), path, row_group_size=100, compression="none")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    at = column.dictionary_page_offset or column.data_page_offset
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    manifest = label_captions(spark, Label((str(path),), str(tmp_path / "out")))
    assert (manifest.rows, manifest.labelled, manifest.rejected) == (300, 200, 100)
    assert [row["key"] for row in rows(tmp_path / "out")] == [f"{i:09d}" for i in [*range(100), *range(200, 300)]]


def test_a_full_disk_ends_the_job_and_a_larger_one_goes_on(spark: Any, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    corpus, out = write_corpus(tmp_path / "in", files=2, rows=40_000), disk / "out"
    try:
        with pytest.raises(InputError, match=r"No space left on device"):
            label_captions(spark, options(corpus, out))
        assert not (out / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert label_captions(spark, options(corpus, out)).rows == 80_000
    finally:
        subprocess.run(["umount", disk], check=True)


def test_large_files_are_cut_at_row_groups_and_small_ones_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name, count in (("big", 1000), ("a", 10), ("b", 10), ("c", 0)):
        table = pa.table({"caption": [f"a dog {i}" for i in range(count)]})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet", row_group_size=100)
    monkeypatch.setattr("pipeline.planning.SPLIT_BYTES", 2_000)
    monkeypatch.setattr("pipeline.planning.PIECE_ROWS", 300)
    tasks = plan_tasks(list_inputs((str(tmp_path / "in"),), "auto"), cores=2)
    # All of it is less than is worth a task of its own.
    assert [[(piece.shard, piece.groups) for piece in task.pieces] for task in tasks] == [
        [
            ("a", None),
            ("b", None),
            ("big", (0, 1, 2)),
            ("big", (3, 4, 5)),
            ("big", (6, 7, 8)),
            ("big", (9,)),
            ("c", None),
        ]
    ]
    tasks = plan_tasks(list_inputs((str(tmp_path / "in"),), "auto"), cores=1, task_bytes=1)
    assert len(tasks) > 3
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert [Task.from_json(task.to_json()) for task in tasks] == list(tasks)


def test_a_large_text_file_is_cut_at_line_ends(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    lines = [f"a dog {'x' * chance.randrange(30)}\t{i}" for i in range(500)]
    lines[200] = "a cat " + "y" * 3000 + "\tlong"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "big.tsv").write_text("\n".join(["caption\tn", *lines]), newline="")
    (tmp_path / "in" / "quoted.tsv").write_text("caption\tn\n" + '"a\ncat"\t1\n' * 300)
    (tmp_path / "in" / "small.tsv").write_text("caption\tn\na sofa\t1\n")
    source = (str(tmp_path / "in"),)
    label_captions(spark, Label(source, str(tmp_path / "whole"), task_bytes=1))
    monkeypatch.setattr("pipeline.planning.SPLIT_BYTES", 1_000)
    label_captions(spark, Label(source, str(tmp_path / "cut"), task_bytes=1, log=tmp_path / "log.jsonl"))
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["tasks"] > 10
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "cut")) == 801


def lines_of(content: bytes) -> list[bytes]:
    return content.removesuffix(b"\n").split(b"\n") if content else []


@example(b"\n\n", 2)
@example(b"a\n", 2)
@given(st.binary(max_size=60).map(lambda text: text.replace(b"\x00", b"\n")), st.integers(1, 8))
def test_spans_hold_every_line_once_with_its_number(content: bytes, parts: int) -> None:
    edges = [len(content) * part // parts for part in range(parts + 1)]
    ranges = [Range("f", a, b) for a, b in pairwise(edges) if a < b]
    counted = {place: count_starts(io.BytesIO(content), place.start, place.stop) for place in ranges}
    found = [
        (span.number + offset, line)
        for span in cut(counted, {"f": len(content)}).get("f", ())
        for offset, line in enumerate(lines_of(content[span.start : span.stop]))
    ]
    assert found == list(enumerate(lines_of(content)))


def test_keys_with_separators_and_shards_with_dots_stay_what_they_are(spark: Any, tmp_path: Path) -> None:
    table = pa.table({"caption": ["dog", "cat", "sofa"], "uid": ["a/b", "../c", "d\\e"], "s": ["..", "../x", "/etc"]})
    pq.write_table(table, tmp_path / "a.parquet")
    label_captions(spark, options(tmp_path / "a.parquet", tmp_path / "out", shard_column="s"))
    assert [(row["shard"], row["key"], row["synsets"]) for row in rows(tmp_path / "out")] == [
        ("..", "a/b", [DOG]), ("../x", "../c", [CAT]), ("/etc", "d\\e", [SOFA]),
    ]  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"a.parquet", "out"}
    assert LabelShards.open(tmp_path / "out").read_shard("../x").num_rows == 1


def test_a_run_that_lost_its_claim_removes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / JOB).mkdir(parents=True)
    (out / JOB / "plan.json").write_text("another run's")
    (out / "part-00000-000-0.parquet").write_text("another run's")
    job = JobSettings(str(out), ReadOptions("parquet", ("caption",), None, None), load_labeler, 1, 1, "plan")
    for error, stays in ((OutputExistsError, True), (InputError, False)):
        with pytest.raises(error), story.removed_on_failure(job, None):
            raise error("out", found="a", wanted="b", remedy="c")
        assert (out / JOB / "plan.json").exists() == (out / "part-00000-000-0.parquet").exists() == stays
