"""Fine-tuning: what is learnt, that a stop or another number of processes changes nothing, and what is refused."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.corpus import make_corpus, spikes
from tests.forks import Forks, trainer
from tests.pictures import picture
from tests.released_weights import CLASSES, COUNTS, released
from trainer.config import to_json
from trainer.data.batch import Batch
from trainer.distributed import Rank
from trainer.pretrain import pretrain
from trainer.records.log import read_log
from trainer.records.run_lock import held
from trainer.step.step import Step
from trainer.transfer import finetune as story
from trainer.transfer.batches import EpochPlan
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TaskConfig
from trainer.transfer.finetune import finetune, finetune_records
from trainer.transfer.finetune_results import few_steps
from trainer.transfer.tasks.opening import TaskData, open_task
from trainer.verb_config import ImportConfig
from trainer.weights.folder import load_model
from trainer.weights.released import import_released
from vocab.errors import InputError, MismatchError, OutputExistsError

COLOURS = {"car": (30, 30, 200), "cat": (30, 200, 30), "dog": (200, 30, 30)}
# Everything random that there is.
RANDOM: dict[str, Any] = {"drop_path": 0.3, "mixup": 0.4, "cutmix": 1.0}


def write_folders(root: Path, *, images: int, bad: int = 0) -> Path:
    """A folder for each class with squares of nearly its colour; the first `bad` of the cats are no images."""
    rng = np.random.default_rng(images)
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for number in range(images):
            red, green, blue = (rng.integers(-25, 25, 3) + colour).tolist()
            content = b"no image" if label == "cat" and number < bad else picture((red, green, blue))
            (root / label / f"{number}.png").write_bytes(content)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-trained model of two blocks. Not to be written to."""
    root = tmp_path_factory.mktemp("pretrained")
    assert pretrain(make_corpus(root / "corpus").config(root / "run", steps=3, depth=2)) == 0
    return root / "run"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    """Class folders with 24 images to train on, and 9 to measure on. Not to be written to."""
    root = tmp_path_factory.mktemp("task")
    train, test = write_folders(root / "train", images=8), write_folders(root / "test", images=3)
    return TaskConfig(train=str(train), test=str(test))


def config(model: Path, task: TaskConfig, out: Path, **changes: Any) -> FinetuneConfig:
    """A run of six steps."""
    plain = FinetuneConfig(
        model=model,
        task=task,
        out=out,
        epochs=2,
        batch=8,
        peak_lr=3e-3,
        workers=0,
        device="cpu",
        log_every=1,
        checkpoint_every=2,
    )
    return replace(plain, **changes)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_log(run / "metrics.jsonl") if "loss" in line]


def evaluated(run: Path) -> list[int]:
    return [line["step"] for line in read_log(run / "metrics.jsonl") if "eval_top1" in line]


def results(run: Path) -> dict[str, Any]:
    """Everything that results.json says of its one record."""
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    (record,) = found["records"]
    return {**found, **record, **record["extra"], **found["data"], **found["details"]}


def bad_images(run: Path, side: str) -> list[tuple[str, str]]:
    """Images of a side that did not decode, each with the reason."""
    named = json.loads((run / "results.json").read_text())["bad_images"]
    return sorted((bad["image"], bad["reason"]) for bad in named if bad["side"] == side)


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class PowerCutError(Exception):
    pass


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = Step.take

    def take(self: Step, batch: Batch, **given: Any) -> Tensor:
        if given["number"] == step:
            raise PowerCutError
        return whole(self, batch, **given)

    monkeypatch.setattr(Step, "take", take)


def test_colours_are_learnt_and_the_results_say_so(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    assert finetune(config(model, task, tmp_path / "run", epochs=16, peak_lr=1e-2, ema_momentum=0.3)) == 0
    found = results(tmp_path / "run")
    assert (found["metric"], found["value"], found["top1"], found["images"]) == ("top1", 1.0, 1.0, 9)
    assert (found["train_images"], found["steps"], found["images_seen"]) == (24, 48, 384)
    assert found["correct"] == "111111111"
    assert found["classes_without_training_images"] == []
    lines = read_log(tmp_path / "run" / "metrics.jsonl")
    epochs = [line["epoch"] for line in lines if "eval_top1" in line]
    assert epochs == list(range(1, 17))
    assert losses(tmp_path / "run")[-1] < 0.7 < losses(tmp_path / "run")[0]
    assert "| top1 | 1 |" in (tmp_path / "run" / "results.md").read_text()
    classes = (tmp_path / "run" / "classes.csv").read_text()
    assert classes == "class,images,accuracy\ncar,3,1.000000\ncat,3,1.000000\ndog,3,1.000000\n"


def test_a_batch_too_large_for_the_images_is_said_before_and_after(
    model: Path, task: TaskConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(config(model, task, tmp_path / "run", batch=32)) == 0
    found = results(tmp_path / "run")
    # Two epochs of 24 images are 48 of them; two steps see 64.
    assert (found["epochs"], found["epochs_seen"], found["steps"], found["images_seen"]) == (2, 2.667, 2, 64)
    lines = read_log(tmp_path / "run" / "metrics.jsonl")
    assert [(line["step"], line["epoch"]) for line in lines] == [(1, 1.333), (1, 1.333), (2, 2.667), (2, 2.667)]
    said = "batch 32 is larger than the 24 training images: 2 steps in all, each image seen 2.667 times; "
    assert found["notes"] == [f"{said}a smaller batch takes more steps"]
    assert capsys.readouterr().err.count(said) == 2
    assert f"- {said}" in (tmp_path / "run" / "results.md").read_text()


@pytest.mark.parametrize(
    ("images", "batch", "said"),
    [
        (1_281_167, 512, None),
        (60, 512, "batch 512 is larger than the 60 training images: 2 steps in all, each image seen 17.07 times; "),
        (1, 1, "batch 1 is large for 1 training image: 10 steps in all, each image seen 10 times; "),
        (5_000, 512, "batch 512 is large for 5,000 training images: 98 steps in all, each image seen 10.04 times; "),
        (5_120, 512, None),
    ],
)
def test_a_run_of_few_steps_says_so(images: int, batch: int, said: str | None) -> None:
    plan = EpochPlan(images=images, batch=batch, epochs=10, seed=0, image_size=16, min_crop_area=1.0, flip=False)
    assert few_steps(plan) == ([] if said is None else [f"{said}a smaller batch takes more steps"])


def test_the_model_s_folder_is_what_was_measured(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    assert finetune(config(model, task, tmp_path / "run", image_size=32)) == 0
    folder = tmp_path / "run" / "model"
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
    fields = json.loads((folder / "config.json").read_text())
    assert fields["label_names"] == ["car", "cat", "dog"]
    assert fields["pretrained_cfg"]["input_size"] == [3, 32, 32]
    averaged = load_file(tmp_path / "run" / "checkpoints" / "step-00000006" / "ema.safetensors")
    images = torch.rand(2, 3, 32, 32)
    for loaded in (load_model(folder), timm.create_model(f"local-dir:{folder}", pretrained=True).eval()):
        assert all(torch.equal(tensor, averaged[name]) for name, tensor in loaded.state_dict().items())
        with torch.no_grad():
            assert loaded(images).shape == (2, 3)


def test_the_released_weights_are_fine_tuned_at_another_size(task: TaskConfig, tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "vit_base.pt")
    (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(COUNTS))
    import_released(
        ImportConfig(tmp_path / "vit_base.pt", tmp_path / "vocab.pkl", tmp_path / "imported", classes=CLASSES)
    )
    options: dict[str, Any] = {**RANDOM, "image_size": 32, "layer_decay": 0.5, "peak_lr": 1e-4}
    assert finetune(config(tmp_path / "imported", task, tmp_path / "run", **options)) == 0
    before, after = load_model(tmp_path / "imported").state_dict(), load_model(tmp_path / "run" / "model").state_dict()
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 4
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    learnt = ("patch_embed.backbone.0.bn.weight", "patch_embed.backbone.0.conv.weight", "blocks.1.mlp.fc2.weight")
    assert not any(torch.equal(before[name], after[name]) for name in learnt)
    assert after["pos_embed"].shape == (1, 4, before["pos_embed"].shape[2])
    assert after["head.weight"].shape[0] == 3


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


def test_the_log_says_how_fast_a_run_is_and_what_it_waits_for(
    model: Path, task: TaskConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(config(model, task, tmp_path / "run")) == 0
    lines = [line for line in read_log(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert all(0 < line["data_wait_share"] < 1 for line in lines)
    assert all(line["mfu"] is None and line["mfu_measured"] > 0 and line["tflops_per_device"] > 0 for line in lines)
    # Numbers of loader processes, which fine-tuning does not have.
    assert not {"batches_ready", "loaders_idle_share"} & lines[0].keys()
    assert capsys.readouterr().err.count(" of_measured_peak=") == 6


def test_the_page_shows_the_course_of_a_run(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    out = tmp_path / "<b>run"
    assert finetune(config(model, task, out)) == 0
    page = " ".join((out / "page.html").read_text().split())
    for title in ("Loss", "Test images", "Learning rate", "Norm of the gradient", "Speed"):
        assert page.count(f"<b>{title}</b>") == 1
    assert "6 steps over 48 images" in page
    assert "fine-tuned on 24 images of 3 classes" in page
    assert f"<b class=number>{results(out)['top1']:.1%}</b><span>top-1 accuracy</span>" in page
    assert "batch 8 is large for 24 training images" in page
    # A directory's name is a stranger's text too, and nothing on the page can fetch anything.
    assert "&lt;b&gt;run" in page
    assert "<b>run" not in page
    assert "default-src 'none'" in page


def test_a_run_is_logged_to_weights_and_biases(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="the wandb extra is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    assert finetune(config(model, task, tmp_path / "run", wandb="catlip")) == 0
    wandb.teardown()
    kept = json.loads((tmp_path / "run" / "wandb.json").read_text())
    assert kept["project"] == "catlip"
    (logged,) = (tmp_path / "run" / "wandb").glob(f"offline-run-*{kept['id']}/*.wandb")
    assert all(name in logged.read_bytes() for name in (b"data_wait_share", b"eval_top1"))


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


def test_a_class_without_training_images_is_named(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    train = write_folders(tmp_path / "train", images=4)
    for path in (train / "dog").iterdir():
        path.unlink()
    test = write_folders(tmp_path / "test", images=2)
    for path in (test / "car").iterdir():
        path.unlink()
    assert finetune(config(model, TaskConfig(train=str(train), test=str(test)), tmp_path / "run")) == 0
    found = results(tmp_path / "run")
    assert found["classes_without_training_images"] == ["dog"]
    assert (found["train_images"], found["classes"], found["classes_of_test_images"]) == (8, 3, 2)
    assert "- train: 1 of 3 classes has no image: dog\n" in (tmp_path / "run" / "results.md").read_text()


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
    with pytest.raises(MismatchError, match="of other weights to begin with, other images or other names of classes"):
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
        with pytest.raises(MismatchError, match="other images or other names of classes"):
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


def test_several_classes_an_image_are_trained_and_measured_as_such(
    model: Path, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def several(config: TaskConfig) -> TaskData:
        # Each image shows its own class and, but for the first, also the one before it.
        opened = open_task(config)
        sides = []
        for images in (opened.train, opened.test):
            own = [sorted({label, label - 1} - {-1}) for label in images.classes.tolist()]
            offsets = np.cumsum([0, *map(len, own)])
            flat = np.array([label for classes in own for label in classes], np.int64)
            sides.append(replace(images, offsets=offsets, classes=flat, multi_label=True))
        return TaskData(sides[0], sides[1], opened.class_names)

    monkeypatch.setattr(story, "open_task", several)
    assert finetune(config(model, task, tmp_path / "run", epochs=16, peak_lr=1e-2, ema_momentum=0.3)) == 0
    found = results(tmp_path / "run")
    assert (found["metric"], found["value"], found["map_macro"], found["map_micro"]) == ("map_macro", 1.0, 1.0, 1.0)
    assert "top1" not in found
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (stored["label_smoothing"], stored["final_lr"]) == (0.0, 1e-3)


def test_the_options_are_written_down_with_those_that_were_unset(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    assert finetune(config(model, task, tmp_path / "run", peak_lr=None)) == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    names = ("image_size", "peak_lr", "final_lr", "label_smoothing", "ema_momentum")
    assert [stored[name] for name in names] == [16, 3e-5, pytest.approx(3e-6), 0.1, 1.0]


def test_activations_that_are_computed_again_change_nothing(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    assert finetune(config(model, task, tmp_path / "plain", **RANDOM)) == 0
    assert finetune(config(model, task, tmp_path / "again", activation_checkpointing=True, **RANDOM)) == 0
    assert losses(tmp_path / "again") == losses(tmp_path / "plain")


def test_a_record_says_what_the_run_came_to(model: Path, task: TaskConfig, tmp_path: Path) -> None:
    options = config(model, task, tmp_path / "run", percent=50.0, seed=3)
    (record,) = finetune_records(options, Rank(0, 1, torch.device("cpu")), task="colours")
    found = results(tmp_path / "run")
    assert (record.task, record.method, record.init) == ("colours", "finetune", "random")
    assert (record.percent, record.seed, record.metric, record.images) == (50.0, 3, "top1", 9)
    assert record.value == found["top1"] == record.extra["correct"].count("1") / 9
    assert record.extra["train_images"] == 12


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
