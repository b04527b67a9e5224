"""The verb segment: what is learnt and chosen, what a run leaves, and that a stop changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.finetuning import PowerCutError, bad_images, cut_at, losses, pretrained_in
from tests.forks import Forks, trainer
from tests.segmentation import DEEPLAB as SMALL_DEEPLAB
from tests.segmentation import NAMES, config, png, results, task_in, write_scenes
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.images import BadImage
from trainer.dense.heads import LinearSetting
from trainer.dense.masks import open_masks
from trainer.dense.segment_evaluation import SegmentTransform, evaluate
from trainer.dense.segment_scores import joined
from trainer.distributed import Rank
from trainer.records.record import read_records
from trainer.transfer.config import TransferConfig
from trainer.transfer.dense_config import MaskTask, SegmentConfig
from trainer.transfer.segment import build_objective, open_inputs, segment
from trainer.transfer.segment_results import notes_at_start, settings_of
from trainer.transfer.segment_zero_shot import chance_of
from trainer.transfer.suite import transfer
from trainer.weights.folder import ModelSpec, Preprocessing, new_folder, timm_fields, write_model
from vocab.errors import InputError, MismatchError, OutputExistsError

ONE = Rank(0, 1, torch.device("cpu"))
DEEPLAB: dict[str, Any] = {**SMALL_DEEPLAB, "peak_lr": 3e-3, "drop_path": 0.2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> MaskTask:
    return task_in(tmp_path_factory.mktemp("task"))


def trained_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_linear_heads_learn_and_the_best_on_held_out_images_is_tested(
    model: Path, task: MaskTask, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 12, "blocks": ("last", "-2", "last2"), "learning_rates": (1e-5, 1e-1)}
    assert segment(config(model, task, tmp_path / "run", **options)) == 0
    found = results(tmp_path / "run")
    assert (found["verb"], found["method"], found["metric"], found["images"]) == ("segment", "segment", "miou", 6)
    assert (found["train_images"], found["held_out_images"], found["steps"]) == (22, 2, 33)
    held_out = found["miou_on_held_out_images"]
    names = [f"{blocks}, {rate}" for blocks in ("last", "-2", "last2") for rate in ("1e-05", "0.1")]
    assert list(held_out) == names
    assert max(held_out, key=held_out.get) == f"{found['blocks']}, {found['learning_rate']:g}"
    assert found["learning_rate"] == 0.1
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    low, high = found["interval"]
    assert low <= found["value"] <= high
    assert found["value"] == found["miou"] == found["miou_slide"]
    assert set(found["iou_by_class"]) == set(NAMES)
    assert sum(found["pixels"]["train"]["shares"].values()) == pytest.approx(1)
    assert (tmp_path / "run" / "classes.csv").read_text().startswith("class,train_pixels,images,iou\nbackground,")
    # The heads are what was trained: the frozen model is not in the run's weights.
    assert set(trained_weights(tmp_path / "run")) >= {"classifiers.5.weight", "norms.2.running_mean"}
    assert not any("blocks" in name for name in trained_weights(tmp_path / "run"))


def test_deeplab_learns_the_colours_with_its_backbone(model: Path, task: MaskTask, tmp_path: Path) -> None:
    crops = {"scale": (1.0, 1.0), "max_class_share": 1.0}
    options = {**DEEPLAB, **crops, "epochs": 30, "ema_momentum": 0.3, "peak_lr": 1e-2}
    assert segment(config(model, task, tmp_path / "run", image_size=24, **options)) == 0
    found = results(tmp_path / "run")
    assert found["value"] == found["miou_squash"]
    assert found["view"] == "squash"
    assert found["miou"] > 0.5
    assert any(name.startswith("backbone.model.blocks.") for name in trained_weights(tmp_path / "run"))


def test_the_page_shows_best_median_and_worst_images_in_the_colours_of_classes(
    model: Path, task: MaskTask, tmp_path: Path
) -> None:
    assert segment(config(model, task, tmp_path / "run")) == 0
    page = (tmp_path / "run" / "page.html").read_text()
    assert page.count("<figcaption>best: mIoU") == 3
    assert page.count("<figcaption>worst: mIoU") == 2
    assert page.count("<figcaption>median: mIoU") == 1
    assert page.count("data:image/jpeg;base64,") == 3 * 6
    assert 'fill="#f21818"' in page
    assert "trained for segmentation" in page


@pytest.mark.parametrize("options", [{}, {**DEEPLAB, "accumulate": 2}])
def test_a_run_that_was_killed_goes_on_to_the_bit(
    model: Path, task: MaskTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    assert segment(config(model, task, tmp_path / "whole", **options)) == 0
    with monkeypatch.context() as patch:
        cut_at(patch, 5)
        with pytest.raises(PowerCutError):
            segment(config(model, task, tmp_path / "run", **options))
    # Threads that decode may be others too.
    assert segment(config(model, task, tmp_path / "run", workers=2, **options)) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    ours, theirs = trained_weights(tmp_path / "run"), trained_weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert results(tmp_path / "run")["value"] == results(tmp_path / "whole")["value"]


def test_two_processes_train_what_one_does(forks: Forks, model: Path, task: MaskTask, tmp_path: Path) -> None:
    assert segment(config(model, task, tmp_path / "one", **DEEPLAB)) == 0
    words = [
        *("segment", str(model), "--task.train", task.train, "--task.test", task.test, "--out", str(tmp_path / "two")),
        *("--task.class-names", str(task.class_names), "--head", "deeplab", "--head-width", "16", "--image-size", "16"),
        *("--epochs", "2", "--batch", "8", "--peak-lr", "3e-3", "--drop-path", "0.2", "--layer-decay", "0.8"),
        *("--workers", "1", "--device", "cpu", "--log-every", "1"),
    ]
    forks.run(2, tmp_path / "log", trainer, words)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["processes"] == 2
    assert two["miou"] == pytest.approx(one["miou"], abs=1e-3)
    names = ("images", "images_seen", "bad_images", "notes", "pixels")
    assert [two[name] for name in names] == [one[name] for name in names]


def test_transfer_init_begins_with_the_rows_of_the_classes(
    model: Path, task: MaskTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"init": "transfer", "blocks": (), "learning_rates": (1e-3,), "alpha": 1.0}
    assert segment(config(model, task, tmp_path / "run", **options)) == 0
    assert "3 of 4 classes start from pre-trained rows at path similarity >= 1" in capsys.readouterr().err
    found = results(tmp_path / "run")
    assert (found["init"], found["blocks"], found["train_images"]) == ("transfer", "last", 24)
    assert (tmp_path / "run" / "transfer_init" / "classes.csv").exists() or any(
        (tmp_path / "run" / "transfer_init").iterdir()
    )


def test_a_convolutional_network_is_segmented_with_by_its_stages(task: MaskTask, tmp_path: Path) -> None:
    network: Any = timm.create_model("resnet10t", num_classes=2)
    seen = Preprocessing(64, 0.5, 0.5, 1.0)
    spec = ModelSpec("resnet10t", {}, seen, network.num_features, "avg", "conv1.0", classifier="fc")
    with new_folder(tmp_path / "model") as work:
        write_model(work, network.state_dict(), timm_fields(spec, classes=2))
    options: dict[str, Any] = {"image_size": 64, "blocks": ("last", "last2"), "epochs": 1}
    assert segment(config(tmp_path / "model", task, tmp_path / "linear", **options)) == 0
    deeplab: dict[str, Any] = {**DEEPLAB, "image_size": 64, "epochs": 1, "drop_path": 0.0}
    assert segment(config(tmp_path / "model", task, tmp_path / "deeplab", **deeplab)) == 0
    assert results(tmp_path / "deeplab")["images"] == 6


def test_few_images_take_the_middle_setting_without_a_choice(model: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path / "few", train=8, test=2)
    assert segment(config(model, task, tmp_path / "run", learning_rates=(1e-4, 1e-3, 1e-1))) == 0
    found = results(tmp_path / "run")
    assert (found["learning_rate"], found["blocks"], found["train_images"]) == (1e-3, "last", 8)
    assert any("8 training images are too few to hold some out" in note for note in found["notes"])


def test_without_held_out_images_the_middle_setting_is_taken_and_a_note_says_so(model: Path, task: MaskTask) -> None:
    options = config(model, task, Path("run"), learning_rates=(1e-4, 1e-3, 1.0000001e-3, 1e-1), holdout=0.0)
    inputs = open_inputs(options, ONE)
    assert (inputs.settings, inputs.held_out) == ((LinearSetting("last", 1e-3),), None)
    note = "no training images are held out: the setting last, 0.001 was taken without a choice"
    assert note in notes_at_start(options, inputs)
    assert len(set(map(str, settings_of(options)))) == 8


def test_a_hierarchical_transformer_has_its_own_stride_under_deeplab() -> None:
    sizes: dict[str, Any] = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2)}
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=2, **sizes)
    pretrained: Any = SimpleNamespace(model=swin, preprocessing=Preprocessing(64, 0.5, 0.5, 1.0))
    options = SegmentConfig("model", MaskTask("a::b", "c::d"), Path("run"), head="deeplab", image_size=64)
    objective: Any = build_objective(options, pretrained, [LinearSetting("last", 0.0)], classes=len(NAMES))
    assert objective.backbone_maps.specs[0].stride == 8
    table = "backbone.model.layers.0.blocks.0.attn.relative_position_bias_table"
    assert table in objective.model.no_weight_decay() & {name for name, _ in objective.model.named_parameters()}


@pytest.mark.parametrize(("rank", "error"), [(0, InputError), (1, SystemExit)])
def test_all_ranks_end_where_no_image_can_be_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, error: type[BaseException]
) -> None:
    task = task_in(tmp_path, train=2, test=1)
    data = open_masks(task, ONE).test
    monkeypatch.setattr("trainer.dense.segment_evaluation.load_pair", Mock(side_effect=BadImage("broken_image")))
    monkeypatch.setattr("trainer.dense.segment_evaluation.gather", lambda value, _: [value, value])
    objective: Any = torch.nn.Identity()
    plain = EvalTransform(size=16, crop=1.0, batch=1, decoding=Decoding(1, 1, 1), bfloat16=False)
    transform = SegmentTransform(16, 2 / 3, plain)
    with pytest.raises(error) as raised:
        evaluate(objective, data, replace(ONE, index=rank), transform=transform, views=["squash"], heads=[0])
    assert rank or "none of 2 that can be decoded; 100.png: broken_image" in str(raised.value)


def test_an_image_that_does_not_decode_is_counted_and_named(model: Path, tmp_path: Path) -> None:
    train, test = write_scenes(tmp_path / "train", range(24)), write_scenes(tmp_path / "test", range(100, 104))
    for side, number in (("train", 3), ("test", 101)):
        path = tmp_path / side / "images" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:150])  # the header is whole, and so is the mask
    task = MaskTask(train, test, max_bad_share=0.3)
    assert segment(config(model, task, tmp_path / "run", learning_rates=(1e-2,), blocks=("last",))) == 0
    found = results(tmp_path / "run")
    assert (found["images"], found["images_seen"]) == (3, 48)
    assert bad_images(tmp_path / "run", "train") == [("3.png", "broken_image")]
    assert bad_images(tmp_path / "run", "test") == [("101.png", "broken_image")]


def test_a_class_without_a_pixel_is_named_and_no_part_of_the_mean(model: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps([*NAMES, "zebra"]))
    task = replace(task_in(tmp_path / "task", train=8, test=2), class_names=tmp_path / "names.json")
    options: dict[str, Any] = {"learning_rates": (1e-1,), "blocks": ("last",), "epochs": 12}
    assert segment(config(model, task, tmp_path / "run", **options)) == 0
    found = results(tmp_path / "run")
    assert found["classes_without_training_images"] == ["zebra"]
    assert found["iou_by_class"]["zebra"] is None
    known = [value for value in found["iou_by_class"].values() if value is not None]
    assert found["miou"] == pytest.approx(np.mean(known))
    assert any(note.startswith("mIoU is over 4 classes") for note in found["notes"])


def test_another_run_s_directory_and_other_masks_are_refused(model: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path / "task", train=8, test=2)
    options = config(model, task, tmp_path / "run")
    assert segment(options) == 0
    with pytest.raises(OutputExistsError, match="a segmentation run to continue"):
        segment(replace(options, out=model))
    with pytest.raises(MismatchError, match="a run with epochs=2"):
        segment(replace(options, epochs=3))
    mask = tmp_path / "task" / "train" / "masks" / "1.png"
    mask.write_bytes(png(np.zeros((24, 32), np.uint8)))
    with pytest.raises(MismatchError, match="other images, masks or names of classes"):
        segment(options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 8}, "--stride: found 8; wanted no --stride with --head linear"),
        (
            {"head": "deeplab"},
            "--learning-rates: found .*wanted no --learning-rates with --head deeplab. Give --peak-lr",
        ),
        ({"peak_lr": 1.0}, "--peak-lr: found 1.0; wanted no --peak-lr with --head linear. Give --learning-rates"),
        ({"blocks": ("first",)}, "--blocks: found 'first'; wanted last, last4 or another number"),
        ({"blocks": ("last", "last")}, "--blocks: found last last; wanted each value once"),
        ({"init": "transfer"}, "--init: found transfer .*; wanted --head linear and --blocks last"),
        ({"clip_norm": 2.0}, "--clip-norm: found 2.0; wanted no --clip-norm with --head linear"),
        ({"optimiser": "muon"}, "--optimiser: found muon; wanted adamw for segmentation"),
        (
            {"head": "zero-shot", "blocks": (), "learning_rates": (), "flip": False},
            "--flip: found False; wanted no --flip with --head zero-shot",
        ),
        ({"layer_decay": 0.5}, "--layer-decay: found 0.5; wanted no --layer-decay with --head linear"),
    ],
)
def test_options_of_the_other_head_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    plain = SegmentConfig("model", MaskTask("a::b", "c::d"), tmp_path, blocks=("last", "-2"), learning_rates=(1.0,))
    with pytest.raises(InputError, match=message):
        replace(plain, **changes)


def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    plain = SegmentConfig("model", MaskTask("a::b", "c::d"), tmp_path, batch=9)
    with pytest.raises(InputError, match="--batch: found 9; wanted a multiple of 2 processes x 1 parts"):
        plain.for_head().check(world=2)


def test_a_batch_norm_of_a_single_place_is_refused_before_the_first_step(
    model: Path, task: MaskTask, tmp_path: Path
) -> None:
    # The model's patches have 8 pixels.
    one: dict[str, Any] = {"image_size": 8, "batch": 2, "accumulate": 2, "blocks": ("last",)}
    for plan in (False, True):
        with pytest.raises(InputError, match=r"--batch: found 2, which is 1 image at a time, whose map has a single"):
            segment(config(model, task, tmp_path / "run", plan=plan, **one))
    assert not (tmp_path / "run").exists()
    assert segment(config(model, task, tmp_path / "two", epochs=1, **{**one, "accumulate": 1})) == 0


def test_a_block_and_a_size_that_the_model_lacks_are_refused(model: Path, task: MaskTask, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the blocks: found block -3 of"):
        segment(config(model, task, tmp_path / "run", blocks=("-3",)))
    with pytest.raises(InputError, match="--blocks: found last last1, which are the same blocks of this model"):
        segment(config(model, task, tmp_path / "run", blocks=("last", "-2", "last1")))
    with pytest.raises(InputError, match="image-size"):
        segment(config(model, task, tmp_path / "run", image_size=17))
    assert not (tmp_path / "run").exists()


def test_zero_shot_segments_by_the_pretrained_rows_alone(model: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path / "task", train=1, test=4)
    options = SegmentConfig(
        model,
        replace(task, train=""),
        tmp_path / "out",
        head="zero-shot",
        image_size=16,
        alpha=1.0,
        workers=0,
        device="cpu",
    )
    assert segment(options) == 0
    found = results(tmp_path / "out")
    assert (found["method"], found["init"], found["percent"], found["images"]) == ("segment", "none", 0, 4)
    assert found["classes_that_cannot_be_scored"] == ["background"]
    assert found["own_values"] is True
    assert 0 < found["chance_miou"] < 1 / 3
    assert (tmp_path / "out" / "classes.csv").read_text().startswith("class,images,iou\n1,4,")
    with pytest.raises(OutputExistsError):
        segment(options)


def test_chance_is_the_mean_iou_of_even_guesses() -> None:
    # Of 12 pixels 8 are of the first class and 4 of the second; each is guessed for 6.
    scores = joined([np.array([[0, 0], [8, 4], [0, 0]], np.int64)])
    assert chance_of(scores) == pytest.approx((4 / (8 + 6 - 4) + 2 / (4 + 6 - 2)) / 2)


def test_a_suite_measures_segmentation_from_both_inits_and_goes_on(model: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path / "task", train=8, test=2)
    (tmp_path / "tasks.toml").write_text(
        f"""
[[task]]
name = "rectangles"
train = "{task.train}"
test = "{task.test}"
class_names = "{task.class_names}"
methods = ["segment"]
percents = [100]
seeds = [0]
alpha = 1.0

[task.segment]
image_size = 16
epochs = 1
batch = 4
learning_rates = [0.01]
zero = "class"
"""
    )
    config = TransferConfig(model, tmp_path / "tasks.toml", tmp_path / "suite", workers=0, device="cpu")
    transfer(config)
    found = read_records(tmp_path / "suite")
    assert [(record.method, record.init, record.metric, record.images) for record in found] == [
        ("segment", "random", "miou", 2),
        ("segment", "transfer", "miou", 2),
    ]
    run = tmp_path / "suite" / "segment" / "rectangles-transfer-100-0"
    assert (run / "page.html").exists()
    assert not list(run.glob("checkpoints/*"))
    table = (tmp_path / "suite" / "results.md").read_text()
    assert "| rectangles | segment | random | miou |" in table
    transfer(config)
    assert read_records(tmp_path / "suite") == found


def test_a_task_of_masks_has_no_other_method(model: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.toml").write_text(
        '[[task]]\nname = "a"\ntrain = "b"\ntest = "c"\nmethods = ["segment", "probe"]'
    )
    with pytest.raises(InputError, match="found segment probe; wanted one method of images with masks"):
        transfer(TransferConfig(model, tmp_path / "tasks.toml", tmp_path / "suite", device="cpu"))
