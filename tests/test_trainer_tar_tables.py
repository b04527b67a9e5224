"""The folder of tables: one process makes each, a file that is wrong is mended or named, the oldest go first."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forks import Forks
from tests.pictures import tar_of
from tests.synsets import CAT, DOG, vocabulary_of
from tests.tar_tables import LIMIT, Asked, asked_in, content_of, damaged, labels_of
from trainer.data import tar_tables
from trainer.data.tar_index import NoTarError
from trainer.data.tar_tables import TableInputs, TarTable, TarTables, make_table
from vocab.errors import FormatError, InputError
from vocab.store.files import write_whole


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return asked_in(tmp_path)


def get(asked: Asked, tables: TarTables, **changes: Any) -> TarTable:
    """The table from a folder; `changes`: to what it is asked for with, or the location."""
    location = changes.pop("location", "images/0.tar")
    asked = replace(asked, **changes)
    return tables.get(asked.path, asked.inputs(location))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar-table"))


def test_a_tar_that_is_not_there_is_an_error_and_no_table(asked: Asked, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.tar", tmp_path):
        with pytest.raises(InputError, match="found no readable tar") as caught:
            get(asked, TarTables(tmp_path / "cache"), path=path)
        assert not isinstance(caught.value, NoTarError)
    assert files(tmp_path / "cache") == []


def test_labels_that_cannot_be_read_are_an_error_and_no_table(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "labels" / "part-00000.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(FormatError, match=r"part-00000\.parquet"):
        get(asked, TarTables(tmp_path / "cache"))
    assert files(tmp_path / "cache") == []


def test_a_file_that_is_no_tar_is_kept_as_one_table_too(asked: Asked, tmp_path: Path) -> None:
    asked.path.write_bytes(b"<html>no tar</html>" * 99)
    for _ in range(2):
        assert get(asked, TarTables(tmp_path / "cache")).faults == [("", "unreadable_tar")]
    assert len(files(tmp_path / "cache")) == 1


def test_a_table_is_made_once_and_then_mapped(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = TarTables(tmp_path / "cache")
    made = get(asked, tables)
    monkeypatch.setattr(tar_tables, "make_table", None)
    assert get(asked, tables) is made
    mapped = get(asked, TarTables(tmp_path / "cache"))
    assert content_of(mapped) == content_of(made)
    assert not mapped.offsets.flags.owndata
    (file,) = files(tmp_path / "cache")
    file.unlink()
    assert content_of(mapped) == content_of(made)


def test_whatever_a_table_depends_on_gives_another_one(asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    other_labels = labels_of(tmp_path / "other", [("0", "dogs", [DOG])])
    os.utime(asked.path, ns=(1, 1))
    changes: list[dict[str, Any]] = [
        {},
        {"location": "s3://bucket/0.tar"},
        {"shard": "1"},
        {"vocabulary": vocabulary_of(DOG, CAT)},
        {"labels": other_labels},
        {"max_member_bytes": LIMIT + 1},
    ]
    for count, change in enumerate(changes, 1):
        assert content_of(get(asked, TarTables(folder), **change)) == content_of(
            asked.make(**{name: value for name, value in change.items() if name != "location"})
        )
        assert len(files(folder)) == count
    os.utime(asked.path, ns=(1, 2))
    get(asked, TarTables(folder))
    tar_of(asked.path, ("cars.jpg", b"a car"), ("long.txt", bytes(20_000)))
    os.utime(asked.path, ns=(1, 2))
    assert get(asked, TarTables(folder)).keys == ["cars"]
    assert len(files(folder)) == len(changes) + 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_table_is_made_again(asked: Asked, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "cache"
    wanted = content_of(get(asked, TarTables(folder)))
    (file,) = files(folder)
    content = damaged(file.read_bytes(), data)
    file.write_bytes(content)
    assert content_of(get(asked, TarTables(folder))) == wanted
    assert file.read_bytes() != content


def ask(asked: Asked, folder: Path, processes: int) -> None:
    """A process that asks for a table once all are there, and notes what it got, and if it makes it."""

    def make(path: Path, of: TableInputs) -> TarTable:
        with (folder.parent / "made").open("a") as file:
            file.write("x")
        time.sleep(0.2)
        return make_table(path, of)

    tar_tables.make_table = make
    tables, rank = TarTables(folder), os.environ["RANK"]
    (folder.parent / f"here-{rank}").touch()
    while len(list(folder.parent.glob("here-*"))) < processes:
        time.sleep(0.02)
    (folder.parent / f"got-{rank}").write_bytes(pickle.dumps(content_of(get(asked, tables))))


def die_while_making(asked: Asked, folder: Path) -> None:
    """A process that begins to write a table and does not go on."""

    @contextmanager
    def write(file: Path) -> Iterator[BinaryIO]:
        if file.suffix != ".tar-table":
            with write_whole(file) as stream:
                yield stream
            return
        with file.with_name(f".{file.name}.0123abcd.tmp").open("wb") as stream:
            stream.write(b"half a table")
            (folder.parent / "started").touch()
            time.sleep(60)
            yield stream

    tar_tables.write_whole = write
    get(asked, TarTables(folder))


def test_of_many_processes_that_ask_at_once_one_makes_the_table(forks: Forks, asked: Asked, tmp_path: Path) -> None:
    forks.run(4, tmp_path / "log", ask, asked, tmp_path / "cache", 4)
    answers = [pickle.loads((tmp_path / f"got-{rank}").read_bytes()) for rank in range(4)]  # noqa: S301 - our own
    assert answers == [content_of(asked.make())] * 4
    assert (tmp_path / "made").read_text() == "x"


def test_a_maker_that_is_killed_keeps_no_one_waiting(forks: Forks, asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    maker = forks.start(1, tmp_path / "log", die_while_making, asked, folder)
    maker.wait_for((tmp_path / "started").exists)
    os.kill(maker.pids[0], signal.SIGKILL)
    assert content_of(get(asked, TarTables(folder))) == content_of(asked.make())
    assert maker.wait() == [-signal.SIGKILL]
    # What it left is removed once nobody can still be writing it.
    (left,) = folder.glob(".*.tar-table.*.tmp")
    os.utime(left, (0, 0))
    get(asked, TarTables(folder), location="another")
    assert not left.exists()


def test_the_tables_least_recently_used_are_removed_and_nothing_else(asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    foreign = [folder / "photo.jpg", folder / "mine.tar-table", folder / ("A" * 32 + ".tar-table")]
    for file in foreign:
        file.write_bytes(bytes(100_000))
    sizes, by_place = [], {}
    for place in "abc":
        get(asked, TarTables(folder), location=place)
        (by_place[place],) = set(files(folder)) - set(foreign) - set(by_place.values())
        sizes.append(by_place[place].stat().st_size)
        os.utime(by_place[place], (len(sizes), len(sizes)))
    # "a" is used again, "b" is then the oldest.
    get(asked, TarTables(folder), location="a")
    get(asked, TarTables(folder, max_bytes=int(3.5 * sizes[0])), location="d")
    assert [by_place[place].exists() for place in "abc"] == [True, False, True]
    get(asked, TarTables(folder, max_bytes=1), location="e")
    assert len(set(files(folder)) - set(foreign)) == 1
    assert all(file.exists() for file in foreign)
    assert (folder / "tar-tables.txt").exists()


def test_what_one_process_holds_open_is_bounded(asked: Asked, tmp_path: Path) -> None:
    tables = TarTables(tmp_path / "cache", max_held_samples=6)
    first, second = (get(asked, tables, location=place) for place in "ab")
    assert get(asked, tables, location="a") is first
    get(asked, tables, location="c")
    assert get(asked, tables, location="a") is first
    assert get(asked, tables, location="b") is not second


def test_pickled_tables_leave_what_they_hold_behind(asked: Asked, tmp_path: Path) -> None:
    tables = TarTables(tmp_path / "cache")
    before = pickle.dumps(tables)
    table = get(asked, tables)
    assert pickle.dumps(tables) == before
    assert content_of(get(asked, pickle.loads(before))) == content_of(table)  # noqa: S301


def test_a_folder_that_cannot_be_made_is_named_with_its_option(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/cache: found a folder that cannot be used .* --cache"):
        get(asked, TarTables(tmp_path / "file" / "cache"))


@pytest.mark.parametrize("unwritten", [tar_tables._MARKER, f"*{tar_tables._SUFFIX}"])
def test_a_full_disk_is_named_with_its_option(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unwritten: str
) -> None:
    def full(file: Path) -> Any:
        if file.match(unwritten):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_whole(file)

    monkeypatch.setattr(tar_tables, "write_whole", full)
    with pytest.raises(InputError, match=r"No space left on device.* room for 1,073,741,824 bytes.* --cache"):
        get(asked, TarTables(tmp_path / "cache"))
    assert files(tmp_path / "cache") == []
