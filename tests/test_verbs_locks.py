"""File systems without locks: every user of one works there, and no two processes write one file."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer extra is not installed")

import torch

from tests.tar_tables import asked_in
from trainer.data.tar_cache import CacheFolder, TarCache
from trainer.data.tar_tables import TarTables
from trainer.distributed import Rank
from trainer.probe.feature_files import Stored, read, remove_abandoned, write
from trainer.records.run_lock import held
from vocab.store.locks import ABANDONED_SECONDS, claimed, machine, remove_unclaimed

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
CONTENT = bytes(range(256)) * 1000
DIGEST = "0123456789abcdef" * 2


@pytest.fixture(params=NO_LOCKS, ids=lambda number: errno.errorcode[number])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refused)


def run_directory(folder: Path) -> None:
    alone = Rank(0, 1, torch.device("cpu"))
    with held(folder / "run", alone), held(folder / "run", alone):
        assert (folder / "run" / "run.lock").exists()


def claims(folder: Path) -> None:
    with claimed(folder / "0.part", wait=True) as first, claimed(folder / "0.part", wait=False) as second:
        assert first is not None
        assert second is not None
        assert first.name != second.name
        assert sorted(folder.iterdir()) == sorted([Path(first.name), Path(second.name)])
        assert not remove_unclaimed(Path(first.name))
        first.write(b"whole")
        Path(first.name).rename(folder / "0")
    assert [path.read_bytes() for path in folder.iterdir()] == [b"whole"]


def tar_cache(folder: Path) -> None:
    (folder / "0").write_bytes(CONTENT)
    cache = TarCache(folder / "cache", max_bytes=1 << 30, allow_pipe=True)
    # Slow, and cut in two: a file that two of these write is wrong.
    place = f"pipe:head -c 1000 {folder}/0; sleep 0.3; tail -c +1001 {folder}/0 #0.tar"
    cache.fetch_ahead([place])
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(cache.local_path(place).read_bytes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT, CONTENT]
    end = time.monotonic() + 30
    while [path.suffix for path in cache.folder.iterdir() if not path.name.startswith(".")] != [".cached"]:
        assert time.monotonic() < end, "what was fetched ahead stays"
        time.sleep(0.01)
    assert cache.local_path(place).read_bytes() == CONTENT


def tables_of_tars(folder: Path) -> None:
    asked = asked_in(folder)
    of = asked.inputs("images/0.tar")
    first, second = (TarTables(folder / "tables").get(asked.path, of) for _ in range(2))
    assert len(first) == len(second) > 0
    assert len(list((folder / "tables").glob("*.tar-table"))) == 1


def feature_files(folder: Path) -> None:
    path = folder / f"features-{DIGEST}.safetensors"
    for number in (1.0, 2.0):
        write(path, Stored(torch.full((2, 3), number), np.arange(2)), "key")
    remove_abandoned(folder)
    stored = read(path, "key", width=3)
    assert stored is not None
    assert stored.values.tolist() == [[2.0] * 3] * 2
    assert list(folder.iterdir()) == [path]


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("user", [run_directory, claims, tar_cache, tables_of_tars, feature_files])
def test_what_locks_files_works_where_there_are_no_locks(user: Callable[[Path], None], tmp_path: Path) -> None:
    user(tmp_path)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_what_a_dead_process_left_goes_and_a_living_one_s_stays(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path / "cache", max_bytes=1 << 30)
    cache.prepare()
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        "shared, today": f"0-{DIGEST}.tar.part",
        "shared, long ago": f"1-{DIGEST}.tar.part",
        "this process's": f"2-{DIGEST}.tar.{machine()}.{os.getpid()}.0a1b2c3d.part",
        "a dead process's": f"3-{DIGEST}.tar.{machine()}.{dead.pid}.0a1b2c3d.part",
        "another host's, today": f"4-{DIGEST}.tar.there-1.{dead.pid}.0a1b2c3d.part",
        "another host's, long ago": f"5-{DIGEST}.tar.there-1.{dead.pid}.0a1b2c3d.part",
        "no cache's": "6-notes.tar.part",
    }
    for what, name in names.items():
        (cache.path / name).write_bytes(b"half")
        age = ABANDONED_SECONDS + 60 if "long ago" in what else ABANDONED_SECONDS - 60
        os.utime(cache.path / name, (time.time() - age,) * 2)
    with ExitStack() as stack:
        file = stack.enter_context(claimed(cache.path / f"7-{DIGEST}.tar.part", wait=True))
        assert file is not None
        cache.make_room(file, 100, wait=False)
        kept = {what for what, name in names.items() if (cache.path / name).exists()}
    assert kept == {"shared, today", "this process's", "another host's, today", "no cache's"}


def test_a_file_that_says_whose_it_is_is_left_to_its_process_where_there_are_locks_too(tmp_path: Path) -> None:
    own = tmp_path / f"0.tar.{machine()}.{os.getpid()}.0a1b2c3d.part"
    own.write_bytes(b"half")
    assert not remove_unclaimed(own)
    assert own.exists()
