"""Every moment of a job is a state that the same command goes on from: killed at each operation on the file system."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import claim, counts, extension, finishing, job, planning, rewriting, sorted_files, task
from pipeline import run as story
from pipeline.config import Label
from pipeline.reading.captions import Piece
from pipeline.reading.row_digest import RowDigest
from pipeline.reading.rows import batch_of
from pipeline.rewriting import Rewritten
from pipeline.sorted_files import SortedFile
from pipeline.task import JOB, Done, JobSettings, run_task
from vocab.errors import InputError, OutputExistsError
from vocab.labelers import load_labeler
from vocab.store import files as storage
from vocab.store import label_shards, label_writing
from vocab.store.label_shards import LabelShards
from vocab.store.locks import machine
from vocab.store.manifest import ACCOUNT, LabelFile

DOG, CAT, SOFA = 2084071, 2121620, 4256520
# Enough of a session for a story whose tasks run in this process.
SPARK: Any = SimpleNamespace(
    sparkContext=SimpleNamespace(
        defaultParallelism=1,
        setJobDescription=lambda what: None,
        getConf=lambda: {"spark.master": "local[1]"},
    )
)


class Killed(BaseException):
    """The process is gone; nothing it does afterwards reaches the disk."""


class Life:
    """Counts operations on the file system, and ends after some of them."""

    def __init__(self, operations: int | None = None) -> None:
        self.left, self.done = operations, 0

    def spend(self) -> None:
        if self.left is not None and self.done >= self.left:
            raise Killed
        self.done += 1


class LocalDisk(pafs.LocalFileSystem):  # type: ignore[misc]
    """The disk, each of whose changes is one operation; a folder goes file by file, in no helpful order."""

    life = Life()

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        self.life.spend()
        super().create_dir(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self.life.spend()
        super().delete_file(path)

    def delete_dir(self, path: str) -> None:
        for info in sorted(self.get_file_info(pafs.FileSelector(path)), key=lambda info: str(info.base_name)):
            (self.delete_dir if info.type == pafs.FileType.Directory else self.delete_file)(info.path)
        self.life.spend()
        super().delete_dir(path)


class Bucket(pafs.FileSystemHandler):  # type: ignore[misc]
    """An object store: nothing is renamed, an object is there when its upload ends."""

    def __init__(self, disk: LocalDisk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def get_type_name(self) -> str:
        return "bucket"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        return self._disk.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self._disk.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._disk.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._disk.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._disk.delete_file(path)

    def move(self, source: str, target: str) -> None:
        raise NotImplementedError

    def copy_file(self, source: str, target: str) -> None:
        raise NotImplementedError

    def open_input_stream(self, path: str) -> Any:
        return self._disk.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        return self._disk.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return pa.PythonFile(Upload(Path(path), self._disk.life), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError


class Upload:
    """An object on its way."""

    def __init__(self, target: Path, life: Life) -> None:
        self._target, self._life, self._parts = target, life, list[bytes]()
        self.closed = False

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        pass

    def tell(self) -> int:
        return sum(map(len, self._parts))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._life.spend()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._target.write_bytes(b"".join(self._parts))


@contextmanager
def living(life: Life, *, store: str) -> Iterator[None]:
    """All that the job writes, in this process and with so many operations to live."""

    def wave(spark: Any, tasks: Sequence[Any], job: JobSettings) -> list[Done]:
        return [run_task(one, job) for one in tasks]

    def merged(spark: Any, group: Sequence[SortedFile], job: JobSettings) -> Rewritten:
        if len(group) == 1:
            return Rewritten(tuple(group))
        rows = pa.concat_tables([pq.read_table(f"{job.out}/{run.file.path}") for run in group])
        rows = rows.sort_by([("shard", "ascending"), ("key", "ascending")])
        return rewriting.write_sorted(iter(rows.to_batches()), job)

    def without_shards(spark: Any, files: Sequence[LabelFile], shards: Sequence[str], job: JobSettings) -> Rewritten:
        if not shards:
            return Rewritten(tuple(map(rewriting.sorted_file_of, files)))
        return Rewritten.together([rewriting.strip(file, shards, job).to_json() for file in files])

    disk = LocalDisk()
    disk.life = life
    filesystem = pafs.PyFileSystem(Bucket(disk)) if store == "bucket" else disk
    renamed, opened = Path.replace, Path.open

    def replaced(self: Path, target: Any) -> Path:
        life.spend()
        return renamed(self, target)

    def open_counted(self: Path, mode: str = "r", *rest: Any, **others: Any) -> Any:
        if "w" in mode:
            life.spend()
        return opened(self, mode, *rest, **others)

    with pytest.MonkeyPatch.context() as patch:
        modules = (claim, counts, extension, finishing, job, rewriting, sorted_files, task)
        for module in (*modules, label_shards, label_writing, storage):
            if hasattr(module, "filesystem_of"):
                patch.setattr(module, "filesystem_of", lambda place: (filesystem, os.path.abspath(place)))  # noqa: PTH100
        patch.setattr(story, "run_wave", wave)
        patch.setattr(story, "merged", merged)
        patch.setattr(story, "without_shards", without_shards)
        # A claim is renewed by the clock; the test is to count the same operations each time.
        patch.setattr(claim, "repeated", lambda *_, **__: nullcontext())
        patch.setattr(claim, "has_ended", lambda pid: True)
        # Hundreds of runs need neither the tables' checksum nor a disk that survives the machine.
        patch.setattr(type(load_labeler()), "fingerprint", "tables")
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr(Path, "replace", replaced)
        if store == "disk":
            patch.setattr(Path, "open", open_counted)
        yield


def write_corpus(folder: Path, *names: str, shard: str) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        table = {"caption": ["a dog", None, "of the"], "uid": [f"{name}{i}" for i in range(3)], "s": [shard] * 3}
        pq.write_table(pa.table(table | {"number": [number] * 3}), folder / f"{name}.parquet")


def options(corpus: Path, out: Path, **others: Any) -> Label:
    return Label((str(corpus),), str(out), key_column="uid", shard_column="s", task_bytes=1, **others)


def held(out: Path) -> tuple[Any, ...]:
    """All that a finished directory says, and that it holds nothing else."""
    labels = LabelShards.open(out)
    assert {path.name for path in out.iterdir()} == {"manifest.json", *(file.path for file in labels.manifest.files)}
    inputs = [[Path(file.path).name, *(getattr(file, n) for n in ACCOUNT)] for file in labels.manifest.inputs]
    return labels.read_all(), labels.counts(), labels.rejects().sort_by("key"), inputs


def prepared_new(place: Path) -> Label:
    write_corpus(place / "in", "b", "a", shard="x")
    return options(place / "in", place / "out")


def prepared_extension(place: Path) -> Label:
    story.label_captions(SPARK, prepared_new(place))
    write_corpus(place / "in", "c", "d", shard="x")
    return options(place / "in", place / "out", extend=True)


def prepared_union(place: Path) -> Label:
    """An extension whose new file has rows of held keys, some of which held no synset."""
    write_corpus(place / "in", "a", "b", shard="x")
    asked = options(place / "in", place / "out", same_key="union")
    story.label_captions(SPARK, asked)
    table = {"caption": ["a cat", "a cat", "cats on a sofa"], "uid": ["b0", "b2", "b2"], "s": ["x"] * 3}
    pq.write_table(pa.table(table), place / "in" / "aa.parquet")
    return replace(asked, extend=True)


def prepared_replacing(place: Path) -> Label:
    """An extension with a new file and one that changed, in a directory whose shards are files."""
    write_corpus(place / "in", "a", "b", "c", shard="x")
    asked = replace(options(place / "in", place / "out"), shard_column=None)
    story.label_captions(SPARK, asked)
    write_corpus(place / "in", "d", shard="x")
    table = {"caption": ["a cat", "a cat", "of the", None], "uid": ["b0", "b2", "b3", "b4"]}
    pq.write_table(pa.table(table), place / "in" / "b.parquet")
    return replace(asked, extend=True, replace_changed=True)


def prepared_resumed(place: Path) -> Label:
    """A job that died when its first task was done."""
    with living(Life(14), store="disk"), pytest.raises(Killed):
        story.label_captions(SPARK, prepared_new(place))
    return options(place / "in", place / "out")


PREPARED: dict[str, Callable[[Path], Label]] = {
    "new": prepared_new,
    "resumed": prepared_resumed,
    "extension": prepared_extension,
    "union": prepared_union,
    "replacing": prepared_replacing,
}


def given_again(asked: Label) -> None:
    """The same command; a finished directory says so."""
    try:
        story.label_captions(SPARK, asked)
    except OutputExistsError as error:
        assert error.found == "a finished label directory"  # noqa: PT017


@pytest.mark.parametrize("store", ["disk", "bucket"])
@pytest.mark.parametrize("name", PREPARED)
def test_a_job_killed_at_any_operation_is_finished_by_the_same_command(tmp_path: Path, name: str, store: str) -> None:
    with living(Life(), store="disk"):
        asked = PREPARED[name](tmp_path)
    out, before = tmp_path / "out", tmp_path / "before"
    if out.exists():
        shutil.copytree(out, before)
    with living(life := Life(), store=store):
        story.label_captions(SPARK, asked)
    wanted, operations = held(out), life.done
    assert operations > 15
    for count in range(operations):
        shutil.rmtree(out, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, out)
        with living(Life(count), store=store), pytest.raises(Killed):
            story.label_captions(SPARK, asked)
        with living(life := Life(), store=store):
            given_again(asked)
        assert held(out) == wanted, f"killed after {count} of {operations} operations"


@pytest.mark.parametrize("store", ["disk", "bucket"])
def test_a_job_killed_while_it_takes_back_what_it_refused_leaves_room(tmp_path: Path, store: str) -> None:
    with living(Life(), store="disk"):
        right = prepared_new(tmp_path)
    wrong = replace(right, max_caption_bytes=1)
    count, refused = 0, False
    while not refused:
        with living(Life(count), store=store):
            try:
                story.label_captions(SPARK, wrong)
            except Killed:
                count += 1
            except InputError:
                refused = True
        with living(Life(), store=store):
            if not refused:
                with pytest.raises(InputError, match="caption_too_long"):
                    story.label_captions(SPARK, wrong)
            assert not (tmp_path / "out").exists()
    assert count > 15


@pytest.mark.parametrize("store", ["disk", "bucket"])
@pytest.mark.parametrize("then", ["finished", "another plan"])
def test_a_worker_that_outlives_its_job_leaves_nothing(tmp_path: Path, then: str, store: str) -> None:
    jobs: list[tuple[Any, JobSettings]] = []

    def sent(_: Any, tasks: Sequence[Any], job: JobSettings) -> list[Done]:
        jobs.extend((one, job) for one in tasks)
        raise Killed

    with living(Life(), store=store):
        asked = prepared_new(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(story, "run_wave", sent)
            with pytest.raises(Killed):
                story.label_captions(SPARK, asked)
        story.label_captions(SPARK, asked)
        if then == "another plan":
            write_corpus(tmp_path / "in", "c", shard="x")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(story, "run_wave", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    story.label_captions(SPARK, options(tmp_path / "in", tmp_path / "out", extend=True))
        before = sorted(path.name for path in (tmp_path / "out").iterdir())
        for late, of in jobs:
            with pytest.raises((OutputExistsError, FileNotFoundError)):
                run_task(late, of)
        # What reaches a bucket after the last look at the plan is cleared by whoever comes next.
        with pytest.raises((OutputExistsError, FileNotFoundError)):
            task.refuse_ended(str(tmp_path / "out"), jobs[0][1].plan)
        shutil.rmtree(tmp_path / "out" / JOB, ignore_errors=then == "finished")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [name for name in before if name != JOB]


def test_a_run_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    with living(Life(), store="disk"):
        asked = prepared_new(tmp_path)
        cut = story.cut_into_tasks

        def another_first(*given: Any) -> Any:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(story, "cut_into_tasks", cut)
                story.label_captions(SPARK, asked)
            return cut(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(story, "cut_into_tasks", another_first)
            with pytest.raises(OutputExistsError, match="the work of another run, which ended as this one began"):
                story.label_captions(SPARK, asked)
        held(tmp_path / "out")


def test_a_claim_that_is_gone_is_not_called_another_runs(tmp_path: Path) -> None:
    owner = claim.Owner(str(tmp_path), "mine")
    with pytest.raises(OutputExistsError, match="found no claim any more"):
        owner.check()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", ""),
        ("owner.json", '{"run": "x", "host": "gone", "pid": 1, "time": 1}'),
        ("owner.json", "{"),
        ("owner.json", "[" * 100_000),
        *(
            ("owner.json", json.dumps({"machine": machine(), "host": "h", "pid": pid, "time": 1e99}))
            for pid in (1e30, 10**30, 0, -1)
        ),
        (".plan.json.0a.tmp", "{"),
        ("task-00000.json", "{"),
    ],
)
def test_a_job_folder_without_a_plan_is_no_obstacle(tmp_path: Path, name: str, text: str) -> None:
    with living(Life(), store="disk"):
        asked = prepared_new(tmp_path)
        folder = tmp_path / "out" / JOB
        folder.mkdir(parents=True)
        if name:
            (folder / name).write_text(text)
        story.label_captions(SPARK, asked)
        held(tmp_path / "out")


def test_what_others_keep_in_a_label_directory_stays(tmp_path: Path) -> None:
    with living(Life(), store="disk"):
        asked = prepared_new(tmp_path)
        story.label_captions(SPARK, asked)
        out = tmp_path / "out"
        kept = {"counts.csv", "part-of-a-note.txt", "rejects.txt", "manifest.json.old", "counts.vocabulary.parquet"}
        for name in (*kept, "part-00009-000-dead.parquet"):
            (out / name).write_text("x")
        given_again(asked)
        assert kept <= {path.name for path in out.iterdir()}
        assert not (out / "part-00009-000-dead.parquet").exists()


def test_other_files_beside_a_dead_jobs_folder_are_refused(tmp_path: Path) -> None:
    with living(Life(), store="disk"):
        asked = prepared_new(tmp_path)
        (tmp_path / "out" / JOB).mkdir(parents=True)
        (tmp_path / "out" / "mine.txt").write_text("keep")
        with pytest.raises(OutputExistsError, match="2 entries"):
            story.label_captions(SPARK, asked)
        assert (tmp_path / "out" / "mine.txt").exists()


SYNSETS: dict[str | None, list[int]] = {
    "a dog": [DOG], "a cat": [CAT], "cats on a sofa": [CAT, SOFA], "of the": [], "a dog and a cat": [DOG, CAT],
}  # fmt: skip
caption_rows = st.lists(
    st.tuples(st.sampled_from("kml"), st.sampled_from("xy"), st.sampled_from([*SYNSETS, None])), max_size=9
)


def dictionary_of(files: dict[str, list[tuple[str, str, str | None]]], *, by_column: bool) -> tuple[Any, ...]:
    """Joined rows, counts, rejects and the account of each file, as a plain dictionary makes them."""
    union: dict[tuple[str, str], set[int]] = {}
    account = {name: dict.fromkeys(ACCOUNT, 0) | {"rows": len(rows)} for name, rows in sorted(files.items())}
    first: dict[tuple[str, str], str] = {}
    for name, rows in sorted(files.items()):
        for key, column, caption in rows:
            place = (column if by_column else name, key)
            if caption is None:
                account[name]["rejected"] += 1
            elif place in union:
                account[name]["merged"] += 1
                union[place] |= set(SYNSETS[caption])
            else:
                first[place], union[place] = name, set(SYNSETS[caption])
    for place, name in first.items():
        account[name]["labelled" if union[place] else "empty"] += 1
    counts = Counter(synset for synsets in union.values() for synset in synsets)
    joined = [{"shard": s, "key": k, "synsets": sorted(union[s, k])} for s, k in sorted(union)]
    rejects = sorted((s if by_column else n, k) for n, rows in files.items() for k, s, c in rows if c is None)
    return joined, sorted(counts.items()), rejects, account


def found_in(out: Path) -> tuple[Any, ...]:
    labels = LabelShards.open(out)
    manifest = labels.manifest
    account = {Path(file.path).stem: {name: getattr(file, name) for name in ACCOUNT} for file in manifest.inputs}
    for name in ACCOUNT:
        assert getattr(manifest, name) == sum(file[name] for file in account.values())
    counts = [(row["synset"], row["captions"]) for row in labels.counts().to_pylist()]
    rejects = sorted((row["shard"], row["key"]) for row in labels.rejects().to_pylist())
    return labels.read_all().to_pylist(), counts, rejects, account


@settings(max_examples=40, deadline=None)
@given(
    days=st.lists(st.dictionaries(st.sampled_from("abcd"), caption_rows, max_size=3), min_size=1, max_size=2),
    by_column=st.booleans(),
    task_bytes=st.sampled_from([1, 10**6]),
)
def test_rows_of_one_key_are_joined_as_a_dictionary_would_join_them(
    tmp_path_factory: pytest.TempPathFactory,
    days: list[dict[str, list[tuple[str, str, str | None]]]],
    by_column: bool,
    task_bytes: int,
) -> None:
    """In one file or many, in pieces of a file, in tasks, in buffers, and in what extends a finished directory."""
    place = tmp_path_factory.mktemp("union")
    (place / "in").mkdir()
    asked = replace(
        options(place / "in", place / "out", same_key="union", allow_unlabelled=True),
        task_bytes=task_bytes, shard_column="s" if by_column else None, rows_per_file=3,
    )  # fmt: skip
    schema = pa.schema([(name, pa.string()) for name in ("uid", "s", "caption")])
    files: dict[str, list[tuple[str, str, str | None]]] = {}
    with living(Life(), store="disk"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_files, "BUFFER_ROWS", 2)
        patch.setattr(planning, "SPLIT_BYTES", 1)
        patch.setattr(planning, "PIECE_ROWS", 2)
        for day in days:
            new = {name: rows for name, rows in day.items() if name not in files}
            for name, rows in new.items():
                columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
                pq.write_table(pa.table(columns, schema=schema), place / "in" / f"{name}.parquet", row_group_size=2)
            if not new:
                continue
            story.label_captions(SPARK, replace(asked, extend=bool(files)))
            files |= new
            assert found_in(place / "out") == dictionary_of(files, by_column=by_column)


def test_samples_of_a_tar_that_share_a_key_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/0.tar", "w") as tar:
        for name, text in (("a.txt", b"a dog"), ("b.txt", b"a cat"), ("a.txt", b"a cat"), ("c.txt", b"a sofa")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    with living(Life(), store="disk"):
        story.label_captions(SPARK, Label((str(tmp_path / "in"),), str(tmp_path / "out"), same_key="union"))
    labels = LabelShards.open(tmp_path / "out")
    assert labels.rejects().to_pylist() == [{"shard": "0", "key": "a", "reason": "repeated_key"}] * 2
    assert (labels.manifest.labelled, labels.manifest.merged) == (2, 0)


@given(
    texts=st.lists(st.tuples(st.none() | st.text(max_size=3), st.lists(st.binary(max_size=3), max_size=3)), max_size=8),
    cuts=st.lists(st.integers(0, 8), max_size=3),
    change=st.integers(0, 7),
)
def test_a_digest_knows_rows_and_not_how_they_were_cut(
    texts: list[tuple[str | None, list[bytes]]], cuts: list[int], change: int
) -> None:
    def digest_of(rows: list[tuple[str | None, list[bytes]]], edges: list[int]) -> str:
        keys, captions = ([row[n] for row in rows] for n in (0, 1))
        whole = batch_of(pa.array(keys, pa.string()), pa.array(captions, pa.list_(pa.binary())))
        digest = RowDigest(Piece("a", "a"))
        for start, stop in pairwise(sorted({0, len(rows), *(min(edge, len(rows)) for edge in edges)})):
            digest.add(whole.slice(start, stop - start))
        return digest.hexdigest()

    assert digest_of(texts, cuts) == digest_of(texts, [])
    if change < len(texts):
        key, captions = texts[change]
        for other in ((None if key == "" else "", captions), (key, [*captions, b""]), (key, [b"x", *captions])):
            if other != texts[change]:
                assert digest_of([*texts[:change], other, *texts[change + 1 :]], []) != digest_of(texts, [])
