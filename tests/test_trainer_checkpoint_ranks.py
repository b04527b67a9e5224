"""One rank among others that are not there: what it writes, whom it waits for, what it says of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from trainer.checkpoints import writer
from trainer.checkpoints.manifest import RankManifest, TensorPiece, read_manifest, write_rank_manifest
from trainer.checkpoints.writer import Checkpoints
from vocab.errors import FormatError, InputError

WORK = ".step-00000001.a1.tmp"


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> Iterator[DeviceMesh]:
    """A mesh of three ranks of which this process is the one given; the others do not exist."""
    dist.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=3)
    yield init_device_mesh("cpu", (3,))
    dist.destroy_process_group()


def sharded(mesh: DeviceMesh) -> dict[str, dict[str, Tensor]]:
    """[4, 2] of which two ranks hold two rows each and the third none."""
    rows = [2, 2, 0][mesh.get_local_rank()]
    local = torch.full((rows, 2), float(mesh.get_local_rank()))
    cut = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=torch.Size([4, 2]), stride=(2, 1))
    same = DTensor.from_local(torch.tensor(5.0), mesh, [Replicate()], run_check=False)
    return {"model": {"weight": cut, "step": same}}


def opened(run: Path, rank: int, **options: Any) -> Checkpoints:
    return Checkpoints(run, rank, 3, **({"nonce": "a1", "keep": 2, "timeout": 0.1} | options))


def save(checkpoints: Checkpoints, tensors: dict[str, dict[str, Tensor]]) -> None:
    checkpoints.save(1, tensors, files={"config.json": b"{}"}, state={}, fingerprint="f")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("alone", [0], indirect=True)
def test_the_main_rank_names_the_missing_and_removes_what_it_wrote(tmp_path: Path, alone: DeviceMesh) -> None:
    with opened(tmp_path, 0) as checkpoints:
        save(checkpoints, sharded(alone))
        with pytest.raises(FormatError, match="found no manifest from ranks 1, 2"):
            checkpoints.wait()
    assert names_in(tmp_path / "checkpoints") == []


@pytest.mark.parametrize("alone", [0], indirect=True)
def test_the_main_rank_waits_no_longer_than_that_once_training_has_failed(
    tmp_path: Path, alone: DeviceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_AFTER_ERRORS", 0.1)
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError) as caught:
        save_and_fail(tmp_path, alone)
    assert "no manifest from ranks 1, 2" in caught.value.__notes__[0]
    assert time.monotonic() - started < 100  # of the thousand that it would wait otherwise


def save_and_fail(run: Path, mesh: DeviceMesh) -> None:
    with opened(run, 0, timeout=1000.0) as checkpoints:
        save(checkpoints, sharded(mesh))
        raise ZeroDivisionError


@pytest.mark.parametrize("alone", [0], indirect=True)
@pytest.mark.parametrize(("first", "fits"), [(2, True), (1, False), (3, False)])
def test_rows_that_no_rank_wrote_or_two_are_found_before_the_folder_gets_its_name(
    tmp_path: Path, alone: DeviceMesh, first: int, fits: bool
) -> None:
    work, name = tmp_path / "checkpoints" / WORK, "model-00002-of-00003.safetensors"
    with opened(tmp_path, 0, timeout=60.0) as checkpoints:
        work.mkdir(parents=True)
        empty = writer.write_file(work / name, [])
        write_rank_manifest(work, 1, RankManifest({name: empty}, {"model": {"weight": TensorPiece(name, first, 2)}}))
        write_rank_manifest(work, 2, RankManifest({}, {}))
        save(checkpoints, sharded(alone))
        if not fits:
            with pytest.raises(FormatError, match="weight with a piece"):
                checkpoints.wait()
            assert names_in(tmp_path / "checkpoints") == []
            return
    folder = tmp_path / "checkpoints" / "step-00000001"
    assert names_in(folder) == ["config.json", "model-00001-of-00003.safetensors", name, "state.json"]
    stored = read_manifest(folder).tensors["model"]
    assert stored["weight"].pieces == (TensorPiece("model-00001-of-00003.safetensors", 0, 2), TensorPiece(name, 2, 2))
    assert stored["step"].pieces == (TensorPiece("model-00001-of-00003.safetensors", 0, 1),)


@pytest.mark.parametrize(("alone", "rank"), [(1, 1), (2, 2)], indirect=["alone"])
def test_another_rank_leaves_its_rows_and_waits_for_the_main_one(tmp_path: Path, alone: DeviceMesh, rank: int) -> None:
    with opened(tmp_path, rank) as checkpoints:
        save(checkpoints, sharded(alone))
        with pytest.raises(FormatError, match="found no answer from the main rank"):
            checkpoints.wait()
    name = f"model-{rank + 1:05d}-of-00003.safetensors"
    assert names_in(tmp_path / "checkpoints" / WORK) == [name, f"rank-{rank:05d}.json"]


@pytest.mark.parametrize("alone", [1], indirect=True)
def test_another_rank_that_cannot_write_says_so_to_the_main_one(
    tmp_path: Path, alone: DeviceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_file", full)
    with opened(tmp_path, 1, timeout=1000.0) as checkpoints:
        save(checkpoints, sharded(alone))
        with pytest.raises(FormatError, match=r"could not be written .*No space left"):
            checkpoints.wait()
    assert names_in(tmp_path / "checkpoints" / WORK) == ["rank-00001.failed"]


@pytest.mark.parametrize("alone", [0], indirect=True)
def test_tensors_cut_in_another_way_are_refused(tmp_path: Path, alone: DeviceMesh) -> None:
    columns = DTensor.from_local(torch.zeros(4, 1), alone, [Shard(1)], run_check=False)
    with (
        opened(tmp_path, 0) as checkpoints,
        pytest.raises(InputError, match="model/weight: found a tensor laid out as"),
    ):
        save(checkpoints, {"model": {"weight": columns}})
    pair = Checkpoints(tmp_path, 0, 2, nonce="a1", keep=1)
    with pair as checkpoints, pytest.raises(InputError, match=r"sharded over \[3\] processes; wanted all 2 of the run"):
        save(checkpoints, sharded(alone))
