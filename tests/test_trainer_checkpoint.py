"""Checkpoints: what is saved is what is restored, and a broken one is never taken for a whole one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.checkpoints.checkpoint import Checkpoint, newest, open_checkpoint, restore
from trainer.checkpoints.writer import Checkpoints
from vocab.errors import FormatError, MismatchError
from vocab.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([2084071], np.int32), np.array([5]), rows=9, min_count=1)
FILES = ["model.safetensors", "optimizer.safetensors", "vocabulary.parquet", "config.json", "state.json"]


def tensors(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, generator=draw)
    return {
        "model": {
            "weight": torch.nn.Parameter(weight),
            "half": torch.randn(5, generator=draw).bfloat16(),
            "mask": torch.rand(3, generator=draw) > 0.5,
            "empty": torch.empty(0, 4),
            "seen": torch.tensor(7 + seed),
        },
        "optimizer": {"weight/exp_avg": torch.randn(4, 3, generator=draw).T, "weight/step": torch.tensor(2.0 + seed)},
    }


def save(run: Path, step: int, live: dict[str, dict[str, Tensor]] | None = None, **state: Any) -> Path:
    VOCABULARY.save(run / "vocabulary.parquet")
    files = {"vocabulary.parquet": (run / "vocabulary.parquet").read_bytes(), "config.json": b"{}\n"}
    with Checkpoints(run, 0, 1, nonce="a1", keep=9) as checkpoints:
        checkpoints.save(step, live or tensors(), files=files, state=state, fingerprint=VOCABULARY.fingerprint)
    return run / "checkpoints" / f"step-{step:08d}"


def found_in(run: Path) -> Checkpoint:
    found, faults = newest(run)
    assert found is not None
    assert faults == []
    return found


def assert_equal(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> None:
    assert {file: set(live) for file, live in one.items()} == {file: set(live) for file, live in other.items()}
    for file, live in one.items():
        for name, tensor in live.items():
            assert tensor.dtype == other[file][name].dtype, name
            assert torch.equal(tensor, other[file][name]), name


def test_what_is_restored_is_what_was_saved(tmp_path: Path) -> None:
    save(tmp_path, 3, tensors(1), data=[1, 2])
    found, live = found_in(tmp_path), tensors(2)
    kept = live["model"]["weight"]
    restore(found, live)
    assert live["model"]["weight"] is kept
    assert_equal(live, tensors(1))
    assert (found.step, found.state, found.fingerprint) == (3, {"data": [1, 2]}, VOCABULARY.fingerprint)
    assert found.vocabulary.names == ["dog.n.01"]


def test_a_map_is_loaded_whole_and_is_what_safetensors_reads(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    loaded = {file: found_in(tmp_path).load(file) for file in ("model", "optimizer")}
    assert_equal(loaded, tensors())
    assert_equal({file: load_file(folder / f"{file}.safetensors") for file in loaded}, tensors())
    with pytest.raises(MismatchError, match="found tensors of model, optimizer; wanted those of ema"):
        found_in(tmp_path).load("ema")


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.uint8, torch.bool, torch.int16]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=6,
    )
)
def test_any_map_of_tensors_is_what_safetensors_would_write(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    run = tmp_path_factory.mktemp("run")
    live = {name: (torch.rand(shape) * 9).to(dtype) for name, (dtype, shape) in kinds.items()}
    save_file(live, run / "oracle.safetensors")
    folder = save(run, 1, {"model": live})
    written = {"model": load_file(folder / "model.safetensors")}
    assert_equal(written, {"model": load_file(run / "oracle.safetensors")})
    assert_equal({"model": found_in(run).load("model")}, written)


def test_a_checkpoint_holds_these_files_and_their_checksums(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    state = json.loads((folder / "state.json").read_text())
    assert state["version"] == 2
    assert state["torch"] == torch.__version__
    for name, entry in state["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert state["tensors"]["model"]["weight"] == {
        "dtype": "F32",
        "shape": [3, 4],
        "pieces": [["model.safetensors", 0, 3]],
    }


def test_checkpoints_of_which_none_is_whole_are_all_named(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").write_text("garbage")
    with pytest.raises(FormatError) as error:
        newest(tmp_path)
    assert re.search(r"no checkpoint that is whole \(.*step-00000002/state.json: .*step-00000001/", str(error.value))
    assert error.value.remedy == f"Copy one of them again from where it was whole; or remove {tmp_path} and start anew."


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_the_newest_gives_the_one_before(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, faults = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [str(fault).split(":")[0] for fault in faults] == [str(path)]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_in_the_only_one_is_an_error(tmp_path: Path, name: str) -> None:
    (save(tmp_path, 1) / name).unlink()
    with pytest.raises(FormatError, match="wanted a whole checkpoint of format version 2"):
        newest(tmp_path)


def test_without_checksums_only_sizes_are_compared(tmp_path: Path) -> None:
    path = save(tmp_path, 1) / "config.json"
    path.write_bytes(b"[]\n")
    assert open_checkpoint(path.parent, checksums=False).step == 1
    path.write_bytes(b"[] \n")
    with pytest.raises(FormatError, match="4 bytes where 3 were written"):
        open_checkpoint(path.parent, checksums=False)


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    (tmp_path / "checkpoints" / ".step-00000007.a1.tmp").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-7").mkdir()
    assert newest(tmp_path) == (None, [])


def test_a_checkpoint_under_the_name_of_another_step_is_none(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    shutil.copytree(folder, folder.with_name("step-00000009"))
    found, faults = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "the checkpoint of step 1, under another name" in str(faults[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, r"model: found weight \(1 unknown to this run\); wanted a tensor for each"),
        ({"bias": torch.zeros(1)}, r"model: found no bias \(1 lacking\); wanted a tensor for each"),
        (
            {"weight": torch.zeros(4, 4)},
            r"tensor weight: found F32 \[3, 4\]; wanted F32 \[4, 4\], as this run has it. Resume",
        ),
        ({"half": torch.zeros(5)}, r"tensor half: found BF16 \[5\]; wanted F32 \[5\]"),
        ({"seen": torch.zeros(1, dtype=torch.int64)}, r"tensor seen: found I64 \[\]; wanted I64 \[1\]"),
    ],
)
def test_tensors_of_another_model_are_named_and_nothing_is_changed(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    save(tmp_path, 1, tensors(1))
    live = tensors(2)
    altered = {name: tensor for name, tensor in (live["model"] | change).items() if tensor is not None}
    with pytest.raises(MismatchError, match=message):
        restore(found_in(tmp_path), live | {"model": altered})
    assert_equal(live, tensors(2))


def test_a_map_too_many_or_too_few_is_a_mismatch(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(MismatchError, match=r"found optimizer \(1 unknown to this run\)"):
        restore(found_in(tmp_path), {"model": tensors()["model"]})
    with pytest.raises(MismatchError, match=r"found no augment \(1 lacking\)"):
        restore(found_in(tmp_path), tensors() | {"augment": {}})
