"""Fine-tuning: what is learnt, and what a run leaves of it: model, results, log, page, record."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.finetuning import RANDOM, config, losses, pretrained_in, results, task_in, write_folders
from tests.released_weights import CLASSES, COUNTS, released
from trainer.distributed import Rank
from trainer.records.log import read_log
from trainer.transfer import finetune as story
from trainer.transfer.batches import EpochPlan
from trainer.transfer.config import TaskConfig
from trainer.transfer.finetune import finetune, finetune_records
from trainer.transfer.task_results import few_steps
from trainer.transfer.tasks.opening import TaskData, open_task
from trainer.verb_config import ImportConfig
from trainer.weights.folder import load_model
from trainer.weights.released import import_released


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    return task_in(tmp_path_factory.mktemp("task"))


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
    assert f"<b class=number>{results(out)['top1']:.2%}</b><span>top-1 accuracy</span>" in page
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
