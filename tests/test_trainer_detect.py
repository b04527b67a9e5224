"""The verb detect: what a run learns and leaves, that a stop changes nothing, and input that cannot be used."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.detection import CATEGORIES, annotations_of, config, results, rewritten, task_in, write_scenes
from tests.finetuning import PowerCutError, bad_images, cut_at, losses, pretrained_in
from tests.forks import Forks, trainer
from trainer.data.labelled_images import LabelledImages
from trainer.dense import coco_tools, detect_start
from trainer.dense.detect_task import open_detect_task
from trainer.optim.optimiser import learning_rate
from trainer.probe.linear import Head
from trainer.records.record import read_records
from trainer.transfer.config import TransferConfig
from trainer.transfer.detect import detect
from trainer.transfer.detect_config import DetectConfig, DetectTask
from trainer.transfer.suite import transfer
from trainer.weights.folder import ModelSpec, Preprocessing, new_folder, timm_fields, write_model
from trainer.weights.pretrained import open_pretrained
from vocab.errors import InputError, MismatchError, MissingRequirementError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> DetectTask:
    return task_in(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def whole(model: Path, task: DetectTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with. Not to be written to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert detect(config(model, task, run)) == 0
    return run


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(run / "model.safetensors") for run in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_leaves_its_detector_numbers_page_and_predictions(whole: Path) -> None:
    found = results(whole)
    assert (found["verb"], found["method"], found["metric"], found["init"]) == ("detect", "detect", "map_box", "random")
    assert (found["images"], found["steps"], found["train_images"], found["train_objects"]) == (4, 4, 16, 24)
    assert (found["recipe"], found["objects_left_out"]) == ("short", {"train": {}, "test": {}})
    assert found["value"] == found["map_box"]
    numbers = ("", "_50", "_75", "_small", "_medium", "_large")
    assert {f"map_{kind}{each}" for kind in ("box", "mask") for each in numbers} <= found.keys()
    assert {f"recall_{kind}_{each}" for kind in ("box", "mask") for each in (1, 10, 100)} <= found.keys()
    assert set(found["box_ap_by_class"]) == set(found["mask_ap_by_class"]) == {"dog", "cat", "car"}
    weights = load_file(whole / "model.safetensors")
    assert weights["heads.box_predictor.cls_score.weight"].shape == (4, 64)
    assert {"backbone.model.blocks.1.attn.qkv.weight", "proposals.head.objectness.weight"} <= weights.keys()
    table = list(csv.DictReader((whole / "classes.csv").read_text().splitlines()))
    assert list(table[0]) == ["class", "train_objects", "test_objects", "images", "mask_ap", "box_ap"]
    for kind in ("box", "mask"):
        by_class = {row["class"]: float(row[f"{kind}_ap"]) if row[f"{kind}_ap"] else None for row in table}
        assert by_class == pytest.approx(found[f"{kind}_ap_by_class"], abs=1e-6)
    page = (whole / "page.html").read_text()
    assert all(f">{heading}</th>" in page for heading in ("mask ap", "box ap"))
    assert "trained for detection" in page
    assert page.count("data:image/jpeg;base64,") == 3 * 4
    config_file = json.loads((whole / "config.json").read_text())
    assert (config_file["attention"], config_file["squash"], config_file["jitter"]) == ("global", False, [0.1, 2.0])


def test_predictions_have_the_ids_of_the_annotations(whole: Path) -> None:
    predictions = json.loads((whole / "predictions.json").read_text())
    assert len(predictions) == results(whole)["detections"]
    assert {each["image_id"] for each in predictions} <= {100, 101, 102, 103}
    assert {each["category_id"] for each in predictions} <= {3, 18, 44}
    assert all(each["segmentation"]["size"] == [48, 64] for each in predictions)
    assert all(isinstance(each["segmentation"]["counts"], str) and len(each["bbox"]) == 4 for each in predictions)


@pytest.mark.slow
def test_a_detector_learns_the_rectangles(model: Path, task: DetectTask, tmp_path: Path) -> None:
    options: dict[str, Any] = {"jitter": (1.0, 1.0), "layer_decay": 1.0, "drop_path": 0.0, "ema_momentum": 0.2}
    assert detect(config(model, task, tmp_path / "run", epochs=40, peak_lr=5e-3, eval_every=20, **options)) == 0
    found = results(tmp_path / "run")
    assert found["map_box_50"] > 0.5
    assert found["map_mask_50"] > 0.5


@pytest.mark.parametrize("options", [{}, {"masks": "off", "accumulate": 2, "drop_path": 0.3}])
def test_a_run_that_was_killed_goes_on_to_the_bit(
    model: Path, task: DetectTask, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    plain = whole
    if options:
        plain = tmp_path / "whole"
        assert detect(config(model, task, plain, **options)) == 0
    with monkeypatch.context() as patch:
        cut_at(patch, 4)
        with pytest.raises(PowerCutError):
            detect(config(model, task, tmp_path / "run", **options))
    # Threads that decode may be others too.
    assert detect(config(model, task, tmp_path / "run", workers=2, **options)) == 0
    assert losses(tmp_path / "run") == losses(plain)
    assert same_weights(tmp_path / "run", plain)
    assert (tmp_path / "run" / "predictions.json").read_text() == (plain / "predictions.json").read_text()


@pytest.mark.slow
def test_two_processes_train_what_one_does(forks: Forks, model: Path, task: DetectTask, tmp_path: Path) -> None:
    options: dict[str, Any] = {"layer_decay": 0.7}
    assert detect(config(model, task, tmp_path / "one", **options)) == 0
    words = [
        *("detect", str(model), "--task.train", task.train, "--task.test", task.test, "--out", str(tmp_path / "two")),
        *("--image-size", "64", "--epochs", "1", "--batch", "4", "--head-width", "16", "--head-convolutions", "1"),
        *("--proposals", "40", "--boxes", "32", "--peak-lr", "3e-3", "--workers", "0"),
        *("--layer-decay", "0.7", "--device", "cpu", "--log-every", "1"),
    ]
    forks.run(2, tmp_path / "log", trainer, words)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["processes"] == 2
    names = ("images", "images_seen", "bad_images", "notes", "train_objects")
    assert [two[name] for name in names] == [one[name] for name in names]
    assert two["map_box"] == pytest.approx(one["map_box"], abs=1e-2)


def test_transfer_init_scores_a_box_by_the_row_of_its_class(
    model: Path, task: DetectTask, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Size, list[int]]] = []

    def twice(head: Head, features: torch.Tensor, objects: LabelledImages) -> tuple[Head, float]:
        seen.append((features.shape, objects.images_by_class.tolist()))
        return Head(2 * head.weight, head.bias), 2.0

    monkeypatch.setattr(detect_start, "scale_head", twice)
    assert detect(config(model, task, tmp_path / "run", init="transfer", peak_lr=1e-9, ema_momentum=1.0)) == 0
    assert "3 of 3 classes start from pre-trained rows" in capsys.readouterr().err
    assert results(tmp_path / "run")["init"] == "transfer"
    assert (tmp_path / "run" / "transfer_init").is_dir()
    # All 24 objects of the training images say how large the logits are to be.
    ((shape, counts),) = seen
    categories = [each["category_id"] for each in annotations_of(task.train)]
    assert (shape, counts) == ((24, 16), [categories.count(number) for number in (3, 18, 44)])
    rows = load_file(tmp_path / "run" / "model.safetensors")["heads.rows.linear.weight"]
    pretrained = open_pretrained(model)
    names = [name.partition(".")[0] for name in pretrained.vocabulary.names]
    wanted = pretrained.classifier.weight[[names.index(name) for name in ("cat", "dog", "car")]]
    assert torch.allclose(rows, 2 * wanted, atol=1e-6)


def test_windows_squashed_images_and_a_top_down_path_are_options(model: Path, task: DetectTask, tmp_path: Path) -> None:
    assert detect(config(model, task, tmp_path / "run", attention="windows", squash=True, top_down=True, epochs=1)) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["attention"] == "windows"


def test_a_recipe_fills_in_what_is_left_out() -> None:
    plain = DetectConfig(model="b16", task=DetectTask("a.json::a", "b.json::b"), out=Path("run"))
    short, catlip = plain.completed(depth=12, stages=1), replace(plain, recipe="catlip").completed(depth=12, stages=1)
    assert (short.epochs, short.batch, short.peak_lr, short.jitter, short.squash) == (12, 16, 1e-4, (0.1, 2.0), False)
    assert (catlip.epochs, catlip.batch, catlip.peak_lr, catlip.jitter, catlip.squash) == (100, 128, 3e-4, (1, 1), True)
    assert (short.attention, catlip.attention) == ("windows", "global")
    assert (short.layer_decay, short.drop_path, short.top_down) == (0.7, 0.1, False)
    assert (catlip.layer_decay, catlip.drop_path, catlip.top_down) == (0.7, 0.1, True)
    large = replace(plain, image_size=512, drop_path=0.0, epochs=3).completed(depth=24, stages=1)
    assert (large.layer_decay, large.drop_path, large.attention, large.epochs) == (0.8, 0.0, "global", 3)
    stages = plain.completed(depth=0, stages=4)
    assert (stages.layer_decay, stages.drop_path, stages.attention, stages.top_down) == (1.0, 0.0, "global", True)


def test_the_learning_rate_falls_twice() -> None:
    plain = DetectConfig(model="b16", task=DetectTask("a.json::a", "b.json::b"), out=Path("run"))
    done = plain.completed(depth=12, stages=1).timed(steps=2700)
    optim = done.optim(steps=2700)
    assert done.warmup_steps == 250
    rates = [learning_rate(step, optim) for step in (125, 250, 2400, 2401, 2600, 2601, 2700)]
    assert rates == pytest.approx([5e-5, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])


def test_images_that_cannot_be_used_are_counted_and_weigh_nothing(
    model: Path, task: DetectTask, tmp_path: Path
) -> None:
    train, test = write_scenes(tmp_path / "train", range(16)), write_scenes(tmp_path / "test", range(100, 104))
    (tmp_path / "train" / "images" / "3.png").write_bytes(b"no image")
    shutil.copy(tmp_path / "train" / "images" / "5.png", tmp_path / "train" / "images" / "4.png")
    (tmp_path / "test" / "images" / "101.png").write_bytes(b"no image")
    sizes = json.loads((tmp_path / "train" / "instances.json").read_text())["images"]
    sizes[4] = {**sizes[4], "width": 60}
    task = DetectTask(rewritten(train, tmp_path / "other", images=sizes), test, max_bad_share=0.5)
    assert detect(config(model, task, tmp_path / "run", batch=8)) == 0
    assert bad_images(tmp_path / "run", "train") == [("3.png", "not_an_image"), ("4.png", "other_size")]
    assert bad_images(tmp_path / "run", "test") == [("101.png", "not_an_image")]
    found = results(tmp_path / "run")
    assert (found["images"], found["bad_images"]) == (3, 1)
    with pytest.raises(InputError, match=r"--task.test: found 3 of 4 images that can be used"):
        detect(config(model, replace(task, max_bad_share=0.2), tmp_path / "strict", batch=8))


def test_test_images_of_which_none_decodes_end_the_run(model: Path, task: DetectTask, tmp_path: Path) -> None:
    test = write_scenes(tmp_path / "test", range(100, 101))
    (tmp_path / "test" / "images" / "100.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 1 that can be decoded; 100.png: not_an_image"):
        detect(config(model, replace(task, test=test, max_bad_share=1.0), tmp_path / "run", epochs=1, batch=16))


def test_objects_without_masks_make_a_faster_rcnn(model: Path, task: DetectTask, tmp_path: Path) -> None:
    bare = [{**each, "segmentation": []} for each in annotations_of(task.train)]
    train = rewritten(task.train, tmp_path / "bare", annotations=bare)
    assert detect(config(model, replace(task, train=train), tmp_path / "run")) == 0
    found = results(tmp_path / "run")
    assert "boxes alone are learnt, without masks" in found["notes"]
    assert "mask_ap" not in (tmp_path / "run" / "classes.csv").read_text()
    assert "map_mask" not in found
    with pytest.raises(InputError, match="found objects without masks; wanted a segmentation for each"):
        detect(config(model, replace(task, train=train), tmp_path / "on", masks="on"))


def test_objects_that_lack_a_mask_among_others_are_left_out(model: Path, task: DetectTask, tmp_path: Path) -> None:
    some = annotations_of(task.train)
    some[0] = {**some[0], "segmentation": None}
    train = rewritten(task.train, tmp_path / "some", annotations=some)
    assert detect(config(model, replace(task, train=train), tmp_path / "run")) == 0
    assert results(tmp_path / "run")["objects_left_out"] == {"train": {"no_mask": 1}, "test": {}}


def test_masks_of_a_few_objects_are_not_learnt(task: DetectTask, tmp_path: Path) -> None:
    some = annotations_of(task.train)
    few = [{**each, "segmentation": None} if number else each for number, each in enumerate(some)]
    train = rewritten(task.train, tmp_path / "few", annotations=few)
    options: dict[str, Any] = {"class_names": None, "max_bad_share": 0.1, "percent": 100.0, "seed": 0}
    data = open_detect_task(train, task.test, masks=None, **options)
    assert (data.masks, len(data.train.boxes), data.train.left_out) == (False, 24, {})
    assert data.task.notes[0] == "23 of 24 objects to train on lack a mask"
    with pytest.raises(InputError, match=r"23 of 24 objects that cannot be used \(23 no_mask\)"):
        open_detect_task(train, task.test, masks=True, **options)


def test_a_class_without_an_instance_is_named(model: Path, task: DetectTask, tmp_path: Path) -> None:
    more = [*CATEGORIES, {"id": 90, "name": "hot dog"}]
    sides = [rewritten(getattr(task, name), tmp_path / name, categories=more) for name in ("train", "test")]
    assert detect(config(model, replace(task, train=sides[0], test=sides[1]), tmp_path / "run")) == 0
    found = results(tmp_path / "run")
    assert found["box_ap_by_class"]["hot dog"] is None
    assert found["classes_without_training_images"] == ["hot dog"]
    assert any(note.startswith("AP is over ") for note in found["notes"])


def test_the_same_image_on_both_sides_is_refused(model: Path, task: DetectTask, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="4 images that are both trained on and tested on"):
        detect(config(model, replace(task, train=task.test), tmp_path / "run"))


def test_crowds_alone_are_no_task(model: Path, task: DetectTask, tmp_path: Path) -> None:
    crowds = [{**each, "iscrowd": 1} for each in annotations_of(task.test)]
    test = rewritten(task.test, tmp_path / "crowds", annotations=crowds)
    with pytest.raises(InputError, match="found 6 objects, all of them crowds"):
        detect(config(model, replace(task, test=test), tmp_path / "run"))


def test_a_test_class_that_is_not_trained_on_is_refused(model: Path, task: DetectTask, tmp_path: Path) -> None:
    others = [*CATEGORIES[:2], {"id": 44, "name": "bus"}]
    test = rewritten(task.test, tmp_path / "other", categories=others)
    with pytest.raises(MismatchError, match="classes that the training images do not have: bus"):
        detect(config(model, replace(task, test=test), tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 80}, "--image-size: found 80 .* strides of 2 to 32 pixels; wanted a multiple of 32"),
        ({"optimiser": "muon"}, "--optimiser: found muon; wanted adamw"),
        ({"batch": 5, "accumulate": 2}, "--batch: found 5; wanted a multiple of 1 processes x 2 parts"),
        ({"jitter": (2.0, 0.1)}, "--jitter: found 2 0.1; wanted the smallest scale first"),
        ({"warmup_steps": 4}, "--warmup-steps: found 4 of 4 steps"),
    ],
)
def test_options_that_cannot_work_are_refused(
    model: Path, task: DetectTask, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        detect(config(model, task, tmp_path / "run", **changes))


@pytest.mark.parametrize("train", ["images", "a.json", "a.txt::images", "a.json::none"])
def test_annotations_and_their_folder_must_be_there(model: Path, task: DetectTask, tmp_path: Path, train: str) -> None:
    with pytest.raises(InputError, match=r"ANNOTATIONS.json::IMAGE_FOLDER, or XML_FOLDER::IMAGE_FOLDER"):
        detect(config(model, replace(task, train=train), tmp_path / "run"))


def test_other_objects_do_not_continue_a_run(
    model: Path, task: DetectTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut_at(patch, 4)
        with pytest.raises(PowerCutError):
            detect(config(model, task, tmp_path / "run"))
    moved = annotations_of(task.train)
    moved[0] = {**moved[0], "bbox": [1, 1, 20, 20]}
    train = rewritten(task.train, tmp_path / "moved", annotations=moved)
    with pytest.raises(MismatchError, match="other images, objects or names of classes"):
        detect(config(model, replace(task, train=train), tmp_path / "run"))
    with pytest.raises(MismatchError, match="found a run with head_width=16; wanted head_width=32"):
        detect(config(model, task, tmp_path / "run", head_width=32))


def test_a_convolutional_network_detects_by_its_stages(task: DetectTask, tmp_path: Path) -> None:
    network: Any = timm.create_model("resnet10t", num_classes=2)
    spec = ModelSpec("resnet10t", {}, Preprocessing(64, 0.5, 0.5, 1.0), network.num_features, "avg", "conv1.0", "fc")
    with new_folder(tmp_path / "model") as work:
        write_model(work, network.state_dict(), timm_fields(spec, classes=2))
    assert detect(config(tmp_path / "model", task, tmp_path / "run")) == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["attention"], written["top_down"], written["layer_decay"]) == ("global", True, 1.0)
    with pytest.raises(InputError, match="--attention: found windows for resnet10t"):
        detect(config(tmp_path / "model", task, tmp_path / "windows", attention="windows"))


def test_a_suite_measures_detection_from_both_inits_and_goes_on(model: Path, task: DetectTask, tmp_path: Path) -> None:
    (tmp_path / "tasks.toml").write_text(
        f"""
[[task]]
name = "rectangles"
train = "{task.train}"
test = "{task.test}"
methods = ["detect"]
percents = [50]
seeds = [0]

[task.detect]
image_size = 64
epochs = 1
batch = 4
head_width = 16
head_convolutions = 1
proposals = 40
boxes = 32
masks = "off"
"""
    )
    suite = TransferConfig(model, tmp_path / "tasks.toml", tmp_path / "suite", workers=0, device="cpu")
    transfer(suite)
    found = read_records(tmp_path / "suite")
    assert [(record.method, record.init, record.metric, record.images) for record in found] == [
        ("detect", "random", "map_box", 4),
        ("detect", "transfer", "map_box", 4),
    ]
    assert found[0].extra["train_images"] == 8
    assert (tmp_path / "suite" / "detect" / "rectangles-transfer-50-0" / "page.html").exists()
    assert "| rectangles | detect | random | map_box |" in (tmp_path / "suite" / "results.md").read_text()
    transfer(suite)
    assert read_records(tmp_path / "suite") == found


def test_without_the_extra_the_run_does_not_begin(
    model: Path, task: DetectTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_tools, "PACKAGE", "no_such_package")
    monkeypatch.setattr(coco_tools, "_loaded", coco_tools._loaded.__wrapped__)
    with pytest.raises(MissingRequirementError, match=r"pip install -e '.\[dense\]'"):
        detect(config(model, task, tmp_path / "run", masks="off"))
    assert not (tmp_path / "run").exists()
