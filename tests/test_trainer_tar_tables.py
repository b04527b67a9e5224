"""Tables of tars: what they hold, that one process makes each, and that a file that is wrong is mended or named."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import label_table
from tests.test_trainer_tar_index import tar_of
from trainer import tar_tables
from trainer.tar_index import FAULTS, NoTarError, index_tar
from trainer.tar_tables import TarTable, TarTables, make_table
from vocab.errors import FormatError, InputError
from vocab.label_shards import LabelShards
from vocab.label_writing import write_label_shards
from vocab.vocabulary import Vocabulary

DOG, CAT, CAR = 2084071, 2121620, 2958343
LIMIT = 100
Row = tuple[str, str, list[int]]


@dataclass(frozen=True)
class Asked:
    """What a table is asked for with."""

    path: Path
    labels: LabelShards
    vocabulary: Vocabulary
    shard: str = "0"
    place: str = "images/0.tar"
    max_member_bytes: int = LIMIT

    def options(self, **changes: Any) -> dict[str, Any]:
        names = ("shard", "labels", "vocabulary", "max_member_bytes")
        return {name: getattr(self, name) for name in names} | changes

    def get(self, tables: TarTables, **changes: Any) -> TarTable:
        return tables.get(changes.pop("path", self.path), **({"place": self.place} | self.options(**changes)))

    def make(self, **changes: Any) -> TarTable:
        return make_table(changes.pop("path", self.path), **self.options(**changes))


def labels_of(place: Path, rows: list[Row]) -> LabelShards:
    write_label_shards(place, label_table(*rows), labeler="test", fingerprint="f" * 64)
    return LabelShards.open(place)


def vocabulary_of(*synsets: int) -> Vocabulary:
    return Vocabulary(np.array(synsets, np.int32), np.ones(len(synsets), np.int64), rows=9, min_count=1)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A tar of six samples: two usable, one of them without a class, and one of each reason not to be."""
    path = tar_of(
        tmp_path / "0.tar",
        ("none.txt", b"no image"),
        ("dogs.jpg", b"a dog and a cat"),
        ("dogs.txt", b"caption"),
        ("large.jpg", bytes(LIMIT + 1)),
        ("stranger.jpg", b"not labelled"),
        ("dogs.jpg", b"again"),
        ("cars.jpg", b"a car"),
    )
    rows: list[Row] = [
        ("0", "cars", [CAR]),
        ("0", "dogs", [DOG, CAT]),
        ("0", "gone", [DOG]),
        ("0", "large", []),
        ("1", "a", [DOG]),
    ]
    return Asked(path, labels_of(tmp_path / "labels", rows), vocabulary_of(CAT, DOG))


def content_of(table: TarTable) -> dict[str, Any]:
    """Everything a table says, as plain values."""
    arrays = ("indices", "offsets", "sizes", "class_ends", "classes", "empty")
    return {
        "keys": table.keys,
        "faults": table.faults,
        "account": table.account,
        **{name: getattr(table, name).tolist() for name in arrays},
    }


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar-table"))


def test_a_table_holds_the_samples_that_can_be_trained_on(asked: Asked) -> None:
    table = asked.make()
    assert content_of(table) == {
        "keys": ["dogs", "cars"],
        "indices": [1, 5],
        "offsets": [1536, 6656],
        "sizes": [15, 5],
        "class_ends": [0, 2, 2],
        "classes": [0, 1],
        "empty": [False, False],
        "faults": [("none", "no_image"), ("large", "image_too_large"), ("dogs", "repeated_key")],
        "account": {"samples": 6, "bad": 3, "unmatched": 1, "surplus_labels": 1, "unlabelled": 1},
    }
    assert len(table) == 2


keys = st.sampled_from(["a", "b", "c", "ä"])


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.tuples(keys, st.sampled_from(["jpg", "png", "txt"]), st.sampled_from([0, 7, 101])), max_size=9),
    rows=st.dictionaries(keys, st.sets(st.sampled_from([DOG, CAT, CAR])).map(sorted)),
)
def test_a_table_equals_one_made_sample_by_sample(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, str, int]], rows: dict[str, list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    path = tar_of(folder / "0.tar", *((f"{key}.{kind}", b"x" * size) for key, kind, size in members))
    labels = labels_of(folder / "labels", [("0", key, row) for key, row in rows.items()] + [("1", "z", [DOG])])
    asked = Asked(path, labels, vocabulary_of(CAR, DOG))
    index = index_tar(path, max_member_bytes=LIMIT)
    wanted: dict[str, Any] = {
        name: [] for name in ("keys", "indices", "offsets", "sizes", "classes", "empty", "faults")
    }
    ends, unmatched = [0], 0
    for place, key in enumerate(index.keys):
        if index.faults[place]:
            wanted["faults"].append((key, FAULTS[index.faults[place]]))
        elif key not in rows:
            unmatched += 1
        else:
            classes = sorted({CAR: 0, DOG: 1}[synset] for synset in rows[key] if synset != CAT)
            usable = (key, place, index.offsets[place], index.sizes[place], rows[key] == [])
            for name, value in zip(("keys", "indices", "offsets", "sizes", "empty"), usable, strict=True):
                wanted[name].append(value)
            wanted["classes"] += classes
            ends.append(ends[-1] + len(classes))
    wanted["class_ends"] = ends
    wanted["account"] = {
        "samples": len(index),
        "bad": len(wanted["faults"]),
        "unmatched": unmatched,
        "surplus_labels": len(rows.keys() - set(index.keys)),
        "unlabelled": sum(a == b for a, b in itertools.pairwise(ends)),
    }
    assert content_of(asked.make()) == wanted
    for _ in range(2):
        assert content_of(asked.get(TarTables(folder / "cache"))) == wanted


@pytest.mark.parametrize("content", [b"", b"<html>no tar</html>" * 99])
def test_a_file_that_is_no_tar_counts_as_all_the_samples_of_its_labels(
    asked: Asked, tmp_path: Path, content: bytes
) -> None:
    asked.path.write_bytes(content)
    for _ in range(2):
        table = asked.get(TarTables(tmp_path / "cache"))
        assert (len(table), table.keys, table.class_ends.tolist()) == (0, [], [0])
        assert table.faults == [("", "unreadable_tar")]
        assert table.account == {"samples": 4, "bad": 4, "unmatched": 0, "surplus_labels": 0, "unlabelled": 0}
    assert asked.make(shard="unknown").account["bad"] == 1
    assert len(files(tmp_path / "cache")) == 1


def test_a_tar_that_is_not_there_is_an_error_and_no_table(asked: Asked, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.tar", tmp_path):
        with pytest.raises(InputError, match="found no readable tar") as caught:
            asked.get(TarTables(tmp_path / "cache"), path=path)
        assert not isinstance(caught.value, NoTarError)
    assert files(tmp_path / "cache") == []


def test_labels_that_cannot_be_read_are_an_error_and_no_table(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "labels" / "part-00000.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(FormatError, match=r"part-00000\.parquet"):
        asked.get(TarTables(tmp_path / "cache"))
    assert files(tmp_path / "cache") == []


def test_a_table_is_made_once_and_then_mapped(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = TarTables(tmp_path / "cache")
    made = asked.get(tables)
    monkeypatch.setattr(tar_tables, "make_table", None)
    assert asked.get(tables) is made
    mapped = asked.get(TarTables(tmp_path / "cache"))
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
        {"place": "s3://bucket/0.tar"},
        {"shard": "1"},
        {"vocabulary": vocabulary_of(DOG, CAT)},
        {"labels": other_labels},
        {"max_member_bytes": LIMIT + 1},
    ]
    for count, change in enumerate(changes, 1):
        assert content_of(asked.get(TarTables(folder), **change)) == content_of(
            asked.make(**{name: value for name, value in change.items() if name != "place"})
        )
        assert len(files(folder)) == count
    os.utime(asked.path, ns=(1, 2))
    asked.get(TarTables(folder))
    tar_of(asked.path, ("cars.jpg", b"a car"), ("long.txt", bytes(20_000)))
    os.utime(asked.path, ns=(1, 2))
    assert asked.get(TarTables(folder)).keys == ["cars"]
    assert len(files(folder)) == len(changes) + 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_table_is_made_again(asked: Asked, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "cache"
    wanted = content_of(asked.get(TarTables(folder)))
    (file,) = files(folder)
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    assert content_of(asked.get(TarTables(folder))) == wanted
    assert file.read_bytes() != content


def ask(asked: Asked, folder: Path, barrier: Any, answers: Any) -> None:
    """A process that asks for a table, and notes it if it makes it."""

    def make(path: Path, **options: Any) -> TarTable:
        with (folder.parent / "made").open("a") as file:
            file.write("x")
        time.sleep(0.2)
        return make_table(path, **options)

    tar_tables.make_table = make
    tables = TarTables(folder)
    barrier.wait()
    answers.put(content_of(asked.get(tables)))


def die_while_making(asked: Asked, folder: Path, started: Any) -> None:
    """A process that begins to write a table and does not go on."""

    @contextmanager
    def write(file: Path) -> Iterator[BinaryIO]:
        with file.with_name(f".{file.name}.0123abcd.tmp").open("wb") as stream:
            if file.suffix == ".tar-table":
                stream.write(b"half a table")
                started.set()
                time.sleep(60)
            yield stream

    tar_tables.write_whole = write
    asked.get(TarTables(folder))


def test_of_many_processes_that_ask_at_once_one_makes_the_table(asked: Asked, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    barrier, answers = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=ask, args=(asked, tmp_path / "cache", barrier, answers), daemon=True) for _ in range(4)
    ]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == [content_of(asked.make())] * 4
    for process in processes:
        process.join()
    assert (tmp_path / "made").read_text() == "x"


def test_a_maker_that_is_killed_keeps_no_one_waiting(asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    context = multiprocessing.get_context("forkserver")
    started = context.Event()
    maker = context.Process(target=die_while_making, args=(asked, folder, started), daemon=True)
    maker.start()
    assert started.wait(60)
    assert maker.pid is not None
    os.kill(maker.pid, signal.SIGKILL)
    assert content_of(asked.get(TarTables(folder))) == content_of(asked.make())
    maker.join()
    # What it left is removed once nobody can still be writing it.
    (left,) = folder.glob(".*.tar-table.*.tmp")
    os.utime(left, (0, 0))
    asked.get(TarTables(folder), place="another")
    assert not left.exists()


def test_the_tables_least_recently_used_are_removed_and_nothing_else(asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    foreign = [folder / "photo.jpg", folder / "mine.tar-table", folder / ("A" * 32 + ".tar-table")]
    for file in foreign:
        file.write_bytes(bytes(100_000))
    sizes, by_place = [], {}
    for place in "abc":
        asked.get(TarTables(folder), place=place)
        (by_place[place],) = set(files(folder)) - set(foreign) - set(by_place.values())
        sizes.append(by_place[place].stat().st_size)
        os.utime(by_place[place], (len(sizes), len(sizes)))
    # "a" is used again, "b" is then the oldest.
    asked.get(TarTables(folder), place="a")
    asked.get(TarTables(folder, max_bytes=int(3.5 * sizes[0])), place="d")
    assert [by_place[place].exists() for place in "abc"] == [True, False, True]
    asked.get(TarTables(folder, max_bytes=1), place="e")
    assert len(set(files(folder)) - set(foreign)) == 1
    assert all(file.exists() for file in foreign)
    assert (folder / "tar-tables.txt").exists()


def test_what_one_process_holds_open_is_bounded(asked: Asked, tmp_path: Path) -> None:
    tables = TarTables(tmp_path / "cache", max_held_samples=6)
    first, second = (asked.get(tables, place=place) for place in "ab")
    assert asked.get(tables, place="a") is first
    asked.get(tables, place="c")
    assert asked.get(tables, place="a") is first
    assert asked.get(tables, place="b") is not second


def test_pickled_tables_leave_what_they_hold_behind(asked: Asked, tmp_path: Path) -> None:
    tables = TarTables(tmp_path / "cache")
    before = pickle.dumps(tables)
    table = asked.get(tables)
    assert pickle.dumps(tables) == before
    assert content_of(asked.get(pickle.loads(before))) == content_of(table)  # noqa: S301


def test_a_folder_that_cannot_be_made_is_named_with_its_option(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/cache: found a folder that cannot be used .* --cache"):
        asked.get(TarTables(tmp_path / "file" / "cache"))


def test_a_full_disk_is_named_with_its_option(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tar_tables, "write_whole", full)
    with pytest.raises(InputError, match=r"No space left on device.* room for 1,073,741,824 bytes.* --cache"):
        asked.get(TarTables(tmp_path / "cache"))
    assert files(tmp_path / "cache") == []
