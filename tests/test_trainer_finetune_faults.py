"""Fine-tuning with losses that are NaN and images that do not decode: what ends a run, and what it goes on past."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.corpus import spikes
from tests.finetuning import (
    COLOURS,
    RANDOM,
    PowerCutError,
    bad_images,
    config,
    losses,
    pretrained_in,
    results,
    same_weights,
    task_in,
    write_folders,
)
from trainer.data.batch import Batch
from trainer.records.log import read_log
from trainer.step.step import Step
from trainer.transfer.config import TaskConfig
from trainer.transfer.finetune import finetune
from vocab.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    return task_in(tmp_path_factory.mktemp("task"))


def test_a_loss_that_is_no_number_ends_the_run_and_names_its_images(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Step._loss

    def broken(self: Step, batch: Batch, number: int) -> Tensor:
        return whole(self, batch, number) * (math.nan if number == 3 else 1.0)

    monkeypatch.setattr(Step, "_loss", broken)
    with pytest.raises(
        InputError, match=r"step 3: found a loss of nan .*--on-spike skip or rollback .*lower --peak-lr"
    ):
        finetune(config(model, task, tmp_path / "run"))
    (spike,) = spikes(tmp_path / "run")
    assert (spike["step"], spike["loss"], len(set(spike["samples"]))) == (3, None, 8)
    assert all(Path(sample).suffix == ".png" for sample in spike["samples"])
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_skipped_step_changes_nothing(model: Path, task: TaskConfig, tmp_path: Path, broken: set[int]) -> None:
    # The last step: whatever it would do is in the weights.
    broken.add(6)
    assert finetune(config(model, task, tmp_path / "run", on_spike="skip", ema_momentum=1.0)) == 0
    broken.clear()
    options: dict[str, Any] = {"ema_momentum": 1.0, "checkpoint_every": 5, "keep_checkpoints": 2}
    assert finetune(config(model, task, tmp_path / "whole", **options)) == 0
    five, run = (
        load_file(tmp_path / name / "checkpoints" / step / "model.safetensors")
        for name, step in (("whole", "step-00000005"), ("run", "step-00000006"))
    )
    assert all(torch.equal(five[name], run[name]) for name in five)
    assert [(spike["step"], spike["loss"], spike["policy"]) for spike in spikes(tmp_path / "run")] == [
        (6, None, "skip")
    ]
    assert results(tmp_path / "run")["spikes"] == 1


def test_a_rollback_goes_on_after_the_bad_batch(
    model: Path, task: TaskConfig, tmp_path: Path, broken: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    broken.add(5)
    assert finetune(config(model, task, tmp_path / "run", on_spike="rollback", workers=2)) == 0
    assert "going back to step 4, past the samples of step 5" in capsys.readouterr().err
    found = results(tmp_path / "run")
    assert (found["steps"], found["images_seen"], found["images_rolled_back"], found["spikes"]) == (6, 48, 8, 1)
    lines = [line for line in read_log(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    (spike,) = spikes(tmp_path / "run")
    assert (spike["step"], spike["policy"], len(set(spike["samples"]))) == (5, "rollback", 8)


def test_a_run_killed_after_a_rollback_does_not_meet_the_bad_batch_again(
    model: Path, task: TaskConfig, tmp_path: Path, broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.add(5)
    options: dict[str, Any] = {"on_spike": "rollback", "checkpoint_every": 4}
    assert finetune(config(model, task, tmp_path / "whole", **options)) == 0
    whole = Step.take

    def cut(self: Step, batch: Batch, **given: Any) -> Tensor:
        if batch.position.step == 7:
            raise PowerCutError
        return whole(self, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", cut)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run", **options))
    assert finetune(config(model, task, tmp_path / "run", **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "run", tmp_path / "whole")
    assert len(spikes(tmp_path / "run")) == 1


def test_bad_images_are_named_and_left_out_of_the_scores(model: Path, tmp_path: Path) -> None:
    train, test = write_folders(tmp_path / "train", images=8, bad=2), write_folders(tmp_path / "test", images=3, bad=1)
    (train / "dog" / "empty.png").touch()
    task = TaskConfig(train=str(train), test=str(test), max_bad_share=0.5)
    assert finetune(config(model, task, tmp_path / "run", **RANDOM)) == 0
    found = results(tmp_path / "run")
    assert (found["images"], found["bad_images"]) == (8, 1)
    assert bad_images(tmp_path / "run", "test") == [("cat/0.png", "not_an_image")]
    both = [("cat/0.png", "not_an_image"), ("cat/1.png", "not_an_image")]
    assert bad_images(tmp_path / "run", "train") == both
    assert found["left_out"] == [{"side": "train", "image": "dog/empty.png", "reason": "empty_image"}]
    notes = [
        "train: 1 file or sample left out: 1 empty_image (dog/empty.png)",
        "test: 1 image could not be decoded: cat/0.png (not_an_image)",
    ]
    assert set(notes) < set(found["notes"])
    page = (tmp_path / "run" / "results.md").read_text()
    assert all(f"- {note.replace('_', chr(92) + '_')}\n" in page for note in notes)
    assert "- train: 2 images could not be decoded: cat/" in page
    named = [json.loads(line) for line in (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()]
    assert sorted(Path(bad["key"]).name for bad in named) == ["0.png", "1.png"]
    whole = (train / "dog" / "3.png").read_bytes()
    (train / "dog" / "3.png").write_bytes(whole[:-30])
    taking = replace(task, truncated_images="take")
    assert finetune(config(model, taking, tmp_path / "taking", **RANDOM)) == 0
    assert bad_images(tmp_path / "taking", "train") == both
    assert max(line.get("truncated_samples", 0) for line in read_log(tmp_path / "taking" / "metrics.jsonl")) > 0


def test_too_many_bad_images_end_the_run(model: Path, tmp_path: Path) -> None:
    train, test = write_folders(tmp_path / "train", images=8, bad=6), write_folders(tmp_path / "test", images=3)
    task = TaskConfig(train=str(train), test=str(test), max_bad_share=0.2)
    with pytest.raises(InputError, match=r"--task\.train: found 27 bad images of 104; wanted at most 20%"):
        finetune(config(model, task, tmp_path / "run", epochs=20))


@pytest.mark.parametrize(
    ("images", "bad", "share", "message"),
    [
        ((8, 3), (4, 0), 0.1, r"--task\.train: found 8 bad images of 48; wanted at most 10%"),
        (
            (8, 3),
            (0, 2),
            0.1,
            r"--task\.test: found 7 of 9 images that can be used .*; wanted at least one, and at most 10%",
        ),
        ((1, 3), (1, 0), 1.0, None),
    ],
)
def test_few_bad_images_of_few_end_the_run_at_last(
    model: Path, tmp_path: Path, images: tuple[int, int], bad: tuple[int, int], share: float, message: str | None
) -> None:
    train = write_folders(tmp_path / "train", images=images[0], bad=bad[0])
    test = write_folders(tmp_path / "test", images=images[1], bad=bad[1])
    wanted = config(model, TaskConfig(train=str(train), test=str(test), max_bad_share=share), tmp_path / "run")
    if message is None:
        assert finetune(wanted) == 0
        return
    with pytest.raises(InputError, match=message):
        finetune(wanted)


def test_training_images_of_which_none_can_be_decoded_teach_nothing(model: Path, tmp_path: Path) -> None:
    train, test = write_folders(tmp_path / "train", images=2), write_folders(tmp_path / "test", images=3)
    for path in train.rglob("*.png"):
        path.write_bytes(b"no image")
    task = TaskConfig(train=str(train), test=str(test), max_bad_share=1.0)
    with pytest.raises(InputError, match=r"--task\.train: found 16 bad images of 16"):
        finetune(config(model, task, tmp_path / "run"))


def test_test_images_of_which_none_can_be_decoded_are_refused(model: Path, tmp_path: Path) -> None:
    train, test = write_folders(tmp_path / "train", images=2), tmp_path / "test"
    for label in COLOURS:
        (test / label).mkdir(parents=True)
    (test / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 1 that can be decoded \(1 not_an_image\)"):
        finetune(config(model, TaskConfig(train=str(train), test=str(test)), tmp_path / "run"))
