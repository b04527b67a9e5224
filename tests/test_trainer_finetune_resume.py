"""Fine-tuning that goes on: a stop or another number of processes changes nothing, and other runs are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.finetuning import (
    RANDOM,
    PowerCutError,
    config,
    cut_at,
    evaluated,
    losses,
    pretrained_in,
    results,
    same_weights,
    task_in,
    write_folders,
)
from tests.forks import Forks, trainer
from tests.pictures import picture
from trainer.config import to_json
from trainer.data.batch import Batch
from trainer.distributed import Rank
from trainer.records.run_lock import held
from trainer.step.step import Step
from trainer.transfer.config import ProbeConfig, TaskConfig
from trainer.transfer.finetune import finetune, finetune_records
from vocab.errors import InputError, MismatchError, OutputExistsError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    return task_in(tmp_path_factory.mktemp("task"))


@pytest.mark.parametrize("options", [{}, {**RANDOM, "layer_decay": 0.7, "accumulate": 2}, {"optimiser": "muon"}])
def test_a_run_that_was_killed_goes_on_to_the_bit(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    assert finetune(config(model, task, tmp_path / "whole", **options)) == 0
    with monkeypatch.context() as patch:
        cut_at(patch, 6)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run", **options))
    # Threads that decode may be others too.
    assert finetune(config(model, task, tmp_path / "run", workers=2, **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "run")) == 6
    assert same_weights(tmp_path / "run", tmp_path / "whole")
    assert results(tmp_path / "run")["images_seen"] == results(tmp_path / "whole")["images_seen"] == 48


def test_sigterm_leaves_a_checkpoint_and_the_same_command_goes_on(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"checkpoint_every": 100, "log_every": 4, "epochs": 4}
    assert finetune(config(model, task, tmp_path / "whole", **options)) == 0
    whole = Step.take

    def announced(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", announced)
        assert finetune(config(model, task, tmp_path / "run", **options)) == 143
    assert "the same command continues from here" in capsys.readouterr().err
    assert not (tmp_path / "run" / "results.json").exists()
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
    assert finetune(config(model, task, tmp_path / "run", **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_stop_at_an_epoch_s_end_leaves_its_evaluation_to_the_next_start(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Epochs end at steps 3 and 6.
    whole, options = Step.take, config(model, task, tmp_path / "run", log_every=100, checkpoint_every=100)

    def announced(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, batch, **{**given, "stop": given["number"] == 3})

    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", announced)
        assert finetune(options) == 143
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    assert evaluated(tmp_path / "run") == []
    assert finetune(options) == 0
    assert evaluated(tmp_path / "run") == [3, 6]


def test_what_was_evaluated_is_logged_once(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = config(model, task, tmp_path / "run", checkpoint_every=3)
    with monkeypatch.context() as patch:
        cut_at(patch, 4)
        with pytest.raises(PowerCutError):
            finetune(options)
    assert evaluated(tmp_path / "run") == [3]
    assert finetune(options) == 0
    assert finetune(options) == 0
    assert evaluated(tmp_path / "run") == [3, 6]


def test_two_processes_train_what_one_does(forks: Forks, model: Path, task: TaskConfig, tmp_path: Path) -> None:
    assert finetune(config(model, task, tmp_path / "one", **RANDOM)) == 0
    words = [
        *("finetune", str(model), "--task.train", task.train, "--task.test", task.test, "--out", str(tmp_path / "two")),
        *("--epochs", "2", "--batch", "8", "--peak-lr", "3e-3", "--workers", "1", "--device", "cpu"),
        *("--log-every", "1", "--drop-path", "0.3", "--mixup", "0.4", "--cutmix", "1.0"),
    ]
    forks.run(2, tmp_path / "log", trainer, words)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["processes"] == 2
    names = ("correct", "top1", "images", "images_seen", "bad_images", "notes")
    assert [two[name] for name in names] == [one[name] for name in names]


def test_transfer_init_says_what_every_class_begins_with_and_resumes_to_the_bit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for side, images in (("train", 8), ("test", 3)):
        write_folders(tmp_path / side, images=images)
        (tmp_path / side / "dog").rename(tmp_path / side / "zzyzx")
    task = TaskConfig(train=str(tmp_path / "train"), test=str(tmp_path / "test"))
    options: dict[str, Any] = {"init": "transfer", "alpha": 1.0}
    assert finetune(config(model, task, tmp_path / "whole", **options)) == 0
    said = capsys.readouterr().err
    assert "2 of 3 classes start from pre-trained rows at path similarity >= 1, 2 of them from their own" in said
    assert "1 at random, no synset: zzyzx.\n" in said
    assert results(tmp_path / "whole")["classes_with_random_weights"] == ["zzyzx"]
    table = json.loads((tmp_path / "whole" / "transfer_init" / "transfer_init.json").read_text())
    assert [match["reason"] for match in table["classes"]] == [None, None, "no synset"]
    with monkeypatch.context() as patch:
        cut_at(patch, 4)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run", **options))
    assert finetune(config(model, task, tmp_path / "run", **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert results(tmp_path / "run")["classes_with_random_weights"] == ["zzyzx"]
    assert finetune(config(model, task, tmp_path / "random")) == 0
    assert losses(tmp_path / "random")[0] != losses(tmp_path / "whole")[0]


def test_a_resumed_run_says_from_which_checkpoint_it_goes_on(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        cut_at(patch, 4)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run"))
    assert "going on from" not in capsys.readouterr().err
    assert finetune(config(model, task, tmp_path / "run")) == 0
    assert f"going on from {tmp_path / 'run' / 'checkpoints' / 'step-00000002'}\n" in capsys.readouterr().err


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epochs": 3}, {"mixup": 0.5}, {"batch": 4}])
def test_a_run_goes_on_with_its_own_options_alone(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    with monkeypatch.context() as patch:
        cut_at(patch, 2)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run"))
    with pytest.raises(MismatchError, match=next(iter(changed))):
        finetune(config(model, task, tmp_path / "run", **changed))


def test_a_start_that_learnt_nothing_gives_way_to_other_options(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        cut_at(patch, 1)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run"))
    assert finetune(config(model, task, tmp_path / "run", seed=1)) == 0
    assert "an earlier start learnt nothing; beginning anew with seed=1, before seed=0\n" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_images(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = write_folders(tmp_path / "train", images=4), write_folders(tmp_path / "test", images=2)
    task = TaskConfig(train=str(train), test=str(test))
    with monkeypatch.context() as patch:
        cut_at(patch, 3)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run"))
    (train / "cat" / "new.png").write_bytes(picture((30, 200, 30)))
    with pytest.raises(MismatchError, match="of other weights to begin with, other images or names of classes"):
        finetune(config(model, task, tmp_path / "run"))


def test_a_run_goes_on_over_the_same_images_in_other_places(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = write_folders(tmp_path / "train", images=4), write_folders(tmp_path / "test", images=2)
    task = TaskConfig(train=str(train), test=str(test))
    assert finetune(config(model, task, tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        cut_at(patch, 3)
        with pytest.raises(PowerCutError):
            finetune(config(model, task, tmp_path / "run"))
    for folder in (train, test, model):
        shutil.copytree(folder, tmp_path / "elsewhere" / folder.name, copy_function=shutil.copyfile)
    moved = TaskConfig(train=str(tmp_path / "elsewhere" / "train"), test=str(tmp_path / "elsewhere" / "test"))
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    assert finetune(config(tmp_path / "elsewhere" / model.name, moved, tmp_path / "run")) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    # Another picture of the same length, on either side, is noticed.
    for side in ("test", "train"):
        file = tmp_path / "elsewhere" / side / "cat" / "1.png"
        content = file.read_bytes()
        file.write_bytes(content[:-20] + bytes(20))
        with pytest.raises(MismatchError, match="other images or names of classes"):
            finetune(config(model, moved, tmp_path / "other"))
        file.write_bytes(content)


def test_two_runs_cannot_write_to_one_directory(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    with held(tmp_path / "run", Rank(0, 1, torch.device("cpu"))):
        with pytest.raises(InputError, match=f"a run that is going on there: process {os.getpid()} on "):
            finetune(config(model, task, tmp_path / "run"))
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]


def test_a_directory_of_something_else_is_left_alone(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("")
    with pytest.raises(OutputExistsError, match="a fine-tuning run to continue"):
        finetune(config(model, task, tmp_path / "run"))
    with pytest.raises(OutputExistsError, match="of something else"):
        finetune(config(model, task, model))
    # Results of a probe, whose config.json is much like a fine-tuning run's.
    probed = ProbeConfig(model, task, tmp_path / "probe", percent=(50.0,))
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "config.json").write_text(to_json(probed))
    with pytest.raises(OutputExistsError, match="of something else"):
        finetune(config(model, task, tmp_path / "probe"))


def test_a_record_of_a_run_that_was_stopped_is_none(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Step.take

    def announced(self: Step, batch: Batch, **given: Any) -> Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, batch, **given)

    monkeypatch.setattr(Step, "take", announced)
    with pytest.raises(SystemExit, match="143"):
        finetune_records(config(model, task, tmp_path / "run"), Rank(0, 1, torch.device("cpu")), task="colours")
