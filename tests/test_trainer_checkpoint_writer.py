"""Saving beside training: what is written is what there was at the time, and what fails leaves the one before."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.checkpoints import retention, writer
from trainer.checkpoints.checkpoint import newest, restore
from trainer.checkpoints.retention import bytes_needed, check_space
from trainer.checkpoints.writer import Checkpoints
from vocab.errors import FormatError, InputError
from vocab.store.files import Written, write_file

Live = dict[str, dict[str, Tensor]]


def live(value: float = 0.0) -> Live:
    return {"model": {"weight": torch.full((3, 4), value), "step": torch.tensor(value)}}


def opened(run: Path, **options: Any) -> Checkpoints:
    return Checkpoints(run, 0, 1, **({"nonce": "a1", "keep": 9} | options))


def save(checkpoints: Checkpoints, step: int, tensors: Live | None = None, **state: Any) -> None:
    tensors = tensors if tensors is not None else live(float(step))
    checkpoints.save(step, tensors, files={"config.json": b"{}"}, state=state, fingerprint="f")


def steps_in(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def value_of_newest(run: Path) -> tuple[int, float]:
    found, faults = newest(run)
    assert found is not None
    assert faults == []
    here = live(-1.0)
    restore(found, here)
    assert torch.equal(here["model"]["weight"], torch.full((3, 4), here["model"]["step"].item()))
    return found.step, here["model"]["step"].item()


class Gate:
    """Holds every write of a file until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        monkeypatch.setattr(writer, "write_file", self)

    def __call__(self, path: Path, blocks: Iterable[bytes | memoryview]) -> Written:
        assert self.open.wait(60)
        return write_file(path, blocks)


def test_what_training_changes_after_a_save_is_not_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, tensors, state = Gate(monkeypatch), live(5.0), {"data": [1, {"at": 2}]}
    with opened(tmp_path) as checkpoints:
        checkpoints.save(1, tensors, files={"config.json": b"abc"}, state=state, fingerprint="f")
        for tensor in tensors["model"].values():
            tensor.fill_(9.0)
        tensors.clear()
        state["data"][1]["at"] = 3  # type: ignore[index]
        assert steps_in(tmp_path) in ([], [".step-00000001.a1.tmp"])
        checkpoints.check()
        gate.open.set()
    assert value_of_newest(tmp_path) == (1, 5.0)
    found, _ = newest(tmp_path)
    assert found is not None
    assert found.state == {"data": [1, {"at": 2}]}


def test_a_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, tensors = Gate(monkeypatch), live(1.0)
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1, tensors)
        tensors["model"]["weight"].fill_(2.0)
        tensors["model"]["step"].fill_(2.0)
        second = threading.Thread(target=save, args=(checkpoints, 2, tensors))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        gate.open.set()
        second.join(60)
        assert not second.is_alive()
        assert value_of_newest(tmp_path)[0] >= 1
        checkpoints.wait()
        assert value_of_newest(tmp_path) == (2, 2.0)
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000002")
    assert value_of_newest(tmp_path) == (1, 1.0)


def test_buffers_are_used_again_and_grow_when_they_must(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        checkpoints.wait()
        first = checkpoints._copies._buffers["model"].data_ptr()
        save(checkpoints, 2)
        assert checkpoints._copies._buffers["model"].data_ptr() == first
        save(checkpoints, 3, {"model": {"weight": torch.ones(50)}})
        assert len(checkpoints._copies._buffers["model"]) == 200
        save(checkpoints, 4)
    assert value_of_newest(tmp_path) == (4, 4.0)


class FullDisk:
    """Takes so many files, and a part of the next."""

    def __init__(self, files: int) -> None:
        self.files = files

    def __call__(self, path: Path, blocks: Iterable[bytes | memoryview]) -> Written:
        self.files -= 1
        if self.files < 0:
            path.write_bytes(b"part")
            raise OSError(28, "No space left on device")
        return write_file(path, blocks)


@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_full_disk_is_an_error_that_spares_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        checkpoints.wait()
        monkeypatch.setattr(writer, "write_file", FullDisk(files))
        save(checkpoints, 2)
        with pytest.raises(FormatError, match=r"step-00000002: found a checkpoint that could .*No space"):
            checkpoints.wait()
        checkpoints.check()  # said once
        assert steps_in(tmp_path) == ["step-00000001"]
        monkeypatch.setattr(writer, "write_file", write_file)
        save(checkpoints, 2)
    assert value_of_newest(tmp_path) == (2, 2.0)


@pytest.mark.parametrize("how", ["check", "save", "close"])
def test_whatever_comes_next_says_that_a_write_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(writer, "write_file", FullDisk(0))
    checkpoints = opened(tmp_path)
    save(checkpoints, 1)
    assert checkpoints._pending is not None
    while not checkpoints._pending.done():
        time.sleep(0.01)
    with pytest.raises(FormatError, match="could not be written"):
        {"check": checkpoints.check, "save": lambda: save(checkpoints, 2), "close": checkpoints.close}[how]()
    checkpoints.close()


def save_and_fail(run: Path) -> None:
    with opened(run) as checkpoints:
        save(checkpoints, 1)
        raise ZeroDivisionError


def test_an_error_of_training_is_not_hidden_by_one_of_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "write_file", FullDisk(0))
    with pytest.raises(ZeroDivisionError) as caught:
        save_and_fail(tmp_path)
    assert "The last checkpoint was not written either: " in caught.value.__notes__[0]


def test_an_error_of_training_still_leaves_the_checkpoint_that_was_being_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        save_and_fail(tmp_path)
    assert value_of_newest(tmp_path) == (1, 1.0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_spares_the_one_before(small_disk: Path) -> None:
    tensors = {"model": {"weight": torch.arange(100_000.0)}}
    with opened(small_disk) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step, tensors)
            checkpoints.wait()
        save(checkpoints, 3, tensors)
        with pytest.raises(FormatError, match=r"could not be written .*No space left on device"):
            checkpoints.wait()
    assert steps_in(small_disk) == ["step-00000001", "step-00000002"]
    found, faults = newest(small_disk)
    assert found is not None
    assert (found.step, faults) == (2, [])
    assert torch.equal(found.load("model")["weight"], torch.arange(100_000.0))


def test_a_disk_without_room_is_refused_before_the_first_step(small_disk: Path) -> None:
    tensors = {"model": {"weight": torch.zeros(100_000)}}
    check_space(small_disk / "run", tensors, 1)
    with pytest.raises(
        InputError, match=r"a file system with 1,048,576 bytes free; wanted 1,200,000: 2 checkpoints of 400,000 bytes"
    ):
        check_space(small_disk / "run", tensors, 2)
    with opened(small_disk / "run") as checkpoints:
        save(checkpoints, 1, tensors)
    check_space(small_disk / "run", tensors, 1)


def test_room_that_is_used_already_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"model": {"weight": torch.zeros(10, 10), "half": torch.zeros(8, dtype=torch.bfloat16)}, "ema": {}}
    assert bytes_needed(tensors) == 416
    monkeypatch.setattr(retention.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9999, 9000, 999))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="found a file system with 999 bytes free; wanted 1,248"):
        check_space(tmp_path, tensors, 2)
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1, tensors)
    check_space(tmp_path, tensors, 2)
    with pytest.raises(InputError, match=r"wanted \d,\d\d\d: 9 checkpoints .* less [\d,]+ that are there"):
        check_space(tmp_path, tensors, 9)


@pytest.mark.parametrize(
    ("keep", "keep_every", "kept"),
    [(2, 0, [5, 6]), (1, 0, [6]), (1, 2, [2, 4, 6]), (2, 3, [3, 5, 6]), (9, 0, [1, 2, 3, 4, 5, 6])],
)
def test_the_newest_and_those_of_every_so_many_steps_are_kept(
    tmp_path: Path, keep: int, keep_every: int, kept: list[int]
) -> None:
    with opened(tmp_path, keep=keep, keep_every=keep_every) as checkpoints:
        for step in range(1, 7):
            save(checkpoints, step)
    assert steps_in(tmp_path) == [f"step-{step:08d}" for step in kept]


def test_a_broken_checkpoint_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            save(checkpoints, step)
    (tmp_path / "checkpoints" / "step-00000003" / "config.json").unlink()
    with opened(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 4)
    assert steps_in(tmp_path) == [f"step-{step:08d}" for step in (2, 3, 4)]


def test_a_run_that_goes_on_from_before_a_broken_one_keeps_what_it_writes(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoints:
        for step in (2, 8):
            save(checkpoints, step)
    (tmp_path / "checkpoints" / "step-00000008" / "config.json").write_bytes(b"[]")
    with opened(tmp_path, keep=1) as checkpoints:
        save(checkpoints, 4)
        checkpoints.wait()
        assert steps_in(tmp_path) == ["step-00000004", "step-00000008"]
        save(checkpoints, 8)
    assert steps_in(tmp_path) == ["step-00000008"]
    assert value_of_newest(tmp_path) == (8, 8.0)


def test_what_dead_attempts_left_is_removed_by_the_main_rank(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
    folder = tmp_path / "checkpoints"
    for name in (".step-00000002.dead.tmp", ".step-00000001.dead.old", ".step-00000003.b2.tmp", ".mine", "notes"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    (folder / "step-00000001").rename(folder / ".step-00000005.dead.old")
    Checkpoints(tmp_path, 1, 2, nonce="b2", keep=1).close()
    assert len(steps_in(tmp_path)) == 6
    opened(tmp_path, nonce="b2").close()
    assert steps_in(tmp_path) == [".mine", ".step-00000003.b2.tmp", "notes", "step-00000001", "step-00000005"]


def test_where_no_tensor_is_sharded_the_main_rank_alone_writes(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, 1, 2, nonce="a1", keep=1) as checkpoints:
        checkpoints.save(1, live(), files={}, state={}, fingerprint="")
    assert list(tmp_path.iterdir()) == []
    with Checkpoints(tmp_path, 0, 2, nonce="a1", keep=1) as checkpoints:
        save(checkpoints, 1)
    assert value_of_newest(tmp_path) == (1, 1.0)


@pytest.mark.parametrize(
    "state", [{"loss": float("nan")}, {"loss": float("inf")}, {"it": {1, 2}}, {"it": torch.zeros(1)}]
)
def test_a_state_that_json_cannot_hold_is_refused_at_once(tmp_path: Path, state: dict[Any, Any]) -> None:
    with opened(tmp_path) as checkpoints:
        with pytest.raises(InputError, match="a value that JSON cannot hold"):
            checkpoints.save(1, live(), files={}, state=state, fingerprint="f")
        assert steps_in(tmp_path) == []


@pytest.mark.parametrize("name", ["../config.json", "/tmp/x", "", "state.json", "model.safetensors", "rank-00001.json"])
def test_a_file_of_another_place_or_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    with opened(tmp_path) as checkpoints, pytest.raises(InputError, match="names of letters, digits"):
        checkpoints.save(1, live(), files={name: b""}, state={}, fingerprint="f")


@pytest.mark.parametrize("options", [{"nonce": "../x"}, {"nonce": ""}, {"keep": 0}, {"keep_every": -1}])
def test_a_nonce_that_is_no_name_and_keeping_nothing_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="wanted a nonce of letters and digits, keep >= 1, keep_every >= 0"):
        opened(tmp_path, **options)


def test_a_type_that_no_run_holds_is_refused(tmp_path: Path) -> None:
    with (
        opened(tmp_path) as checkpoints,
        pytest.raises(InputError, match=r"model/z: found a tensor of torch\.complex64"),
    ):
        save(checkpoints, 1, {"model": {"z": torch.zeros(1, dtype=torch.complex64)}})


KILLED = """
import os, sys, time, torch
from pathlib import Path
from trainer.checkpoints import writer
from vocab.store.files import write_file
from trainer.checkpoints.writer import Checkpoints

run = Path(sys.argv[1])
files = 0

def slow(path, blocks):
    global files
    files += 1
    if files == 1:
        return write_file(path, blocks)
    path.write_bytes(b"part")
    print("writing", flush=True)
    time.sleep(600)

with Checkpoints(run, 0, 1, nonce="dead", keep=1) as checkpoints:
    for step in (1, 2):
        live = {"model": {"weight": torch.full((3, 4), float(step)), "step": torch.tensor(float(step))}}
        checkpoints.save(step, live, files={"config.json": b"{}"}, state={}, fingerprint="f")
        checkpoints.wait() if step == 1 else None
        writer.write_file = slow
"""


def test_a_process_killed_while_it_writes_leaves_the_one_before(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert steps_in(tmp_path) == [".step-00000002.dead.tmp", "step-00000001"]
    assert value_of_newest(tmp_path) == (1, 1.0)
    with opened(tmp_path) as checkpoints:
        assert steps_in(tmp_path) == ["step-00000001"]
        save(checkpoints, 2)
    assert value_of_newest(tmp_path) == (2, 2.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_save_from_a_gpu_holds_what_was_there_before_later_work(tmp_path: Path) -> None:
    weight = torch.arange(1 << 22, device="cuda", dtype=torch.float32)
    with opened(tmp_path) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step, {"model": {"weight": weight, "turned": weight.view(2048, 2048).T}})
            weight.add_(1.0)
        assert checkpoints._copies._buffers["model"].is_pinned()
    found, _ = newest(tmp_path)
    assert found is not None
    loaded = found.load("model")
    assert torch.equal(loaded["weight"], torch.arange(1 << 22, dtype=torch.float32) + 1)
    assert torch.equal(loaded["turned"].T.flatten(), loaded["weight"])


def test_all_is_flushed_before_the_folder_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files cannot be named here")
    events, fsync, rename = [], os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        events.append(f"{path.name} -> {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    with opened(tmp_path) as checkpoints:
        assert events == [tmp_path.name, "checkpoints"]
        save(checkpoints, 1)
    work = ".step-00000001.a1.tmp"
    named = ["model.safetensors", "config.json", "state.json", work, f"{work} -> step-00000001", "checkpoints"]
    assert events[2:] == named
