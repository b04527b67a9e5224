"""Detection in `benchmarks/dense.py`: an overfit run, the evaluator beside pycocotools, a resumed run, the step's cost.

In: images/coco_dense/coco_instances of the folder with real data. Out: numbers by the keys of the benchmark.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from benchmarks.measuring.clock import by_turns, ratio
from benchmarks.measuring.setting import say
from trainer.data.batch import Batch
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.annotations import open_instances
from trainer.dense.average_precision import FoundObjects, Kind, average_precision, corner_and_sides
from trainer.dense.coco_tools import mask_tools
from trainer.dense.maps import FeatureMaps
from trainer.dense.mask_rcnn import Detector, HeadSizes, ObjectTargets
from trainer.dense.shapes import mask_of
from trainer.model.per_image import install
from trainer.records.record import read_records
from trainer.step.step import Step
from trainer.transfer.detect import detect
from trainer.transfer.detect_config import DetectConfig, DetectTask

IMAGES, MOST_OBJECTS, LEAST_SIDE = 16, 5, 24
"""images of the overfit run, objects that each may show, and the least side of an object in pixels of the input"""
SIZE = 128
"""side of the overfit run's images, pixels"""
STOPPED_AT = 5
"""step at which the run that is resumed was killed"""


class KilledError(Exception):
    """A run's end in the middle of a step."""


def write_model(folder: Path) -> Path:
    """Write a small transformer with random weights, patches of 8 pixels, for images of SIZE."""
    sizes: dict[str, Any] = {"img_size": SIZE, "patch_size": 8, "embed_dim": 96, "num_heads": 3, "depth": 3}
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **sizes)
    save_for_hf(model, str(folder), model_args=sizes, safe_serialization=True)
    return folder


def write_task(data: Path, folder: Path) -> DetectTask:
    """Copy the first images with few and large objects, once to train on and once to test on."""
    content = json.loads((data / "instances_train2017.json").read_text())
    by_image = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    chosen = [image for image in content["images"] if _is_easy(image, by_image[image["id"]])][:IMAGES]
    ids = {image["id"] for image in chosen}
    kept = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    sides = []
    for side in ("train", "test"):
        (folder / side).mkdir(parents=True)
        for image in chosen:
            shutil.copy(data / "train2017" / image["file_name"], folder / side)
        described = {"images": chosen, "annotations": kept, "categories": content["categories"]}
        (folder / f"{side}.json").write_text(json.dumps(described))
        sides.append(f"{folder / side}.json::{folder / side}")
    return DetectTask(*sides)


def _is_easy(image: dict[str, Any], objects: list[dict[str, Any]]) -> bool:
    scale = SIZE / max(image["width"], image["height"])
    large = all(min(each["bbox"][2:]) * scale >= LEAST_SIDE and not each["iscrowd"] for each in objects)
    return 1 <= len(objects) <= MOST_OBJECTS and large


def _config(folder: Path, name: str, task: DetectTask, *, epochs: int) -> DetectConfig:
    return DetectConfig(
        model=folder / "model",
        task=task,
        out=folder / name,
        image_size=SIZE,
        epochs=epochs,
        batch=4,
        jitter=(1.0, 1.0),
        flip=False,
        head_width=32,
        head_convolutions=2,
        proposals=100,
        boxes=64,
        peak_lr=1e-3,
        weight_decay=0.01,
        layer_decay=1.0,
        drop_path=0.0,
        ema_momentum=0.05,
        device="cpu",
        threads=1,
        workers=1,
        checkpoint_every=1000 if epochs > 4 else 2,
    )


def overfit(data: Path, folder: Path, *, quick: bool) -> dict[str, float]:
    """Train on sixteen images, test on the same: box and mask AP at half the union."""
    task = write_task(data, folder)
    write_model(folder / "model")
    config = _config(folder, "overfit", task, epochs=2 if quick else 120)
    detect(config)
    (record,) = read_records(config.out)
    return {
        "detect_overfit_ap50": record.extra["map_box_50"],
        "detect_overfit_mask_ap50": record.extra["map_mask_50"],
        "detect_overfit_seconds": record.seconds,
    }


def resume_equal(folder: Path) -> bool:
    """Kill a run in the middle and start it again: tell whether all weights equal those of a run that went through."""
    task = DetectTask(*(f"{folder / side}.json::{folder / side}" for side in ("train", "test")))
    plain = replace(_config(folder, "whole", task, epochs=2), jitter=(0.5, 2.0), flip=True, drop_path=0.2)
    whole, cut = (replace(plain, out=folder / name) for name in ("whole", "cut"))
    detect(whole)
    taken = Step.take

    def take(self: Step, batch: Batch, *, number: int, stop: bool = False) -> Tensor:
        if number == STOPPED_AT:
            raise KilledError
        return taken(self, batch, number=number, stop=stop)

    with mock.patch.object(Step, "take", take), contextlib.suppress(KilledError):
        detect(cut)
    detect(cut)
    one, other = (load_file(config.out / "model.safetensors") for config in (whole, cut))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def map_difference(data: Path, *, quick: bool) -> float:
    """Largest difference of the twelve numbers from pycocotools', for random detections, boxes and masks."""
    annotations, folder = data / "instances_val2017.json", data / "val2017"
    images = open_instances(annotations, str(folder), max_bad_share=0.0)
    if quick:
        images = images.select(np.arange(20))
    found = [_near(images, image, seed=image) for image in range(len(images))]
    kinds: tuple[Kind, ...] = ("bbox", "segm")
    return max(_difference(images, annotations, found, kind) for kind in kinds)


def _near(images: AnnotatedImages, image: int, *, seed: int) -> FoundObjects:
    """Make up detections near an image's objects, some of another class."""
    draws = np.random.default_rng(seed)
    width, height = images.sizes[image].tolist()
    chosen = [number for number in images.objects(image) for _ in range(int(draws.integers(0, 3)))]
    boxes = images.boxes[chosen] + draws.normal(0, 4, (len(chosen), 4)).astype(np.float32)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    others = draws.integers(0, len(images.categories), len(chosen))
    classes = np.where(draws.random(len(chosen)) < 0.8, images.classes[chosen], others)
    masks = []
    for number in chosen:
        shape = images.shapes[number]
        assert shape is not None
        moved = np.roll(mask_of(shape, width=width, height=height), int(draws.integers(-4, 5)), axis=1)
        encoded = mask_tools().encode(np.asfortranarray(moved))
        masks.append({"size": [height, width], "counts": bytes(encoded["counts"]).decode()})
    return FoundObjects(boxes, classes, draws.random(len(chosen)).astype(np.float32), tuple(masks))


def _difference(images: AnnotatedImages, annotations: Path, found: list[FoundObjects], kind: Kind) -> float:
    # Here, because only this part of the benchmark needs the package of the tests.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    given = [
        {
            "image_id": images.ids[image],
            "category_id": images.categories[int(own.classes[number])],
            "score": float(own.scores[number]),
            **(
                {"bbox": corner_and_sides(own.boxes[number])} if kind == "bbox" else {"segmentation": own.masks[number]}
            ),
        }
        for image, own in enumerate(found)
        for number in range(len(own.scores))
    ]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' way to hand arrays to numpy 2
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(given), kind)
        evaluation.params.imgIds = list(images.ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = average_precision(images, found, kind).numbers.values()
    return max(
        abs((-1.0 if one is None else one) - float(other)) for one, other in zip(ours, evaluation.stats, strict=True)
    )


def step_ratio(*, quick: bool) -> float:
    """Time of a step of our detector over one of torchvision's, of one image, by the processor's clock.

    Ours is ViT-B/16 under ViTDet's heads, theirs ResNet-50 with a feature pyramid under Mask R-CNN's.
    """
    size = 64 if quick else 256
    torch.manual_seed(0)
    name, heads = (
        ("vit_tiny_patch16_224", HeadSizes(32, 1, 100, 64)) if quick else ("vit_base_patch16_224", HeadSizes())
    )
    model = timm.create_model(name, num_classes=1, img_size=size)
    install(model)
    ours = Detector(FeatureMaps(model, size=size), classes=80, sizes=heads, masks=True, top_down=False)
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81, min_size=size, max_size=size)
    pixels, box = torch.rand(1, 3, size, size), torch.tensor([[8.0, 8.0, size / 2, size / 2]])
    inside = torch.full((1, 112, 112), 255, dtype=torch.uint8)
    whole = torch.zeros(1, size, size, dtype=torch.uint8)
    whole[:, 8 : size // 2, 8 : size // 2] = 1
    label = torch.zeros(1, dtype=torch.int64)
    seeds, weights = torch.zeros(1, dtype=torch.int64), torch.ones(1)

    def our_step() -> None:
        _learn(ours, ours.losses(pixels, [ObjectTargets(box, label, inside)], seeds, weights))

    def their_step() -> None:
        _learn(theirs, theirs(list(pixels), [{"boxes": box, "labels": label + 1, "masks": whole}]))

    works = {"ours": our_step, "torchvision": their_step}
    say(f"one detection step of one image of {size} pixels: {name} under ViTDet's heads, and maskrcnn_resnet50_fpn")
    spent = by_turns(works, rounds=1 if quick else 3, device=torch.device("cpu"), warm_up=0 if quick else 1)
    return ratio(spent, "ours", "torchvision", clock="processor")


def _learn(model: nn.Module, losses: dict[str, Tensor]) -> None:
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
