"""Checkpoints: what is saved is what is restored, and a broken one is never taken for a whole one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainer.checkpoints import checkpoint
from trainer.checkpoints.checkpoint import Training
from trainer.config import OptimConfig
from trainer.optim.optimiser import average_of, optimiser_of
from vocab.errors import FormatError
from vocab.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([2084071], np.int32), np.array([5]), rows=9, min_count=1)
FILES = ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "vocabulary.parquet", "state.json"]


def training(*, steps: int, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    config = OptimConfig()
    made = Training(model, average_of(model, config), optimiser_of(model, config))
    for _ in range(steps):
        step(made)
    return made


def step(made: Training) -> None:
    made.model(torch.ones(2, 3)).sum().backward()
    made.optimiser.step()
    made.optimiser.zero_grad()
    made.average.update_parameters(made.model)


def save(run: Path, made: Training, number: int, keep: int = 9) -> Path:
    return checkpoint.save(run, made, VOCABULARY, step=number, state={"data": [1, 2]}, keep=keep)


def test_what_is_restored_goes_on_as_what_was_saved(tmp_path: Path) -> None:
    first = training(steps=3)
    save(tmp_path, first, 3)
    found, faults = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.state["data"], faults) == (3, [1, 2], [])
    second = training(steps=0, seed=1)
    checkpoint.restore(found, second, torch.device("cpu"))
    for made in (first, second):
        step(made)
    for one, other in ((first.model, second.model), (first.average, second.average)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_checkpoint_holds_its_vocabulary_and_no_pickle(tmp_path: Path) -> None:
    folder = save(tmp_path, training(steps=1), 1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.vocabulary.names == ["dog.n.01"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_the_newest_gives_the_one_before(tmp_path: Path, name: str) -> None:
    made = training(steps=1)
    save(tmp_path, made, 1)
    path = save(tmp_path, made, 2) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, faults = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [str(fault).split(":")[0] for fault in faults] == [str(path)]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_in_the_only_one_is_an_error(tmp_path: Path, name: str) -> None:
    (save(tmp_path, training(steps=1), 1) / name).unlink()
    with pytest.raises(FormatError, match="wanted a whole checkpoint of format version 1"):
        checkpoint.newest(tmp_path)


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = save(tmp_path, training(steps=1), 1) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(FormatError, match="found format version 2, written by a newer release"):
        checkpoint.newest(tmp_path)


def test_a_checkpoint_that_was_being_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-00000007.tmp").mkdir(parents=True)
    assert checkpoint.newest(tmp_path) == (None, [])


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    made = training(steps=1)
    for number in (1, 2, 3):
        save(tmp_path, made, number, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]


def test_a_disk_that_takes_nothing_is_an_error_and_spares_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = training(steps=1)
    save(tmp_path, made, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(FormatError, match=r"could not be written .*No space left"):
        save(tmp_path, made, 2)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
