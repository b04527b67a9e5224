"""Dense tasks by name on convolutional networks: zero-shot segmentation, and Transfer Init of both verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import detection, segmentation
from tests.backbones import backbone
from tests.corpus import make_corpus
from trainer.dense.maps import FeatureMaps
from trainer.model.backbone import features
from trainer.pretrain import pretrain
from trainer.transfer.dense_config import MaskTask, SegmentConfig
from trainer.transfer.detect import detect
from trainer.transfer.detect_config import DetectTask
from trainer.transfer.segment import segment
from trainer.weights.pretrained import open_pretrained


@pytest.fixture(scope="module", params=["test_convnext", "test_resnet"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-train a small network. Not to be written to."""
    root = tmp_path_factory.mktemp(request.param)
    assert pretrain(make_corpus(root / "corpus").config(root / "run", steps=3, **backbone(request.param))) == 0
    return root / "run"


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> MaskTask:
    return segmentation.task_in(tmp_path_factory.mktemp("masks"), train=4, test=2)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> DetectTask:
    return detection.task_in(tmp_path_factory.mktemp("objects"), train=8, test=2)


def test_a_map_of_one_place_is_what_the_classifier_reads(model: Path) -> None:
    pretrained = open_pretrained(model, image_size=32)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = features(pretrained.model, pixels)
    maps = FeatureMaps(pretrained.model, size=32)
    with torch.no_grad():
        (last,) = maps(pixels)
    assert last.shape == (2, whole.shape[1], 1, 1)
    assert torch.allclose(last[:, :, 0, 0], whole, atol=1e-5)


def test_zero_shot_segmentation_scores_each_place_by_the_rows(model: Path, masks: MaskTask, tmp_path: Path) -> None:
    options: dict[str, Any] = {"head": "zero-shot", "image_size": 64, "alpha": 1.0, "workers": 0, "device": "cpu"}
    assert segment(SegmentConfig(model, masks, tmp_path / "out", **options)) == 0
    found = segmentation.results(tmp_path / "out")
    # A class token alone makes patches take their own values.
    assert (found["own_values"], found["images"]) == (False, 2)
    assert found["classes_that_cannot_be_scored"] == ["background"]
    assert 0 < found["value"] <= 1


def test_linear_heads_begin_with_the_rows(model: Path, masks: MaskTask, tmp_path: Path) -> None:
    options: dict[str, Any] = {"init": "transfer", "blocks": (), "learning_rates": (1e-9,), "image_size": 64}
    assert segment(segmentation.config(model, masks, tmp_path / "run", epochs=1, batch=4, **options)) == 0
    assert segmentation.results(tmp_path / "run")["init"] == "transfer"
    assert (tmp_path / "run" / "transfer_init").is_dir()


def test_boxes_are_scored_by_the_rows(model: Path, objects: DetectTask, tmp_path: Path) -> None:
    options: dict[str, Any] = {"init": "transfer", "peak_lr": 1e-9, "ema_momentum": 1.0}
    assert detect(detection.config(model, objects, tmp_path / "run", **options)) == 0
    assert detection.results(tmp_path / "run")["init"] == "transfer"
    rows = load_file(tmp_path / "run" / "model.safetensors")["heads.rows.linear.weight"]
    pretrained = open_pretrained(model)
    names = [name.partition(".")[0] for name in pretrained.vocabulary.names]
    own = pretrained.classifier.weight[[names.index(name) for name in ("cat", "dog", "car")]]
    # One scale for all of them.
    assert torch.nn.functional.cosine_similarity(rows.flatten(), own.flatten(), dim=0) > 0.9999
