"""Finished runs of segment and detect on images of one's own: what they predict is what the run scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import detection, segmentation
from tests.conftest import ROOT
from tests.corpus import make_corpus
from tests.finetuning import pretrained_in
from tests.markdown import blocks
from trainer.data.images import BadImage
from trainer.dense.segment_scores import count_pixels, joined
from trainer.pretrain import pretrain
from trainer.transfer.dense_config import MaskTask
from trainer.transfer.detect import detect
from trainer.transfer.detect_config import DetectTask
from trainer.transfer.segment import segment
from trainer.transfer.trained import open_detector, open_segmenter
from vocab.errors import CatlipError, FormatError, InputError, MismatchError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained_in(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> MaskTask:
    return segmentation.task_in(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> DetectTask:
    return detection.task_in(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="module")
def segmented(model: Path, masks: MaskTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of linear heads. Not to be written to."""
    run = tmp_path_factory.mktemp("segmented") / "run"
    assert segment(segmentation.config(model, masks, run)) == 0
    return run


@pytest.fixture(scope="module")
def detected(model: Path, objects: DetectTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with masks and Transfer Init. Not to be written to."""
    run = tmp_path_factory.mktemp("detected") / "run"
    assert detect(detection.config(model, objects, run, init="transfer", peak_lr=1e-9)) == 0
    return run


def miou_of(run: Path, task: MaskTask) -> float:
    """Predict each test image of a task, and score the predictions."""
    segmenter = open_segmenter(run)
    images, truth = (Path(folder) for folder in task.test.split("::"))
    counts = []
    for path in sorted(images.iterdir()):
        labels = np.asarray(Image.open(truth / path.name)).astype(np.int16)
        given = segmenter.predict(path.read_bytes())
        assert given.shape == labels.shape
        counts.append(count_pixels(torch.from_numpy(given), torch.from_numpy(labels), classes=4).numpy())
    assert segmenter.class_names == segmentation.NAMES
    return joined(counts).miou


def test_a_segmenter_predicts_what_its_run_scored(segmented: Path, masks: MaskTask) -> None:
    assert miou_of(segmented, masks) == segmentation.results(segmented)["value"]


def test_a_model_that_was_trained_as_a_whole_predicts_what_its_run_scored(
    model: Path, masks: MaskTask, tmp_path: Path
) -> None:
    assert segment(segmentation.config(model, masks, tmp_path / "run", **segmentation.DEEPLAB)) == 0
    assert miou_of(tmp_path / "run", masks) == segmentation.results(tmp_path / "run")["value"]


def test_a_detector_finds_what_its_run_predicted(detected: Path, objects: DetectTask) -> None:
    detector = open_detector(detected)
    wanted = json.loads((detected / "predictions.json").read_text())
    assert wanted
    assert detector.class_names == ("cat", "dog", "car")
    for number in range(100, 104):
        own = [each for each in wanted if each["image_id"] == number]
        found = detector.predict((Path(objects.test.split("::")[1]) / f"{number}.png").read_bytes())
        assert found.scores.tolist() == pytest.approx([each["score"] for each in own], abs=1e-5)
        assert [(3, 18, 44)[each] for each in found.classes.tolist()] == [each["category_id"] for each in own]
        corners = [[x, y, x + width, y + height] for x, y, width, height in (each["bbox"] for each in own)]
        assert np.allclose(found.boxes, np.array(corners).reshape(-1, 4), atol=1e-2)
        assert [mask["size"] for mask in found.masks] == [[48, 64]] * len(own)


def test_what_is_no_image_is_a_bad_image(segmented: Path, detected: Path) -> None:
    for trained in (open_segmenter(segmented), open_detector(detected)):
        with pytest.raises(BadImage, match="not_an_image"):
            trained.predict(b"no image")


def test_a_model_that_lies_elsewhere_is_named_and_another_one_is_refused(
    model: Path, masks: MaskTask, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "model")
    options = segmentation.config(tmp_path / "model", masks, tmp_path / "run", epochs=1)
    assert segment(options) == 0
    shutil.move(tmp_path / "model", tmp_path / "moved")
    with pytest.raises(CatlipError):
        open_segmenter(tmp_path / "run")
    assert open_segmenter(tmp_path / "run", model=tmp_path / "moved").class_names == segmentation.NAMES
    corpus = make_corpus(tmp_path / "corpus")
    assert pretrain(corpus.config(tmp_path / "other", steps=3, depth=2, seed=1)) == 0
    with pytest.raises(MismatchError, match="found another model than the run was trained on"):
        open_segmenter(tmp_path / "run", model=tmp_path / "other")


def test_a_run_of_another_verb_and_an_unfinished_one_are_refused(
    segmented: Path, detected: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="found results of detect; wanted a finished run of segment"):
        open_segmenter(detected)
    with pytest.raises(InputError, match="found results of segment; wanted a finished run of detect"):
        open_detector(segmented)
    shutil.copytree(segmented, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(FormatError, match="no readable file"):
        open_segmenter(tmp_path / "run")


def test_the_lines_of_the_page_run(
    segmented: Path,
    detected: Path,
    masks: MaskTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [snippet] = blocks((ROOT / "docs" / "dense.md").read_text(), "python")
    shutil.copytree(segmented, tmp_path / "runs" / "b16-ade")
    shutil.copytree(detected, tmp_path / "runs" / "b16-coco")
    shutil.copy(Path(masks.test.split("::")[0]) / "100.png", tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(snippet, "docs/dense.md", "exec"), {})
    first, *_ = capsys.readouterr().out.splitlines()
    assert first in segmentation.NAMES
