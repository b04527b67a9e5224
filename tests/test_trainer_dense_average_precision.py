"""Average precision of boxes and masks, beside pycocotools and in cases that are told by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detection import annotations_of, write_scenes
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.average_precision import (
    NAMES,
    FoundObjects,
    Kind,
    average_precision,
    corner_and_sides,
    predictions,
)
from trainer.dense.boxed_pictures import image_scores
from trainer.dense.coco_tools import mask_tools
from trainer.dense.detect_task import open_side
from trainer.dense.shapes import mask_of

IMAGES = 12


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scenes with a crowd, and an object of three sizes. Not to be written to."""
    root = tmp_path_factory.mktemp("scenes")
    side = write_scenes(root / "side", range(IMAGES))
    source = Path(side.split("::")[0])
    content = json.loads(source.read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation |= {"id": number + 1, "iscrowd": int(number == 4), "area": (30, 2000, 20000)[number % 3]}
    source.write_text(json.dumps(content))
    return side


@pytest.fixture(scope="module")
def data(side: str) -> AnnotatedImages:
    # An area of more pixels than the image has would be that of the box.
    return open_side(side, max_bad_share=0.0)


def encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_tools().encode(np.asfortranarray(mask))
    return {"size": list(rle["size"]), "counts": bytes(rle["counts"]).decode()}


def found_in(data: AnnotatedImages, image: int, *, noise: float, draws: np.random.Generator) -> FoundObjects:
    """Detections of an image's objects, each with a chance of being elsewhere, of another class, or there twice."""
    numbers = [each for each in data.objects(image) for _ in range(int(draws.integers(0, 3)) if noise else 1)]
    width, height = data.sizes[image].tolist()
    boxes = data.boxes[numbers] + draws.normal(0, noise, (len(numbers), 4)).astype(np.float32)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    others = draws.integers(0, 3, len(numbers))
    classes = np.where(draws.random(len(numbers)) < noise / 10, others, data.classes[numbers])
    masks = []
    for number in numbers:
        shape = data.shapes[number]
        assert shape is not None
        moved = np.roll(mask_of(shape, width=width, height=height), int(draws.integers(0, 3) * noise), axis=1)
        masks.append(encoded(moved))
    return FoundObjects(boxes, classes, draws.random(len(numbers)).astype(np.float32), tuple(masks))


def everything(data: AnnotatedImages, *, noise: float, seed: int = 0) -> list[FoundObjects]:
    draws = np.random.default_rng(seed)
    return [found_in(data, image, noise=noise, draws=draws) for image in range(len(data))]


NOTHING = FoundObjects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


# pycocotools 2.0.11 hands arrays to numpy 2 in a way that numpy warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_all_numbers_are_those_of_pycocotools(side: str, data: AnnotatedImages, kind: Kind, seed: int) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is not installed")
    found = everything(data, noise=3.0, seed=seed)
    content = json.loads(Path(side.split("::")[0]).read_text())
    for annotation, area in zip(content["annotations"], data.areas.tolist(), strict=True):
        annotation["area"] = area
    given = [
        {
            "image_id": data.ids[image],
            "category_id": data.categories[int(own.classes[number])],
            "score": float(own.scores[number]),
            **(
                {"bbox": corner_and_sides(own.boxes[number])} if kind == "bbox" else {"segmentation": own.masks[number]}
            ),
        }
        for image, own in enumerate(found)
        for number in range(len(own.scores))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = content
        truth.createIndex()
        wanted = evaluation.COCOeval(truth, truth.loadRes(given), kind)
        wanted.evaluate()
        wanted.accumulate()
        wanted.summarize()
    scored = average_precision(data, found, kind)
    assert [-1 if value is None else value for value in scored.numbers.values()] == pytest.approx(
        wanted.stats.tolist(), abs=1e-9
    )
    assert 0 < (scored.numbers["AP"] or 0) < 1


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_objects_themselves_reach_one(data: AnnotatedImages, kind: Kind) -> None:
    scored = average_precision(data, everything(data, noise=0.0), kind)
    assert scored.numbers["AP"] == scored.numbers["AP50"] == scored.numbers["AR_100"] == pytest.approx(1)
    assert scored.by_class == pytest.approx((1, 1, 1))


def test_nothing_found_is_zero_and_what_no_image_shows_is_none(data: AnnotatedImages) -> None:
    scored = average_precision(data, [NOTHING] * len(data), "bbox")
    assert (scored.numbers["AP"], scored.numbers["AR_100"]) == (0, 0)
    assert scored.numbers["AP_large"] is None
    assert tuple(scored.numbers) == NAMES
    one = data.select(np.array([0]))
    assert sum(value is None for value in average_precision(one, [NOTHING], "bbox").by_class) == 2


def test_a_detection_in_a_crowd_is_no_fault(data: AnnotatedImages) -> None:
    crowded = int(np.flatnonzero(data.crowds)[0])
    image = next(number for number in range(len(data)) if crowded in data.objects(number))
    one = data.select(np.array([image]))
    whole = found_in(data, image, noise=0.0, draws=np.random.default_rng(0))
    twice = FoundObjects(
        np.concatenate([whole.boxes, data.boxes[[crowded]]]),
        np.concatenate([whole.classes, data.classes[[crowded]]]),
        np.concatenate([whole.scores, np.array([1.0], np.float32)]),
    )
    assert average_precision(one, [twice], "bbox").numbers["AP"] == pytest.approx(1)


def test_predictions_have_the_ids_of_the_file(side: str, data: AnnotatedImages) -> None:
    made = predictions(data, everything(data, noise=0.0))
    annotations = annotations_of(side)
    assert [(each["image_id"], each["category_id"]) for each in made] == [
        (each["image_id"], each["category_id"]) for each in annotations
    ]
    assert [each["bbox"] for each in made] == [each["bbox"] for each in annotations]
    assert json.loads(json.dumps(made)) == made


def test_an_image_s_own_score_is_the_f1_of_its_boxes(data: AnnotatedImages) -> None:
    sure = [
        FoundObjects(own.boxes, own.classes, np.full(len(own.scores), 0.9, np.float32), own.masks)
        for own in everything(data, noise=0.0)
    ]
    first = data.select(np.array([1]))  # two objects
    assert image_scores(first, [sure[1]]).tolist() == [1.0]
    half = FoundObjects(sure[1].boxes[:1], sure[1].classes[:1], sure[1].scores[:1])
    assert image_scores(first, [half]).tolist() == pytest.approx([2 / 3])
    unsure = FoundObjects(sure[1].boxes, sure[1].classes, np.full(2, 0.4, np.float32))
    assert image_scores(first, [unsure]).tolist() == [0.0]
    other = FoundObjects(sure[1].boxes, (sure[1].classes + 1) % 3, sure[1].scores)
    assert image_scores(first, [other]).tolist() == [0.0]
