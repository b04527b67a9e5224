"""Checkpoints of several processes: what some ranks wrote together, any other number of them restores to the bit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.forks import Forks
from trainer.checkpoints import writer
from trainer.checkpoints.checkpoint import Pieces, newest, open_checkpoint, read_whole, restore
from trainer.checkpoints.manifest import (
    RankManifest,
    StoredTensor,
    TensorPiece,
    await_commit,
    collect_rank_manifests,
    leave_failure,
    write_rank_manifest,
)
from trainer.checkpoints.pieces import Rows
from trainer.checkpoints.writer import Checkpoints
from vocab.errors import FormatError
from vocab.store.files import Written, write_file

Live = dict[str, dict[str, Tensor]]


def training(seed: int, *, mesh: DeviceMesh | None = None) -> Live:
    """A transformer of 7 classes after one step of AdamW, whose tensors divide among no number of ranks."""
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=10, depth=1, num_heads=2, num_classes=7
    )
    if mesh is not None:
        fully_shard(model.blocks[0], mesh=mesh)  # type: ignore[index]
        fully_shard(model, mesh=mesh)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    moments = {
        f"{name}/{kind}": tensor
        for name, parameter in model.named_parameters()
        for kind, tensor in optimiser.state[parameter].items()
    }
    return {"model": model.state_dict(), "optimizer": moments, "augment": {"range": torch.tensor([0.5 + seed, 3.0])}}


def whole(live: Live) -> dict[str, Tensor]:
    return {
        f"{file}/{name}": (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
        for file, tensors in live.items()
        for name, tensor in tensors.items()
    }


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


def scribble(live: Live) -> None:
    """What a step does to tensors, and more."""
    with torch.no_grad():
        for tensors in live.values():
            for tensor in tensors.values():
                (tensor.to_local() if isinstance(tensor, DTensor) else tensor).fill_(-1)


def save(live: Live, run: Path, rank: int, world: int) -> None:
    """Save as step 1, change everything at once, and save that as step 2."""
    with Checkpoints(run, rank, world, nonce="a1", keep=9) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, live, files={"config.json": b"{}"}, state={"rank": rank}, fingerprint="f")
            scribble(live)
        checkpoints.wait()
        assert open_checkpoint(run / "checkpoints" / "step-00000002").state == {"rank": 0}


def work(place: Path) -> None:
    """One of four ranks: train as 4, 3 and 2 of them and save; as each restore what all wrote; die in a last save."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    meshes = {world: DeviceMesh("cpu", list(range(world))) for world in (4, 3, 2)}
    mine = {world: mesh for world, mesh in meshes.items() if rank < world}
    for world, mesh in mine.items():
        live = training(seed=world, mesh=mesh)
        expected = whole(live)
        if rank == 0:
            save_file(expected, place / f"{world}.safetensors")
        save(live, place / str(world), rank, world)
    dist.barrier()
    for world, mesh in mine.items():
        for source in (1, 2, 3, 4):
            live = training(seed=99, mesh=mesh)
            restore(open_checkpoint(folder_of(place, source), checksums=False), live)
            assert_equal(whole(live), load_file(place / f"{source}.safetensors"))
            if rank == 0:
                (place / f"{world}-restored-{source}").touch()
    dist.barrier()
    if rank == 2:
        writer.write_file = die
    with Checkpoints(place / "4", rank, 4, nonce="b2", keep=9) as checkpoints:
        checkpoints.save(3, training(seed=4, mesh=meshes[4]), files={}, state={}, fingerprint="f")


def folder_of(place: Path, world: int) -> Path:
    return place / str(world) / "checkpoints" / "step-00000001"


def die(path: Path, blocks: Iterable[bytes | memoryview]) -> Written:
    path.write_bytes(b"part")
    time.sleep(0.3)  # the others write meanwhile
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture(scope="module")
def place(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 1, 2, 3 and 4 processes, named so, and beside each what it held."""
    place = tmp_path_factory.mktemp("runs")
    live = training(seed=1)
    save_file(whole(live), place / "1.safetensors")
    save(live, place / "1", 0, 1)
    group = forks.start(4, place / "log", work, place)
    group.until(lambda: group.statuses() != [None] * 4)
    assert group.statuses() == [None, None, -signal.SIGKILL, None], group.said()
    # The others wait for the manifest of the dead one until they are ended, as torchrun would end them.
    group.kill()
    return place


@pytest.mark.parametrize("world", [2, 3, 4])
def test_what_any_number_of_ranks_wrote_any_other_number_restores(place: Path, world: int) -> None:
    restored = sorted(path.name for path in place.glob(f"{world}-restored-*"))
    assert restored == [f"{world}-restored-{source}" for source in (1, 2, 3, 4)]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_what_any_number_of_ranks_wrote_one_process_restores_and_loads(place: Path, world: int) -> None:
    expected = load_file(place / f"{world}.safetensors")
    found = open_checkpoint(folder_of(place, world))
    live = training(seed=99)
    restore(found, live)
    assert_equal(whole(live), expected)
    assert_equal(whole({file: found.load(file) for file in live}), expected)


def test_each_rank_wrote_its_rows_and_the_main_one_what_is_not_cut(place: Path) -> None:
    folder = folder_of(place, 4)
    pieces = [f"{file}-{rank:05d}-of-00004.safetensors" for file in ("model", "optimizer") for rank in (1, 2, 3, 4)]
    names = [*pieces, "augment.safetensors", "config.json", "state.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    head = [load_file(folder / name)["head.weight"].shape for name in pieces[:4]]
    assert head == [(2, 10), (2, 10), (2, 10), (1, 10)]
    token = ["cls_token" in load_file(folder / name) for name in pieces[:4]]
    assert token == [True, False, False, False]
    steps = ["head.weight/step" in load_file(folder / name) for name in pieces[4:]]
    assert steps == [True, False, False, False]


def test_a_rank_killed_while_it_writes_leaves_the_checkpoint_before(place: Path) -> None:
    found, faults = newest(place / "4")
    assert found is not None
    assert (found.step, faults) == (2, [])
    folders = sorted(path.name for path in (place / "4" / "checkpoints").iterdir())
    assert folders == [".step-00000003.b2.tmp", "step-00000001", "step-00000002"]


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 9), before=st.integers(1, 5), after=st.integers(1, 5))
def test_rows_cut_in_any_number_are_read_cut_in_any_other(
    tmp_path_factory: pytest.TempPathFactory, rows: int, before: int, after: int
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    whole, pieces, first = torch.randn(rows, 2), [], 0
    for rank, part in enumerate(whole.chunk(before)):
        save_file({"x": part.contiguous()}, folder / f"{rank}.safetensors")
        pieces.append(TensorPiece(f"{rank}.safetensors", first, len(part)))
        first += len(part)
    stored, first = StoredTensor("F32", (rows, 2), tuple(pieces)), 0
    with Pieces(folder) as opened:
        for wanted in whole.chunk(after):
            part = torch.full_like(wanted, 9.0)
            opened.copy_into(part, "x", stored, Rows(first, len(part)))
            assert torch.equal(part, wanted)
            first += len(part)
    assert torch.equal(read_whole(folder, {"x": stored})["x"], whole)


def manifest_of(work: Path, rank: int) -> RankManifest:
    name = f"model-{rank + 1:05d}-of-00004.safetensors"
    written = write_file(work / name, [b"x" * rank])
    return RankManifest({name: written}, {"model": {"weight": TensorPiece(name, rank, 1)}})


def test_the_main_rank_names_those_that_say_nothing(tmp_path: Path) -> None:
    write_rank_manifest(tmp_path, 2, manifest_of(tmp_path, 2))
    with pytest.raises(
        FormatError, match=r"found no manifest from ranks 1, 3; wanted the files of all ranks, in one folder"
    ):
        collect_rank_manifests(tmp_path, 4, given_up=lambda: True)


def test_the_main_rank_names_those_that_failed_and_does_not_wait(tmp_path: Path) -> None:
    leave_failure(tmp_path, 2)
    leave_failure(tmp_path / "gone", 2)
    with pytest.raises(FormatError, match="found files that rank 2 could not write"):
        collect_rank_manifests(tmp_path, 4, given_up=lambda: False)


def test_rank_manifests_are_taken_in_the_order_of_ranks_and_leave_nothing(tmp_path: Path) -> None:
    left = {rank: manifest_of(tmp_path, rank) for rank in (3, 1, 2)}
    threads = [threading.Timer(0.02 * rank, write_rank_manifest, (tmp_path, rank, left[rank])) for rank in left]
    for thread in threads:
        thread.start()
    assert collect_rank_manifests(tmp_path, 4, given_up=lambda: False) == [left[1], left[2], left[3]]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors"] * 3


def test_a_file_that_was_cut_after_its_manifest_is_found_out(tmp_path: Path) -> None:
    write_rank_manifest(tmp_path, 1, manifest_of(tmp_path, 1))
    (tmp_path / "model-00002-of-00004.safetensors").write_bytes(b"")
    with pytest.raises(FormatError, match="found 0 bytes of 1 that rank 1 wrote"):
        collect_rank_manifests(tmp_path, 2, given_up=lambda: False)


def test_other_ranks_hear_whether_the_main_one_completed_it(tmp_path: Path) -> None:
    work, folder = tmp_path / ".step-00000001.a1.tmp", tmp_path / "step-00000001"
    with pytest.raises(FormatError, match="a checkpoint that the main rank gave up"):
        await_commit(work, folder, given_up=lambda: False)
    work.mkdir()
    with pytest.raises(FormatError, match="no answer from the main rank"):
        await_commit(work, folder, given_up=lambda: True)
    threading.Timer(0.1, work.rename, (folder,)).start()
    await_commit(work, folder, given_up=lambda: False)
