"""Costs of a run of a dense task before it: what is told without reading an image is what a step computes and keeps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests import detection, segmentation
from tests.finetuning import pretrained_in
from trainer.__main__ import main
from trainer.data.batch import Batch
from trainer.distributed import Rank
from trainer.speed.memory import RESERVED_BYTES, count_saved
from trainer.step.step import Step
from trainer.step.training import Training, training_of
from trainer.transfer import detect, segment
from trainer.transfer.dense_config import MaskTask, SegmentConfig
from trainer.transfer.detect_config import DetectConfig, DetectTask
from trainer.transfer.task_training import eval_transform
from vocab.errors import InputError

ONE = Rank(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> MaskTask:
    return segmentation.task_in(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> DetectTask:
    return detection.task_in(tmp_path_factory.mktemp("objects"))


def told(config: SegmentConfig | DetectConfig, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], dict[str, Any]]:
    """Plan a run: lines for people, and the numbers of the last line."""
    capsys.readouterr()
    asked = replace(config, plan=True)
    assert (segment.segment(asked) if isinstance(asked, SegmentConfig) else detect.detect(asked)) == 0
    said = capsys.readouterr()
    assert not config.out.exists()
    *lines, last = said.out.splitlines()
    return lines, json.loads(last)


def segmenting(config: SegmentConfig) -> tuple[Step, Iterator[Batch]]:
    config = config.for_head()
    inputs = segment.open_inputs(config, ONE)
    config = config.completed(steps=inputs.plan.steps)
    objective, optim = segment.objective_of(config, inputs), config.optim(steps=inputs.plan.steps)
    training = training_of(objective, optim, ONE.device, lr_scales=segment.scales_of(objective, optim))
    decoding = eval_transform(config, ONE, size=config.image_size).decoding
    return Step(training, ONE, optim), segment.training_batches(config, inputs, ONE, after=0, decoding=decoding)


def detecting(config: DetectConfig) -> tuple[Step, Iterator[Batch]]:
    config, inputs = detect.open_inputs(config)
    config = config.timed(steps=inputs.plan.steps)
    objective, optim = detect.objective_of(config, inputs), config.optim(steps=inputs.plan.steps)
    training = training_of(objective, optim, ONE.device, lr_scales=detect.scales_of(objective, optim))
    viewer, decoding = (
        detect.viewer_of(config, inputs.pretrained),
        eval_transform(config, ONE, size=config.image_size).decoding,
    )
    made = detect.training_batches(config, inputs, ONE, viewer=viewer, after=0, decoding=decoding)
    return Step(training, ONE, optim), made


def bytes_kept(training: Training[Any]) -> dict[str, int]:
    """Bytes of what a training keeps from step to step, counted tensor by tensor."""
    tensors, objective = training.tensors(), training.objective
    named = {
        "weights": [*objective.parameters(), *objective.buffers()],
        "gradients": [each for each in objective.parameters() if each.requires_grad],
        # Beside the moments AdamW keeps the number of its steps.
        "optimiser": [each for each in tensors["optimizer"].values() if each.ndim],
        "average": list(tensors["ema"].values()),
    }
    return {name: sum(each.numel() * each.element_size() for each in own) for name, own in named.items()}


def check_costs(
    step: Step, batches: Iterator[Batch], numbers: dict[str, Any], *, work: float, memory: float = 0.98
) -> None:
    """Compare what was planned with a step, which has at least these shares of the planned operations and activations.

    A step has fewer than three times those of its forward pass, for nothing below learns: neither the image, nor what a
    frozen model gives.
    """
    batch, objective, planned = next(batches), step.training.objective, numbers["memory_bytes"]
    assert {name: planned[name] for name in ("weights", "gradients", "optimiser", "average")} == bytes_kept(
        step.training
    )
    assert planned["reserved"] == RESERVED_BYTES
    saved = count_saved(lambda: objective(batch, 0.0), objective.parameters())
    assert memory <= saved / planned["activations"] <= 1.02
    # torch counts no work of the attention that it has for CPUs.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step.take(batch, number=1)
    assert work <= counter.get_total_flops() / 4 / numbers["flop_per_image"] <= 1


@pytest.mark.parametrize(("options", "work"), [({"batch": 4}, 0.6), ({**segmentation.DEEPLAB, "batch": 4}, 0.85)])
def test_segmentation_costs_what_a_step_computes_and_keeps(
    model: Path,
    masks: MaskTask,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    work: float,
) -> None:
    config = segmentation.config(model, masks, tmp_path / "run", precision="float32", **options)
    _, numbers = told(config, capsys)
    step, batches = segmenting(config)
    check_costs(step, batches, numbers, work=work)
    plan = (numbers["train_images"], numbers["steps"], numbers["batch"], numbers["part"], numbers["classes"])
    assert plan == ((22, 11, 4, 4, 4) if not options.get("head") else (24, 12, 4, 4, 4))
    assert numbers["flop"] == plan[1] * 4 * numbers["flop_per_image"]
    trained = sum(each.numel() for each in step.training.objective.model.parameters())
    assert numbers["parameters_trained"] == trained
    assert (numbers["parameters_frozen"] > 0) == ("head" not in options)
    assert numbers["memory_bytes"]["logits"] == 4 * 3 * 4 * 4 * 16 * 16


@pytest.mark.parametrize("masks", ["on", "off"])
def test_detection_costs_what_a_step_computes_and_keeps(
    model: Path, objects: DetectTask, tmp_path: Path, capsys: pytest.CaptureFixture[str], masks: str
) -> None:
    config = detection.config(model, objects, tmp_path / "run", precision="float32", masks=masks)
    lines, numbers = told(config, capsys)
    # In a first step fewer boxes hold an object than may.
    least = {"work": 0.8, "memory": 0.6} if masks == "on" else {"work": 0.95}
    check_costs(*detecting(config), numbers, **least)
    assert (numbers["train_images"], numbers["steps"], numbers["batch"], numbers["classes"]) == (16, 4, 4, 3)
    assert numbers["parameters_frozen"] == 0
    assert "  not counted: anchors, proposals, matching and losses, which depend on the objects of an image" in lines


def test_a_plan_reads_neither_images_nor_masks(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = segmentation.task_in(tmp_path / "masks", train=8, test=2)
    objects = detection.task_in(tmp_path / "objects", train=4, test=2)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"neither")
    plain = segmentation.config(model, masks, tmp_path / "run", batch=4)
    lines, numbers = told(plain, capsys)
    assert lines[:2] == [
        "segmentation: 4 classes, 8 training images, 4 steps of 4 images",
        "0.00 M parameters trained, 0.01 M frozen",
    ]
    assert numbers["train_images"] == 8
    lines, numbers = told(replace(plain, task=replace(masks, class_names=None)), capsys)
    assert numbers["classes"] == 150
    assert "150 classes assumed (as in ADE20K; --task.class-names gives yours)" in lines
    _, numbers = told(detection.config(model, objects, tmp_path / "run"), capsys)
    assert numbers["train_images"] == 4


def test_memory_is_that_of_a_gpu_in_bfloat16_unless_told_otherwise_and_less_with_checkpointing(
    model: Path, objects: DetectTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = detection.config(model, objects, tmp_path / "run")
    half, full, again = (
        told(config, capsys)[1]["memory_bytes"]["activations"]
        for config in (plain, replace(plain, precision="float32"), replace(plain, activation_checkpointing=True))
    )
    assert half < 0.6 * full
    assert again < half


def test_what_a_run_refuses_is_not_planned(model: Path, objects: DetectTask, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--image-size: found 80"):
        detect.detect(detection.config(model, objects, tmp_path / "run", image_size=80, plan=True))
    with pytest.raises(InputError, match="--plan: found True; wanted no --plan with --head zero-shot"):
        SegmentConfig("model", MaskTask("", "c::d"), tmp_path, head="zero-shot", plan=True)


def test_the_command_plans_and_writes_nothing(
    model: Path,
    objects: DetectTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*("--task.train", objects.train, "--task.test", objects.test, "--out", str(tmp_path / "run")), "--plan"]
    sizes = ["--image-size", "64", "--head-width", "16", "--boxes", "32", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["trainer", "detect", str(model), *words, *sizes])
    main()
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "detection: 3 classes, 16 training images, 12 steps of 16 images"
    assert json.loads(said.out.splitlines()[-1])["part"] == 16
    assert said.err == ""
    assert not (tmp_path / "run").exists()
