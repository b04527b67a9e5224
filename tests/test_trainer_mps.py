"""MPS is a device where torch has it, for one process; float64 is computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.batches import STEPS
from tests.corpus import make_corpus
from trainer.data.batch import on_device
from trainer.data.feed import Feed
from trainer.distributed import device_of, exact_device
from trainer.options import Compute
from trainer.transfer.config import FinetuneConfig, TaskConfig
from vocab.errors import InputError, MissingRequirementError


def test_mps_is_chosen_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of("mps") == torch.device("mps")
    assert not Compute(device="mps").is_bfloat16("mps")
    assert Compute(device="mps", precision="bfloat16").is_bfloat16("mps")


def test_mps_is_refused_where_torch_does_not_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(MissingRequirementError, match="--device mps: found no MPS device that torch can use"):
        device_of("mps")


def test_mps_is_refused_to_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingRequirementError, match="--device mps: found 2 processes; wanted one"):
        device_of("mps")


def test_sums_in_float64_leave_mps_for_the_cpu() -> None:
    assert exact_device(torch.device("mps")) == torch.device("cpu")
    assert exact_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_mixed_images_are_refused_on_mps(tmp_path: Path) -> None:
    task = TaskConfig(train="train", test="test")
    config = FinetuneConfig(tmp_path, task=task, out=tmp_path / "out", device="mps", mixup=0.8)
    with pytest.raises(InputError, match="--device: found mps with --mixup or --cutmix"):
        config.check(world=1)


def test_batches_go_to_a_device_that_is_neither_cuda_nor_the_cpu(tmp_path: Path) -> None:
    with Feed(make_corpus(tmp_path).source(), STEPS) as feed:
        moved = next(on_device(feed, torch.device("meta")))
    assert (moved.images.device.type, moved.offsets.device.type) == ("meta", "meta")
